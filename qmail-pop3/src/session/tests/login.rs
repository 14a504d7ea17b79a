//! STLS and AUTH.

use qmail_core::sasl::client::{Exchange, Login};
use qmail_core::sasl::{Mechanism, decode, encode};

use super::*;

fn all_mechanisms() -> Config {
    Config {
        mechanisms: Mechanism::ALL.to_vec(),
        tls: true,
        ..Config::default()
    }
}

impl Owner {
    fn with_nonce(mut self) -> Self {
        self.session = self.session.with_nonce("nonce");
        self
    }
}

#[test]
fn auth_by_plain_and_login() {
    let talk = Owner::new(all_mechanisms()).talk(&[
        "CAPA",
        "AUTH",
        "AUTH X-OWN",
        "AUTH CRAM-MD5",
        "AUTH PLAIN !",
        "AUTH PLAIN",
        "*",
        "AUTH LOGIN",
        "am9l",
        "c2UgY3JldA==",
        "CAPA",
        "QUIT",
    ]);
    insta::assert_snapshot!(talk, @r"
    S: +OK <7.99@pop.example.org>|
    C: CAPA
    S: +OK |
    S: TOP|
    S: UIDL|
    S: USER|
    S: EXPIRE NEVER|
    S: RESP-CODES|
    S: SASL PLAIN LOGIN|
    S: STLS|
    S: PIPELINING|
    S: .|
    C: AUTH
    S: -ERR syntax error|
    C: AUTH X-OWN
    S: -ERR no such mechanism|
    C: AUTH CRAM-MD5
    S: -ERR no such mechanism|
    C: AUTH PLAIN !
    S: -ERR no base64|
    C: AUTH PLAIN
    S: + |
    C: *
    S: -ERR login cancelled|
    C: AUTH LOGIN
    S: + VXNlcm5hbWU6|
    C: am9l
    S: + UGFzc3dvcmQ6|
    C: c2UgY3JldA==
    S: +OK |
    C: CAPA
    S: +OK |
    S: TOP|
    S: UIDL|
    S: USER|
    S: EXPIRE NEVER|
    S: RESP-CODES|
    S: PIPELINING|
    S: .|
    C: QUIT
    S: +OK |
    (Updated, deleted [])
    ");
}

#[test]
fn logins_by_auth_are_counted_as_others() {
    let wrong = "AUTH PLAIN AGpvZQB3cm9uZw==";
    let talk = Owner::new(all_mechanisms()).talk(&[wrong, "AUTH PLAIN eA==", wrong]);
    insta::assert_snapshot!(talk, @r"
    S: +OK <7.99@pop.example.org>|
    C: AUTH PLAIN AGpvZQB3cm9uZw==
    S: -ERR authorization failed|
    C: AUTH PLAIN eA==
    S: -ERR syntax error|
    C: AUTH PLAIN AGpvZQB3cm9uZw==
    S: -ERR authorization failed|
    (TooManyLogins)
    ");
}

/// A client of ours and a server of ours: how it ends.
fn scram(password: &str) -> (Owner, Vec<u8>) {
    let mut owner = Owner::new(all_mechanisms()).with_nonce();
    let login = Login::new("joe", password).with_nonce("client");
    let mut exchange = Exchange::new(Mechanism::ScramSha256, login);
    let first = exchange.initial().expect("SCRAM begins");
    owner.offer(format!("AUTH SCRAM-SHA-256 {}\r\n", encode(&first)).as_bytes());
    loop {
        let sent = std::mem::take(&mut owner.sent);
        let last = sent.split(|&octet| octet == b'\n').rev().nth(1);
        let last = last.expect("a line");
        let Some(challenge) = last.strip_prefix(b"+ ") else {
            return (owner, last.to_vec());
        };
        let challenge = decode(challenge.trim_ascii()).expect("base64");
        match exchange.respond(&challenge) {
            Ok(response) => owner.offer(format!("{}\r\n", encode(&response)).as_bytes()),
            Err(_) => owner.offer(b"*\r\n"),
        }
    }
}

#[test]
fn auth_by_scram() {
    let (owner, last) = scram("se cret");
    assert_eq!(last, b"+OK \r");
    assert!(owner.talk(&["STAT"]).contains("S: +OK 3 "));
    let (owner, last) = scram("wrong");
    assert_eq!(last, b"-ERR authorization failed\r");
    assert!(owner.session.end().is_none());
}

#[test]
fn stls_makes_a_new_beginning() {
    let config = Config {
        in_clear: false,
        mechanisms: vec![Mechanism::Plain],
        ..all_mechanisms()
    };
    let talk = Owner::new(config).with_nonce().talk(&[
        "CAPA",
        "USER joe",
        "PASS se cret",
        "AUTH PLAIN AGpvZQBzZSBjcmV0",
        "STLS",
        "STLS",
        "CAPA",
        "PASS se cret",
        "AUTH PLAIN AGpvZQBzZSBjcmV0",
        "STLS",
        "QUIT",
    ]);
    insta::assert_snapshot!(talk, @r"
    S: +OK <7.99@pop.example.org>|
    C: CAPA
    S: +OK |
    S: TOP|
    S: UIDL|
    S: EXPIRE NEVER|
    S: RESP-CODES|
    S: STLS|
    S: PIPELINING|
    S: .|
    C: USER joe
    S: -ERR say STLS first: no password in clear|
    C: PASS se cret
    S: -ERR say STLS first: no password in clear|
    C: AUTH PLAIN AGpvZQBzZSBjcmV0
    S: -ERR say STLS first: no password in clear|
    C: STLS
    S: +OK |
    S: -- TLS|
    C: STLS
    S: -ERR authorization first|
    C: CAPA
    S: +OK |
    S: TOP|
    S: UIDL|
    S: USER|
    S: EXPIRE NEVER|
    S: RESP-CODES|
    S: SASL PLAIN|
    S: PIPELINING|
    S: .|
    C: PASS se cret
    S: -ERR USER first|
    C: AUTH PLAIN AGpvZQBzZSBjcmV0
    S: +OK |
    C: STLS
    S: -ERR unimplemented|
    C: QUIT
    S: +OK |
    (Updated, deleted [])
    ");
    let without = Owner::new(Config::default()).talk(&["STLS", "AUTH PLAIN"]);
    assert!(without.ends_with(
        "C: STLS\nS: -ERR authorization first|\nC: AUTH PLAIN\nS: -ERR authorization first|\n"
    ));
}

/// Neither what was sent in clear behind STLS nor a name that was said before it counts after the handshake.
#[test]
fn nothing_said_in_clear_survives() {
    let injected = b"USER joe\r\nSTLS\r\nPASS se cret\r\nDELE 1\r\nQUIT\r\n";
    let behind = injected
        .iter()
        .position(|&octet| octet == b'P')
        .expect("PASS");
    for cut in behind..=injected.len() {
        let mut owner = Owner::new(all_mechanisms());
        let now = owner.now;
        assert_eq!(owner.session.receive(now, &injected[..cut]), cut);
        assert_eq!(
            owner.session.receive(now, &injected[cut..]),
            injected.len() - cut
        );
        owner.drain();
        assert!(owner.sent.ends_with(b"-- TLS\r\n"));
        owner.offer(b"PASS se cret\r\n");
        assert!(
            owner.sent.ends_with(b"-- TLS\r\n-ERR USER first\r\n"),
            "{cut}"
        );
    }
}

#[test]
fn cuts_change_nothing() {
    let plain = format!(
        "AUTH PLAIN !\r\nAUTH PLAIN\r\n{}\r\n",
        encode(b"\0joe\0se cret")
    );
    let conversations: [&[&str]; 4] = [
        &["CAPA\r\nAUTH LOGIN\r\nam9l\r\nc2UgY3JldA==\r\nSTAT\r\nQUIT\r\n"],
        &["USER joe\r\nPASS x\r\nAPOP joe\r\nAPOP joe c4c9334bac560ecc979e58001b3e22fb\nQUIT\r\n"],
        &["AUTH\r\nAUTH LOGIN\r\n*\r\nAUTH SCRAM-SHA-256 biwsbj1qb2Uscj1hYmM=\r\nYz1iaXdz\r\n"],
        // What is in one packet with STLS is thrown away.
        &[
            "USER joe\r\nSTLS\r\n",
            &plain,
            "TOP 1 1\r\nDELE 1\r\nQUIT\r\n",
        ],
    ];
    for packets in conversations {
        let run = |cut_at: Option<(usize, usize)>| {
            let mut owner = Owner::new(all_mechanisms()).with_nonce();
            for (place, packet) in packets.iter().enumerate() {
                let cut = cut_at.map_or(0, |(at, cut)| if at == place { cut } else { 0 });
                owner.offer(&packet.as_bytes()[..cut]);
                owner.offer(&packet.as_bytes()[cut..]);
            }
            (owner.sent, owner.update, owner.session.end())
        };
        let whole = run(None);
        for (place, packet) in packets.iter().enumerate() {
            for cut in 1..packet.len() {
                assert_eq!(run(Some((place, cut))), whole, "{packet:?} at {cut}");
            }
        }
    }
}

#[test]
fn who_leaves_in_a_handshake_is_gone() {
    let mut owner = Owner::new(all_mechanisms());
    let now = owner.now;
    owner.session.receive(now, b"STLS\r\n");
    owner.session.handle_eof(now);
    assert_eq!(owner.session.end(), Some(crate::End::Disconnected));
}
