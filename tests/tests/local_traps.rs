//! What is easily got wrong in local delivery: one test for each trap, at the programs themselves.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use qmail_core::users::Assignments;
use qmail_core::{Outcome, ProgramEnd};
use qmail_tests::local::{Delivered, Mailbox, set_mode};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

const MESSAGE: &str = "Subject: x\n\nbody\n";

fn mailbox() -> Mailbox {
    Mailbox::new(Path::new(PROGRAM))
}

/// A mailbox with these instructions.
fn with(instructions: &str) -> Mailbox {
    Mailbox::with(Path::new(PROGRAM), instructions)
}

/// Delivers to `joe-EXTENSION`.
fn deliver(mailbox: &Mailbox, extension: &str) -> Delivered {
    mailbox.run(mailbox.local(extension, MESSAGE))
}

fn did(delivered: &Delivered) -> &str {
    assert_eq!(delivered.exit, 0, "{delivered:?}");
    delivered.stdout.lines().next().unwrap_or_default()
}

#[test]
fn only_the_file_name_is_in_lower_case_and_without_dots() {
    let mailbox = mailbox();
    mailbox.write(
        ".qmail-list:x-default",
        "|printf '%s|' \"$EXT\" \"$DEFAULT\" \"$LOCAL\" \"$NEWSENDER\" >variables\n./Mailbox\n",
    );
    mailbox.write(".qmail-list:x-some:body-owner", "");
    assert_eq!(did(&deliver(&mailbox, "List.X-Some.Body")), "did 1+0+1");
    assert_eq!(
        mailbox.read("variables"),
        "List.X-Some.Body|Some.Body|joe-List.X-Some.Body|joe-List.X-Some.Body-owner@local.test|"
    );
    assert!(
        mailbox
            .read("Mailbox")
            .contains("\nDelivered-To: joe-List.X-Some.Body@local.test\n")
    );
}

#[test]
fn owner_files_are_those_of_the_whole_extension() {
    let mailbox = mailbox();
    mailbox.write(".qmail-default", "|echo \"$NEWSENDER\" >sender\n");
    mailbox.write(".qmail-owner", "");
    for (owner_files, sender) in [
        (&[][..], "sue@x.test"),
        (&[".qmail-a-b-owner"], "joe-a-b-owner@local.test"),
        (
            &[".qmail-a-b-owner-default"],
            "joe-a-b-owner-@local.test-@[]",
        ),
    ] {
        for name in owner_files {
            mailbox.write(name, "");
        }
        assert_eq!(did(&deliver(&mailbox, "a-b")), "did 0+0+1");
        assert_eq!(mailbox.read("sender").trim_end(), sender);
    }
}

#[test]
fn default_files_are_looked_for_at_every_dash_and_at_none() {
    let mailbox = mailbox();
    let used = |extension: &str| {
        let _ = fs::remove_file(mailbox.path("used"));
        assert_eq!(deliver(&mailbox, extension).exit, 0);
        mailbox.read("used")
    };
    let file = |name: &str| mailbox.write(name, format!("|echo '{name}' \"$DEFAULT\" >used\n"));
    file(".qmail-default");
    assert_eq!(used("a-"), ".qmail-default a-\n");
    file(".qmail-a-default");
    assert_eq!(used("a-"), ".qmail-a-default \n");
    assert_eq!(used("a"), ".qmail-default a\n");
    assert_eq!(used("a-b-c"), ".qmail-a-default b-c\n");
    // The exact file, whose name happens to end so.
    assert_eq!(used("a-Default"), ".qmail-a-default Default\n");
}

#[test]
fn what_comes_before_a_forbidden_line_is_done_and_forwards_are_not() {
    let mailbox = with("|touch before\n&ann@x.test\n+list\n&bob@x.test\n|touch after\n");
    let delivered = mailbox.deliver(MESSAGE);
    assert!(
        delivered.deferred("prog delivery but has x bit set"),
        "{delivered:?}"
    );
    assert!(mailbox.path("before").exists() && !mailbox.path("after").exists());
    assert_eq!(mailbox.queued(), None);
    let mailbox = with("&ann@x.test\n./Mailbox\n");
    set_mode(&mailbox.path(".qmail"), 0o744);
    let delivered = mailbox.deliver(MESSAGE);
    assert!(delivered.deferred("file delivery but has x bit set"));
    assert_eq!(mailbox.queued(), None);
}

