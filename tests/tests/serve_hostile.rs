//! Clients of `qmail serve` that mean no good, or know no better: each gets an answer, and nobody else notices.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use qmail_tests::server::{Client, Server, fetch_all, log_in, send_mail};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// Somebody else is served within this time, whatever goes on.
const SOON: Duration = Duration::from_secs(10);

fn still_serves(server: &Server, user: &str) {
    let start = Instant::now();
    let reply = send_mail(server.smtp(), "", &[user], b"Subject: well\r\n\r\n");
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn bad_commands_get_an_answer_each() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, _) = server.first_user();
    let (mut client, _) = Client::connect(server.smtp());
    for (line, start) in [
        ("", "50"),
        ("XYZZY", "50"),
        ("DATA", "503"),
        ("RCPT TO:<a@b>", "503"),
        ("MAIL FROM:<a\0b@c>", "5"),
        ("MAIL FROM <a@b>", "555"),
        ("MAIL FROM:<\"a@b>", "555"),
        ("MAIL FROM:<> BODY=9BIT", "5"),
        ("MAIL FROM:<>", "250"),
        ("RCPT TO:<>", "5"),
        ("RCPT TO:<a@elsewhere\nRSET>", "5"),
    ] {
        client.expect(line, start);
    }
    // The line that was two.
    let reply = client.reply();
    assert!(
        reply.starts_with("50") || reply.starts_with("55"),
        "{reply}"
    );
    client.send(&[b'A'; 1_000_000]);
    let reply = client.command("");
    assert!(reply.starts_with("500 "), "{reply}");
    still_serves(&server, &user);
}

#[test]
fn too_many_errors_end_the_session() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    for (address, end) in [(server.smtp(), "421 "), (server.pop3(), "-ERR")] {
        let (mut client, _) = Client::connect(address);
        let mut last = String::new();
        for _ in 0..10_000 {
            if !client.try_send(b"FOO\r\n") {
                break;
            }
            let reply = client.reply();
            if reply.is_empty() {
                break;
            }
            last = reply;
        }
        assert!(last.starts_with(end), "{last}");
        assert_eq!(client.line(), "", "closed");
    }
}

#[test]
fn a_bare_line_feed_smuggles_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, secret) = server.first_user();
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\n.\r"] {
        let (mut client, _) = Client::connect(server.smtp());
        client.expect("EHLO client", "250");
        client.expect("MAIL FROM:<>", "250");
        client.expect(&format!("RCPT TO:<{user}>"), "250");
        client.expect("DATA", "354");
        let text = format!(
            "Subject: one\r\n\r\nx{end}MAIL FROM:<>\r\nRCPT TO:<{user}>\r\nDATA\r\nSubject: smuggled\r\n\r\n.\r\n"
        );
        client.send(text.as_bytes());
        let reply = client.reply();
        assert!(reply.starts_with("451 "), "{end:?}: {reply}");
        assert_eq!(client.line(), "", "{end:?}: closed");
    }
    still_serves(&server, &user);
    server.wait_for_line("end msg ");
    assert_eq!(fetch_all(server.pop3(), &user, &secret).len(), 1);
}

#[test]
fn clients_that_stall_or_vanish_hold_up_nobody() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir_all(scratch.path().join("control")).unwrap();
    fs::write(scratch.path().join("control/me"), "localhost\n").unwrap();
    fs::write(scratch.path().join("control/timeoutsmtpd"), "2\n").unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, secret) = server.first_user();
    // Amid a command, a message, a reply that is not read; half closed; reset.
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let (mut client, _) = Client::connect(server.smtp());
        client.send(b"EHLO half a li");
        stalled.push(client);
        let (mut client, _) = Client::connect(server.smtp());
        client.expect("MAIL FROM:<>", "250");
        client.expect(&format!("RCPT TO:<{user}>"), "250");
        client.expect("DATA", "354");
        client.send(b"Subject: never ends\r\n");
        stalled.push(client);
        let mut client = Client::open(server.smtp());
        client.send("NOOP\r\n".repeat(500).as_bytes());
        stalled.push(client);
        let half = TcpStream::connect(server.smtp()).unwrap();
        half.shutdown(Shutdown::Write).unwrap();
        drop(TcpStream::connect(server.smtp()).unwrap());
        stalled.push(log_in_amid(&server));
    }
    still_serves(&server, &user);
    drop(log_in(server.pop3(), &user, &secret));
    // Those that wait are sent away in their time.
    let reply = stalled[0].reply();
    assert!(reply.starts_with("421 "), "{reply}");
    let reply = stalled[1].reply();
    assert!(reply.starts_with("421 "), "{reply}");
    assert_eq!(stalled[1].line(), "", "closed");
}

