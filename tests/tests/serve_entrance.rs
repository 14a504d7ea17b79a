//! How SMTP clients come in to `qmail serve`: TLS, logins, proxies, rules, patience, LMTP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use qmail_core::sasl;
use qmail_tests::receiver::{delivered, proxied, queued, send};
use qmail_tests::server::{Client, Server};
use qmail_tests::tls::Identity;
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

fn host(home: &Path, files: &[(&str, &str)], arguments: &[&str]) -> Server {
    qmail_tests::receiver::start(PROGRAM, home, files, arguments)
}

fn plain(name: &str, secret: &str) -> String {
    let response = sasl::encode(format!("\0{name}\0{secret}").as_bytes());
    format!("AUTH PLAIN {response}")
}

/// Ann's password, as the first start prints it.
fn password(server: &Server) -> String {
    let line = server.wait_for_line("user ann@");
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn mail_comes_in_encrypted_and_nothing_from_before_survives() {
    let home = tempfile::tempdir().unwrap();
    let identity = Identity::new();
    identity.install(home.path());
    let server = host(home.path(), &[], &[]);
    let (mut client, _) = Client::connect(server.smtp());
    let ehlo = client.expect("EHLO c", "250");
    assert!(
        ehlo.contains("STARTTLS") && !ehlo.contains("AUTH"),
        "{ehlo}"
    );
    client.expect("STARTTLS", "220");
    let mut client = client.encrypted(&identity);
    let ehlo = client.expect("EHLO c", "250");
    assert!(!ehlo.contains("STARTTLS"), "{ehlo}");
    assert!(ehlo.contains("AUTH PLAIN LOGIN"), "{ehlo}");
    send(&mut client, "ann@mail.test");
    client.expect("RCPT TO:<ann@mail.test>", "503");
    let text = delivered(&server);
    assert!(text.contains("by mail.test with ESMTPS;"), "{text}");
}

#[test]
fn users_log_in_and_send_anywhere() {
    let home = tempfile::tempdir().unwrap();
    let identity = Identity::new();
    identity.install(home.path());
    let server = host(
        home.path(),
        &[],
        &["--submission", "127.0.0.1:0", "--smtps", "127.0.0.1:0"],
    );
    let secret = password(&server);
    let (mut client, _) = Client::connect(server.listener("submission"));
    client.expect("EHLO c", "250");
    client.expect("MAIL FROM:<joe@elsewhere.test>", "530 5.7.0");
    client.expect(&plain("ann", &secret), "538 5.7.11");
    client.expect("STARTTLS", "220");
    let mut client = client.encrypted(&identity);
    client.expect("EHLO c", "250");
    client.expect("MAIL FROM:<joe@elsewhere.test>", "530 5.7.0");
    client.expect(&plain("ann", "wrong"), "535 5.7.8");
    server.wait_for_line("login: failed: ann from 127.0.0.1: name or password refused");
    client.expect("AUTH LOGIN", "334");
    client.expect(&sasl::encode(b"ann"), "334");
    client.expect(&sasl::encode(secret.as_bytes()), "235");
    send(&mut client, "someone@far.test");
    server.wait_for_line("new msg");
    let text = queued(home.path());
    assert!(text.contains("(HELO c) (ann@127.0.0.1)"), "{text}");
    assert!(text.contains("with ESMTPSA;"), "{text}");

    let mut client = Client::open(server.listener("smtps")).encrypted(&identity);
    assert!(client.reply().starts_with("220"));
    client.expect("EHLO c", "250");
    client.expect(&plain("ann@mail.test", &secret), "235");
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    client.expect("RCPT TO:<someone@far.test>", "250");
}

#[test]
fn a_login_opens_relaying_on_any_listener_and_nothing_else_does() {
    let home = tempfile::tempdir().unwrap();
    let server = host(home.path(), &[("authinclear", "1\n")], &[]);
    let secret = password(&server);
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("EHLO c", "250");
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    client.expect("RCPT TO:<someone@far.test>", "553");
    client.expect("RSET", "250");
    client.expect(&plain("ann", &secret), "235");
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    client.expect("RCPT TO:<someone@far.test>", "250");
}

/// Somebody between the client and us may have logged in for it, by a name of its own.
#[test]
fn a_login_in_clear_does_not_survive_the_handshake() {
    let home = tempfile::tempdir().unwrap();
    let identity = Identity::new();
    identity.install(home.path());
    let server = host(home.path(), &[("authinclear", "1\n")], &[]);
    let secret = password(&server);
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("EHLO c", "250");
    client.expect(&plain("ann", &secret), "235");
    client.expect("STARTTLS", "220");
    let mut client = client.encrypted(&identity);
    client.expect("EHLO c", "250");
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    client.expect("RCPT TO:<someone@far.test>", "553");
    send(&mut client, "ann@mail.test");
    let text = delivered(&server);
    assert!(
        text.contains("with ESMTPS;") && !text.contains("ann@127"),
        "{text}"
    );
}

#[test]
fn certificates_are_read_again() {
    let home = tempfile::tempdir().unwrap();
    let (old, new) = (Identity::new(), Identity::new());
    old.install(home.path());
    let server = host(home.path(), &[], &["--smtps", "127.0.0.1:0"]);
    let greeted = |identity: &Identity| {
        let mut client = Client::open(server.listener("smtps")).encrypted(identity);
        client.reply().starts_with("220")
    };
    assert!(greeted(&old) && !greeted(&new));
    new.install(home.path());
    server.signal(Signal::HUP);
    server.wait_for_line("reread: controls");
    assert!(greeted(&new) && !greeted(&old));
    fs::write(home.path().join("control/servercert.pem"), "none").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("servercert.pem, `no certificate in it`");
    assert!(greeted(&new), "the old one stays");
}

#[test]
fn an_encrypted_listener_wants_a_certificate() {
    let home = tempfile::tempdir().unwrap();
    let mut server = host(home.path(), &[], &["--smtps", "127.0.0.1:0"]);
    assert_eq!(server.wait().code(), Some(111));
    server.wait_for_line("cannot listen for smtps without ");
}

#[test]
fn a_proxy_says_who_is_behind_it() {
    let home = tempfile::tempdir().unwrap();
    let server = host(
        home.path(),
        &[
            ("proxyclients", "127.0.0.1\n"),
            ("relayclients", "192.0.2.7\n"),
        ],
        &[],
    );
    let mut client = Client::open(server.smtp());
    client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\n");
    assert!(client.reply().starts_with("220"));
    client.expect("EHLO c", "250");
    send(&mut client, "someone@far.test");
    server.wait_for_line("new msg");
    assert!(queued(home.path()).contains("(192.0.2.7)"));

    let mut client = Client::open(server.smtp());
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 8, 198, 51, 100, 1, 15, 160, 0, 25]);
    client.send(&header);
    assert!(client.reply().starts_with("220"));
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    client.expect("RCPT TO:<someone@far.test>", "553");

    let mut client = Client::open(server.smtp());
    client.send(b"EHLO c\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!(client.reply(), "", "no header, no session");
}