#[test]
fn an_empty_file_is_not_a_comment() {
    let mailbox = with("");
    set_mode(&mailbox.path(".qmail"), 0o744);
    assert_eq!(did(&mailbox.deliver(MESSAGE)), "did 1+0+0");
    assert!(mailbox.path("Mailbox").exists());
    let mailbox = with("# nothing");
    assert_eq!(did(&mailbox.deliver(MESSAGE)), "did 0+0+0");
    assert!(!mailbox.path("Mailbox").exists());
}

#[test]
fn the_first_line_is_not_blank() {
    for blank in ["\n./Mailbox\n", " \t\n./Mailbox\n", "\n", "  "] {
        let delivered = with(blank).deliver(MESSAGE);
        assert!(
            delivered.deferred("first line of .qmail file is blank. (#4.2.1)"),
            "{blank:?}"
        );
    }
    assert_eq!(
        did(&with("#\n\n \t\n./Mailbox\n").deliver(MESSAGE)),
        "did 1+0+0"
    );
    // Blanks in front are part of an address.
    let mailbox = with(" ann@x.test \n");
    assert_eq!(did(&mailbox.deliver(MESSAGE)), "did 0+1+0");
    let (_, envelope) = mailbox.queued().expect("a forward");
    assert_eq!(envelope, "Fsue@x.test|T ann@x.test||");
}

#[test]
fn exit_99_keeps_what_was_to_be_forwarded() {
    let mailbox = with("&ann@x.test\n|exit 99\n&bob@x.test\n./Mailbox\n+list\n./no\n");
    assert_eq!(did(&mailbox.deliver(MESSAGE)), "did 0+1+1");
    let (_, envelope) = mailbox.queued().expect("a forward");
    assert_eq!(envelope, "Fsue@x.test|Tann@x.test||");
    assert!(!mailbox.path("Mailbox").exists());
}

/// What 99 means to qmail-local, it does not mean to the programs that come between.
#[test]
fn exit_99_of_an_alias_is_a_soft_failure() {
    let mailbox = mailbox();
    mailbox.write("forward", "\"|exit 99\"\n");
    mailbox.write("aliases", "x: \"|exit 99\"\n");
    assert_eq!(mailbox.feed("newaliases", &["aliases"], &[], "").exit, 0);
    let variables = [
        ("USER", "joe"),
        ("HOST", "local.test"),
        ("NEWSENDER", ""),
        ("RECIPIENT", "x@local.test"),
    ];
    for (program, argument) in [("dot-forward", "forward"), ("fastforward", "aliases.cdb")] {
        let ran = mailbox.feed(program, &[argument], &variables, MESSAGE);
        assert_eq!(ran.exit, 111, "{program}: {ran:?}");
    }
}

#[test]
fn who_gets_which_lines_in_front() {
    let mailbox = with("./Mailbox\n./Maildir/\n|cat >program\n&ann@x.test\n");
    mailbox.maildir("Maildir");
    assert_eq!(did(&mailbox.deliver(MESSAGE)), "did 2+1+1");
    let both = "Return-Path: <sue@x.test>\nDelivered-To: joe@local.test\n";
    let mbox = mailbox.read("Mailbox");
    let (from, rest) = mbox.split_once('\n').expect("lines");
    assert!(from.starts_with("From sue@x.test "), "{from}");
    assert_eq!(rest, format!("{both}{MESSAGE}\n"));
    assert_eq!(mailbox.messages("Maildir"), [format!("{both}{MESSAGE}")]);
    assert_eq!(mailbox.read("program"), MESSAGE);
    let (message, _) = mailbox.queued().expect("a forward");
    assert_eq!(message, format!("Delivered-To: joe@local.test\n{MESSAGE}"));
}

