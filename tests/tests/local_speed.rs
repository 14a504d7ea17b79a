//! What takes long if it is done badly. The bounds are those of a busy machine without optimisation; `benches/` measures.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use qmail_tests::local::Mailbox;
use qmail_tests::server::{Server, send_mail};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// So long a forward to everybody may take; a tenth of it where the machine is free and the program optimised.
const FORWARD_TIME_MAX: Duration = Duration::from_secs(10);

const SUBSCRIBERS: usize = 10_000;

fn subscribers() -> String {
    (0..SUBSCRIBERS)
        .map(|number| format!("&subscriber-{number}@far.test\n"))
        .collect()
}

/// By `qmail serve`: one message is queued, with everybody in its envelope.
#[test]
fn a_list_of_ten_thousand_is_one_message() {
    let scratch = tempfile::tempdir().expect("a directory");
    for directory in ["control", "users", "joe"] {
        fs::create_dir(scratch.path().join(directory)).expect("a directory");
    }
    let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text).expect("room");
    write("control/me", "local.test\n");
    // What is forwarded stays in the queue.
    write("control/concurrencyremote", "0\n");
    let home = scratch.path().join("joe");
    write(
        "users/assign",
        &format!("=joe:joe:9:9:{}:::\n.\n", home.display()),
    );
    write("joe/.qmail", &subscribers());
    let server = Server::start_free(PROGRAM, scratch.path(), &["--spool", "split"]);
    let started = Instant::now();
    send_mail(
        server.smtp(),
        "sue@x.test",
        &["joe@local.test"],
        b"Subject: x\r\n\r\nbody\r\n",
    );
    server.wait_for_ends(1);
    let took = started.elapsed();
    assert!(took < FORWARD_TIME_MAX, "{took:?}");
    println!("qmail serve: {SUBSCRIBERS} recipients in {took:?}");
    server.wait_for_line(&format!("success: did_0+{SUBSCRIBERS}+0/qp_"));
    // The message, the one that is forwarded, and no other.
    let news = |lines: &[String]| {
        let new = lines.iter().filter(|line| line.starts_with("new msg "));
        new.count()
    };
    assert!(server.wait_for(|lines| news(lines) >= 2));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(news(&server.lines()), 2);
}

/// By qmail-local and qmail-queue.
#[test]
fn a_list_of_ten_thousand_is_one_run_of_qmail_queue() {
    let mailbox = Mailbox::new(Path::new(PROGRAM));
    mailbox.write(".qmail", subscribers());
    fs::create_dir(mailbox.qmail().join("queue")).expect("a directory");
    for part in ["pid", "intd", "todo", "mess", "lock"] {
        fs::create_dir(mailbox.qmail().join("queue").join(part)).expect("a directory");
    }
    for bucket in 0..23 {
        fs::create_dir(mailbox.qmail().join(format!("queue/mess/{bucket}"))).expect("a directory");
    }
    symlink("/dev/null", mailbox.qmail().join("queue/lock/trigger")).expect("a link");
    let mut command = mailbox.local("", "Subject: x\n\nbody\n");
    command.env_remove("QMAILQUEUE");
    let started = Instant::now();
    let delivered = mailbox.run(command);
    let took = started.elapsed();
    assert_eq!(delivered.exit, 0, "{delivered:?}");
    assert!(took < FORWARD_TIME_MAX, "{took:?}");
    println!("qmail-local: {SUBSCRIBERS} recipients in {took:?}");
    let todo: Vec<_> = fs::read_dir(mailbox.qmail().join("queue/todo"))
        .expect("a queue")
        .map(|file| fs::read(file.expect("a file").path()).expect("an envelope"))
        .collect();
    assert_eq!(todo.len(), 1, "one message");
    let recipients = todo[0].split(|&octet| octet == 0);
    assert_eq!(
        recipients
            .filter(|record| record.first() == Some(&b'T'))
            .count(),
        SUBSCRIBERS
    );
}
