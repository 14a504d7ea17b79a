//! Where local delivery and its programs differ from the classic ones, on purpose: one test for each difference, by number of the
//! list that they come from, at the programs themselves.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qmail_core::{Content as _, MemoryContent};
use qmail_deliver::Maildirs;
use qmail_tests::local::{Delivered, Mailbox, set_mode};
use qmail_tests::server::{Server, send_mail};
use qmail_tests::tls::Identity;
use rustix::fs::{FlockOperation, flock};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");
const HELPER: &str = env!("CARGO_BIN_EXE_conform-helper");

const MESSAGE: &str = "Subject: x\n\nbody\n";

fn mailbox() -> Mailbox {
    Mailbox::new(Path::new(PROGRAM))
}

/// A mailbox with these instructions.
fn with(instructions: &str) -> Mailbox {
    Mailbox::with(Path::new(PROGRAM), instructions)
}

fn refused(delivered: &Delivered, code: i32, reason: &str) {
    assert_eq!(delivered.exit, code, "{delivered:?}");
    assert!(delivered.stderr.contains(reason), "{delivered:?}");
}

#[test]
fn difference_0_a_from_line_starts_a_line() {
    let mailbox = with("./Mailbox\n");
    mailbox.write("Mailbox", "From old\n\ncut by a crash");
    assert_eq!(mailbox.deliver(MESSAGE).exit, 0);
    let mbox = mailbox.read("Mailbox");
    assert!(
        mbox.starts_with("From old\n\ncut by a crash\nFrom sue@x.test "),
        "{mbox}"
    );
}

/// A program that reads no further decides by its exit code, whatever the size.
#[test]
fn difference_0_preline_outlives_its_program_s_interest() {
    let mailbox = mailbox();
    let large = format!("{MESSAGE}{}", "0123456789abcdef\n".repeat(100_000));
    let lines = [
        ("UFLINE", "From s\n"),
        ("RPLINE", "Return-Path: <s>\n"),
        ("DTLINE", "Delivered-To: d\n"),
    ];
    for code in [0, 1, 99, 111] {
        let script = format!("exec <&-; sleep 0.1; exit {code}");
        let ran = mailbox.feed("preline", &["sh", "-c", &script], &lines, &large);
        assert_eq!((ran.exit, &*ran.stderr), (code, ""), "{code}");
    }
}

#[test]
fn difference_0_pw2u_ends_the_last_line_of_append() {
    let mailbox = mailbox();
    fs::write(mailbox.qmail().join("users/append"), "=x:alias:1:1:/x:::").expect("a file");
    let ran = mailbox.feed(
        "qmail-pw2u",
        &["-H"],
        &[],
        "alias:x:7790:2108::/var/alias:/bin/sh\n",
    );
    assert!(ran.stdout.ends_with("\n=x:alias:1:1:/x:::\n.\n"), "{ran:?}");
}

#[test]
fn difference_0_the_loop_check_ends_with_the_header() {
    let mailbox = with("./Mailbox\n");
    let line = "Delivered-To: joe@local.test\n";
    for (message, code) in [
        (format!("Subject: x\r\n\r\n{line}"), 0),
        (format!("Subject: x\n\n{line}"), 0),
        (format!("Subject: x\r\n{line}\r\n"), 100),
    ] {
        assert_eq!(mailbox.deliver(&message).exit, code, "{message:?}");
    }
}

#[test]
fn difference_1_a_default_of_somebody_else_is_none() {
    let mailbox = with("|echo \"${DEFAULT-unset}\" >default\n");
    let mut command = mailbox.local("", MESSAGE);
    command.env("DEFAULT", "stale");
    assert_eq!(mailbox.run(command).exit, 0);
    assert_eq!(mailbox.read("default"), "unset\n");
}

