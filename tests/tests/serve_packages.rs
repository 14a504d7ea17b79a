//! `qmail serve` takes mail by QMTP and QMQP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use qmail_core::pump::Pump;
use qmail_smtp::qmtp::{
    self, Answer, Answers, ClientEvent, ClientTimeouts, Protocol, qmqp_frame, qmtp_frame,
};
use qmail_tests::receiver::{delivered, proxy_header, queued};
use qmail_tests::server::{PATIENCE, Server};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

const TEXT: &[u8] = b"Subject: x\n\n.\nx\n";

fn host(home: &Path, files: &[(&str, &str)]) -> Server {
    let arguments = ["--qmtp", "127.0.0.1:0", "--qmqp", "127.0.0.1:0"];
    qmail_tests::receiver::start(PROGRAM, home, files, &arguments)
}

fn qmtp(text: &[u8], sender: &str, recipients: &[&str]) -> Vec<u8> {
    let recipients = recipients.iter().map(|recipient| recipient.as_bytes());
    let (head, tail) = qmtp_frame(text.len() as u64, sender.as_bytes(), recipients);
    [&head, text, &tail].concat()
}

fn qmqp(text: &[u8], sender: &str, recipients: &[&str]) -> Vec<u8> {
    let recipients = recipients.iter().map(|recipient| recipient.as_bytes());
    let (head, tail) = qmqp_frame(text.len() as u64, sender.as_bytes(), recipients);
    [&head, text, &tail].concat()
}

/// A connection that reads answers.
struct Client {
    stream: TcpStream,
    answers: Answers,
    read: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            answers: Answers::default(),
            read: Vec::new(),
        }
    }

    /// One whose client is at 192.0.2.`last`, behind a proxy.
    fn proxied(address: SocketAddr, last: u8) -> Self {
        let mut client = Self::open(address);
        client.send(&proxy_header(last));
        client
    }

    fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap();
    }

    /// The next answer as it is on the wire, without its frame; empty at the end of the connection.
    fn answer(&mut self) -> String {
        let mut buffer = [0; 1000];
        loop {
            let mut input = &self.read[..];
            let answer = self.answers.next(&mut input).unwrap();
            self.read = input.to_vec();
            let (letter, text) = match answer {
                Some(Answer::Accepted(text)) => ('K', text),
                Some(Answer::Deferred(text)) => ('Z', text),
                Some(Answer::Refused(text)) => ('D', text),
                None => match self.stream.read(&mut buffer) {
                    Ok(0) => return String::new(),
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                        return String::new();
                    }
                    read => {
                        self.read.extend_from_slice(&buffer[..read.unwrap()]);
                        continue;
                    }
                },
            };
            return format!("{letter}{}", String::from_utf8(text.to_vec()).unwrap());
        }
    }

    fn expect(&mut self, start: &str) {
        let answer = self.answer();
        assert!(answer.starts_with(start), "{answer:?}, not {start:?}");
    }

    fn expect_end(&mut self) {
        assert_eq!(self.answer(), "");
    }
}

#[test]
fn each_recipient_of_a_qmtp_package_is_answered() {
    let home = tempfile::tempdir().unwrap();
    let files = [("badmailfrom", "@spam.test\n"), ("checkrecipients", "1\n")];
    let server = host(home.path(), &files);
    let mut client = Client::open(server.listener("qmtp"));
    let long = format!("{}@mail.test", "x".repeat(1000));
    client.send(&qmtp(
        TEXT,
        "joe@elsewhere.test",
        &[
            "ann@mail.test",
            "someone@far.test",
            &long,
            "nobody@mail.test",
            "",
        ],
    ));
    client.expect("Kok ");
    client.expect("Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)");
    client.expect("Dsorry, I can't handle that recipient (#5.1.3)");
    client.expect("Dsorry, no mailbox here by that name (#5.1.1)");
    client.expect("Dsorry, I can't handle that recipient (#5.1.3)");
    let text = delivered(&server);
    assert!(text.contains("from unknown (127.0.0.1)\n"), "{text}");
    assert!(text.contains("by mail.test with QMTP;"), "{text}");
    assert!(text.ends_with("Subject: x\n\n.\nx\n"), "{text}");

    // The connection goes on, and two packages may come at once.
    let spam = qmtp(TEXT, "x@spam.test", &["ann@mail.test"]);
    let long_sender = qmtp(TEXT, &long, &["ann@mail.test", "someone@far.test"]);
    client.send(&[spam, long_sender].concat());
    client.expect("Dsorry, your envelope sender is in my badmailfrom list (#5.7.1)");
    client.expect("Dunacceptable sender (#5.1.7)");
    client.expect("Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)");
    client.send(b"x");
    client.expect_end();
}

