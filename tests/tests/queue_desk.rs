//! `qmail queue` at a queue that runs, at one that rests, and at one that somebody else runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use qmail_tests::server::{Server, send_mail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// Runs `qmail queue`; gives the exit code, what it printed and what it complained of.
fn queue(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(PROGRAM)
        .arg("queue")
        .args(arguments)
        .arg("--home")
        .arg(home)
        .output()
        .unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// As [`queue`], for what works.
fn done(home: &Path, arguments: &[&str]) -> String {
    let (code, out, error) = queue(home, arguments);
    assert_eq!((code, error.as_str()), (0, ""), "{arguments:?} {out}");
    out
}

fn listed(home: &Path, arguments: &[&str]) -> Vec<serde_json::Value> {
    let out = done(home, &[&["list", "--json"], arguments].concat());
    let lines = out.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// A host that cannot send anything on, and takes mail for everybody.
fn start(home: &Path, spool: &str) -> Server {
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

/// Three messages, of which each was tried once.
fn fill(server: &Server) {
    for number in 1..=3 {
        let sender = format!("s{number}@src.example");
        let recipient = format!("r{number}@dst.example");
        send_mail(
            server.smtp(),
            &sender,
            &[&recipient],
            b"Subject: x\r\n\r\ny\r\n",
        );
    }
    let tried = |lines: &[String]| {
        let deferrals = lines.iter().filter(|line| line.contains(": deferral: "));
        deferrals.count() == 3
    };
    assert!(server.wait_for(tried), "{:#?}", server.lines());
}

/// Number of the message from this sender, as text.
fn from(home: &Path, sender: &str) -> String {
    let found = listed(home, &["--sender", sender]);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]["message"].to_string()
}

fn look_around(home: &Path) {
    assert_eq!(done(home, &["count"]), "3\n");
    let list = done(home, &["list"]);
    assert!(list.ends_with("3 messages\n"), "{list}");
    assert!(
        list.contains(
            "<s2@src.example>  waiting, next attempt in 6m\n           remote r2@dst.example\n"
        ),
        "{list}"
    );
    assert_eq!(listed(home, &["--recipient", "R1@dst.example"]).len(), 1);
    assert_eq!(listed(home, &["--recipient", "@dst.example"]).len(), 3);
    assert_eq!(listed(home, &["--age", "1h"]).len(), 0);
    let first = from(home, "s1@*");
    let page = done(home, &["show", &first]);
    assert!(page.contains("sender:    <s1@src.example>\n"), "{page}");
    assert!(page.contains("\n  Subject: x\n"), "{page}");
}

fn change(home: &Path) {
    let (first, second) = (from(home, "s1@*"), from(home, "s2@*"));
    assert_eq!(done(home, &["hold", &first]), format!("{first}: held\n"));
    assert_eq!(from(home, "s1@*"), first);
    assert_eq!(listed(home, &["--held"])[0]["state"], "held");
    let (code, _, error) = queue(home, &["retry", &first, &second]);
    assert_eq!(code, 111);
    assert!(
        error.contains(&format!("{first}: nothing was done: it is held")),
        "{error}"
    );
    assert_eq!(
        done(home, &["delete", "--sender", "s3@src.example"])
            .split_once(": ")
            .unwrap()
            .1,
        "deleted for 1 recipient, nobody is told\n"
    );
    let (code, _, error) = queue(home, &["hold", "1"]);
    assert_eq!(code, 111);
    assert!(
        error.contains("1: nothing was done: no such message"),
        "{error}"
    );
    let (code, _, error) = queue(home, &["delete"]);
    assert_eq!(code, 100);
    assert!(error.contains("which messages?"), "{error}");
}

#[test]
fn a_queue_is_worked_on_while_it_runs_and_when_it_rests() {
    let scratch = tempfile::tempdir().unwrap();
    // The path of a socket may not be that long.
    let home = scratch.path().join("long-".repeat(30));
    fs::create_dir(&home).unwrap();
    let mut server = start(&home, "split");
    fill(&server);
    look_around(&home);
    assert_eq!(listed(&home, &["--reason", "SMTP CONNECTION"]).len(), 3);
    change(&home);
    server.wait_for_ends(1);

    // The hold is known to the next start, and to whoever looks in between.
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let first = from(&home, "s1@*");
    assert_eq!(listed(&home, &["--held"])[0]["message"].to_string(), first);
    let mut server = start(&home, "split");
    assert_eq!(listed(&home, &["--held"]).len(), 1);
    assert_eq!(
        done(&home, &["release", "--all"]),
        format!("{first}: released\n")
    );
    server.wait_for_line(&format!("starting delivery 1: msg {first} "));
    server.signal(Signal::TERM);
    assert!(server.wait().success());

    let moved = done(&home, &["reroute", &first]);
    assert!(
        moved.contains(": 1 recipient rerouted as message "),
        "{moved}"
    );
    let (code, _, error) = queue(&home, &["hold", &from(&home, "s1@*")]);
    assert_eq!(code, 111);
    assert!(error.contains("about to be routed"), "{error}");
    assert_eq!(done(&home, &["delete", "--all"]).lines().count(), 2);
    assert_eq!(done(&home, &["count"]), "0\n");
}

#[test]
fn a_queue_in_memory_is_worked_on_as_well() {
    work_on("memory");
}

#[test]
fn a_journal_is_worked_on_as_well() {
    let home = work_on("journal");
    // Its server is gone, and the hold is not.
    assert_eq!(listed(home.path(), &["--held"]).len(), 1);
    let first = from(home.path(), "s1@*");
    assert_eq!(
        done(home.path(), &["release", &first]),
        format!("{first}: released\n")
    );
    assert_eq!(done(home.path(), &["delete", "--all"]).lines().count(), 3);
    assert_eq!(done(home.path(), &["count"]), "0\n");
}

/// Returns the home, in which nothing runs any more.
fn work_on(spool: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let mut server = start(home.path(), spool);
    fill(&server);
    look_around(home.path());
    let second = from(home.path(), "s2@*");
    assert_eq!(
        done(home.path(), &["delete", "--bounce", &second]),
        format!("{second}: deleted for 1 recipient, its sender is told\n")
    );
    server.wait_for_line(&format!("bounce msg {second} qp "));
    let first = from(home.path(), "s1@*");
    assert_eq!(
        done(home.path(), &["hold", "--sender", "s1@*"]),
        format!("{first}: held\n")
    );
    assert_eq!(listed(home.path(), &["--held"]).len(), 1);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    home
}

/// The classic programs show a journal as well, while it runs and after.
#[test]
fn the_classic_views_show_a_journal() {
    let home = tempfile::tempdir().unwrap();
    let mut server = start(home.path(), "journal");
    fill(&server);
    let bin = tempfile::tempdir().unwrap();
    let view = |name: &str| {
        let link = bin.path().join(name);
        let _ = std::os::unix::fs::symlink(PROGRAM, &link);
        let output = Command::new(link).env("QMAIL_HOME", home.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let look = || {
        assert_eq!(
            view("qmail-qstat"),
            "messages in queue: 3\nmessages in queue but not yet preprocessed: 0\n"
        );
        let list = view("qmail-qread");
        for number in 1..=3 {
            let sender = format!("  <s{number}@src.example> \n\tremote\tr{number}@dst.example\n");
            assert!(list.contains(&sender), "{list}");
        }
        assert_eq!(list.lines().count(), 6, "{list}");
    };
    look();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    look();
}

#[test]
fn a_queue_of_a_program_that_cannot_be_asked_can_be_looked_at() {
    let home = tempfile::tempdir().unwrap();
    let mut server = start(home.path(), "split");
    fill(&server);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let lock = File::open(home.path().join("queue/lock/sendmutex")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    look_around(home.path());
    let first = from(home.path(), "s1@*");
    let (code, _, error) = queue(home.path(), &["delete", &first]);
    assert_eq!(code, 111);
    assert!(
        error.contains("a program runs this queue that takes no orders"),
        "{error}"
    );
    drop(lock);
    change(home.path());
}

/// The classic system, whose users are all this one: where they exist, the queue would have to be theirs.
#[test]
fn qmail_send_takes_orders_as_well() {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if accounts.lines().any(|line| line.starts_with("qmailq:")) {
        eprintln!(
            "skipped: there is a user qmailq, and the queue of this test would not be its own"
        );
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (home, bin) = (scratch.path().join("home"), scratch.path().join("bin"));
    for directory in ["control", "users"] {
        fs::create_dir_all(home.join(directory)).unwrap();
    }
    fs::create_dir(&bin).unwrap();
    for (name, text) in [("me", "a.example\n"), ("concurrencyremote", "0\n")] {
        fs::write(home.join("control").join(name), text).unwrap();
    }
    qmail_queue::SplitSpool::create(home.join("queue")).unwrap();
    for name in qmail_cli::applet_names() {
        std::os::unix::fs::symlink(PROGRAM, bin.join(name)).unwrap();
    }
    let path = format!("{}:/bin:/usr/bin", bin.display());
    let mut start = Command::new("env");
    start.arg(format!("QMAIL_HOME={}", home.display()));
    start.arg("qmail-start").arg("./Mailbox").env("PATH", &path);
    let server = Server::spawn(&mut start, &home);
    let inject = "printf 'Subject: x\n\ny\n' | qmail-inject -f s1@src.example r1@dst.example";
    let status = Command::new("sh")
        .args(["-c", inject])
        .envs([
            ("PATH", path.as_str()),
            ("QMAIL_HOME", home.to_str().unwrap()),
        ])
        .status();
    assert!(status.unwrap().success());
    server.wait_for_line("info msg ");
    let first = from(&home, "s1@*");
    assert_eq!(done(&home, &["hold", &first]), format!("{first}: held\n"));
    assert_eq!(
        done(&home, &["reroute", &first]),
        format!("{first}: 1 recipient rerouted as a new message\n")
    );
    server.wait_for_line(&format!("end msg {first}"));
    let moved = from(&home, "s1@*");
    assert_eq!(
        done(&home, &["delete", &moved]),
        format!("{moved}: deleted for 1 recipient, nobody is told\n")
    );
    server.wait_for_line(&format!("end msg {moved}"));
    assert_eq!(done(&home, &["count"]), "0\n");
}
