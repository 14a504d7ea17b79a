//! Hostile instruction files and faults of deliveries: the entries of `cases/hostile.json` for dot-qmail and delivery-fault, played
//! at qmail-local and `qmail serve`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use qmail_core::bounce;
use qmail_queue::Masked;
use qmail_tests::hostile;
use qmail_tests::local::{Mailbox, set_mode};
use qmail_tests::server::{Server, send_mail};
use rustix::fs::{FlockOperation, fcntl_lock, flock};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// Less of everything without optimisation.
const SCALE: usize = if cfg!(debug_assertions) { 10 } else { 1 };

fn mailbox() -> Mailbox {
    Mailbox::new(Path::new(PROGRAM))
}

/// A mailbox with these instructions.
fn with(instructions: impl AsRef<[u8]>) -> Mailbox {
    Mailbox::with(Path::new(PROGRAM), instructions)
}

const MESSAGE: &str = "Subject: x\n\nbody\n";

#[test]
fn hostile_instruction_files() {
    for id in hostile::ids("dot-qmail") {
        match id.as_str() {
            "DOTQ-first-line-blank" => {
                let mailbox = with("\n./Maildir/\n");
                assert!(
                    mailbox
                        .deliver(MESSAGE)
                        .deferred("first line of .qmail file is blank. (#4.2.1)")
                );
            }
            "DOTQ-comment-only" => {
                let delivered = with("# nothing\n").deliver(MESSAGE);
                assert_eq!(
                    (delivered.exit, delivered.stdout.as_str()),
                    (0, "did 0+0+0\n")
                );
            }
            "DOTQ-crlf" => carriage_returns(),
            "DOTQ-million-forwards" => many_forwards(),
            "DOTQ-world-writable" => others_may_write(),
            "DOTQ-x-bit-program" => {
                let mailbox = with("|touch CANARY\n");
                set_mode(&mailbox.path(".qmail"), 0o744);
                assert!(
                    mailbox
                        .deliver(MESSAGE)
                        .deferred("prog delivery but has x bit set. (#4.7.0)")
                );
                assert!(!mailbox.path("CANARY").exists());
            }
            "DOTQ-file-delivery-symlink" => another_s_file(),
            "DOTQ-program-exit-codes" => exit_codes(),
            "DOTQ-program-background" => {
                let started = Instant::now();
                let delivered = with("|sleep 25 & exit 0\n").deliver(MESSAGE);
                assert_eq!(delivered.exit, 0, "{delivered:?}");
                assert!(started.elapsed() < Duration::from_secs(20));
            }
            "DOTQ-program-env" => environment(),
            "DOTQ-ext-newline" => line_feed_in_the_extension(),
            _ => panic!("{id} is new: say here what must be seen"),
        }
    }
}

fn carriage_returns() {
    let mailbox = with("./Maildir/\r\n");
    fs::create_dir(mailbox.path("Maildir")).expect("a directory");
    assert!(
        mailbox
            .deliver(MESSAGE)
            .deferred("ends in CR; remove the CRs. (#4.2.1)")
    );
    assert_eq!(
        fs::read_dir(mailbox.path("Maildir"))
            .expect("it is there")
            .count(),
        0
    );
}

fn many_forwards() {
    let count = 1_000_000 / SCALE;
    let mailbox = with("&u@local.test\n".repeat(count));
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 1000000; exec \"$@\"", "sh"]);
    limited.arg(mailbox.qmail().join("bin/qmail-local"));
    mailbox.address(&mut limited, "");
    let plain = mailbox.local("", MESSAGE);
    limited.env_clear().envs(
        plain
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    fs::write(mailbox.qmail().join("message"), MESSAGE).expect("room");
    limited.stdin(File::open(mailbox.qmail().join("message")).expect("it is there"));
    let delivered = mailbox.run(limited);
    assert_eq!(delivered.exit, 0, "{delivered:?}");
    assert!(
        delivered
            .stdout
            .starts_with(&format!("did 0+{count}+0\nqp ")),
        "{delivered:?}"
    );
    let envelope = fs::metadata(mailbox.qmail().join("env")).expect("queued");
    assert_eq!(
        envelope.len() as usize,
        "Fsue@x.test\0\0".len() + count * "Tu@local.test\0".len()
    );
}

