//! Mail through `qmail serve`: in by SMTP, into Maildirs, on to another host, back as a bounce, out by POP3.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use qmail_tests::hosts::{control, free_address, receiver, sender};
use qmail_tests::server::{Client, Server, fetch_all, log_in, send_mail};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// What the mail system puts in front of a message is not the message.
fn without_trace(stored: &[u8]) -> &[u8] {
    let mut rest = stored;
    loop {
        let end = rest.iter().position(|&octet| octet == b'\n');
        let Some(end) = end else { return rest };
        let trace = [
            &b"Return-Path: "[..],
            b"Delivered-To: ",
            b"Received: ",
            b" ",
        ];
        if !trace.iter().any(|name| rest.starts_with(name)) {
            return rest;
        }
        rest = &rest[end + 1..];
    }
}

#[test]
fn a_message_comes_out_byte_for_byte() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, secret) = server.first_user();
    let every_octet: Vec<u8> = (0..=255).filter(|octet| !b"\r\n".contains(octet)).collect();
    let mut text = b"Subject: octets\r\nX-Empty:\r\n\r\n.\r\n..\r\n.dot\r\n\r\n".to_vec();
    text.extend_from_slice(&every_octet);
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&[b'x'; 70_000]);
    text.extend_from_slice(b"\r\n\r\n \r\nlast\r\n");
    let mut stuffed = Vec::new();
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    send_mail(server.smtp(), "joe@example.net", &[&user], &stuffed);
    server.wait_for_line("end msg ");

    let maildir = fs::read_dir(scratch.path().join("mail")).unwrap();
    let maildir = maildir
        .into_iter()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("Maildir/new");
    let file = fs::read_dir(maildir)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let stored = fs::read(file).unwrap();
    assert!(stored.starts_with(b"Return-Path: <joe@example.net>\nDelivered-To: "));
    let expected: Vec<u8> = text
        .iter()
        .copied()
        .filter(|&octet| octet != b'\r')
        .collect();
    assert!(without_trace(&stored) == expected);

    let messages = fetch_all(server.pop3(), &user, &secret);
    let received: Vec<u8> = messages[0]
        .iter()
        .copied()
        .filter(|&octet| octet != b'\r')
        .collect();
    assert!(received == stored);
    assert!(messages[0].ends_with(b"\r\n \r\nlast\r\n"));
}

#[test]
fn an_empty_message_is_a_message() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, secret) = server.first_user();
    send_mail(server.smtp(), "", &[&user], b"");
    server.wait_for_line("end msg ");
    let messages = fetch_all(server.pop3(), &user, &secret);
    assert!(messages[0].ends_with(b" -0000\r\n"), "only trace fields");
}

#[test]
fn deleted_messages_are_gone_and_others_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, secret) = server.first_user();
    for number in 1..=3 {
        let text = format!("Subject: {number}\r\n\r\n");
        send_mail(server.smtp(), "", &[&user], text.as_bytes());
        server.wait_for_ends(number);
    }
    let mut client = log_in(server.pop3(), &user, &secret);
    client.expect("DELE 2", "+OK");
    client.expect("QUIT", "+OK");
    assert_eq!(fetch_all(server.pop3(), &user, &secret).len(), 2);
}

#[test]
fn mail_is_relayed_to_another_host() {
    let scratch = tempfile::tempdir().unwrap();
    let address = free_address();
    let b = receiver(PROGRAM, &scratch.path().join("b"), address);
    let (user, secret) = b.first_user();
    let a = sender(PROGRAM, &scratch.path().join("a"), address, &[]);
    send_mail(
        a.smtp(),
        "joe@a.example",
        &[&user],
        b"Subject: hop\r\n\r\n..two\r\n",
    );
    let line = a.wait_for_line("delivery 1: success: ");
    assert!(
        line.contains("success: 127.0.0.1_accepted_message./Remote_host_said:_250_"),
        "{line}"
    );
    b.wait_for_line("end msg ");
    let messages = fetch_all(b.pop3(), &user, &secret);
    assert!(messages[0].ends_with(b"Subject: hop\r\n\r\n.two\r\n"));
}

#[test]
fn mail_waits_for_a_host_that_is_down() {
    let scratch = tempfile::tempdir().unwrap();
    let address = free_address();
    let home = scratch.path().join("a");
    let mut a = sender(PROGRAM, &home, address, &[]);
    send_mail(
        a.smtp(),
        "joe@a.example",
        &["user@b.example"],
        b"Subject: later\r\n\r\n",
    );
    a.wait_for_line("delivery 1: deferral: ");
    assert_eq!(count(&home), "1\n");
    // It waits across a restart, too.
    a.signal(Signal::TERM);
    assert!(a.wait().success());
    assert_eq!(count(&home), "1\n");
    let a = Server::start_free(PROGRAM, &home, &[]);
    let b = receiver(PROGRAM, &scratch.path().join("b"), address);
    a.signal(Signal::ALARM);
    a.wait_for_line("end msg ");
    b.wait_for_line("info msg ");
    assert_eq!(count(&home), "0\n");
}

