//! A queue directory with things in it that are no messages, or damaged ones: each is told in one line, left where it is, and in the
//! way of nobody.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use qmail_queue::{JournalSpool, Workers};
use qmail_tests::server::{Server, send_mail};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

fn start(home: &Path) -> Server {
    start_with(home, "split")
}

fn start_with(home: &Path, spool: &str) -> Server {
    let control = home.join("control");
    fs::create_dir_all(&control).unwrap();
    for (name, text) in [
        ("me", "a.example\n"),
        ("rcpthosts", ""),
        ("relayclients", "127.0.0.1\n"),
        ("smtproutes", ":127.0.0.1:1\n"),
    ] {
        fs::write(control.join(name), text).unwrap();
    }
    Server::start_free(PROGRAM, home, &["--spool", spool])
}

/// Puts a file of a message into the queue.
fn plant(queue: &Path, directory: &str, id: u64, content: &str) -> PathBuf {
    let path = match directory {
        "todo" | "bounce" | "intd" => queue.join(directory),
        _ => queue.join(directory).join((id % 23).to_string()),
    };
    let path = path.join(id.to_string());
    fs::write(&path, content).unwrap();
    path
}

/// A message that is accepted, or routed if it has an `info`.
fn message(queue: &Path, id: u64, files: &[(&str, &str)]) {
    plant(queue, "mess", id, "Subject: x\n\ny\n");
    for (directory, content) in files {
        plant(queue, directory, id, content);
    }
}

fn deferrals(lines: &[String]) -> usize {
    let deferrals = lines.iter().filter(|line| line.contains(": deferral: "));
    deferrals.count()
}

#[test]
fn damage_is_told_once_and_harms_nobody() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path();
    let mut server = start(home);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let queue = home.join("queue");

    // Numbers that no inode of a new file will have.
    let base = 9_000_000_000_000_000_000;
    let no_envelope = [
        "",
        "u1\0p1\0",
        "Fa@b\0Tc@d",
        "u1\0p1\0Fa@b\0Xc@d\0",
        "\0\0\0\0",
    ];
    for (number, envelope) in (base..).zip(no_envelope) {
        message(&queue, number, &[("todo", envelope)]);
    }
    let without_text = base + 100;
    plant(
        &queue,
        "todo",
        without_text,
        "u1\0p1\0Fa@b\0Tc@far.example\0",
    );
    let routed_without_text = base + 101;
    plant(&queue, "info", routed_without_text, "Fa@b\0");
    plant(&queue, "remote", routed_without_text, "Tc@far.example\0");
    let bad_sender = base + 102;
    message(
        &queue,
        bad_sender,
        &[("info", "X"), ("remote", "Tc@far.example\0")],
    );
    let bad_recipient = base + 103;
    message(
        &queue,
        bad_recipient,
        &[("info", "Fa@b\0"), ("remote", "Qc@far.example\0")],
    );
    fs::write(queue.join("todo/core"), "").unwrap();
    fs::write(queue.join("info/3/notes.txt"), "").unwrap();
    // In the wrong one of the 23 directories.
    fs::write(queue.join("info/4/1"), "Fa@b\0").unwrap();
    fs::create_dir(
        queue
            .join("info/7")
            .join((base + 7 - base % 23).to_string()),
    )
    .unwrap();
    // Missing directories are made.
    fs::remove_dir(queue.join("intd")).unwrap();
    fs::remove_dir(queue.join("bounce")).unwrap();

    let mut marks: Vec<String> = (base..base + 5).map(|id| format!("todo/{id}")).collect();
    marks.extend([
        format!("mess/{}/{without_text}", without_text % 23),
        format!("mess/{}/{routed_without_text}", routed_without_text % 23),
        format!("info/{}/{bad_sender}", bad_sender % 23),
        format!("remote/{}/{bad_recipient}", bad_recipient % 23),
        "todo/core".to_owned(),
        "info/3/notes.txt".to_owned(),
        "info/4/1:".to_owned(),
        format!("info/7/{}", base + 7 - base % 23),
    ]);
    // These wait for their next attempt, as any message that could not be delivered.
    let scheduled = [
        format!("info/{}/{bad_sender}", bad_sender % 23),
        format!("remote/{}/{bad_recipient}", bad_recipient % 23),
    ];
    for round in 0..2 {
        let mut server = start(home);
        let times = |mark: &String| usize::from(round == 0 || !scheduled.contains(mark));
        for mark in marks.iter().filter(|mark| times(mark) > 0) {
            server.wait_for_line(mark);
        }
        // Mail goes on, and nothing is told again when the queue is looked through.
        let mail = |subject: &str| {
            let before = deferrals(&server.lines());
            let text = format!("Subject: {subject}\r\n\r\ny\r\n");
            send_mail(server.smtp(), "s@b", &["r@far.example"], text.as_bytes());
            assert!(server.wait_for(|lines| deferrals(lines) > before));
        };
        mail("before");
        fs::OpenOptions::new()
            .write(true)
            .open(queue.join("lock/trigger"))
            .and_then(|mut trigger| std::io::Write::write_all(&mut trigger, &[0]))
            .unwrap();
        mail("after");
        let told = server.lines();
        for mark in &marks {
            let lines: Vec<_> = told.iter().filter(|line| line.contains(mark)).collect();
            let trouble = lines.iter().filter(|line| line.starts_with("warning: "));
            assert_eq!(
                (lines.len(), trouble.count()),
                (times(mark), times(mark)),
                "{round} {mark} {told:#?}"
            );
        }
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        for mark in &marks {
            let path = mark.trim_end_matches(':');
            assert!(
                path.starts_with("mess/") || queue.join(path).exists(),
                "{path}"
            );
        }
    }

    // Looking at it by hand tells of the same, and shows what is sound.
    let list = Command::new(PROGRAM)
        .args(["queue", "list", "--home"])
        .arg(home)
        .output()
        .unwrap();
    let text = String::from_utf8(list.stdout).unwrap();
    assert_eq!(text.matches("r@far.example").count(), 4, "{text}");
    assert_eq!(list.status.code(), Some(111));
    let errors = String::from_utf8(list.stderr).unwrap();
    for mark in ["todo/core", "info/3/notes.txt"] {
        assert_eq!(errors.matches(mark).count(), 1, "{errors}");
    }
    assert!(
        errors.lines().all(|line| line.starts_with("qmail queue: ")),
        "{errors}"
    );

    // One that is damaged can be ended by hand.
    for id in [base, bad_recipient] {
        let delete = Command::new(PROGRAM)
            .args(["queue", "delete", &id.to_string(), "--home"])
            .arg(home)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&delete.stderr).into_owned();
        assert!(delete.status.success(), "{said}");
    }
    assert!(!queue.join("todo").join(base.to_string()).exists());
}