fn others_may_write() {
    let mailbox = with("|touch CANARY\n");
    set_mode(&mailbox.path(".qmail"), 0o666);
    assert!(
        mailbox
            .deliver(MESSAGE)
            .deferred(".qmail file is writable. (#4.7.0)")
    );
    set_mode(&mailbox.path(".qmail"), 0o644);
    set_mode(&mailbox.home(), 0o777);
    assert!(
        mailbox
            .deliver(MESSAGE)
            .deferred("home directory is writable. (#4.7.0)")
    );
    assert!(!mailbox.path("CANARY").exists());
}

/// An mbox that is a link to somebody else's file: the kernel decides, since the program has only the user's rights.
fn another_s_file() {
    let mailbox = with("./Mailbox\n");
    symlink("/etc/passwd", mailbox.path("Mailbox")).expect("a link");
    let before = fs::read("/etc/passwd").expect("it is there");
    let mut command = mailbox.local("", MESSAGE);
    if rustix::process::geteuid().is_root() {
        let mut dropped = mailbox.command(env!("CARGO_BIN_EXE_conform-helper"));
        dropped
            .args(["drop", "65534"])
            .arg(mailbox.qmail().join("bin/qmail-local"));
        mailbox.address(&mut dropped, "");
        fs::write(mailbox.qmail().join("message"), MESSAGE).expect("room");
        dropped.stdin(File::open(mailbox.qmail().join("message")).expect("it is there"));
        command = dropped;
    }
    let delivered = mailbox.run(command);
    assert!(
        delivered.deferred("Unable to open ./Mailbox: "),
        "{delivered:?}"
    );
    assert_eq!(fs::read("/etc/passwd").expect("it is there"), before);
}

fn exit_codes() {
    let mailbox = mailbox();
    for code in 0..=255 {
        mailbox.write(".qmail", format!("|exit {code}\n|touch went-on\n"));
        let _ = fs::remove_file(mailbox.path("went-on"));
        let want = match code {
            0 | 99 => 0,
            100 | 64 | 65 | 70 | 76 | 77 | 78 | 112 => 100,
            _ => 111,
        };
        assert_eq!(mailbox.deliver(MESSAGE).exit, want, "exit {code}");
        assert_eq!(mailbox.path("went-on").exists(), code == 0, "exit {code}");
    }
    for signal in ["KILL", "SEGV", "TERM", "PIPE"] {
        mailbox.write(".qmail", format!("|ulimit -c 0; kill -{signal} $$\n"));
        let delivered = mailbox.deliver(MESSAGE);
        assert!(
            delivered.deferred("Aack, child crashed. (#4.3.0)"),
            "{signal}: {delivered:?}"
        );
    }
}

/// A home with one user, `joe`, and a server that runs in it with these variables.
fn server(scratch: &Path, instructions: &str, variables: &[(&str, &str)]) -> Server {
    for directory in ["control", "users", "joe"] {
        fs::create_dir(scratch.join(directory)).expect("a directory");
    }
    fs::write(scratch.join("control/me"), "local.test\n").expect("a file");
    let assign = format!(
        "=joe:joe:1000:1000:{0}:::\n+joe-:joe:1000:1000:{0}:-::\n.\n",
        scratch.join("joe").display()
    );
    fs::write(scratch.join("users/assign"), assign).expect("a file");
    fs::write(scratch.join("joe/.qmail"), instructions).expect("a file");
    fs::write(scratch.join("joe/.qmail-default"), instructions).expect("a file");
    let mut command = Command::new("sh");
    // A descriptor that whoever starts the server left open.
    command
        .args([
            "-c",
            "exec 9</etc/passwd; exec \"$@\"",
            "sh",
            PROGRAM,
            "serve",
            "--home",
        ])
        .arg(scratch)
        .args(["--smtp", "127.0.0.1:0", "--pop3", "127.0.0.1:0"])
        .envs(variables.iter().copied());
    Server::spawn(&mut command, scratch)
}