/// What `qmail queue count` says.
fn count(home: &Path) -> String {
    let output = Command::new(PROGRAM)
        .args(["queue", "count", "--home"])
        .arg(home)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_refused_message_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let address = free_address();
    let _b = receiver(PROGRAM, &scratch.path().join("b"), address);
    let a = sender(PROGRAM, &scratch.path().join("a"), address, &[]);
    let (user, secret) = a.first_user();
    send_mail(
        a.smtp(),
        &user,
        &["joe@c.example"],
        b"Subject: refused\r\n\r\nbody\r\n",
    );
    a.wait_for_line("bounce msg ");
    a.wait_for_line("delivery 2: success: ");
    let messages = fetch_all(a.pop3(), &user, &secret);
    let bounce = String::from_utf8(messages[0].clone()).unwrap();
    assert!(bounce.starts_with("Return-Path: <>\r\n"), "{bounce}");
    for part in [
        "\r\nSubject: failure notice\r\n\r\nHi. This is the qmail-send program at a.example.\r\n",
        "\r\n<joe@c.example>:\r\n127.0.0.1 does not like recipient.\r\nRemote host said: 553 5.7.1 ",
        "\r\n--- Below this line is a copy of the message.\r\n\r\nReturn-Path: <",
        "\r\nSubject: refused\r\n\r\nbody\r\n",
    ] {
        assert!(bounce.contains(part), "{part:?} in {bounce}");
    }
}

#[test]
fn an_unknown_user_bounces_and_a_bounce_that_bounces_goes_to_postmaster() {
    let scratch = tempfile::tempdir().unwrap();
    // Without checkrecipients.
    let files = [("me", "localhost\n"), ("rcpthosts", "localhost\n")];
    control(scratch.path(), &files);
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, secret) = server.first_user();
    // The sender does not exist either.
    let stranger = "stranger@localhost";
    send_mail(
        server.smtp(),
        stranger,
        &["nobody@localhost"],
        b"Subject: x\r\n\r\n",
    );
    server.wait_for_ends(3);
    let messages = fetch_all(server.pop3(), &user, &secret);
    let bounce = String::from_utf8(messages[0].clone()).unwrap();
    for part in [
        "Delivered-To: postmaster@",
        "I tried to deliver a bounce message to this address, but the bounce bounced!",
        "<stranger@localhost>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n",
        "<nobody@localhost>:\r\nSorry, no mailbox here by that name. (#5.1.1)\r\n",
    ] {
        assert!(bounce.contains(part), "{part:?} in {bounce}");
    }
}

#[test]
fn without_delivery_mail_is_queued_for_a_later_start() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path();
    let server = Server::start_free(PROGRAM, home, &["--no-deliver"]);
    let (user, secret) = server.first_user();
    let (mut client, _) = Client::connect(server.smtp());
    for _ in 0..5 {
        client.expect("MAIL FROM:<>", "250");
        client.expect(&format!("RCPT TO:<{user}>"), "250");
        client.expect("DATA", "354");
        client.expect("Subject: x\r\n.", "250");
    }
    assert_eq!(count(home), "5\n");
    drop(server);
    let server = Server::start_free(PROGRAM, home, &[]);
    server.wait_for_ends(5);
    assert_eq!(count(home), "0\n");
    assert_eq!(fetch_all(server.pop3(), &user, &secret).len(), 5);
}

#[test]
fn a_queue_in_memory_leaves_no_files() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &["--spool", "memory"]);
    let (user, secret) = server.first_user();
    send_mail(server.smtp(), "", &[&user], b"Subject: x\r\n\r\n");
    server.wait_for_line(": success: did_1+0+0/");
    assert_eq!(fetch_all(server.pop3(), &user, &secret).len(), 1);
    assert_eq!(count(scratch.path()), "0\n");
}

#[test]
fn a_bad_sender_is_refused_at_rcpt() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path();
    control(
        home,
        &[
            ("me", "a.example\n"),
            ("rcpthosts", "a.example\n"),
            ("badmailfrom", "@spam.example\n"),
        ],
    );
    let server = Server::start_free(PROGRAM, home, &[]);
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("MAIL FROM:<x@spam.example>", "250");
    client.expect(
        "RCPT TO:<user@a.example>",
        "553 5.7.1 sorry, your envelope sender",
    );
    client.expect("MAIL FROM:<x@good.example>", "250");
    client.expect("RCPT TO:<user@a.example>", "250");
}