#[test]
fn difference_1_nobody_is_no_forward() {
    let delivered = with("&ann@x.test\n&\n").deliver(MESSAGE);
    refused(&delivered, 111, "a forward without an address. (#4.2.1)");
    let mailbox = mailbox();
    for list in ["&", "&\n&ann@x.test"] {
        let made = mailbox.feed("setmaillist", &["list.bin", "list.tmp"], &[], list);
        assert_eq!(made.exit, 0, "{made:?}");
        let entries = fs::read(mailbox.path("list.bin")).expect("a list");
        let used: Vec<_> = qmail_core::alias::entries(&entries).collect();
        assert!(!used.contains(&&b"&"[..]), "{used:?}");
    }
    let ran = mailbox.feed(
        "forward",
        &[""],
        &[("NEWSENDER", "s@x.test"), ("DTLINE", "")],
        MESSAGE,
    );
    refused(&ran, 100, "is no address");
    assert_eq!(mailbox.queued(), None);
}

/// Names are unique within a microsecond, and no host leads out of the directory. (`tests/system/local_peers.py` sees the syncs.)
#[test]
fn difference_2_names_of_a_maildir_are_unique() {
    let mailbox = mailbox();
    mailbox.maildir("Maildir");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let stopped = || UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001);
    let maildirs = Maildirs::new("../a:b", 7, stopped);
    let maildir = mailbox.path("Maildir");
    for _ in 0..3 {
        let file = runtime.block_on(async {
            let message = MemoryContent(MESSAGE.into());
            let mut body = message.open().await.expect("a message");
            let delivered = maildirs.deliver(&maildir, "Return-Path: <>\n".into(), body.as_mut());
            delivered.await.expect("room")
        });
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(name.starts_with("1700000000.M000001P7Q"), "{name}");
        assert!(name.ends_with("..\\057a\\072b"), "{name}");
    }
    assert_eq!(mailbox.messages("Maildir").len(), 3);
}