#[test]
fn quoting_in_an_mbox_can_be_undone() {
    let mailbox = with("./Mailbox\n");
    let body = "From a\n>From b\n>>From c\r\n From d\nfrom e\nFrom\n";
    assert_eq!(mailbox.deliver(format!("Subject: x\n\n{body}")).exit, 0);
    let mbox = mailbox.read("Mailbox");
    assert!(
        mbox.ends_with("\n\n>From a\n>>From b\n>>>From c\r\n From d\nfrom e\nFrom\n\n"),
        "{mbox}"
    );
}

#[test]
fn the_from_line_tells_the_time_of_greenwich() {
    let mailbox = with("|printf %s \"$UFLINE\" >line\n");
    let mut command = mailbox.local("", MESSAGE);
    command.env("TZ", "Asia/Tokyo");
    assert_eq!(mailbox.run(command).exit, 0);
    let line = mailbox.read("line");
    let date = line
        .strip_prefix("From sue@x.test ")
        .and_then(|rest| rest.strip_suffix('\n'))
        .expect("a sender");
    let shown = mailbox.run({
        let mut command = std::process::Command::new("date");
        command
            .args(["-u", "-d", date, "+%a %b %d %H:%M:%S %Y"])
            .env("LC_ALL", "C");
        command
    });
    assert_eq!((date.len(), shown.stdout.trim_end()), (24, date));
    let now = mailbox.run({
        let mut command = std::process::Command::new("date");
        command.args(["-u", "-d", &format!("{date} UTC"), "+%s"]);
        command
    });
    let then: u64 = now.stdout.trim().parse().expect("seconds");
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    assert!((now - 60..=now).contains(&then), "{date}");
}

#[test]
fn each_instruction_reads_the_message_from_its_first_octet() {
    let mailbox = with("|read line; exit 0\n|cat >first\n|cat >second\n./Mailbox\n");
    assert_eq!(did(&mailbox.deliver(MESSAGE)), "did 1+0+3");
    assert_eq!(
        (&*mailbox.read("first"), &*mailbox.read("second")),
        (MESSAGE, MESSAGE)
    );
    assert!(mailbox.read("Mailbox").ends_with(&format!("{MESSAGE}\n")));
}

#[test]
fn only_the_very_line_is_a_loop() {
    let mailbox = with("./Mailbox\n");
    for (line, code) in [
        ("Delivered-To: joe@local.test", 100),
        ("delivered-to: joe@local.test", 0),
        ("Delivered-To: Joe@local.test", 0),
        ("Delivered-To: joe@LOCAL.test", 0),
        ("Delivered-To: joe@local.test ", 0),
        ("Delivered-To:  joe@local.test", 0),
        ("Delivered-To: joe@local.test\r", 0),
        ("X: y\n Delivered-To: joe@local.test", 0),
    ] {
        let delivered = mailbox.deliver(format!("Subject: x\n{line}\n\nbody\n"));
        assert_eq!(delivered.exit, code, "{line:?}: {delivered:?}");
    }
}

#[test]
fn the_longest_assignment_wins_and_an_exact_one_beats_all() {
    let table = Assignments::parse(
        b"+joe-:joe:1:1:/joe:-::\n+joe-list-:lists:2:2:/lists:-:l-:\n=joe-list-x:exact:3:3:/exact:-:e:\n+jo:short:4:4:/short:-:s:\n.\n",
    )
    .expect("a table");
    for (local, found) in [
        ("joe-List-X", Some(("exact", "e"))),
        ("Joe-List-Y.Z", Some(("lists", "l-Y.Z"))),
        ("joe-A", Some(("joe", "A"))),
        ("JOE", Some(("short", "sE"))),
        ("ann", None),
    ] {
        let assignment = table.find(local.as_bytes()).expect("a good table");
        let shown = assignment.map(|assignment| {
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            (text(&assignment.user), text(&assignment.extension))
        });
        let found = found.map(|(user, extension)| (user.to_owned(), extension.to_owned()));
        assert_eq!(shown, found, "{local}");
    }
}