fn log_in_amid(server: &Server) -> Client {
    let (mut client, _) = Client::connect(server.pop3());
    client.send(b"USER some");
    client
}

#[test]
fn sessions_beyond_the_limit_are_told_so() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir_all(scratch.path().join("control")).unwrap();
    fs::write(scratch.path().join("control/me"), "localhost\n").unwrap();
    fs::write(scratch.path().join("control/concurrencyincoming"), "2\n").unwrap();
    fs::write(scratch.path().join("control/concurrencypop3"), "1\n").unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (_one, _) = Client::connect(server.smtp());
    let (two, _) = Client::connect(server.smtp());
    let (mut three, greeting) = Client::connect(server.smtp());
    assert!(greeting.starts_with("421 4.3.2 "), "{greeting}");
    assert_eq!(three.line(), "", "closed");
    let (_reader, _) = Client::connect(server.pop3());
    let (_, greeting) = Client::connect(server.pop3());
    assert!(greeting.starts_with("-ERR "), "{greeting}");
    drop(two);
    let start = Instant::now();
    while !Client::connect(server.smtp()).1.starts_with("220 ") {
        assert!(start.elapsed() < SOON);
    }
}

#[test]
fn few_descriptors_mean_few_sessions_and_a_queue_that_works() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 160 && exec \"$0\" serve --home \"$1\" --smtp 127.0.0.1:0 --pop3 127.0.0.1:0"])
        .arg(PROGRAM)
        .arg(scratch.path());
    let server = Server::spawn(&mut command, scratch.path());
    let (user, _) = server.first_user();
    server.wait_for_line("warning: descriptors for 15 SMTP and 15 POP3 sessions only; ");
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(server.smtp())).collect();
    let let_in = |(_, greeting): &&(Client, String)| greeting.starts_with("220 ");
    assert_eq!(clients.iter().filter(let_in).count(), 15);
    // All of them amid a message: none lacks a file for it.
    for (client, _) in &mut clients[..15] {
        client.expect("MAIL FROM:<>", "250");
        client.expect(&format!("RCPT TO:<{user}>"), "250");
        client.expect("DATA", "354");
    }
    for (client, _) in &mut clients[..15] {
        client.expect("Subject: x\r\n.", "250");
    }
    server.wait_for_ends(15);
}

#[test]
fn a_size_limit_holds_before_and_after_the_fact() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir_all(scratch.path().join("control")).unwrap();
    fs::write(scratch.path().join("control/me"), "localhost\n").unwrap();
    fs::write(scratch.path().join("control/databytes"), "1000\n").unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("EHLO client", "250");
    client.expect("MAIL FROM:<> SIZE=1001", "552 5.3.4");
    client.expect("MAIL FROM:<> SIZE=1000", "250");
    client.expect("RCPT TO:<user@localhost>", "250");
    client.expect("DATA", "354");
    client.send(&b"0123456789\r\n".repeat(100_000));
    client.expect(".", "552 5.3.4");
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<user@localhost>", "250");
    client.expect("DATA", "354");
    client.send(&b"012345678\r\n".repeat(100));
    client.expect(".", "250");
}

#[test]
fn a_full_disk_is_a_temporary_failure_and_loses_nothing() {
    for (spool, directories) in [
        ("split", &["pid", "intd", "todo"][..]),
        ("journal", &["journal/text"]),
    ] {
        full_disk(spool, directories);
    }
}

/// Afterwards nothing is left in these directories.
fn full_disk(spool: &str, directories: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().join("home");
    // Files of more than 64 KiB cannot be written: for a write it is as if the disk were full.
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 128 && exec \"$0\" serve --home \"$1\" --smtp 127.0.0.1:0 --pop3 127.0.0.1:0 --spool \"$2\""])
        .arg(PROGRAM)
        .arg(&home)
        .arg(spool);
    let server = Server::spawn(&mut command, &home);
    let (user, secret) = server.first_user();
    let long = b"0123456789\r\n".repeat(20_000);
    let (mut client, _) = Client::connect(server.smtp());
    for _ in 0..3 {
        client.expect("MAIL FROM:<>", "250");
        client.expect(&format!("RCPT TO:<{user}>"), "250");
        client.expect("DATA", "354");
        client.send(&long);
        client.expect(".", "451 4.3.0 qq write error or disk full");
    }
    server
        .wait_for_line("warning: message not accepted: qq write error or disk full: cannot write ");
    still_serves(&server, &user);
    server.wait_for_line("end msg ");
    assert_eq!(fetch_all(server.pop3(), &user, &secret).len(), 1);
    for directory in directories {
        let left = fs::read_dir(home.join("queue").join(directory))
            .unwrap()
            .count();
        assert_eq!(left, 0, "{directory}");
    }
}
