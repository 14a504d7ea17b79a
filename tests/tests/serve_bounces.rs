//! Bounces of `qmail serve`: their forms and their size, and that nothing goes round for ever (`cases/hostile.json`,
//! loops-and-bounces).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use qmail_tests::hosts::{control, free_address, receiver, sender};
use qmail_tests::server::{Client, Server, fetch_all, send_mail};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// What another library makes of a report: its parts, the fields of the second one, the header of the message in the third.
const READER: &str = r#"
import email, email.policy, json, sys
report = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
text, status, message = report.iter_parts()
print(json.dumps({
    "type": report.get_content_type(),
    "report-type": report.get_param("report-type"),
    "parts": [part.get_content_type() for part in report.iter_parts()],
    "defects": [repr(defect) for part in report.walk() for defect in part.defects],
    "text": text.get_content().splitlines()[0],
    "fields": [dict(block.items()) for block in status.get_payload()],
    "subject": message.get_payload(0)["Subject"],
    "body": message.get_payload(0).get_content(),
}))
"#;

/// What comes back for a message to somebody whom the other host refuses.
fn bounce_of(message: &[u8], more: &[(&str, &str)]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let address = free_address();
    let _b = receiver(PROGRAM, &scratch.path().join("b"), address);
    let a = sender(PROGRAM, &scratch.path().join("a"), address, more);
    let (user, secret) = a.first_user();
    send_mail(a.smtp(), &user, &["jos\u{e9}@c.example"], message);
    a.wait_for_line("bounce msg ");
    a.wait_for_line("delivery 2: success: ");
    fetch_all(a.pop3(), &user, &secret).remove(0)
}

#[test]
fn a_report_is_read_by_another_library() {
    let bounce = bounce_of(
        b"Subject: refused\r\n\r\nbody\r\n",
        &[("bounceformat", "dsn\n")],
    );
    let text = String::from_utf8_lossy(&bounce);
    assert!(text.contains("\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n"));
    let started = Command::new("python3")
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut python = match started {
        // What it would say is compared where there is one.
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        started => started.unwrap(),
    };
    python.stdin.take().unwrap().write_all(&bounce).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let diagnostic = read["fields"][1]["Diagnostic-Code"].as_str().unwrap();
    assert!(diagnostic.starts_with("smtp; 553 5.7.1 "), "{diagnostic}");
    assert_eq!(
        read,
        json!({
            "type": "multipart/report",
            "report-type": "delivery-status",
            "parts": ["text/plain", "message/delivery-status", "message/rfc822"],
            "defects": [],
            "text": "Hi. This is the qmail-send program at a.example.",
            "fields": [
                {"Reporting-MTA": "dns; a.example"},
                {
                    "Final-Recipient": r"utf-8; jos\x{E9}@c.example",
                    "Action": "failed",
                    "Status": "5.7.1",
                    "Diagnostic-Code": diagnostic,
                },
            ],
            "subject": "refused",
            "body": "body\n",
        })
    );
}

#[test]
fn a_large_message_does_not_come_back_whole() {
    let line = [&[b'x'; 70][..], b"\r\n"].concat();
    let message = [b"Subject: large\r\n\r\n".to_vec(), line.repeat(50_000)].concat();
    for form in ["qsbmf\n", "dsn\n"] {
        let more = [("bounceformat", form), ("bouncemaxbytes", "50000\n")];
        let bounce = bounce_of(&message, &more);
        // Each LF of the copy is two octets here.
        assert!((48_000..53_000).contains(&bounce.len()), "{}", bounce.len());
        let text = String::from_utf8(bounce).unwrap();
        assert!(text.contains("The message had 3"), "that it is cut is told");
        let copy: Vec<_> = text.lines().filter(|line| line.contains("xxx")).collect();
        assert!(copy.iter().all(|line| line.len() == 70));
    }
}

#[test]
fn a_form_that_there_is_not_stops_the_start() {
    let scratch = tempfile::tempdir().unwrap();
    control(
        scratch.path(),
        &[("me", "a.example\n"), ("bounceformat", "fancy\n")],
    );
    let output = Command::new(PROGRAM)
        .args(["serve", "--smtp", "127.0.0.1:0", "--pop3", "127.0.0.1:0"])
        .arg("--home")
        .arg(scratch.path())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(111), "{told}");
    assert!(
        told.contains("bounceformat, `fancy`: no form of a bounce; write qsbmf or dsn"),
        "{told}"
    );
}

#[test]
fn mail_that_was_here_before_comes_back_as_a_loop() {
    let scratch = tempfile::tempdir().unwrap();
    let address = free_address();
    let b = receiver(PROGRAM, &scratch.path().join("b"), address);
    let (other, secret) = b.first_user();
    let a = sender(PROGRAM, &scratch.path().join("a"), address, &[]);
    let (user, own_secret) = a.first_user();
    let text = format!("Delivered-To: {user}\r\nSubject: t\r\n\r\nx\r\n");
    send_mail(a.smtp(), &other, &[&user], text.as_bytes());
    let line = a.wait_for_line("delivery 1: failure: ");
    assert!(
        line.contains("looping") && line.contains("#5.4.6"),
        "{line}"
    );
    a.wait_for_ends(2);
    b.wait_for_ends(1);
    assert_eq!(fetch_all(b.pop3(), &other, &secret).len(), 1);
    assert!(fetch_all(a.pop3(), &user, &own_secret).is_empty());
    let lines = a.lines();
    let tries = lines.iter().filter(|line| line.contains(" to local "));
    assert_eq!(tries.count(), 1, "{lines:#?}");
    // A field that is folded is another one for the check; nothing sends such mail round, so it is delivered.
    let text = format!("Delivered-To:\r\n {user}\r\nSubject: t\r\n\r\nx\r\n");
    send_mail(a.smtp(), &other, &[&user], text.as_bytes());
    a.wait_for_ends(3);
    assert_eq!(fetch_all(a.pop3(), &user, &own_secret).len(), 1);
}

