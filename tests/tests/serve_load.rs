//! `qmail serve` under more than one client expects: many of them, long messages, long envelopes, and bounds on memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use qmail_tests::server::{Client, Server, log_in, send_mail};
use rustix::process::{Resource, getrlimit, setrlimit};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// Idle sessions that are held.
const IDLE: usize = 1000;

/// Octets of the long message.
const LONG: usize = 50_000_000;

/// Resident memory in KiB that a long message may add.
const LONG_GROWTH_KIB: u64 = 8 * 1024;

/// Clients that try passwords, and resident memory in KiB that they may add together.
const GUESSERS: usize = 60;
const GUESSING_GROWTH_KIB: u64 = 128 * 1024;

/// Recipients of the message that has many.
const RECIPIENTS: usize = 10_000;

#[test]
fn a_thousand_idle_clients_leave_room_for_others() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, _) = server.first_user();
    send_mail(server.smtp(), "", &[&user], b"Subject: warm\r\n\r\n");
    let before = server.resident_kib();
    let idle: Vec<Client> = (0..IDLE)
        .map(|_| {
            let (mut client, _) = Client::connect(server.smtp());
            client.expect("EHLO idle", "250");
            client
        })
        .collect();
    let each = (server.resident_kib() - before) * 1024 / IDLE as u64;
    assert!(each < 16 * 1024, "{each} octets for each idle session");
    let start = Instant::now();
    let reply = send_mail(server.smtp(), "", &[&user], b"Subject: among them\r\n\r\n");
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(idle);
}

#[test]
fn passwords_are_checked_in_little_memory() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, _) = server.first_user();
    let before = server.resident_kib();
    std::thread::scope(|scope| {
        for _ in 0..GUESSERS {
            scope.spawn(|| {
                let (mut client, _) = Client::connect(server.pop3());
                client.expect(&format!("USER {user}"), "+OK");
                client.expect("PASS guess", "-ERR");
            });
        }
    });
    let growth = server.resident_kib() - before;
    assert!(growth < GUESSING_GROWTH_KIB, "{growth} KiB more");
}

#[test]
fn a_long_message_is_never_in_memory() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, secret) = server.first_user();
    // One message and one login, so that everything there is has been used once.
    send_mail(server.smtp(), "", &[&user], b"Subject: warm\r\n\r\n");
    server.wait_for_line("end msg ");
    drop(log_in(server.pop3(), &user, &secret));
    reset_peak(&server);
    let before = server.resident_kib();

    let line = [&[b'x'; 78][..], b"\r\n"].concat();
    let mut text = b"Subject: long\r\n\r\n".to_vec();
    while text.len() < LONG {
        text.extend_from_slice(&line);
    }
    let reply = send_mail(server.smtp(), "", &[&user], &text);
    assert!(reply.starts_with("250 "), "{reply}");
    server.wait_for_ends(2);
    let growth = peak_kib(&server).saturating_sub(before);
    assert!(
        growth < LONG_GROWTH_KIB,
        "{growth} KiB to take and deliver it"
    );

    let mut client = log_in(server.pop3(), &user, &secret);
    // A login takes memory of its own, on purpose.
    reset_peak(&server);
    client.expect("RETR 2", "+OK");
    let message = client.multi_line();
    assert!(message.ends_with(&text));
    let growth = peak_kib(&server).saturating_sub(before);
    assert!(
        growth < LONG_GROWTH_KIB + LOGIN_KIB,
        "{growth} KiB to give it out"
    );
}

/// Memory that a login may leave behind for the next.
const LOGIN_KIB: u64 = 20 * 1024;

fn reset_peak(server: &Server) {
    std::fs::write(format!("/proc/{}/clear_refs", server.id()), "5").unwrap();
}

fn peak_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_recipients_are_one_message() {
    let scratch = tempfile::tempdir().unwrap();
    let sink_home = scratch.path().join("sink");
    let sink = relay(
        &sink_home,
        &[("rcpthosts", ".sink.example\nsink.example\n")],
        // Its messages can be counted from outside.
        &["--no-deliver", "--spool", "split"],
    );
    let route = format!(":127.0.0.1:{}\n", sink.smtp().port());
    let home = scratch.path().join("home");
    let server = relay(
        &home,
        &[
            ("relayclients", "127.0.0.1\n"),
            ("rcpthosts", ""),
            ("smtproutes", &route),
        ],
        &[],
    );
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("EHLO client", "250");
    client.expect("MAIL FROM:<>", "250");
    let mut batch = String::new();
    for number in 0..RECIPIENTS {
        batch.push_str(&format!("RCPT TO:<r{number}@sink.example>\r\n"));
        if number % 100 == 99 {
            client.send(batch.as_bytes());
            batch.clear();
            for _ in 0..100 {
                let reply = client.reply();
                assert!(reply.starts_with("250 "), "{reply}");
            }
        }
    }
    client.expect("DATA", "354");
    client.expect("Subject: to all\r\n.", "250");
    server.wait_for_line("end msg ");
    let lines = server.lines();
    let delivered = lines
        .iter()
        .filter(|line| line.contains(": success: "))
        .count();
    assert_eq!(delivered, RECIPIENTS);
    let transactions = std::fs::read_dir(sink_home.join("queue/todo"))
        .unwrap()
        .count();
    assert!(
        transactions <= RECIPIENTS / 100,
        "{transactions} transactions"
    );
}

fn relay(home: &Path, files: &[(&str, &str)], arguments: &[&str]) -> Server {
    let control = home.join("control");
    std::fs::create_dir_all(&control).unwrap();
    std::fs::write(control.join("me"), "relay.example\n").unwrap();
    for (name, text) in files {
        std::fs::write(control.join(name), text).unwrap();
    }
    let mut all = vec!["--smtp", "127.0.0.1:0", "--pop3", "none"];
    all.extend(arguments);
    Server::start(PROGRAM, home, &all)
}
