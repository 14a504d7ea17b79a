//! Hostile headers and command lines: the entries of `cases/hostile.json` for header-rewrite and submission-cli.
//!
//! Whatever comes in, a program ends with an exit code of its own, queues a whole message or none, and puts nothing into
//! header or envelope that was not asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use qmail_tests::conformance::from_text;
use qmail_tests::submission::{Ran, Submission};
use serde_json::Value;

/// Entries that need what a later issue builds: descriptors passed over the submission socket of the queue writer.
const LATER: [&str; 2] = ["SUB-peercred-spoof", "SUB-scm-rights"];

/// Entries that are played in `hostile_submit.rs`, where there is a queue.
const ELSEWHERE: [&str; 1] = ["SUB-signal-storm"];

/// The million of the entries; a tenth of it without optimisation.
const MILLION: usize = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

/// How long anything may take on an idle machine is 5 s; a busy one must not fail the test. What is not linear takes hours.
const PATIENCE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 300 } else { 5 });

fn submission() -> Submission {
    Submission::new(Path::new(env!("CARGO_BIN_EXE_qmail-under-test")))
}

fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Ran {
    let started = Instant::now();
    let ran = submission().run(program, arguments, environment, input);
    let elapsed = started.elapsed();
    assert!(elapsed < PATIENCE, "{program} took {elapsed:?}");
    ran
}

fn inject(input: &[u8]) -> Ran {
    run("qmail-inject", &["-H"], &[], input)
}

/// What holds for every input: an exit code of the manual page, and a message whose header is made of fields.
fn check(id: &str, ran: &Ran) {
    assert_eq!(ran.signal, None, "{id}");
    assert!(matches!(ran.exit, Some(0 | 100)), "{id}: {:?}", ran.exit);
    assert_eq!(ran.exit == Some(0), ran.queued.is_some(), "{id}");
    let Some((message, _)) = &ran.queued else {
        return;
    };
    let header = message
        .split(|&octet| octet == b'\n')
        .take_while(|line| !line.is_empty());
    for line in header {
        let folded = matches!(line[0], b' ' | b'\t') && !line.trim_ascii().is_empty();
        assert!(
            folded || line.contains(&b':'),
            "{id}: {}",
            line.escape_ascii()
        );
    }
}

fn entries(area: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/hostile.json");
    let file: Value = serde_json::from_slice(&fs::read(path).expect("the file")).expect("JSON");
    let entries = file.as_array().expect("an array").iter();
    entries
        .filter(|entry| entry["area"] == area)
        .cloned()
        .collect()
}

/// The input of an entry; those that are generated are generated here.
fn input(id: &str, entry: &Value) -> Vec<u8> {
    match (id, entry["input"].as_str()) {
        (_, Some(text)) => from_text(text).expect("octets"),
        ("HDR-nested-groups", None) => [
            b"To: ",
            &b"g:".repeat(10_000)[..],
            b"a@b.test",
            &b";".repeat(10_000),
            b"\n\nx\n",
        ]
        .concat(),
        ("HDR-million-addresses", None) => {
            let addresses: Vec<_> = (0..MILLION)
                .map(|number| format!("u{number}@local.test"))
                .collect();
            format!("To: {}\n\nx\n", addresses.join(", ")).into_bytes()
        }
        ("HDR-fold-storm", None) => [
            b"To: a@b.test",
            &b",\n b@c.test".repeat(MILLION)[..],
            b"\n\nx\n",
        ]
        .concat(),
        ("HDR-message-id-unique", None) => b"To: a@b.test\n\nx\n".to_vec(),
        _ => panic!("{id} is new: say here how it is generated"),
    }
}

