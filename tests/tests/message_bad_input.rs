//! Bad input for qmail-inject: its exit codes and texts, and never a message that is queued by halves.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use qmail_tests::submission::{Ran, Submission};

/// What is called a gigabyte; less without optimisation.
const GIGABYTE: u64 = if cfg!(debug_assertions) {
    1 << 27
} else {
    1 << 30
};

fn submission() -> Submission {
    Submission::new(Path::new(env!("CARGO_BIN_EXE_qmail-under-test")))
}

fn inject(arguments: &[&str], input: &[u8]) -> Ran {
    submission().run("qmail-inject", arguments, &[], input)
}

/// Nothing is queued, and these are the last words.
fn assert_refused(ran: &Ran, words: &str, what: &str) {
    assert!(ran.refused(100), "{what}: {ran:?}");
    assert_eq!(
        ran.stderr,
        format!("qmail-inject: fatal: {words}\n"),
        "{what}"
    );
}

const UNBALANCED: [&str; 7] = [
    "a \"b",
    "a (b",
    "a [b",
    "a )",
    "a ]",
    "a \\",
    "((a) b@c.test",
];

#[test]
fn sender_fields_that_cannot_be_parsed() {
    for name in [
        "From",
        "Sender",
        "Reply-To",
        "Errors-To",
        "Return-Path",
        "Return-Receipt-To",
        "Resent-From",
        "Resent-Sender",
        "Resent-Reply-To",
    ] {
        for value in UNBALANCED {
            let header = format!("To: x@y.test\n{name}: {value}\n\nbody\n");
            let ran = inject(&[], header.as_bytes());
            let words = format!("unable to parse this line:\n{name}: {value}");
            assert_refused(&ran, &words, &header);
        }
    }
}

#[test]
fn recipient_fields_that_cannot_be_parsed_are_kept() {
    for name in ["To", "Cc", "Apparently-To"] {
        for value in UNBALANCED {
            let field = format!("{name}: {value}\n");
            let ran = inject(&["x@y.test"], format!("{field}\nbody\n").as_bytes());
            assert_eq!(ran.exit, Some(0), "{field}");
            assert_eq!(ran.recipients(), ["x@y.test"], "{field}");
            assert!(ran.message().contains(&field), "{field}");
            // Nobody else would get it: then it is not lost silently.
            let ran = inject(&[], format!("{field}\nbody\n").as_bytes());
            assert_refused(
                &ran,
                &format!("unable to parse this line:\n{}", field.trim_end()),
                &field,
            );
        }
    }
    let ran = inject(&["x@y.test"], b"Bcc: (secret\n\nbody\n");
    assert!(!ran.message().contains("secret"));
}

#[test]
fn addresses_that_cannot_be_parsed() {
    for address in ["a@b\"", "a@b(", "a@[b", "a@)b", "a@b,c"] {
        let words = format!("unable to parse address: {address}");
        for arguments in [
            &[address][..],
            &["-f", address, "x@y.test"],
            &["x@y.test", address],
        ] {
            assert_refused(
                &inject(arguments, b"\nbody\n"),
                &words,
                &format!("{arguments:?}"),
            );
        }
    }
}

#[test]
fn nul_octets_stay_in_text_and_are_refused_in_addresses() {
    let ran = inject(&[], b"To: a@b.test\nSubject: x\0y\n\nbo\0dy\n");
    assert_eq!(ran.exit, Some(0));
    assert!(ran.message().ends_with("Subject: x\0y\n\nbo\0dy\n"));
    for field in [
        &b"To: a\\\0@b.test\n"[..],
        b"From: \"\0\"@b.test\n",
        b"Bcc: a@b.\\\0test\n",
    ] {
        let ran = inject(&["x@y.test"], &[field, b"\nbody\n"].concat());
        assert!(ran.refused(100), "{}: {ran:?}", field.escape_ascii());
    }
}

#[test]
fn line_ends_in_quoted_pairs_are_refused() {
    for name in ["To", "Cc", "Bcc", "From", "Reply-To", "Return-Path"] {
        for value in ["\"a\\\n b\"@c.test", "a\\\n b@c.test", "a@[1\\\n 2]"] {
            let header = format!("{name}: {value}\n\nbody\n");
            let ran = inject(&["x@y.test"], header.as_bytes());
            assert!(ran.refused(100), "{header}: {ran:?}");
            assert!(
                ran.stderr
                    .starts_with("qmail-inject: fatal: unable to parse this line:\n")
            );
        }
    }
}

#[test]
fn a_hundred_thousand_recipients() {
    let addresses: Vec<_> = (0..100_000)
        .map(|number| format!("u{number}@x.test"))
        .collect();
    let ran = inject(
        &[],
        format!("To: {}\n\nbody\n", addresses.join(",")).as_bytes(),
    );
    assert_eq!(ran.exit, Some(0));
    let mut recipients = ran.recipients();
    recipients.reverse();
    assert_eq!(recipients, addresses);
    assert!(ran.message().lines().all(|line| line.len() <= 78));
}

/// Text without a colon is no header: it goes by, and is not held.
#[test]
fn a_gigabyte_without_a_colon_takes_little_memory() {
    let submission = submission();
    let counted = submission.home().join("counted");
    let script = format!(
        "ulimit -v 200000; head -c {GIGABYTE} /dev/zero | tr '\\0' x | exec {} x@y.test",
        submission.program("qmail-inject").display(),
    );
    let queue = submission.home().join("count");
    fs::write(
        &queue,
        format!(
            "#!/bin/sh\nwc -c >{}; cat <&1 >/dev/null\n",
            counted.display()
        ),
    )
    .expect("a script");
    let status = Command::new("sh")
        .args(["-c", &script])
        .env("QMAIL_HOME", submission.home())
        .env("QMAILQUEUE", make_executable(&queue))
        .stdin(Stdio::null())
        .status()
        .expect("a shell");
    assert_eq!(status.code(), Some(0));
    let count = fs::read_to_string(&counted).expect("a count");
    assert!(count.trim().parse::<u64>().expect("a number") > GIGABYTE);
}

fn make_executable(path: &Path) -> &Path {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    path
}

/// An input that cannot be read to its end, and an injector that is killed.
#[test]
fn half_a_message_is_not_queued() {
    let submission = submission();
    let mut command = submission.command("qmail-inject");
    let directory = fs::File::open(submission.home()).expect("a directory");
    let output = command
        .arg("x@y.test")
        .stdin(directory)
        .output()
        .expect("the program runs");
    let ran = submission.ran(&output);
    assert_eq!(
        (ran.exit, ran.stderr.as_str()),
        (Some(111), "qmail-inject: fatal: read error\n")
    );
    assert!(ran.queued.is_none());

    let mut child = submission
        .command("qmail-inject")
        .arg("x@y.test")
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut input = child.stdin.take().expect("a pipe");
    input
        .write_all(b"Subject: x\n\n")
        .expect("the program reads");
    input
        .write_all(&[b'x'; 1 << 20])
        .expect("the program reads");
    child.kill().expect("it was there");
    let output = child.wait_with_output().expect("the program ends");
    // The queue program ends after the injector, and leaves an envelope without end.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !submission.home().join("env").exists() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(submission.home().join("env").exists());
    assert!(submission.ran(&output).queued.is_none());
}
