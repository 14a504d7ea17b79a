//! Users without accounts under `qmail serve`, and what programs that mail is delivered to may take: time, output, processes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use qmail_core::dot_qmail::Mailbox;
use qmail_core::{MemoryContent, Outcome, ReversePath};
use qmail_deliver::{LocalAgent, Maildirs, Parcel, ParcelContent, Programs};
use qmail_tests::server::{Server, send_mail};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

const NOBODY: u32 = 65_534;

/// Delivers to a program of joe, whose home this is.
fn run(home: &Path, programs: Programs, command: &str) -> (Outcome, Duration) {
    fs::write(home.join(".qmail"), format!("|{command}\n")).expect("room");
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let mailbox = Mailbox {
        user: text("joe"),
        home: text(home.to_str().expect("a plain name")),
        local: text("joe"),
        dash: Bytes::new(),
        extension: Bytes::new(),
        host: text("local.test"),
    };
    let agent = LocalAgent::new(
        Maildirs::new("mail.test", 7, SystemTime::now),
        SystemTime::now,
    )
    .with_programs(programs);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let started = Instant::now();
    let message = MemoryContent("Subject: x\n\nbody\n".into());
    let outcome = runtime.block_on(agent.deliver(
        &mailbox,
        &Bytes::new(),
        Parcel {
            sender: &ReversePath::default(),
            content: ParcelContent::Any(&message),
        },
    ));
    (outcome, started.elapsed())
}

fn is_running(home: &Path, file: &str) -> bool {
    let pid = fs::read_to_string(home.join(file)).expect("it was started");
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    // Who is dead and not buried does not run.
    !status.is_empty() && !status.contains("State:\tZ")
}

/// Too long, with a child in the background and a signal handler: all of it is ended, and the message waits.
#[test]
fn a_program_that_hangs_is_ended_with_its_children() {
    let home = tempfile::tempdir().expect("a directory");
    let programs = Programs::captured(3000).with_time_max(Duration::from_millis(500));
    let hanging =
        "trap '' TERM INT HUP; sleep 100 & echo $! >child; echo $$ >shell; echo started; sleep 100";
    let (outcome, took) = run(home.path(), programs, hanging);
    assert!(took < Duration::from_secs(20), "{took:?}");
    let Outcome::Deferred(report) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        String::from_utf8_lossy(report.as_bytes()),
        "started\nProgram ran too long and was stopped. (#4.3.0)\n"
    );
    let gone = Instant::now() + Duration::from_secs(10);
    while ["child", "shell"]
        .iter()
        .any(|file| is_running(home.path(), file))
    {
        assert!(Instant::now() < gone, "they go on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A flood is read to its end, so that the program is not held up, and forgotten but for its start.
#[test]
fn a_flood_of_output_is_cut() {
    let home = tempfile::tempdir().expect("a directory");
    let flood = "head -c 50000000 /dev/zero | tr '\\0' x; echo end >&2";
    let (outcome, _) = run(home.path(), Programs::captured(3000), flood);
    let Outcome::Delivered(report) = outcome else {
        panic!("{outcome:?}");
    };
    let want = format!(
        "{}\nError report too long, sorry.\ndid 0+0+1\n",
        "x".repeat(3000)
    );
    assert_eq!(String::from_utf8_lossy(report.as_bytes()), want);
    // One that never ends is ended by the clock.
    let programs = Programs::captured(3000).with_time_max(Duration::from_millis(300));
    let (outcome, took) = run(home.path(), programs, "yes");
    assert!(matches!(outcome, Outcome::Deferred(_)), "{outcome:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// Who goes on in the background has the output, and nobody who waits for it.
#[test]
fn who_stays_behind_holds_up_nobody() {
    let home = tempfile::tempdir().expect("a directory");
    let (outcome, took) = run(
        home.path(),
        Programs::captured(3000),
        "sleep 30 & (sleep 30; echo late) & exit 0",
    );
    assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// Without root: the users of a virtual domain, their files and their Maildirs are in the home, and all that is done is done by
/// whom the server runs as.
#[test]
fn users_without_accounts() {
    let scratch = tempfile::tempdir().expect("a directory");
    let home = scratch.path();
    for directory in ["control", "users", "virt", "virt/ann"] {
        fs::create_dir(home.join(directory)).expect("a directory");
    }
    let write = |name: &str, text: &str| fs::write(home.join(name), text).expect("room");
    write("control/me", "local.test\n");
    write("control/rcpthosts", "local.test\nvirt.test\n");
    write("control/virtualdomains", "virt.test:virt\n");
    write("control/timeoutprogram", "1\n");
    let virt = home.join("virt").display().to_string();
    write(
        "users/assign",
        &format!("+virt-:virt:12345:54321:{virt}:-::\n.\n"),
    );
    write("virt/.qmail-ann", "./ann/\n");
    write("virt/.qmail-id", "|id -u >id; touch made\n");
    write("virt/.qmail-flood", "|yes; exit 0\n");
    write("virt/.qmail-hang", "|sleep 100\n");
    write(
        "virt/.qmail-default",
        "|echo \"$DEFAULT|$LOCAL|$HOST\" >>default\n",
    );
    for part in ["tmp", "new", "cur"] {
        fs::create_dir(home.join("virt/ann").join(part)).expect("a directory");
    }
    let mut command = Command::new(PROGRAM);
    let mut user = rustix::process::getuid().as_raw();
    if user == 0 {
        user = NOBODY;
        let owner = format!("{NOBODY}:{NOBODY}");
        let given = Command::new("chown")
            .args(["-R", &owner])
            .arg(home)
            .status();
        assert!(given.expect("it runs").success());
        command = Command::new(env!("CARGO_BIN_EXE_conform-helper"));
        command.args(["drop", &NOBODY.to_string(), PROGRAM]);
    }
    command.args([
        "serve",
        "--smtp",
        "127.0.0.1:0",
        "--pop3",
        "127.0.0.1:0",
        "--home",
    ]);
    command.arg(home);
    let server = Server::spawn(&mut command, home);
    let send = |local: &str| {
        send_mail(
            server.smtp(),
            "sue@x.test",
            &[&format!("{local}@virt.test")],
            b"Subject: x\r\n\r\nbody\r\n",
        )
    };
    for local in ["ann", "id", "Any.Body-else"] {
        assert!(send(local).starts_with("250 "), "{local}");
    }
    server.wait_for_ends(3);
    let new = fs::read_dir(home.join("virt/ann/new")).expect("a Maildir");
    let messages: Vec<_> = new.map(|file| file.expect("a file").path()).collect();
    assert_eq!(messages.len(), 1);
    let text = fs::read_to_string(&messages[0]).expect("a message");
    assert!(
        text.contains("\nDelivered-To: virt-ann@virt.test\n"),
        "{text}"
    );
    let read = |name: &str| fs::read_to_string(home.join("virt").join(name)).expect("a file");
    assert_eq!(read("id").trim(), user.to_string());
    assert_eq!(
        read("default"),
        "Any.Body-else|virt-Any.Body-else|virt.test\n"
    );
    let made = fs::metadata(home.join("virt/made")).expect("a file");
    assert_eq!((made.uid(), made.mode() & 0o777), (user, 0o600));

    // control/timeoutprogram ends these two; of what they print a line of the log has 3000 octets.
    send("hang");
    server.wait_for_line("deferral: Program_ran_too_long_and_was_stopped._(#4.3.0)/");
    send("flood");
    let line = server.wait_for_line("Error_report_too_long,_sorry./Program_ran_too_long");
    assert!(line.len() < 3200, "{}", line.len());
}
