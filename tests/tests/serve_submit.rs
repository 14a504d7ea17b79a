//! Mail from programs of this host, through the socket of a running `qmail serve`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use qmail_tests::server::{Server, fetch_all};
use rustix::process::{Signal, getuid};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// Runs a classic program in a home, with this on its standard input.
fn run(home: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .env("QMAIL_HOME", home)
        .env_remove("QMAILQUEUE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses early does not read it all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// A conversation with the socket: what is said, then the exit code that is answered.
fn converse(home: &Path, said: &[u8]) -> Option<u8> {
    let mut socket = UnixStream::connect(home.join("run/submit")).unwrap();
    let _ = socket.write_all(said);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer.first().copied()
}

#[test]
fn programs_of_the_host_hand_their_mail_to_the_running_system() {
    for spool in ["split", "memory"] {
        let scratch = tempfile::tempdir().unwrap();
        let server = Server::start_free(PROGRAM, scratch.path(), &["--spool", spool]);
        let (user, secret) = server.first_user();
        let mode = fs::metadata(scratch.path().join("run/submit"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o666, "everybody may submit");

        let message = b"Subject: by hand\nTo: undisclosed\n\nbody\n";
        let output = run(scratch.path(), &["qmail-inject", "-a", &user], message);
        assert!(output.status.success(), "{output:?}");
        server.wait_for_line("end msg ");
        let mails = fetch_all(server.pop3(), &user, &secret);
        assert_eq!(mails.len(), 1);
        let text = String::from_utf8_lossy(&mails[0]);
        let caller = format!("invoked by uid {}", getuid().as_raw());
        assert!(text.contains(&caller), "{text}");
        assert!(text.contains("Subject: by hand"), "{text}");
    }
}

#[test]
fn a_home_may_lie_deep() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().join("d".repeat(90)).join("e".repeat(90));
    let server = Server::start_free(PROGRAM, &home, &[]);
    let (user, secret) = server.first_user();
    let output = run(&home, &["qmail-inject", "-a", &user], b"Subject: x\n\n");
    assert!(output.status.success(), "{output:?}");
    server.wait_for_line("end msg ");
    assert_eq!(fetch_all(server.pop3(), &user, &secret).len(), 1);
}

#[test]
fn hostile_submissions_are_refused_and_disturb_nobody() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path();
    let server = Server::start_free(PROGRAM, home, &["--no-deliver"]);
    let (user, _) = server.first_user();
    let end = [0; 4];
    let envelope = format!("Fs@here\0T{user}\0\0");
    let text = [&4_u32.to_be_bytes()[..], b"a\n\nb"].concat();
    for (what, said, code) in [
        ("nothing at all", vec![], Some(54)),
        ("an endless chunk", vec![0xff; 64], Some(91)),
        ("text without end", text.clone(), Some(54)),
        ("no envelope", [&text[..], &end].concat(), Some(54)),
        (
            "half an envelope",
            [&text[..], &end, b"Fs\0Tx"].concat(),
            Some(54),
        ),
        ("no sender", [&text[..], &end, b"Tx\0\0"].concat(), Some(91)),
        (
            "a long address",
            [&end[..], b"F", &[b'x'; 2000], b"\0\0"].concat(),
            Some(11),
        ),
        (
            "two messages in one",
            [
                &text[..],
                &end,
                envelope.as_bytes(),
                &text,
                &end,
                envelope.as_bytes(),
            ]
            .concat(),
            Some(0),
        ),
    ] {
        assert_eq!(converse(home, &said), code, "{what}");
    }
    let count = run(home, &["queue", "count"], b"");
    assert_eq!(count.stdout, b"1\n", "of all that one message was complete");
}

#[test]
fn without_a_running_system_the_queue_is_written_to() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path();
    let mut server = Server::start_free(PROGRAM, home, &[]);
    let (user, _) = server.first_user();
    server.signal(Signal::KILL);
    server.wait();
    assert!(
        home.join("run/submit").exists(),
        "a crash leaves the socket"
    );
    let output = run(home, &["qmail-inject", "-a", &user], b"Subject: x\n\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(run(home, &["queue", "count"], b"").stdout, b"1\n");
    let server = Server::start_free(PROGRAM, home, &[]);
    server.wait_for_line("end msg ");
}

#[test]
fn a_clean_end_takes_the_socket_away() {
    let scratch = tempfile::tempdir().unwrap();
    let mut server = Server::start_free(PROGRAM, scratch.path(), &[]);
    server.first_user();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(!scratch.path().join("run/submit").exists());
}
