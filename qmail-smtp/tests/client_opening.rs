//! STARTTLS and AUTH, as servers, and those who sit between, see them.

mod common;

use std::sync::Arc;

use common::client::{Owner, Sending, config, converse, message, play};
use common::start;
use insta::assert_snapshot;
use qmail_core::Machine;
use qmail_core::sasl::client::Login;
use qmail_smtp::client::{Config, Event, Session, StartTls, Transaction};

fn one() -> [(Transaction, Vec<u8>); 1] {
    [message("a@b", &["c@d"], "x\n")]
}

fn with_tls(start_tls: StartTls) -> Config {
    let mut config = config();
    config.start_tls = start_tls;
    config
}

fn with_login(config: Config, login: Login, encrypted: bool) -> Sending {
    let mut session = Session::new(Arc::new(config.clone()), start());
    if encrypted {
        session = Session::over_tls(Arc::new(config.clone()), start());
    }
    Sending::new(config, Owner::new([])).with(|_| session.with_login(login))
}

fn login() -> Login {
    Login::new("user", "pencil")
}

#[test]
fn tls_is_started_and_everything_is_asked_anew() {
    assert_snapshot!(converse(with_tls(StartTls::IfOffered), one(), &[
        "220 hi\r\n",
        "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n",
        "220 go\r\n",
        "250-mx\r\n250 STARTTLS\r\n",
        "250 ok\r\n",
    ]), @r"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250-PIPELINING
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go
       TLS
    C: EHLO client.example
    S: 250-mx
    S: 250 STARTTLS
    C: MAIL FROM:<a@b>
    S: 250 ok
    C: RCPT TO:<c@d>
    ");
}

/// What was sent in clear behind the 220 would be read as if it had come by TLS ("NO STARTTLS").
#[test]
fn what_comes_before_the_handshake_ends_it() {
    let replies = "220 hi\r\n250 STARTTLS\r\n";
    let injected = "220 go\r\n250 injected\r\n250 injected\r\n354 injected\r\n250 injected\r\n";
    for cut in [0, 1, injected.len() - 1] {
        let mut sending = Sending::new(with_tls(StartTls::IfOffered), Owner::new(one()));
        for line in replies.split_inclusive('\n') {
            sending.say(&line.replace("250 ", "250-mx\r\n250 "));
        }
        let go = "220 go\r\n".len();
        sending
            .session
            .receive(sending.now, &injected.as_bytes()[..go]);
        let rest = &injected.as_bytes()[go..];
        let cut = cut.min(rest.len());
        let taken = sending.session.receive(sending.now, &rest[..cut]);
        assert_eq!(taken, cut);
        sending.session.receive(sending.now, &rest[cut..]);
        sending.drain();
        let events = &sending.owner.events;
        assert_eq!(
            events[..],
            [
                "failed at StartTls, Temporary 4.5.0: the server spoke out of turn",
                "closed: the server spoke out of turn"
            ]
        );
        assert!(sending.sent.ends_with(b"STARTTLS\r\n"));
    }
}

#[test]
fn a_server_that_refuses_tls_gets_mail_only_if_that_is_allowed() {
    let packets = ["220 hi\r\n", "250-mx\r\n250 STARTTLS\r\n", "454 no\r\n"];
    let allowed = converse(with_tls(StartTls::IfOffered), one(), &packets);
    assert!(
        allowed.ends_with("S: 454 no\nC: MAIL FROM:<a@b>\n"),
        "{allowed}"
    );
    let required = converse(with_tls(StartTls::Required), one(), &packets);
    assert!(required.ends_with(
        "S: 454 no\n   failed at StartTls, Temporary 4.0.0: the server refused: 454 no\n   closed: the server refused: 454 no\nC: QUIT\n"
    ), "{required}");
    let stripped = converse(
        with_tls(StartTls::Required),
        one(),
        &["220 hi\r\n", "250 mx\r\n"],
    );
    assert!(
        stripped.contains("failed at StartTls, Temporary 4.7.0: the server does not offer"),
        "{stripped}"
    );
    let helo = ["220 hi\r\n", "500 what\r\n", "250 mx\r\n"];
    let old = converse(with_tls(StartTls::Required), one(), &helo);
    assert!(old.contains("failed at StartTls"), "{old}");
    for reply in ["250 ok\r\n", "354 ok\r\n", "421 bye\r\n"] {
        let packets = ["220 hi\r\n", "250-mx\r\n250 STARTTLS\r\n", reply];
        let odd = converse(with_tls(StartTls::IfOffered), one(), &packets);
        assert!(odd.contains("failed at StartTls, Temporary"), "{odd}");
        assert!(odd.ends_with("C: QUIT\n"), "{odd}");
    }
}

#[test]
fn a_session_over_tls_does_not_ask_for_it_again() {
    let session = with_login(with_tls(StartTls::Required), login(), true);
    assert_snapshot!(play(session, &[
        "220 hi\r\n", "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n", "235 ok\r\n", "221 bye\r\n",
    ]), @r"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250-STARTTLS
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AHVzZXIAcGVuY2ls
    S: 235 ok
    C: QUIT
    S: 221 bye
       closed
    ");
}

#[test]
fn scram_proves_both_sides() {
    let login = login().with_nonce("rOprNGfwEbeRWgbNEkqO");
    let first = "334 cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=\r\n";
    let last = "334 dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==\r\n";
    let ehlo = "250-mx\r\n250 AUTH LOGIN SCRAM-SHA-256 PLAIN\r\n";
    let session = with_login(config(), login.clone(), false);
    assert_snapshot!(play(session, &["220 hi\r\n", ehlo, first, last, "235 ok\r\n"]), @r"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 AUTH LOGIN SCRAM-SHA-256 PLAIN
    C: AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=
    S: 334 cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=
    C: Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ==
    S: 334 dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==
    C: 
    S: 235 ok
    C: QUIT
    ");
    let session = with_login(config(), login.clone(), false);
    let early = play(session, &["220 hi\r\n", ehlo, first, "235 ok\r\n"]);
    assert!(
        early.contains(
            "failed at Auth, Temporary 4.7.0: the login went wrong: the server did not prove"
        ),
        "{early}"
    );
    for bad in ["334 !\r\n", "334 \r\n", "334 eA==\r\n"] {
        let session = with_login(config(), login.clone(), false);
        let broken = play(session, &["220 hi\r\n", ehlo, bad]);
        assert!(broken.ends_with("C: *\nC: QUIT\n"), "{broken}");
    }
}

#[test]
fn login_and_cram_md5_answer_challenges() {
    let session = with_login(config(), login(), true);
    assert_snapshot!(play(session, &[
        "220 hi\r\n", "250-mx\r\n250 AUTH=LOGIN\r\n", "334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n", "235 ok\r\n",
    ]), @r"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 AUTH=LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: dXNlcg==
    S: 334 UGFzc3dvcmQ6
    C: cGVuY2ls
    S: 235 ok
    C: QUIT
    ");
    let session = with_login(config(), Login::new("tim", "tanstaaftanstaaf"), false);
    let cram = play(
        session,
        &[
            "220 hi\r\n",
            "250-mx\r\n250 AUTH CRAM-MD5 PLAIN\r\n",
            "334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n",
            "235 ok\r\n",
        ],
    );
    assert!(cram.contains("C: dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\n"));
    assert!(cram.ends_with("C: QUIT\n"), "{cram}");
}

/// A password is shown only where it was permitted, and mail that needs a login never goes without one.
#[test]
fn no_password_in_clear_and_no_mail_without_login() {
    for (login, ehlo) in [
        (login(), "250-mx\r\n250 AUTH PLAIN LOGIN\r\n"),
        (login(), "250-mx\r\n250 AUTH SCRAM-SHA-256\r\n"),
        (login().permit_in_clear(), "250-mx\r\n250 AUTH X-OWN\r\n"),
        (login(), "250 mx\r\n"),
    ] {
        let refused = play(with_login(config(), login, false), &["220 hi\r\n", ehlo]);
        assert!(!refused.contains("C: AUTH"), "{refused}");
        assert!(
            refused.contains("failed at Auth, Temporary 4.7.0"),
            "{refused}"
        );
    }
    let clear = with_login(config(), login().permit_in_clear(), false);
    let clear = play(
        clear,
        &[
            "220 hi\r\n",
            "250-mx\r\n250 AUTH PLAIN\r\n",
            "535 5.7.8 no\r\n",
        ],
    );
    assert!(
        clear.contains("failed at Auth, Temporary 4.0.0: the server refused: 535 5.7.8 no"),
        "{clear}"
    );
}

#[test]
fn a_handshake_that_takes_too_long_is_given_up() {
    let mut sending = Sending::new(with_tls(StartTls::IfOffered), Owner::new(one()));
    sending.say("220 hi\r\n");
    sending.say("250-mx\r\n250 STARTTLS\r\n");
    // The owner works on it, and does not come back.
    sending.session.receive(sending.now, b"220 go\r\n");
    assert!(matches!(
        sending.session.poll_event(),
        Some(Event::StartTls)
    ));
    sending.pass(std::time::Duration::from_secs(301));
    assert_eq!(
        sending.owner.events[0],
        "failed at StartTls, Temporary 4.4.2: connection timed out"
    );
}

/// Every cut of the octets gives the same events and the same octets.
#[test]
fn cuts_change_nothing() {
    let packets = [
        "220 hi\r\n",
        "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
        "220 go\r\n",
        "250-mx\r\n250-PIPELINING\r\n250 AUTH LOGIN\r\n",
        "334 VXNlcm5hbWU6\r\n",
        "334 UGFzc3dvcmQ6\r\n",
        "235 ok\r\n",
        "250 ok\r\n250 ok\r\n354 go\r\n",
        "250 taken\r\n",
        "221 bye\r\n",
    ];
    let run = |cut_at: Option<(usize, usize)>| {
        let config = with_tls(StartTls::Required);
        let session = Session::new(Arc::new(config.clone()), start()).with_login(login());
        let mut sending = Sending::new(config, Owner::new(one())).with(|_| session);
        for (place, packet) in packets.iter().enumerate() {
            let cut = cut_at.map_or(0, |(at, cut)| if at == place { cut } else { 0 });
            sending.give(&packet.as_bytes()[..cut]);
            sending.give(&packet.as_bytes()[cut..]);
        }
        (sending.owner.events, sending.sent)
    };
    let whole = run(None);
    assert_eq!(whole.0.last().map(String::as_str), Some("closed"));
    for (place, packet) in packets.iter().enumerate() {
        for cut in 1..packet.len() {
            assert_eq!(run(Some((place, cut))), whole, "{packet:?} at {cut}");
        }
    }
}