/// A directory, a FIFO, a device: nothing that mail could be appended to.
#[test]
fn difference_3_an_mbox_is_a_regular_file() {
    let mailbox = with("./Mailbox\n");
    let made = Command::new("mkfifo").arg(mailbox.path("Mailbox")).status();
    assert!(made.expect("it runs").success());
    let started = Instant::now();
    refused(
        &mailbox.deliver(MESSAGE),
        111,
        "Unable to open ./Mailbox: not a regular file. (#4.2.1)",
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    mailbox.write(".qmail", "/dev/null\n");
    refused(&mailbox.deliver(MESSAGE), 111, "Unable to open /dev/null: ");
    mailbox.write(".qmail", "/dev/full\n");
    refused(&mailbox.deliver(MESSAGE), 111, "Unable to open /dev/full: ");
}

#[test]
fn difference_3_links_to_an_mbox_are_a_matter_of_policy() {
    let mailbox = with("./Mailbox\n");
    mailbox.write("elsewhere", "");
    symlink("elsewhere", mailbox.path("Mailbox")).expect("a link");
    assert_eq!(mailbox.deliver(MESSAGE).exit, 0);
    let before = mailbox.read("elsewhere");
    assert!(before.contains("Subject: x"));
    fs::write(mailbox.qmail().join("control/mboxlinks"), "0\n").expect("a file");
    refused(&mailbox.deliver(MESSAGE), 111, "Unable to open ./Mailbox: ");
    assert_eq!(mailbox.read("elsewhere"), before);
}

/// Who waited for the lock of a file that was replaced meanwhile writes into the file that has the name.
#[test]
fn difference_3_the_locked_mbox_is_the_named_one() {
    let mailbox = with("./Mailbox\n");
    mailbox.write("Mailbox", "");
    let old = File::open(mailbox.path("Mailbox")).expect("it is there");
    flock(&old, FlockOperation::LockExclusive).expect("nobody has it");
    let mut waiting = mailbox
        .local("", MESSAGE)
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    thread::sleep(Duration::from_millis(300));
    mailbox.write("new", "From rewritten\n\n");
    fs::rename(mailbox.path("new"), mailbox.path("Mailbox")).expect("a file");
    drop(old);
    assert!(waiting.wait().expect("our child").success());
    let mbox = mailbox.read("Mailbox");
    assert!(
        mbox.starts_with("From rewritten\n\nFrom sue@x.test "),
        "{mbox}"
    );
}

/// Programs after an mbox do not inherit it.
#[test]
fn difference_3_an_mbox_is_closed_for_programs() {
    let mailbox = with("./Mailbox\n./Maildir/\n|ls -l /proc/self/fd >open\n");
    mailbox.maildir("Maildir");
    assert_eq!(mailbox.deliver(MESSAGE).exit, 0);
    let open = mailbox.read("open");
    assert!(
        !open.contains("Mailbox") && !open.contains("Maildir"),
        "{open}"
    );
}

#[test]
fn difference_4_strictness_is_set_at_run_time() {
    let mailbox = with("./Mailbox\n");
    set_mode(&mailbox.home(), 0o775);
    assert_eq!(mailbox.deliver(MESSAGE).exit, 0);
    let mut rehearse = mailbox.command("qmail-local");
    rehearse.arg("-n");
    mailbox.address(&mut rehearse, "");
    let told = mailbox.run(rehearse);
    assert_eq!(
        (told.exit, &*told.stdout, &*told.stderr),
        (
            0,
            "mbox ./Mailbox\ndid 1+0+0\n",
            "Warning: home directory is group-writable.\n"
        )
    );

    let patrn = mailbox.qmail().join("control/patrn");
    fs::write(&patrn, "022\n").expect("a file");
    refused(
        &mailbox.deliver(MESSAGE),
        111,
        "Uh-oh: home directory is writable. (#4.7.0)",
    );
    set_mode(&mailbox.home(), 0o755);
    set_mode(&mailbox.path(".qmail"), 0o664);
    refused(
        &mailbox.deliver(MESSAGE),
        111,
        "Uh-oh: .qmail file is writable. (#4.7.0)",
    );
    set_mode(&mailbox.path(".qmail"), 0o644);
    assert_eq!(mailbox.deliver(MESSAGE).exit, 0);
    fs::write(&patrn, "22x\n").expect("a file");
    refused(&mailbox.deliver(MESSAGE), 111, "write mode bits in octal");
}

#[test]
fn difference_5_receipts_say_what_they_are() {
    let mailbox = mailbox();
    let message = "Message-ID: <1@x>\nNotice-Requested-Upon-Delivery-To: joe@local.test\n\n";
    for nobody in ["", "#@[]"] {
        let ran = mailbox.feed(
            "qreceipt",
            &["joe@local.test"],
            &[("SENDER", nobody)],
            message,
        );
        assert_eq!((ran.exit, mailbox.queued()), (0, None));
    }
    let sender = [("SENDER", "sue@x.test")];
    let ran = mailbox.feed("qreceipt", &["joe@local.test"], &sender, message);
    assert_eq!(ran.exit, 0);
    let (notice, envelope) = mailbox.queued().expect("a notice");
    assert_eq!(envelope, "F|Tsue@x.test||");
    for field in ["Date: ", "Message-ID: <", "Auto-Submitted: auto-replied\n"] {
        assert_eq!(
            notice.matches(field).count(),
            1 + usize::from(field == "Message-ID: <"),
            "{notice}"
        );
    }
}

#[test]
fn difference_6_newaliases_loses_no_line() {
    let mailbox = mailbox();
    mailbox.write("aliases", "a: ann\nb: bob");
    let ran = mailbox.feed("newaliases", &["aliases"], &[], "");
    assert_eq!((ran.exit, &*ran.stderr), (0, ""));
    let table = fs::read(mailbox.path("aliases.cdb")).expect("a table");
    assert!(!mailbox.path("aliases.tmp").exists());
    let shown = mailbox.feed("printforward", &[], &[], &table);
    assert_eq!(
        shown.stdout,
        "a@:\n, &ann@mail.test\n;\nb@:\n, &bob@mail.test\n;\n"
    );
    for (text, told) in [
        ("a: ann\n\nb: /file\n", "aliases, line 3: file delivery"),
        ("a: ann\nb:\n", "aliases, line 2: alias without recipients"),
        ("a: (x\n", "aliases, line 1: unbalanced"),
    ] {
        mailbox.write("aliases", text);
        let ran = mailbox.feed("newaliases", &["aliases"], &[], "");
        refused(&ran, 111, told);
        assert_eq!(ran.stderr.lines().count(), 1);
        assert_eq!(
            fs::read(mailbox.path("aliases.cdb")).expect("a table"),
            table
        );
    }
}

/// Makes everything in a Maildir some seconds old: what is of the present second is left for later.
fn age(mailbox: &Mailbox, maildir: &str) {
    let old = SystemTime::now() - Duration::from_secs(60);
    for file in fs::read_dir(mailbox.path(maildir).join("new")).expect("a Maildir") {
        let file = File::open(file.expect("a file").path()).expect("a message");
        file.set_modified(old).expect("our file");
    }
}

fn convert(mailbox: &Mailbox) -> Command {
    let mut command = mailbox.command("maildir2mbox");
    command
        .env("MAILDIR", mailbox.path("Maildir"))
        .env("MAIL", mailbox.path("Mailbox"))
        .env("MAILTMP", mailbox.path("Mailbox.tmp"));
    command
}

#[test]
fn difference_7_maildir2mbox_keeps_a_last_line() {
    let mailbox = mailbox();
    mailbox.maildir("Maildir");
    fs::write(
        mailbox.path("Maildir/new/1"),
        "Return-Path: <s@x.test>\nSubject: x\n\nno line end",
    )
    .expect("a message");
    age(&mailbox, "Maildir");
    assert_eq!(mailbox.run(convert(&mailbox)).exit, 0);
    let mbox = mailbox.read("Mailbox");
    assert!(
        mbox.starts_with("From s@x.test ") && mbox.ends_with("\n\nno line end\n\n"),
        "{mbox}"
    );
}

/// Several at once, and deliveries to the mbox meanwhile: each message is in it once.
#[test]
fn difference_7_maildir2mbox_has_the_mbox_for_itself() {
    let mailbox = with("./Maildir/\n");
    mailbox.maildir("Maildir");
    const COUNT: usize = 30;
    for number in 0..COUNT {
        let delivered = mailbox.deliver(format!("Subject: old {number}\n\n"));
        assert_eq!(delivered.exit, 0);
    }
    age(&mailbox, "Maildir");
    mailbox.write(".qmail", "./Mailbox\n");
    thread::scope(|scope| {
        let mailbox = &mailbox;
        let instances = [(); 4].map(|()| scope.spawn(|| mailbox.run(convert(mailbox))));
        for number in 0..COUNT {
            let delivered = mailbox.deliver(format!("Subject: new {number}\n\n"));
            assert_eq!(delivered.exit, 0, "{delivered:?}");
        }
        for instance in instances {
            let ran = instance.join().expect("no panic");
            assert_eq!((ran.exit, &*ran.stderr), (0, ""));
        }
    });
    let mbox = mailbox.read("Mailbox");
    for number in 0..COUNT {
        for kind in ["old", "new"] {
            let line = format!("\nSubject: {kind} {number}\n");
            assert_eq!(mbox.matches(&line).count(), 1, "{line}");
        }
    }
    assert!(mailbox.messages("Maildir").is_empty());
}

#[test]
fn difference_8_a_loop_of_aliases_is_no_success() {
    let mailbox = mailbox();
    let made = mailbox.feed(
        "setforward",
        &["f.cdb", "f.tmp"],
        &[],
        "a@h: b@h; b@h: a@h; c@h: ann@x.test, b@h;",
    );
    assert_eq!(made.exit, 0, "{made:?}");
    let forward = |recipient: &str| {
        let variables = [("RECIPIENT", recipient), ("SENDER", "s@x.test")];
        mailbox.feed("fastforward", &["f.cdb"], &variables, MESSAGE)
    };
    refused(&forward("a@h"), 100, "leads back to itself");
    assert_eq!(mailbox.queued(), None);
    assert_eq!(forward("c@h").exit, 0);
    assert_eq!(
        mailbox.queued().expect("it was sent").1,
        "Fs@x.test|Tann@x.test||"
    );
}

/// Cut anywhere, a table gives what it held, or nothing for now: never something else.
#[test]
fn difference_8_a_damaged_table_is_temporary() {
    let mailbox = mailbox();
    let made = mailbox.feed(
        "setforward",
        &["f.cdb", "f.tmp"],
        &[],
        "a@h: ann@x.test, bob@x.test;",
    );
    assert_eq!(made.exit, 0, "{made:?}");
    let table = fs::read(mailbox.path("f.cdb")).expect("a table");
    for cut in [0, 1, 2047, 2048, 2056, 2060, 2080, table.len() - 1] {
        fs::write(mailbox.path("f.cdb"), &table[..cut]).expect("room");
        let ran = mailbox.feed("fastforward", &["f.cdb"], &[("RECIPIENT", "a@h")], MESSAGE);
        assert_eq!(ran.exit, 111, "{cut}: {ran:?}");
        assert_eq!(mailbox.queued(), None, "{cut}");
    }
    // Commands without the NUL that ends each.
    let mut damaged = table;
    let at = damaged
        .windows(11)
        .position(|part| part == b"bob@x.test\0")
        .expect("it is there");
    damaged[at + 10] = b'x';
    fs::write(mailbox.path("f.cdb"), damaged).expect("room");
    let ran = mailbox.feed("fastforward", &["f.cdb"], &[("RECIPIENT", "a@h")], MESSAGE);
    refused(&ran, 111, "the database holds commands that are none");
}

#[test]
fn difference_9_condredirect_keeps_the_sender() {
    let mailbox = mailbox();
    let variables = [
        ("SENDER", "sue@x.test"),
        ("NEWSENDER", "joe-owner@local.test"),
        ("DTLINE", "Delivered-To: joe@local.test\n"),
    ];
    let ran = mailbox.feed("condredirect", &["ann@y.test", "true"], &variables, MESSAGE);
    assert_eq!(ran.exit, 99, "{ran:?}");
    let (message, envelope) = mailbox.queued().expect("it was sent");
    assert_eq!(message, format!("Delivered-To: joe@local.test\n{MESSAGE}"));
    assert_eq!(envelope, "Fsue@x.test|Tann@y.test||");
    let ran = mailbox.feed("forward", &["ann@y.test"], &variables, MESSAGE);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let (_, envelope) = mailbox.queued().expect("it was sent");
    assert_eq!(envelope, "Fjoe-owner@local.test|Tann@y.test||");
}

#[test]
fn difference_10_extra_recipients_are_a_control_file() {
    let mailbox = mailbox();
    mailbox.maildir("Maildir");
    let control = |name: &str, text: &str| {
        fs::write(mailbox.qmail().join("control").join(name), text).expect("a file");
    };
    control("queueextra", "joe-log@mail.test\n");
    let home = mailbox.home();
    let assign = format!(
        "=joe:joe:9:9:{0}:::\n+joe-:joe:9:9:{0}:-::\n.\n",
        home.display()
    );
    fs::write(mailbox.qmail().join("users/assign"), assign).expect("a file");
    mailbox.write(".qmail-log", "./log\n");
    let server = Server::start_free(PROGRAM, mailbox.qmail(), &[]);
    send_mail(
        server.smtp(),
        "sue@x.test",
        &["joe@mail.test"],
        b"Subject: x\r\n\r\n",
    );
    server.wait_for_ends(1);
    assert_eq!(mailbox.messages("Maildir").len(), 1);
    assert!(
        mailbox
            .read("log")
            .contains("\nDelivered-To: joe-log@mail.test\n")
    );
}

/// A message in the form that qmail-local gives it, aged, in the Maildir `M` of the user.
fn stored(mailbox: &Mailbox, name: &str, text: &str) {
    if !mailbox.path("M").exists() {
        mailbox.maildir("M");
    }
    let text = format!("Return-Path: <sue@x.test>\nDelivered-To: p-ann@local.test\n{text}");
    fs::write(mailbox.path("M/new").join(name), text).expect("a message");
    age(mailbox, "M");
}

/// serialsmtp or serialqmtp with a server at this port, given the names of these messages.
fn serial(mailbox: &Mailbox, port: u16, arguments: &[&str], names: &str) -> Delivered {
    let mut command = Command::new(HELPER);
    let plain = mailbox.command(arguments[0]);
    command
        .env_clear()
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .args(["net67", &port.to_string()])
        .arg(mailbox.qmail().join("bin").join(arguments[0]))
        .args(&arguments[1..])
        .current_dir(mailbox.path("M"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    // Whoever ends early reads no names.
    let _ = input.write_all(names.as_bytes());
    drop(input);
    child.wait_with_output().expect("it ends").into()
}

/// A server that says these words at once, and then reads to the end.
fn talker(words: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept()?;
        client.write_all(words)?;
        client.read_to_end(&mut Vec::new())
    });
    port
}

#[test]
fn difference_10_a_server_that_wants_none_now_puts_all_off() {
    let mailbox = mailbox();
    stored(&mailbox, "1", MESSAGE);
    stored(&mailbox, "2", MESSAGE);
    let port = talker(b"421-busy\r\n421 come back later\r\n");
    let ran = serial(
        &mailbox,
        port,
        &["serialsmtp", "p-", "me.test"],
        "new/1\0new/2\0",
    );
    assert_eq!(
        (ran.exit, &*ran.stdout),
        (
            0,
            "new/1\0Z421 come back later\nnew/2\0Z421 come back later\n"
        )
    );
}

#[test]
fn difference_10_serialsmtp_speaks_tls() {
    let mailbox = mailbox();
    stored(&mailbox, "1", MESSAGE);
    for (policy, has_tls, exit) in [
        ("opportunistic", true, 0),
        ("required", true, 0),
        ("off", true, 0),
        ("opportunistic", false, 0),
        ("required", false, 111),
        // Nobody vouches for a certificate that was made a moment ago.
        ("verified", true, 111),
    ] {
        fs::write(mailbox.qmail().join("control/remotetls"), policy).expect("a file");
        let there = tempfile::tempdir().expect("a directory");
        let control = there.path().join("control");
        fs::create_dir(&control).expect("a directory");
        fs::write(control.join("me"), "local.test\n").expect("a file");
        if has_tls {
            Identity::new().install(there.path());
        }
        let options = ["--no-deliver", "--spool", "split"];
        let server = Server::start_free(PROGRAM, there.path(), &options);
        let ran = serial(
            &mailbox,
            server.smtp().port(),
            &["serialsmtp", "p-", "me.test"],
            "new/1\0",
        );
        let what = format!("{policy} {has_tls}: {ran:?}");
        assert_eq!(ran.exit, exit, "{what}");
        assert_eq!(ran.stdout.starts_with("new/1\0K250 "), exit == 0, "{what}");
        let queued: Vec<_> = fs::read_dir(there.path().join("queue/mess"))
            .expect("a queue")
            .flat_map(|part| fs::read_dir(part.expect("a directory").path()).expect("a directory"))
            .map(|file| fs::read_to_string(file.expect("a file").path()).expect("a message"))
            .collect();
        assert_eq!(queued.len(), usize::from(exit == 0), "{what}");
        for message in queued {
            let encrypted = has_tls && policy != "off";
            assert_eq!(
                message.contains("with ESMTPS"),
                encrypted,
                "{what}\n{message}"
            );
        }
    }
}

#[test]
fn difference_10_serialsmtp_smuggles_nothing() {
    let mailbox = mailbox();
    stored(
        &mailbox,
        "1",
        "Subject: x\n\nbare\rMAIL FROM:<eve@x.test>\n",
    );
    stored(
        &mailbox,
        "2",
        "Subject: x\n\nbare\r.\r\nMAIL FROM:<eve@x.test>\n",
    );
    let port = talker(b"220 there\r\n250 hello\r\n");
    let ran = serial(
        &mailbox,
        port,
        &["serialsmtp", "p-", "me.test"],
        "new/1\0new/2\0",
    );
    let told = "DMessage or envelope has a bare CR, which SMTP cannot carry. (#5.6.0)\n";
    assert_eq!(
        (ran.exit, ran.stdout),
        (0, format!("new/1\0{told}new/2\0{told}"))
    );
}

#[test]
fn difference_10_serialqmtp_has_bounds() {
    let mailbox = mailbox();
    stored(&mailbox, "1", MESSAGE);
    for words in [&b"99999999999999999999:K"[..], b"999999999:K"] {
        let ran = serial(&mailbox, talker(words), &["serialqmtp", "p-"], "new/1\0");
        assert_eq!((ran.exit, &*ran.stdout), (111, ""), "{ran:?}");
    }
}

/// Descriptors above 2 are closed, signals are at their defaults, and the process group is the program's own.
#[test]
fn difference_11_programs_start_clean() {
    let mailbox = with(
        "|ls /proc/self/fd >open; cat /proc/self/status >status; ps -o pgid= -p $$ >group; echo $$ >pid\n",
    );
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec 9</etc/passwd; trap '' HUP INT QUIT TERM USR1 PIPE ALRM; exec \"$@\"",
        "sh",
    ]);
    command.arg(mailbox.qmail().join("bin/qmail-local"));
    mailbox.address(&mut command, "");
    let plain = mailbox.local("", MESSAGE);
    command.env_clear().envs(
        plain
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    fs::write(mailbox.qmail().join("message"), MESSAGE).expect("room");
    command.stdin(File::open(mailbox.qmail().join("message")).expect("it is there"));
    let delivered = mailbox.run(command);
    assert_eq!(delivered.exit, 0, "{delivered:?}");
    let open = mailbox.read("open");
    assert_eq!(open.lines().count(), 4, "{open}");
    let status = mailbox.read("status");
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Those beyond 31 are the business of libraries.
    assert_eq!(ignored.map(|mask| mask & 0x7fff_ffff), Some(0), "{status}");
    assert_eq!(mailbox.read("group").trim(), mailbox.read("pid").trim());
}

