//! Hostile headers and command lines: the entries of `cases/hostile.json` for header-rewrite and submission-cli.
//!
//! Whatever comes in, a program ends with an exit code of its own, queues a whole message or none, and puts nothing into
//! header or envelope that was not asked for.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use qmail_tests::conformance::from_text;
use serde_json::Value;
use tempfile::TempDir;

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

/// The programs, and a queue program that keeps what it is given.
struct Programs {
    directory: TempDir,
}

fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a scratch directory");
        for name in ["qmail-inject", "sendmail"] {
            let binary = env!("CARGO_BIN_EXE_qmail-under-test");
            symlink(binary, directory.path().join(name)).expect("a link");
        }
        let queue = directory.path().join("queue");
        fs::write(
            &queue,
            "#!/bin/sh\ncat >mess.new && cat <&1 >env && mv mess.new mess\n",
        )
        .expect("a script");
        fs::set_permissions(&queue, fs::Permissions::from_mode(0o755)).expect("a mode");
        Programs { directory }
    })
}

/// What a program did.
struct Ran {
    exit: Option<i32>,
    signal: Option<i32>,
    /// Message and envelope.
    queued: Option<(Vec<u8>, Vec<u8>)>,
}

impl Ran {
    fn message(&self) -> String {
        let queued = self.queued.as_ref().expect("a message was queued");
        String::from_utf8_lossy(&queued.0).into_owned()
    }

    fn recipients(&self) -> Vec<String> {
        let (_, envelope) = self.queued.as_ref().expect("a message was queued");
        let records = envelope
            .split(|&octet| octet == 0)
            .skip(1)
            .filter(|record| !record.is_empty());
        records
            .map(|record| String::from_utf8_lossy(&record[1..]).into_owned())
            .collect()
    }
}

fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Ran {
    let programs = programs().directory.path();
    let home = home();
    let mut child = Command::new(programs.join(program))
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("QMAIL_HOME", home.path())
        .env("QMAILQUEUE", programs.join("queue"))
        .env("QMAILUSER", "joe")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let started = Instant::now();
    // A program that refuses early does not read all of its input.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let status = child.wait().expect("the program ends");
    assert!(
        started.elapsed() < PATIENCE,
        "{program} took {:?}",
        started.elapsed()
    );
    let read = |name: &str| fs::read(home.path().join(name)).ok();
    Ran {
        exit: status.code(),
        signal: status.signal(),
        queued: read("mess").zip(read("env")),
    }
}

/// The queue program leaves its files here: it runs in the home.
fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a scratch directory");
    let control = home.path().join("control");
    fs::create_dir(&control).expect("a directory");
    for (file, value) in [("me", "mail.test\n"), ("plusdomain", "plus.test\n")] {
        fs::write(control.join(file), value).expect("a control file");
    }
    // `sendmail` runs the injector of the home.
    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("a directory");
    symlink(
        env!("CARGO_BIN_EXE_qmail-under-test"),
        bin.join("qmail-inject"),
    )
    .expect("a link");
    home
}

fn inject(input: &[u8]) -> Ran {
    run("qmail-inject", &["-H"], &[], input)
}

/// What holds for every input: an exit code of the manual page, and a message whose header is made of fields.
fn check(id: &str, ran: &Ran) {
    assert_eq!(ran.signal, None, "{id}");
    assert!(matches!(ran.exit, Some(0 | 100)), "{id}: {:?}", ran.exit);
    assert_eq!(ran.exit == Some(0), ran.queued.is_some(), "{id}");
    let Some((message, envelope)) = &ran.queued else {
        return;
    };
    assert!(
        envelope.ends_with(b"\0\0"),
        "{id}: the envelope is complete"
    );
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
        let home = home();
        let program: PathBuf = programs().directory.path().join("qmail-inject");
        let script = format!(
            "printf 'To: a@b.test\\n\\nx\\n' | {} {closing}",
            program.display()
        );
        let status = Command::new("sh")
            .args(["-c", &script])
            .env("QMAIL_HOME", home.path())
            .env("QMAILQUEUE", programs().directory.path().join("queue"))
            .status()
            .expect("a shell");
        assert_eq!(status.signal(), None, "{closing}");
        if let Ok(message) = fs::read(home.path().join("mess")) {
            let text = String::from_utf8_lossy(&message);
            assert!(
                text.contains("Message-ID: <") && !text.contains("fatal"),
                "{closing}: {text}"
            );
        }
    }
}