/// What programs of deliveries get from a server: the documented variables, their own umask, no descriptors.
fn environment() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let server = server(
        scratch.path(),
        "|env >environment; umask >umask; ls /proc/self/fd >descriptors\n",
        &[("SECRET", "of the server"), ("DEFAULT", "stale")],
    );
    send_mail(
        server.smtp(),
        "\"a b\"@x.test",
        &["joe-A.b-c@local.test"],
        b"Subject: x\r\n\r\n",
    );
    server.wait_for_ends(1);
    let read = |name: &str| {
        fs::read_to_string(scratch.path().join("joe").join(name)).expect("it was written")
    };
    let environment = read("environment");
    let variables: BTreeSet<_> = environment
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    let known = [
        "DEFAULT",
        "DTLINE",
        "EXT",
        "EXT2",
        "EXT3",
        "EXT4",
        "HOME",
        "HOST",
        "HOST2",
        "HOST3",
        "HOST4",
        "LOCAL",
        "NEWSENDER",
        "RECIPIENT",
        "RPLINE",
        "SENDER",
        "UFLINE",
        "USER", // qmail-command(8)
        "PATH",
        "QMAIL_HOME", // of the home
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_", // of the shell
    ];
    let unknown: Vec<_> = variables
        .iter()
        .filter(|name| !known.contains(name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for line in [
        "SENDER=a b@x.test",
        "DEFAULT=A.b-c",
        "EXT=A.b-c",
        "EXT2=c",
        "LOCAL=joe-A.b-c",
        "DTLINE=Delivered-To: joe-A.b-c@local.test",
    ] {
        assert!(
            environment.lines().any(|found| found == line),
            "{line}\n{environment}"
        );
    }
    assert_eq!(read("umask").trim(), "0077");
    let descriptors = read("descriptors");
    // The last one is the listing's own.
    let open: Vec<_> = descriptors.lines().collect();
    assert!(open.len() == 4 && open[..3] == ["0", "1", "2"], "{open:?}");
}

fn line_feed_in_the_extension() {
    let mailbox = mailbox();
    let delivered = mailbox.run(mailbox.local("a\nb", MESSAGE));
    assert_eq!(
        (delivered.exit, delivered.stderr.as_str()),
        (100, "Sorry, no mailbox here by that name. (#5.1.1)\n")
    );
    mailbox.write(".qmail-default", "./Mailbox\n");
    assert_eq!(mailbox.run(mailbox.local("a\nb", MESSAGE)).exit, 0);
    assert!(
        mailbox
            .read("Mailbox")
            .contains("\nDelivered-To: joe-a_b@local.test\n")
    );
    let names = fs::read_dir(mailbox.home())
        .expect("a home")
        .map(|file| file.expect("a file").file_name());
    assert!(
        names
            .into_iter()
            .all(|name| !name.as_encoded_bytes().contains(&b'\n'))
    );
}

#[test]
fn faults_of_deliveries() {
    for id in hostile::ids("delivery-fault") {
        match id.as_str() {
            "DLV-maildir-dup-name" => many_processes_one_maildir(),
            "DLV-maildir-full" => full_disk(),
            "DLV-mbox-from-quoting" => boundaries(),
            "DLV-mbox-lock" => locks(),
            "DLV-home-missing" => {
                let mailbox = mailbox();
                fs::remove_dir(mailbox.home()).expect("it was empty");
                assert!(mailbox.deliver(MESSAGE).deferred("Unable to switch to "));
            }
            "DLV-qsbmf-parse" => bounces_read_as_written(),
            "DLV-log-injection" => one_record_one_line(),
            _ => panic!("{id} is new: say here what must be seen"),
        }
    }
}

/// Runs so many deliveries, eight at a time.
fn deliver_many(mailbox: &Mailbox, count: usize, message: impl Fn(usize) -> String + Sync) {
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let message = &message;
            scope.spawn(move || {
                for number in (worker..count).step_by(8) {
                    assert_eq!(mailbox.deliver(message(number)).exit, 0);
                }
            });
        }
    });
}