#[test]
fn hostile_headers_do_no_harm() {
    for entry in entries("header-rewrite") {
        let id = entry["id"].as_str().expect("an id");
        let input = input(id, &entry);
        let ran = inject(&input);
        check(id, &ran);
        match id {
            "HDR-unterminated-comment" | "HDR-nested-groups" => {
                assert_eq!(ran.exit, Some(100), "{id}");
            }
            "HDR-million-addresses" => assert_eq!(ran.recipients().len(), MILLION),
            "HDR-fold-storm" => assert_eq!(ran.recipients().len(), MILLION + 1),
            "HDR-no-colon-line" => {
                assert_eq!(ran.recipients(), ["a@b.test"]);
                assert!(
                    ran.message()
                        .ends_with("\n\nthis is not a field\nSubject: x\n\nbody\n")
                );
            }
            "HDR-colon-space-name" | "HDR-no-blank-line" => {
                assert_eq!(ran.recipients(), ["a@b.test"], "{id}");
            }
            "HDR-empty-input" => assert!(ran.message().contains("\nMessage-ID: <")),
            "HDR-resent-set" => {
                assert_eq!(ran.recipients(), ["r@b.test", "secret@b.test"]);
                assert!(!ran.message().contains("secret@b.test"));
            }
            "HDR-at-in-quoted" => {
                assert_eq!(ran.recipients(), ["x@y@b.test"]);
                assert!(ran.message().contains("\nTo: \"x@y\"@b.test\n"));
            }
            "HDR-domain-literal-esc" => assert_eq!(ran.recipients(), ["a@[127.0.0.1]]"]),
            "HDR-encoded-word-nested" => {
                assert!(
                    ran.message()
                        .contains("\nSubject: =?utf-8?B?PT91dGYtOD9CP1BUOT0/PQ==?=\n")
                );
            }
            "HDR-message-id-unique" => message_ids_differ(),
            "HDR-plusdomain" => assert_eq!(ran.recipients(), ["a@b.plus.test"]),
            "HDR-env-injection" => environment_is_quoted(&input),
            _ => panic!("{id} is new: say here what must be seen"),
        }
    }
}

/// As many as a test may take; 100,000 of one second differ as well, since six digits are random beside the process id.
fn message_ids_differ() {
    let id = |message: &str| {
        message
            .lines()
            .find(|line| line.starts_with("Message-ID: "))
            .map(str::to_owned)
    };
    let ids: BTreeSet<_> = (0..50)
        .map(|_| id(&inject(b"To: a@b.test\n\n").message()).expect("an id"))
        .collect();
    assert_eq!(ids.len(), 50);
}

fn environment_is_quoted(input: &[u8]) {
    let named = run(
        "qmail-inject",
        &[],
        &[("QMAILNAME", "a\nBcc: x@y"), ("QMAILUSER", "a b\"")],
        input,
    );
    assert!(
        named
            .message()
            .contains("\nFrom: \"a Bcc: x@y\" <\"a b\\\"\"@mail.test>\n")
    );
    assert_eq!(named.recipients(), ["a@b.test"]);
    for (variable, value) in [
        ("QMAILHOST", "h\n"),
        ("QMAILUSER", "a\nb"),
        ("QMAILSHOST", "h\r\n"),
    ] {
        let refused = run("qmail-inject", &[], &[(variable, value)], input);
        assert_eq!(
            (refused.exit, refused.queued.is_some()),
            (Some(100), false),
            "{variable}"
        );
    }
}

#[test]
fn hostile_command_lines_do_no_harm() {
    for entry in entries("submission-cli") {
        let id = entry["id"].as_str().expect("an id");
        match id {
            "SUB-t-and-args" => {
                let ran = run("sendmail", &["-t", "a@b.test"], &[], b"To: c@d.test\n\nx\n");
                check(id, &ran);
                assert_eq!(ran.recipients(), ["a@b.test", "c@d.test"]);
            }
            "SUB-f-newline" => {
                let ran = run("sendmail", &["-f", "a\nTroot", "a@b.test"], &[], b"\nx\n");
                assert_eq!((ran.exit, ran.queued.is_some()), (Some(100), false));
                let ran = run("qmail-inject", &["a@b.test\nTroot"], &[], b"\nx\n");
                assert_eq!((ran.exit, ran.queued.is_some()), (Some(100), false));
            }
            "SUB-closed-fds" => closed_descriptors(),
            _ => assert!(
                LATER.contains(&id) || ELSEWHERE.contains(&id),
                "{id} is new: say here what must be seen"
            ),
        }
    }
}

/// With descriptors closed a message may be refused, but none is corrupted.
fn closed_descriptors() {
    for closing in ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"] {
        let submission = submission();
        let program = submission.program("qmail-inject");
        let script = format!(
            "printf 'To: a@b.test\\n\\nx\\n' | {} {closing}",
            program.display()
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .env("QMAIL_HOME", submission.home())
            .env("QMAILQUEUE", submission.home().join("queue"));
        let ran = submission.run_command(command, b"");
        assert_eq!(ran.signal, None, "{closing}");
        if ran.queued.is_some() {
            let text = ran.message();
            assert!(
                text.contains("Message-ID: <") && !text.contains("fatal"),
                "{closing}: {text}"
            );
        }
    }
}