#[test]
fn two_hosts_that_forward_to_each_other_end_with_one_bounce() {
    let scratch = tempfile::tempdir().unwrap();
    let [from_a, from_b] = [free_address(), free_address()];
    let start = |name: &str, own: SocketAddr, next: SocketAddr, to: &str| {
        let home = scratch.path().join(name);
        let host = format!("{name}.example\n");
        control(
            &home,
            &[
                ("me", &host),
                ("rcpthosts", &host),
                ("smtproutes", &format!(":{}:{}\n", next.ip(), next.port())),
            ],
        );
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let mut assign = String::new();
        for (user, instructions) in [
            ("alice", format!("&alice@{to}.example\n")),
            ("bob", "./Maildir/\n".to_owned()),
        ] {
            let user_home = home.join(user);
            for part in ["tmp", "new", "cur"] {
                fs::create_dir_all(user_home.join("Maildir").join(part)).unwrap();
            }
            fs::write(user_home.join(".qmail"), instructions).unwrap();
            let line = format!("={user}:{user}:{uid}:{gid}:{}:::\n", user_home.display());
            assign.push_str(&line);
        }
        fs::create_dir_all(home.join("users")).unwrap();
        fs::write(home.join("users/assign"), assign + ".\n").unwrap();
        let own = own.to_string();
        Server::start(PROGRAM, &home, &["--smtp", &own, "--pop3", "127.0.0.1:0"])
    };
    let a = start("a", from_a, from_b, "b");
    let b = start("b", from_b, from_a, "a");
    send_mail(
        a.smtp(),
        "bob@b.example",
        &["alice@a.example"],
        b"Subject: t\r\n\r\nx\r\n",
    );
    let bounces = || {
        let lines = [a.lines(), b.lines()].concat();
        lines
            .iter()
            .filter(|line| line.starts_with("bounce msg "))
            .count()
    };
    assert!(a.wait_for(|lines| lines.iter().any(|line| line.contains("#5.4.6"))));
    // The message, when it came and when it came back, and its bounce; at the other host it once, and the bounce.
    a.wait_for_ends(3);
    b.wait_for_ends(2);
    assert_eq!(bounces(), 1);
    let inbox = scratch.path().join("b/bob/Maildir/new");
    assert_eq!(fs::read_dir(inbox).unwrap().count(), 1);
}

#[test]
fn an_unknown_user_is_refused_and_nobody_else_is_told() {
    let check = [("me", "a.example\n"), ("checkrecipients", "1\n")];
    // A home that the first start makes checks by itself.
    for (files, domain) in [(&check[..], "a.example"), (&[], "localhost")] {
        let scratch = tempfile::tempdir().unwrap();
        if !files.is_empty() {
            control(scratch.path(), files);
        }
        let server = Server::start_free(PROGRAM, scratch.path(), &[]);
        let (mut client, _) = Client::connect(server.smtp());
        client.expect("EHLO c.example", "250");
        client.expect("MAIL FROM:<innocent@c.example>", "250");
        let reply = client.command(&format!("RCPT TO:<nosuch@{domain}>"));
        assert!(reply.starts_with("550 5.1.1 "), "{domain}: {reply}");
        client.expect(&format!("RCPT TO:<postmaster@{domain}>"), "250");
        assert!(
            !server
                .lines()
                .iter()
                .any(|line| line.starts_with("new msg "))
        );
    }
}

/// How each entry of the area is played.
#[test]
fn every_entry_of_the_area_is_played() {
    let played = [
        (
            "LOOP-delivered-to-self",
            "mail_that_was_here_before_comes_back_as_a_loop",
        ),
        (
            "LOOP-delivered-to-folded",
            "mail_that_was_here_before_comes_back_as_a_loop",
        ),
        (
            "LOOP-two-hosts",
            "two_hosts_that_forward_to_each_other_end_with_one_bounce",
        ),
        (
            "LOOP-self-mx",
            "qmail-deliver: the tests of its choice of mail exchangers",
        ),
        (
            "BOUNCE-backscatter",
            "an_unknown_user_is_refused_and_nobody_else_is_told",
        ),
        ("BOUNCE-size", "a_large_message_does_not_come_back_whole"),
        (
            "BOUNCE-auto-reply-loop",
            "no program of ours answers mail by itself",
        ),
    ];
    let entries: Vec<Value> = serde_json::from_slice(
        &fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/hostile.json"))
            .unwrap(),
    )
    .unwrap();
    let wanted: BTreeSet<_> = entries
        .iter()
        .filter(|entry| entry["area"] == "loops-and-bounces")
        .map(|entry| entry["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        played
            .map(|(id, _)| id)
            .into_iter()
            .collect::<BTreeSet<_>>(),
        wanted
    );
}