#[test]
fn difference_12_a_prefix_may_end_in_a_capital() {
    let mailbox = mailbox();
    let write = |assign: &str| {
        fs::write(mailbox.qmail().join("users/assign"), assign).expect("a file");
        mailbox.run(mailbox.command("qmail-newu"))
    };
    assert_eq!(write("+BigX:big:7:7:/big:-:pre:\n.\n").exit, 0);
    let table = fs::read(mailbox.qmail().join("users/cdb")).expect("a table");
    let table = qmail_core::cdb::Cdb::new(table).expect("a table");
    assert_eq!(table.get(b""), Ok(Some(&b"x"[..])));
    let made = write("=joe:joe:1:1:/joe:::\n=ann:ann:1:1:/ann\n.\n");
    refused(&made, 111, "line 2, `=ann:ann:1:1:/ann`");
}

#[test]
fn difference_12_pw2u_names_the_line() {
    let mailbox = mailbox();
    let ran = mailbox.feed(
        "qmail-pw2u",
        &["-H"],
        &[],
        "alias:x:7790:2108::/var/alias:/bin/sh\nbroken:x:1\n",
    );
    assert_eq!(ran.exit, 0);
    assert_eq!(
        ran.stderr,
        "qmail-pw2u: warning: line 2, `broken:x:1`: no account, passed over\n"
    );
}