#[tokio::test]
async fn our_own_client_need_not_wait_for_answers() {
    const PACKAGES: u64 = 20;
    let home = tempfile::tempdir().unwrap();
    let server = host(home.path(), &[]);
    let stream = tokio::net::TcpStream::connect(server.listener("qmtp")).await;
    let timeouts = ClientTimeouts::default();
    let client = qmtp::Client::new(Protocol::Qmtp, timeouts, Instant::now());
    let mut pump = Pump::new(client, stream.unwrap(), Instant::now);
    let (mut begun, mut answers) = (0, Vec::new());
    while let Some(event) = pump.next_event().await.unwrap() {
        let client = pump.machine();
        match event {
            ClientEvent::Ready if begun == PACKAGES => client.finish(),
            ClientEvent::Ready => {
                begun += 1;
                let recipients = [&b"ann@mail.test"[..], b"someone@far.test"];
                let octets = TEXT.len() as u64;
                client
                    .start(octets, b"joe@elsewhere.test", &recipients)
                    .unwrap();
            }
            ClientEvent::BodyWanted => client.body(TEXT),
            ClientEvent::Answer {
                package,
                recipient,
                answer,
            } => answers.push((package, recipient, matches!(answer, Answer::Accepted(_)))),
            event => assert_eq!(event, ClientEvent::Closed { cause: None }),
        }
    }
    let each = |package| [(package, 0, true), (package, 1, false)];
    let wanted: Vec<_> = (0..PACKAGES).flat_map(each).collect();
    assert_eq!(answers, wanted);
    server.wait_for_ends(PACKAGES as usize);
}

#[test]
fn sizes_and_rules_hold_for_qmtp() {
    let home = tempfile::tempdir().unwrap();
    let files = [
        ("proxyclients", "127.0.0.1\n"),
        ("databytes", "16\n"),
        (
            "smtprules",
            "192.0.2.1:deny\n192.0.2.2:allow,RELAYCLIENT=\"@gate.test\"\n192.0.2.3:allow,DATABYTES=\"15\"\n\
             192.0.2.4:allow,RBLSMTPD=\"go away\"\n",
        ),
    ];
    let server = host(home.path(), &files);
    let from = |last| Client::proxied(server.listener("qmtp"), last);
    let package = qmtp(TEXT, "", &["ann@mail.test"]);
    let mut denied = from(1);
    denied.expect_end();
    let mut small = from(3);
    small.send(&package);
    small.expect("Dsorry, that message size exceeds my databytes limit (#5.3.4)");
    let mut blocked = from(4);
    blocked.send(&package);
    blocked.expect("Zgo away (#4.7.1)");
    let mut plain = from(5);
    plain.send(&package);
    plain.expect("Kok ");
    plain.send(&qmtp(b"Subject: one more\n", "", &["ann@mail.test"]));
    plain.expect("Dsorry, that message size exceeds my databytes limit (#5.3.4)");
    delivered(&server);
    let mut relay = from(2);
    relay.send(&qmtp(TEXT, "", &["someone@far.test"]));
    relay.expect("Kok ");
    server.wait_for(|lines| {
        let begun = lines.iter().filter(|line| line.starts_with("info msg "));
        begun.count() >= 2
    });
    let recipients = fs::read_dir(home.path().join("queue/remote")).unwrap();
    let files = recipients.flat_map(|part| fs::read_dir(part.unwrap().path()).unwrap());
    let text: Vec<u8> = files
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert_eq!(text, b"Tsomeone@far.test@gate.test\0");
}