fn many_processes_one_maildir() {
    let mailbox = with("./Maildir/\n");
    let made = mailbox
        .command("maildirmake")
        .arg(mailbox.path("Maildir"))
        .status()
        .expect("it runs");
    assert!(made.success());
    let count = 2000 / SCALE;
    deliver_many(&mailbox, count, |number| format!("Subject: {number}\n\n"));
    let new = fs::read_dir(mailbox.path("Maildir/new")).expect("a Maildir");
    let texts =
        new.map(|file| fs::read_to_string(file.expect("a file").path()).expect("a message"));
    let subjects: BTreeSet<_> = texts.collect();
    assert_eq!(subjects.len(), count);
    assert_eq!(
        fs::read_dir(mailbox.path("Maildir/tmp"))
            .expect("a Maildir")
            .count(),
        0
    );
}

/// A file that cannot grow: nothing is half-written, in a Maildir or an mbox.
fn full_disk() {
    let mailbox = with("./Maildir/\n");
    let made = mailbox
        .command("maildirmake")
        .arg(mailbox.path("Maildir"))
        .status()
        .expect("it runs");
    assert!(made.success());
    let large = format!("Subject: x\n\n{}", "0123456789abcdef\n".repeat(4096));
    for (instruction, reason) in [
        (
            "./Maildir/\n",
            "Temporary error on maildir delivery. (#4.3.0)",
        ),
        ("./Mailbox\n", "Unable to write ./Mailbox: "),
    ] {
        mailbox.write(".qmail", instruction);
        mailbox.write("Mailbox", "From old\n\nold\n\n");
        fs::write(mailbox.qmail().join("message"), &large).expect("room");
        let mut limited = Command::new("sh");
        let script = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
        limited
            .args(["-c", script, "sh"])
            .arg(mailbox.qmail().join("bin/qmail-local"));
        mailbox.address(&mut limited, "");
        limited.stdin(File::open(mailbox.qmail().join("message")).expect("it is there"));
        let delivered = mailbox.run(limited);
        assert!(delivered.deferred(reason), "{delivered:?}");
        for part in ["tmp", "new"] {
            let part = mailbox.path("Maildir").join(part);
            assert_eq!(fs::read_dir(part).expect("a Maildir").count(), 0);
        }
        assert_eq!(mailbox.read("Mailbox"), "From old\n\nold\n\n");
    }
}

/// Lines that a reader of the mbox could take for the start of a message, wherever a buffer may end.
fn boundaries() {
    let mailbox = with("./Mailbox\n");
    for before in [0, 1, 4091, 4096, 65_530, 65_536, 262_139, 262_144] {
        let _ = fs::remove_file(mailbox.path("Mailbox"));
        let body = format!(
            "{}\nFrom eve\n>From eve\n>>From eve\nFrom\nfrom eve\n From eve\nFrom  \nlast, cut From ",
            "x".repeat(before)
        );
        assert_eq!(mailbox.deliver(format!("Subject: x\n\n{body}")).exit, 0);
        let mbox = mailbox.read("Mailbox");
        let starts: Vec<_> = mbox
            .lines()
            .filter(|line| line.starts_with("From "))
            .collect();
        assert_eq!(starts.len(), 1, "{before}: {starts:?}");
        assert!(mbox.contains("\n>From eve\n>>From eve\n>>>From eve\nFrom\nfrom eve\n From eve\n>From  \nlast, cut From \n\n"));
    }
}

/// Somebody else has the lock of `./Mailbox`, of this kind, until what is given back is dropped.
fn locked(mailbox: &Mailbox, kind: &str) -> Box<dyn std::any::Any> {
    let path = mailbox.path("Mailbox");
    if kind == "dot" {
        let lock = tempfile::Builder::new()
            .prefix("Mailbox")
            .suffix(".lock")
            .rand_bytes(0)
            .tempfile_in(mailbox.home());
        return Box::new(lock.expect("room"));
    }
    let file = File::options().write(true).open(path).expect("it is there");
    match kind {
        "flock" => flock(&file, FlockOperation::LockExclusive),
        _ => fcntl_lock(&file, FlockOperation::LockExclusive),
    }
    .expect("nobody has it");
    Box::new(file)
}

