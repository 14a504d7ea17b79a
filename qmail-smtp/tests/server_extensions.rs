//! The server session with what is off by default: TLS, logins, chunks, UTF-8, notifications, LMTP.

mod common;

use common::server::{Owner, Served, converse, outcome};
use insta::assert_snapshot;
use qmail_core::Machine;
use qmail_core::sasl::Mechanism;
use qmail_smtp::server::{Config, Dialect, Event, Login, Session, Verdict};

/// Everything is on.
fn config() -> Config {
    let mut config = Config::new("mx.example.org");
    config.extensions.starttls = true;
    config.extensions.smtp_utf8 = true;
    config.extensions.chunking = true;
    config.extensions.dsn = true;
    config.extensions.limits = true;
    config.login = Some(Login::new(Mechanism::ALL.to_vec()));
    config
}

fn lmtp() -> Config {
    let mut config = config();
    config.dialect = Dialect::Lmtp;
    config.extensions = Default::default();
    config
}

fn with_logins_in_clear() -> Config {
    let mut config = config();
    if let Some(login) = &mut config.login {
        login.in_clear = true;
        login.failures_max = 2;
    }
    config
}

#[test]
fn what_was_sent_before_the_handshake_does_not_survive_it() {
    let transcript = converse(
        config(),
        &[
            "EHLO c\r\nSTARTTLS\r\nEHLO evil\r\nMAIL FROM:<ceo@forged.test>\r\n",
            "MAIL FROM:<a@b>\r\n",
            "STARTTLS\r\n",
            "EHLO c\r\n",
        ],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
    C: STARTTLS
    C: EHLO evil
    C: MAIL FROM:<ceo@forged.test>
       extended greeted by c
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250 LIMITS RCPTMAX=20000
    S: 220 2.0.0 ready to start TLS
       TLS started
    C: MAIL FROM:<a@b>
       MAIL <a@b>
    S: 250 2.1.0 ok
    C: STARTTLS
    S: 503 5.5.1 bad sequence of commands
    C: EHLO c
       extended greeted by c
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250-AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN
    S: 250 LIMITS RCPTMAX=20000
    "#);
}

#[test]
fn tls_is_refused_with_an_argument_or_where_it_is_not_offered() {
    let transcript = converse(config(), &["STARTTLS now\r\n", "NOOP\r\n"]);
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: STARTTLS now
    S: 501 5.5.4 no argument allowed
    C: NOOP
    S: 250 2.0.0 ok
    "#);
    let transcript = converse(Config::new("x"), &["STARTTLS\r\n", "AUTH PLAIN =\r\n"]);
    assert_snapshot!(transcript, @r#"
    S: 220 x ESMTP
    C: STARTTLS
    S: 502 5.5.1 unimplemented
    C: AUTH PLAIN =
    S: 502 5.5.1 unimplemented
    "#);
}

#[test]
fn start_tls_is_told_once_its_reply_is_out() {
    let now = common::start();
    let mut session = Session::new(std::sync::Arc::new(config()), now);
    session.receive(now, b"STARTTLS\r\n");
    assert!(session.poll_event().is_none());
    let mut sent = Vec::new();
    assert!(session.poll_transmit(&mut sent));
    assert!(sent.ends_with(b"220 2.0.0 ready to start TLS\r\n"));
    assert_eq!(session.receive(now, b"QUIT\r\n"), 6, "dropped");
    assert!(matches!(session.poll_event(), Some(Event::StartTls)));
    assert!(session.poll_event().is_none(), "told once");
    assert_eq!(session.receive(now, b"QUIT\r\n"), 6, "still dropped");
    session.tls_started();
    assert!(session.is_encrypted() && !session.is_closed());
    session.receive(now, b"QUIT\r\n");
    assert!(session.is_closed());
}

#[test]
fn passwords_in_clear_want_an_encrypted_connection() {
    let transcript = converse(
        config(),
        &[
            "AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n",
            "EHLO c\r\n",
            "AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n",
            "STARTTLS\r\n",
            "EHLO c\r\n",
            "AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n",
            "AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n",
            "MAIL FROM:<a@b> AUTH=<>\r\n",
        ],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: AUTH PLAIN AGpvZQBzZWNyZXQ=
    S: 503 5.5.1 bad sequence of commands
    C: EHLO c
       extended greeted by c
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250 LIMITS RCPTMAX=20000
    C: AUTH PLAIN AGpvZQBzZWNyZXQ=
    S: 538 5.7.11 say STARTTLS first
    C: STARTTLS
    S: 220 2.0.0 ready to start TLS
       TLS started
    C: EHLO c
       extended greeted by c
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250-AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN
    S: 250 LIMITS RCPTMAX=20000
    C: AUTH PLAIN AGpvZQBzZWNyZXQ=
       login of joe
       joe is logged in
    S: 235 2.7.0 ok, go ahead
    C: AUTH PLAIN AGpvZQBzZWNyZXQ=
    S: 503 5.5.1 bad sequence of commands
    C: MAIL FROM:<a@b> AUTH=<>
       MAIL <a@b>
    S: 250 2.1.0 ok
    "#);
}

#[test]
fn every_way_to_log_in() {
    let transcript = converse(
        with_logins_in_clear(),
        &["EHLO c\r\nAUTH LOGIN\r\n", "am9l\r\n", "c2VjcmV0\r\n"],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
    C: AUTH LOGIN
       extended greeted by c
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250-AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN
    S: 250 LIMITS RCPTMAX=20000
    S: 334 VXNlcm5hbWU6
    C: am9l
    S: 334 UGFzc3dvcmQ6
    C: c2VjcmV0
       login of joe
       joe is logged in
    S: 235 2.7.0 ok, go ahead
    "#);
    let transcript = converse(
        with_logins_in_clear(),
        &["EHLO c\r\nauth plain\r\n", "AGpvZQBzZWNyZXQ=\r\n"],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
    C: auth plain
       extended greeted by c
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250-AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN
    S: 250 LIMITS RCPTMAX=20000
    S: 334 
    C: AGpvZQBzZWNyZXQ=
       login of joe
       joe is logged in
    S: 235 2.7.0 ok, go ahead
    "#);
    let digest = qmail_core::cram_md5_digest(b"<n0nce.1@sasl>", b"secret");
    let response = qmail_core::sasl::encode(&[b"joe ", &digest[..]].concat());
    let transcript = converse(
        with_logins_in_clear(),
        &["EHLO c\r\nAUTH CRAM-MD5\r\n", &format!("{response}\r\n")],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
    C: AUTH CRAM-MD5
       extended greeted by c
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250-AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN
    S: 250 LIMITS RCPTMAX=20000
    S: 334 PG4wbmNlLjFAc2FzbD4=
    C: am9lIDU5M2Y4NGIyZDA0ZmZkZDkxNWIxNzdkMTM4Yjk2NzZi
       login of joe
       joe is logged in
    S: 235 2.7.0 ok, go ahead
    "#);
}

#[test]
fn logins_that_fail() {
    let transcript = converse(
        with_logins_in_clear(),
        &[
            "EHLO c\r\n",
            "AUTH GSSAPI\r\n",
            "AUTH PLAIN !\r\n",
            "AUTH PLAIN =\r\n",
            "AUTH LOGIN\r\n*\r\n",
            "AUTH PLAIN AGJ1c3kAeA==\r\n",
            "AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9YWJj\r\n",
            "Yz1iaXdzLHI9YWJjbjBuY2UuNCxwPXg=\r\n",
            "AUTH PLAIN AGpvZQB3cm9uZw==\r\n",
        ],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
       extended greeted by c
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250-AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN
    S: 250 LIMITS RCPTMAX=20000
    C: AUTH GSSAPI
    S: 504 5.5.4 unknown authentication mechanism
    C: AUTH PLAIN !
    S: 501 5.5.2 malformed base64
    C: AUTH PLAIN =
       no login of None: malformed response
    S: 535 5.7.8 authentication failed
    C: AUTH LOGIN
    C: *
    S: 334 VXNlcm5hbWU6
    S: 501 5.7.0 authentication cancelled
    C: AUTH PLAIN AGJ1c3kAeA==
       login of busy
       no login of Some(b"busy"): passwords cannot be checked now
    S: 454 4.7.0 unable to check passwords, try again later
    C: AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9YWJj
       login of user
    S: 334 cj1hYmNuMG5jZS40LHM9YzJGc2RBPT0saT0x
    C: Yz1iaXdzLHI9YWJjbjBuY2UuNCxwPXg=
       no login of Some(b"user"): malformed response
    S: 535 5.7.8 authentication failed
    C: AUTH PLAIN AGpvZQB3cm9uZw==
       login of joe
       no login of Some(b"joe"): name or password refused
       closed: TooManyErrors
    S: 421 4.7.0 too many errors
    "#);
}

const ENVELOPE: &str = "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<j@k>\r\nRCPT TO:<l@m>\r\n";

#[test]
fn a_message_in_chunks() {
    let transcript = converse(
        config(),
        &[
            ENVELOPE,
            "BDAT 10\r\n.x\r\n.\r\nabc",
            "BDAT 0\r\nNOOP\r\nMAIL FROM:<x@y>\r\nDATA\r\n",
            "BDAT 2 LAST\r\n\r\nBDAT 3 LAST\r\nabcQUIT\r\n",
        ],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
    C: MAIL FROM:<a@b>
    C: RCPT TO:<j@k>
    C: RCPT TO:<l@m>
       extended greeted by c
       MAIL <a@b>
       RCPT <j@k>
       RCPT <l@m>
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250 LIMITS RCPTMAX=20000
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 250 2.1.5 ok
    C: BDAT 10
    C: .x
    C: .
    C: abc...
       DATA for 2
    S: 250 2.0.0 10 octets received
    C: BDAT 0
    C: NOOP
    C: MAIL FROM:<x@y>
    C: DATA
    S: 250 2.0.0 0 octets received
    S: 250 2.0.0 ok
    S: 503 5.5.1 bad sequence of commands
    S: 503 5.5.1 bad sequence of commands
    C: BDAT 2 LAST
    C: 
    C: BDAT 3 LAST
    C: abcQUIT
       complete, 9 octets
       closed: Quit
    S: 250 2.0.0 ok
    S: 503 5.5.1 MAIL first
    S: 221 2.0.0 mx.example.org
    "#);
}

#[test]
fn chunks_without_an_end() {
    let transcript = converse(
        config(),
        &[
            ENVELOPE,
            "BDAT 3\r\nabcRSET\r\n",
            "BDAT 4\r\nRSETBDAT x\r\nNOOP\r\n",
        ],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
    C: MAIL FROM:<a@b>
    C: RCPT TO:<j@k>
    C: RCPT TO:<l@m>
       extended greeted by c
       MAIL <a@b>
       RCPT <j@k>
       RCPT <l@m>
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250 LIMITS RCPTMAX=20000
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 250 2.1.5 ok
    C: BDAT 3
    C: abcRSET
       DATA for 2
       aborted: Reset
    S: 250 2.0.0 3 octets received
    S: 250 2.0.0 flushed
    C: BDAT 4
    C: RSETBDAT x
    C: NOOP
       closed: ForeignCommand
    S: 503 5.5.1 MAIL first
    S: 501 5.5.4 syntax: BDAT SIZE or BDAT SIZE LAST
    "#);
}

#[test]
fn an_owner_who_refuses_still_reads_the_chunk() {
    let mut owner = Owner::default();
    owner.data = common::server::no_such_mailbox();
    let mut served = Served::new(config(), owner);
    served.say(ENVELOPE);
    served.say("BDAT 6\r\nQUIT\r\n");
    served.say("NOOP\r\n");
    assert!(!served.session.is_closed());
    assert!(
        served
            .sent
            .ends_with(b"550 5.1.1 no such mailbox\r\n250 2.0.0 ok\r\n")
    );
}

#[test]
fn parameters_reach_the_owner() {
    let transcript = converse(
        config(),
        &[
            "EHLO c\r\nMAIL FROM:<\u{e9}@b> SMTPUTF8 RET=HDRS ENVID=x+2By\r\nRCPT TO:<j@k> NOTIFY=NEVER ORCPT=rfc822;a@b\r\n",
        ],
    );
    assert_snapshot!(transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
    C: MAIL FROM:<\xc3\xa9@b> SMTPUTF8 RET=HDRS ENVID=x+2By
    C: RCPT TO:<j@k> NOTIFY=NEVER ORCPT=rfc822;a@b
       extended greeted by c
       MAIL <\xc3\xa9@b> id x+y Some(Headers) UTF-8
       RCPT <j@k> Notify { success: false, failure: false, delay: false } for rfc822;a@b
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250-ENHANCEDSTATUSCODES
    S: 250-STARTTLS
    S: 250-SMTPUTF8
    S: 250-CHUNKING
    S: 250-DSN
    S: 250 LIMITS RCPTMAX=20000
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    "#);
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let mut served = Served::new(lmtp(), Owner::default());
    served.say("EHLO c\r\nLHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<j@k>\r\nRCPT TO:<l@m>\r\nDATA\r\n");
    served.say("x\r\n.\r\n");
    assert_snapshot!(served.transcript, @r#"
    S: 220 mx.example.org LMTP
    C: EHLO c
    C: LHLO c
    C: MAIL FROM:<a@b>
    C: RCPT TO:<j@k>
    C: RCPT TO:<l@m>
    C: DATA
       extended greeted by c
       MAIL <a@b>
       RCPT <j@k>
       RCPT <l@m>
       DATA for 2
    S: 502 5.5.1 unimplemented
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250 ENHANCEDSTATUSCODES
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 250 2.1.5 ok
    S: 354 go ahead
    C: x
    C: .
       complete, 2 octets
    S: 250 2.0.0 ok
    S: 250 2.0.0 ok
    "#);
}

#[test]
fn lmtp_recipients_without_an_answer_are_not_accepted() {
    let now = common::start();
    let mut session = Session::new(std::sync::Arc::new(lmtp()), now);
    let mut sent = Vec::new();
    let mut input =
        &b"LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<j@k>\r\nRCPT TO:<l@m>\r\nDATA\r\nx\r\n.\r\n"[..];
    while !input.is_empty() {
        let taken = session.receive(now, input);
        input = &input[taken..];
        while let Some(event) = session.poll_event() {
            match event {
                Event::Mail { question, .. } => session.answer_mail(question, Verdict::Accept),
                Event::Rcpt { question, .. } => session.answer_rcpt(question, Verdict::Accept),
                Event::Data { question, .. } => session.answer_data(question, Verdict::Accept),
                Event::BodyEnd { question, .. } => {
                    assert_eq!(session.protocol(), "LMTP");
                    session.answer_recipients(question, [Verdict::Accept]);
                }
                _ => {}
            }
        }
        session.poll_transmit(&mut sent);
    }
    let sent = String::from_utf8_lossy(&sent).into_owned();
    assert!(
        sent.ends_with("250 2.0.0 ok\r\n451 4.3.0 not delivered\r\n"),
        "{sent}"
    );
}

#[test]
fn any_cut_gives_the_same() {
    let logins = "EHLO c\r\nAUTH PLAIN !\r\nAUTH LOGIN\r\nam9l\r\nc2VjcmV0\r\nAUTH PLAIN =\r\nMAIL FROM:<a@b>\r\n";
    let scram =
        "EHLO c\r\nAUTH SCRAM-SHA-256 biwsbj11c2VyLHI9YWJj\r\nYz1i\r\nAUTH LOGIN\r\n*\r\nQUIT\r\n";
    let chunks = format!(
        "{ENVELOPE}BDAT 10\r\n.x\r\n.\r\nabcBDAT 2 LAST\r\n\r\n{ENVELOPE}BDAT 3\r\nabcRSET\r\nBDAT 5\r\nQUIT\r\n{ENVELOPE}\
         BDAT 4\r\na\r\nbBDAT 1\r\n\rBDAT 0 LAST\r\nQUIT\r\n"
    );
    let started = "EHLO c\r\nSTARTTLS\r\n";
    let lmtp = "LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n..x\r\n.\r\nEHLO c\r\nQUIT\r\n";
    for input in [logins, scram, &chunks, started, lmtp] {
        let mut config = with_logins_in_clear();
        if input == lmtp {
            config.dialect = Dialect::Lmtp;
        }
        let input = input.as_bytes();
        let whole = outcome(&config, [input].into_iter());
        for cut in 0..input.len() {
            let (head, tail) = input.split_at(cut);
            let cut_once = outcome(&config, [head, tail].into_iter());
            assert_eq!(cut_once, whole, "cut at {cut}");
        }
        let octets = outcome(&config, input.chunks(1));
        assert_eq!(octets, whole, "octet by octet");
    }
}