#[test]
fn qmqp_is_for_who_may_relay() {
    let home = tempfile::tempdir().unwrap();
    let files = [
        ("proxyclients", "127.0.0.1\n"),
        ("relayclients", "192.0.2.1\n"),
    ];
    let server = host(home.path(), &files);
    let from = |last| Client::proxied(server.listener("qmqp"), last);
    let mut stranger = from(2);
    stranger.expect("Zsorry, I take no QMQP from your address (#4.7.1)");
    stranger.expect_end();

    let mut client = from(1);
    let long = "x".repeat(1000);
    client.send(&qmqp(
        TEXT,
        "joe@elsewhere.test",
        &["someone@far.test", &long],
    ));
    client.expect("Dsorry, I can't accept addresses like that (#5.1.3)");
    client.expect_end();

    let mut client = from(1);
    client.send(&qmqp(
        TEXT,
        "joe@elsewhere.test",
        &["someone@far.test", "other@far.test"],
    ));
    client.expect("Kok ");
    client.expect_end();
    server.wait_for_line("new msg");
    let text = queued(home.path());
    assert!(text.contains("from unknown (192.0.2.1)\n"), "{text}");
    assert!(text.contains("by mail.test with QMQP;"), "{text}");
    server.wait_for_line("from <joe@elsewhere.test>");
}

#[test]
fn a_package_may_not_have_too_many_recipients() {
    let home = tempfile::tempdir().unwrap();
    let files = [("smtprecipients", "100\n"), ("relayclients", "127.0.0.1\n")];
    let server = host(home.path(), &files);
    let recipients = ["ann@mail.test"; 101];
    let mut client = Client::open(server.listener("qmtp"));
    client.send(&qmtp(TEXT, "", &recipients));
    for _ in 0..100 {
        client.expect("Kok ");
    }
    client.expect("Ztoo many recipients (#4.5.3)");
    let mut client = Client::open(server.listener("qmqp"));
    client.send(&qmqp(TEXT, "", &recipients));
    client.expect("Dtoo many recipients (#5.5.3)");
}

#[test]
fn a_qmqp_message_for_nobody_is_safe() {
    let home = tempfile::tempdir().unwrap();
    let server = host(home.path(), &[("relayclients", "127.0.0.1\n")]);
    let mut client = Client::open(server.listener("qmqp"));
    client.send(&qmqp(TEXT, "", &[]));
    client.expect("Kok ");
    server.wait_for_ends(1);
}

#[test]
fn patience_with_packages_has_an_end() {
    let home = tempfile::tempdir().unwrap();
    let server = host(
        home.path(),
        &[("timeoutsmtpd", "1\n"), ("timeoutdata", "3\n")],
    );
    let package = qmtp(TEXT, "", &["ann@mail.test"]);
    let mut idle = Client::open(server.listener("qmtp"));
    idle.send(&package[..5]);
    idle.expect_end();

    // Something new comes all the time, but the whole takes too long.
    let mut slow = Client::open(server.listener("qmtp"));
    let start = Instant::now();
    let long = [b"100000000:\n".to_vec(), vec![b'x'; 100_000]].concat();
    for &octet in &long {
        if slow.stream.write_all(&[octet]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() < PATIENCE);
    }
    slow.expect_end();
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[test]
fn packages_share_the_limits_of_smtp() {
    let home = tempfile::tempdir().unwrap();
    let files = [("proxyclients", "127.0.0.1\n"), ("concurrencyperip", "1\n")];
    let server = host(home.path(), &files);
    let mut first = qmail_tests::receiver::proxied(&server, 1);
    assert!(first.reply().starts_with("220 "));
    let mut second = Client::proxied(server.listener("qmtp"), 1);
    second.expect("Ztoo many connections from your address, try again later (#4.7.0)");
    second.expect_end();
}

#[test]
fn the_end_of_the_server_waits_for_a_package() {
    let home = tempfile::tempdir().unwrap();
    let mut server = host(home.path(), &[]);
    let (mut busy, mut idle) = (
        Client::open(server.listener("qmtp")),
        Client::open(server.listener("qmtp")),
    );
    let package = qmtp(TEXT, "", &["ann@mail.test"]);
    for client in [&mut busy, &mut idle] {
        client.send(&package);
        client.expect("Kok ");
    }
    busy.send(&package[..8]);
    // It is under way for sure only when the server has read it.
    std::thread::sleep(Duration::from_millis(300));
    server.signal(Signal::TERM);
    idle.expect_end();
    busy.send(&package[8..]);
    busy.expect("Kok ");
    busy.expect_end();
    assert!(server.wait().success());
}