#[test]
fn rules_say_who_may_come_in_and_what_for() {
    let home = tempfile::tempdir().unwrap();
    let server = host(
        home.path(),
        &[
            ("proxyclients", "127.0.0.1\n"),
            (
                "smtprules",
                "192.0.2.1:deny\n192.0.2.2:allow,RELAYCLIENT=\"\"\n192.0.2.3:allow,DATABYTES=\"5\"\n\
                 192.0.2.4:allow,RBLSMTPD=\"-go away\"\n",
            ),
        ],
        &[],
    );
    let from = |last: u8| {
        let mut client = proxied(&server, last);
        let greeting = client.reply();
        (client, greeting)
    };
    assert_eq!(from(1).1, "");
    let (mut relay, _) = from(2);
    relay.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    relay.expect("RCPT TO:<someone@far.test>", "250");
    let (mut small, _) = from(3);
    assert!(small.expect("EHLO c", "250").contains("SIZE 5"));
    small.expect("MAIL FROM:<joe@elsewhere.test> SIZE=6", "552");
    let (mut blocked, _) = from(4);
    blocked.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    blocked.expect("RCPT TO:<ann@mail.test>", "553 5.7.1 go away");
}

#[test]
fn who_does_not_wait_for_the_greeting_is_sent_away() {
    let home = tempfile::tempdir().unwrap();
    let server = host(home.path(), &[("greetdelay", "1\n")], &[]);
    let mut client = Client::open(server.smtp());
    client.send(b"EHLO c\r\n");
    assert!(client.reply().starts_with("554 5.5.0"));
    let (mut client, greeting) = Client::connect(server.smtp());
    assert!(greeting.starts_with("220"));
    client.expect("EHLO c", "250");
}

#[test]
fn nobody_is_refused_where_mailboxes_are_checked() {
    let home = tempfile::tempdir().unwrap();
    let server = host(home.path(), &[("checkrecipients", "1\n")], &[]);
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    client.expect("RCPT TO:<nobody-at-all@mail.test>", "550 5.1.1");
    client.expect("RCPT TO:<Ann@mail.test>", "250");
}

#[test]
fn mail_comes_in_by_lmtp_and_in_chunks() {
    let home = tempfile::tempdir().unwrap();
    let server = host(
        home.path(),
        &[("chunking", "1\n")],
        &["--lmtp", "127.0.0.1:0"],
    );
    let (mut client, greeting) = Client::connect(server.listener("lmtp"));
    assert!(greeting.ends_with(" LMTP"), "{greeting}");
    assert!(client.expect("LHLO c", "250").contains("CHUNKING"));
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    client.expect("RCPT TO:<ann@mail.test>", "250");
    client.expect("RCPT TO:<ann@mail.test>", "250");
    client.expect("BDAT 14\r\nSubject: x\r\n", "250");
    client.send(b"BDAT 5 LAST\r\n.y\r\nz");
    assert!(client.reply().starts_with("250"));
    assert!(client.reply().starts_with("250"), "one for each recipient");
    let text = delivered(&server);
    assert!(text.contains("with LMTP;"), "{text}");
    assert!(text.ends_with("Subject: x\n\n.y\nz"), "{text}");
}