fn locks() {
    for kind in ["flock", "fcntl", "dot"] {
        let mailbox = with("./Mailbox\n");
        mailbox.write("Mailbox", "");
        let lock = locked(&mailbox, kind);
        let mut waiting = mailbox
            .local("", MESSAGE)
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        std::thread::sleep(Duration::from_millis(700));
        assert!(
            waiting.try_wait().expect("our child").is_none(),
            "it waits for {kind}"
        );
        assert_eq!(mailbox.read("Mailbox"), "");
        drop(lock);
        assert!(waiting.wait().expect("our child").success());
    }

    // Somebody who never gives it back.
    let mailbox = with("./Mailbox\n");
    mailbox.write("Mailbox", "");
    let lock = locked(&mailbox, "fcntl");
    let started = Instant::now();
    let delivered = mailbox.deliver(MESSAGE);
    assert!(
        delivered.deferred("File has been locked for 30 seconds straight. (#4.3.0)"),
        "{delivered:?}"
    );
    assert!(started.elapsed() >= Duration::from_secs(30));
    drop(lock);
    assert_eq!(mailbox.read("Mailbox"), "");

    // Many writers, each of whose messages stays whole.
    let count = 1000 / SCALE;
    let body = |number: usize| format!("{number} ").repeat(3000);
    deliver_many(&mailbox, count, |number| {
        format!("Subject: {number}\n\n{}\n", body(number))
    });
    let mbox = mailbox.read("Mailbox");
    for number in 0..count {
        let message = format!("\nSubject: {number}\n\n{}\n\n", body(number));
        assert_eq!(mbox.matches(&message).count(), 1, "{number}");
    }
    assert_eq!(
        mbox.lines()
            .filter(|line| line.starts_with("From "))
            .count(),
        count
    );
}

/// Whatever a report says, a bounce has as many failures as there were, each with its recipient.
fn bounces_read_as_written() {
    let reports = [
        &b"No such user.\n"[..],
        b"",
        b"\n\n\n",
        b"a\n\nb\n",
        b"\r\n\r\n",
        b"<eve@x.test>:\nforged\n",
        b"--- Below this line is a copy of the message.\n\nReturn-Path: <>\n",
        b"\0\xff\n \n\t\n",
        b"no line end",
    ];
    let count = 1_000_000 / SCALE;
    let mut body = b"Hi. This is the qmail-send program at mail.test.\nI tried.\n\n".to_vec();
    let recipient = |number: usize| format!("u{number}@x.test");
    for number in 0..count {
        bounce::write_note(
            recipient(number).as_bytes(),
            reports[number % reports.len()],
            &mut body,
        );
    }
    body.extend_from_slice(
        b"--- Below this line is a copy of the message.\n\nReturn-Path: <>\n\ntext\n",
    );
    let failures = bounce::parse(&body).expect("a bounce");
    let mut seen = 0;
    for (number, (address, _)) in failures.enumerate() {
        assert_eq!(address, recipient(number).as_bytes());
        seen += 1;
    }
    assert_eq!(seen, count);
}

/// Strangers' text in the log: the mask by itself, and what comes through a server.
fn one_record_one_line() {
    let hostile: Vec<u8> = (0..=255u8).cycle().take(64 * 1024).collect();
    let shown = Masked(&hostile).to_string();
    assert!(shown.bytes().all(|octet| octet.is_ascii_graphic()) && !shown.contains('%'));

    let scratch = tempfile::tempdir().expect("a scratch directory");
    let server = server(
        scratch.path(),
        "|printf 'one\\ntwo\\r\\033[2J\\0end msg 1\\n'; exit 100\n",
        &[],
    );
    send_mail(
        server.smtp(),
        "\"a % b\"@x.test",
        &["joe@local.test"],
        b"Subject: x\r\n\r\n",
    );
    let line = server.wait_for_line("delivery 1: failure: ");
    assert_eq!(line, "delivery 1: failure: one/two__[2J_end_msg_1/");
    for line in server.lines() {
        assert!(
            line.bytes().all(|octet| !octet.is_ascii_control()),
            "{}",
            line.escape_debug()
        );
    }
}