/// What separates user and extension in an address says nothing of the names of files.
#[test]
fn the_break_is_of_addresses_and_the_dash_of_files() {
    let mailbox = mailbox();
    let ran = mailbox.feed(
        "qmail-pw2u",
        &["-H", "-c+"],
        &[],
        "alias:x:7:7::/a:\njoe:x:1:1::/joe:\n",
    );
    assert!(
        ran.stdout
            .contains("\n=joe:joe:1:1:/joe:::\n+joe+:joe:1:1:/joe:-::\n"),
        "{ran:?}"
    );
}

#[test]
fn equal_keys_are_all_kept_and_the_first_counts() {
    let mailbox = mailbox();
    fs::write(
        mailbox.qmail().join("users/assign"),
        "=a:first:1:1:/a:::\n=A:second:2:2:/b:::\n.\n",
    )
    .expect("a file");
    assert_eq!(mailbox.run(mailbox.command("qmail-newu")).exit, 0);
    let file = fs::read(mailbox.qmail().join("users/cdb")).expect("a table");
    let table = qmail_core::cdb::Cdb::new(&file).expect("a table");
    let all: Vec<_> = table
        .get_all(b"!a\0")
        .map(|data| data.expect("data"))
        .collect();
    assert_eq!(all.len(), 2);
    assert!(all[0].starts_with(b"first\0"));
    // Each table has two slots for a record, and even an empty one says where it would be.
    let pair = |table: usize| {
        let number = |at: usize| {
            let octets = file[at..at + 4].try_into().expect("four octets");
            u32::from_le_bytes(octets)
        };
        (number(table * 8), number(table * 8 + 4))
    };
    let slots: u32 = (0..256).map(|table| pair(table).1).sum();
    assert_eq!(slots, 2 * 3);
    assert!((0..256).all(|table| pair(table).0 >= 2048));
}

#[test]
fn what_came_this_second_waits() {
    let mailbox = mailbox();
    mailbox.maildir("M");
    let text = "Return-Path: <s@x.test>\nDelivered-To: p-ann@x.test\n\n";
    let run = |modified: SystemTime| {
        let path = mailbox.path("M/new/1");
        fs::write(&path, text).expect("a message");
        let file = File::options().write(true).open(&path).expect("a message");
        file.set_modified(modified).expect("our file");
        let client = "cat >/dev/null; echo ran >>ran";
        let sh = ["M", "p-", "sh", "-c", client];
        let _ = mailbox.feed("maildirserial", &sh, &[], "");
        let ran = mailbox.path("M/ran").exists();
        let _ = fs::remove_file(mailbox.path("M/ran"));
        ran
    };
    let now = SystemTime::now();
    assert!(run(now - Duration::from_secs(10)));
    assert!(
        !run(now + Duration::from_secs(60)),
        "written just now, or later"
    );
}

#[test]
fn short_aliases_lead_to_one_another_through_local_delivery() {
    let mailbox = mailbox();
    mailbox.write("aliases", "postmaster: root\nroot: ann@x.test\n");
    assert_eq!(mailbox.feed("newaliases", &["aliases"], &[], "").exit, 0);
    for (recipient, next) in [
        ("Postmaster@local.test", "root@mail.test"),
        ("root@mail.test", "ann@x.test"),
    ] {
        let variables = [("RECIPIENT", recipient), ("SENDER", "s@x.test")];
        let ran = mailbox.feed("fastforward", &["aliases.cdb"], &variables, MESSAGE);
        assert_eq!(ran.exit, 0, "{ran:?}");
        let (_, envelope) = mailbox.queued().expect("a forward");
        assert_eq!(envelope, format!("Fs@x.test|T{next}||"));
    }
}

#[test]
fn some_exit_codes_of_qmail_local_are_temporary_and_no_others() {
    for code in 0..=255 {
        let outcome = ProgramEnd::Exited(code).local_outcome(b"x");
        let class = match outcome {
            Outcome::Delivered(_) => 'K',
            Outcome::Deferred(_) => 'Z',
            Outcome::Failed(_) => 'D',
        };
        let want = match code {
            0 => 'K',
            71 | 74 | 75 | 111 | 112 | 113 | 115..=121 => 'Z',
            _ => 'D',
        };
        assert_eq!(class, want, "{code}");
    }
}