#[test]
fn difference_13_no_line_break_or_nul_in_an_address() {
    let mailbox = mailbox();
    for (program, arguments, text, code) in [
        ("setforward", &["f", "t"][..], "a: b\\\nc@x.test;", 100),
        ("setforward", &["f", "t"], "a: b\\\0c@x.test;", 100),
        ("setmaillist", &["f", "t"], "a\0b@x.test\n", 111),
    ] {
        let ran = mailbox.feed(program, arguments, &[], text);
        assert_eq!(ran.exit, code, "{program} {text:?}: {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1);
        assert!(!mailbox.path("f").exists());
    }
    for (program, text) in [
        ("newaliases", "x: \"a\\\n b\"@x.test\n"),
        ("newaliases", "x: \"a\0b\"@x.test\n"),
        ("newinclude", "\"a\0b\"@x.test\n"),
    ] {
        mailbox.write("source", text);
        let ran = mailbox.feed(program, &["source"], &[], "");
        assert_eq!(ran.exit, 111, "{program} {text:?}: {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1);
    }
    let variables = [
        ("SENDER", "s@x.test"),
        ("NEWSENDER", "s@x.test"),
        ("DTLINE", ""),
    ];
    for (program, arguments) in [
        ("forward", &["ok@x.test", "a\nb@x.test"][..]),
        ("condredirect", &["a\nb@x.test", "true"]),
    ] {
        let ran = mailbox.feed(program, arguments, &variables, MESSAGE);
        refused(&ran, 100, "`a\\x0ab@x.test` is no address");
    }
    let delivered = with("&a\0b@x.test\n").deliver(MESSAGE);
    refused(&delivered, 111, "a NUL in a line. (#4.2.1)");
    assert_eq!(mailbox.queued(), None);
    assert!(mailbox.home().metadata().expect("a home").mode() & 0o7777 == 0o755);
}