/// A clean stop is written down, so that the start after it tells of an octet that was changed in the very last write.
#[test]
fn a_journal_that_was_stopped_tells_of_every_change() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path();
    let mut server = start_with(home, "journal");
    let text = b"Subject: kept\r\n\r\nthe text of it\r\n";
    send_mail(server.smtp(), "s@b", &["r@far.example"], text);
    assert!(server.wait_for(|lines| deferrals(lines) > 0));
    server.signal(Signal::TERM);
    assert!(server.wait().success());

    let journal = home.join("queue/journal");
    let closed = || {
        let spool = JournalSpool::open(&journal, Workers::inline()).unwrap();
        (spool.was_closed(), spool.count())
    };
    assert_eq!(closed(), (true, 1));
    let segment = journal.join("0000000001.log");
    let mut octets = fs::read(&segment).unwrap();
    let text = b"the text of it";
    let mut windows = octets.windows(text.len());
    let at = windows.position(|window| window == text).unwrap();
    octets[at] ^= 1;
    fs::write(&segment, octets).unwrap();

    let mut server = start_with(home, "journal");
    server.wait_for_line("0000000001.log");
    let told = server.lines();
    let told: Vec<_> = told
        .iter()
        .filter(|line| line.contains("damaged"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("warning: 0000000001.log: records are damaged: "));
    assert!(
        told[0].contains("kept in damaged/0000000001-64"),
        "{told:?}"
    );
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let kept = fs::read(journal.join("damaged/0000000001-64")).unwrap();
    assert!(kept.windows(13).any(|window| window == &text[1..]));

    let convert = |arguments: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(["queue", "convert", "--to", "split", "--home"])
            .arg(home)
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = convert(&[]);
    assert_eq!((code, said.lines().count()), (Some(111), 1), "{said}");
    assert!(said.contains("--despite-damage"), "{said}");
    let (code, said) = convert(&["--despite-damage"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("journal/damaged/0000000001-64 was left behind"),
        "{said}"
    );
    assert!(said.contains("the old queue is kept whole in "), "{said}");
    let kept = home.join("queue/kept-1/journal/damaged/0000000001-64");
    assert!(kept.exists());
}
