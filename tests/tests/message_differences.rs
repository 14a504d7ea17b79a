//! Where the makers of messages differ from the classic programs, on purpose: one test for each difference, by number of
//! the list that they come from, at the programs themselves.

use std::fs;
use std::io::{BufRead as _, BufReader, Cursor, Write as _};
use std::path::Path;
use std::process::Stdio;

use qmail_core::cdb;
use qmail_tests::submission::{Ran, Submission};

fn submission() -> Submission {
    Submission::new(Path::new(env!("CARGO_BIN_EXE_qmail-under-test")))
}

fn run(program: &str, arguments: &[&str], input: &str) -> Ran {
    submission().run(program, arguments, &[], input.as_bytes())
}

fn inject(input: &str) -> Ran {
    run("qmail-inject", &[], input)
}

/// The lines of a message that start with `name`.
fn lines(ran: &Ran, name: &str) -> Vec<String> {
    let message = ran.message();
    let lines = message.lines().filter(|line| line.starts_with(name));
    lines.map(str::to_owned).collect()
}

/// Nobody to send to: still exit 0, since scripts rely on it, but a person is told.
#[test]
fn difference_0_nobody_to_send_to_is_told() {
    for program in ["qmail-inject", "new-inject"] {
        let ran = run(program, &[], "Subject: x\n\n");
        assert_eq!(
            (ran.exit, ran.recipients().len()),
            (Some(0), 0),
            "{program}"
        );
        assert!(
            ran.stderr.contains("no recipients"),
            "{program}: {}",
            ran.stderr
        );
    }
}

/// `<>`, `@`, `@x` are no recipients; an empty argument is wrong use.
#[test]
fn difference_1_nobody_is_no_recipient() {
    for program in ["qmail-inject", "new-inject"] {
        let ran = run(program, &[], "To: <>, @, @x, a@b.test\n\n");
        assert_eq!(ran.recipients(), ["a@b.test"], "{program}");
        assert!(run(program, &[""], "\n").refused(100), "{program}");
        assert!(run(program, &["@x"], "\n").refused(100), "{program}");
    }
    assert!(run("sendmail", &[""], "\n").refused(100));
}

/// A malformed recipient field gives all of its addresses or none, and no mail is lost silently for it.
#[test]
fn difference_2_a_malformed_field_names_nobody() {
    let ran = inject("To: a (x, b@c.test\nCc: d@e.test\n\n");
    assert_eq!(ran.recipients(), ["d@e.test"]);
    assert!(ran.message().contains("\nTo: a (x, b@c.test\n"));

    let ran = inject("To: a (x, b@c.test\n\n");
    assert!(ran.refused(100));
    assert!(
        ran.stderr
            .contains("unable to parse this line:\nTo: a (x, b@c.test")
    );

    let ran = run("qmail-inject", &["-n"], "To: a (x, b@c.test\n\n");
    assert_eq!(ran.exit, Some(0));
    assert!(ran.stdout.contains("\nTo: a (x, b@c.test\n"));
}

/// Nothing puts a line break or a NUL into an address.
#[test]
fn difference_3_no_line_break_in_an_address() {
    for program in ["qmail-inject", "new-inject"] {
        for header in [
            "To: \"a\\\n b\"@c.test\n\n",
            "To: a\\\r@b.test\n\n",
            "Bcc: \"a\0\"@b.test\n\n",
        ] {
            let ran = run(program, &[], header);
            assert!(ran.refused(100), "{program}: {header:?}");
        }
        assert!(
            run(program, &["a\nb@c.test"], "\n").refused(100),
            "{program}"
        );
        assert!(
            run(program, &["-f", "a\nb", "c@d.test"], "\n").refused(100),
            "{program}"
        );
    }
    let named = submission().run(
        "qmail-inject",
        &["a@b.test"],
        &[("QMAILNAME", "Joe\nBcc: eve@x.test")],
        b"\n",
    );
    assert_eq!(
        lines(&named, "From:"),
        ["From: \"Joe Bcc: eve@x.test\" <joe@mail.test>"]
    );
    assert_eq!(named.recipients(), ["a@b.test"]);
    for program in ["qmail-inject", "new-inject"] {
        let named = submission().run(
            program,
            &["a@b.test"],
            &[("QMAILIDHOST", "id.test\nBcc: eve@x.test\r")],
            b"\n",
        );
        let [id] = &lines(&named, "Message-ID:")[..] else {
            panic!("{program}: {}", named.message());
        };
        assert!(id.ends_with(".qmail@id.testBcc: eve@x.test>"), "{id}");
        assert!(!named.message().contains(['\r']), "{program}");
        assert!(lines(&named, "Bcc").is_empty(), "{program}");
    }
}

/// The fold of a quoted string or comment is one blank.
#[test]
fn difference_4_a_fold_is_a_blank() {
    let ran = inject("To: \"a\n  b\"@c.test (d\n\te)\n\n");
    assert_eq!(ran.recipients(), ["a b@c.test"]);
    assert_eq!(lines(&ran, "To:"), ["To: \"a b\"@c.test (d e)"]);
}

/// Strange lists become well-formed ones, and addresses stay what they are.
#[test]
fn difference_5_lists_come_out_well_formed() {
    for (value, want) in [
        (
            "a@b.test <c@d.test> e <f@g.test>",
            "a@b.test <c@d.test>, e <f@g.test>",
        ),
        ("a, @i", "a@mail.test"),
        ("@i, a", "a@mail.test"),
        ("a (x) b", "a@mail.test (x), b@mail.test"),
        ("a; b", "a@mail.test, b@mail.test"),
        ("a\\ b@c.test", "\"a b\"@c.test"),
        ("a\\@b@c.test", "\"a@b\"@c.test"),
        ("a@b@c.test", "\"a@b\"@c.test"),
    ] {
        let ran = inject(&format!("To: {value}\n\n"));
        assert_eq!(lines(&ran, "To:"), [format!("To: {want}")], "{value}");
        assert!(
            ran.message()
                .lines()
                .all(|line| line.is_empty() || !line.trim().is_empty())
        );
    }
    assert!(inject("To: a <b@c.test\n\n").refused(100));
    let literal = submission().run(
        "qmail-inject",
        &["a@b.test"],
        &[("QMAILHOST", "[10.0.0.1]")],
        b"\n",
    );
    assert_eq!(lines(&literal, "From:"), ["From: joe@[10.0.0.1]"]);
}

/// `-F` survives `-f` in either order, and brackets around a sender go.
#[test]
fn difference_6_sendmail_keeps_name_and_sender_apart() {
    for arguments in [
        ["-F", "Joe Q", "-f", "q@x.test", "a@b.test"],
        ["-f", "q@x.test", "-F", "Joe Q", "a@b.test"],
    ] {
        let ran = run("sendmail", &arguments, "\n");
        assert_eq!(lines(&ran, "From:"), ["From: \"Joe Q\" <q@x.test>"]);
        assert_eq!(ran.sender(), "q@x.test");
    }
    let ran = run("sendmail", &["-f", "<q@x.test>", "a@b.test"], "\n");
    assert_eq!(ran.sender(), "q@x.test");
    let ran = run("sendmail", &["-f", "<>", "a@b.test"], "\n");
    assert_eq!(ran.sender(), "");
    assert_eq!(lines(&ran, "From:"), ["From: joe@mail.test"]);
}

/// Options of other sendmails mean nothing, and a lone dot ends no input.
#[test]
fn difference_7_sendmail_takes_what_others_take() {
    let arguments = [
        "-q30m", "-N", "never", "-R", "hdrs", "-V", "id", "-O", "a=b", "-Lx", "-G", "-U", "-n",
        "-Am", "-C", "file", "-d0", "-h", "5", "-s", "-r", "q@x.test", "a@b.test",
    ];
    let ran = run("sendmail", &arguments, "\none\n.\ntwo\n");
    assert_eq!(
        (ran.sender().as_str(), ran.recipients()),
        ("q@x.test", vec!["a@b.test".into()])
    );
    assert!(ran.message().ends_with("\n\none\n.\ntwo\n"));
    let ran = run("sendmail", &["-i", "a@b.test"], "\n.\ntwo\n");
    assert!(ran.message().ends_with("\n\n.\ntwo\n"));
}

/// Message-ID is unique even where processes share their ids, in the classic shape, and tells the real time.
#[test]
fn difference_8_message_ids_are_unique() {
    let submission = submission();
    for (program, date) in [
        ("qmail-inject", ""),
        ("new-inject", "Date: 1 Jan 1999 00:00:00 +0000\n"),
    ] {
        let input = format!("{date}To: a@b.test\n\n");
        let id = || {
            let ran = submission.run(program, &[], &[], input.as_bytes());
            let id = lines(&ran, "Message-ID: <").remove(0);
            id["Message-ID: <".len()..].to_owned()
        };
        let (first, second) = (id(), id());
        assert_ne!(first, second);
        let parts: Vec<_> = first.split('.').collect();
        assert_eq!(parts[0].len(), 14, "{first}");
        assert!(
            parts[0]
                .parse::<u64>()
                .is_ok_and(|stamp| stamp > 20_200_000_000_000)
        );
        assert!(parts[1].parse::<u64>().is_ok_and(|unique| unique > 999_999));
        assert_eq!(parts[2], "qmail@mail");
    }
    let sender = |_| {
        let letters = [("QMAILINJECT", "m")];
        submission
            .run("qmail-inject", &["a@b.test"], &letters, b"\n")
            .sender()
    };
    let [first, second] = [0, 1].map(sender);
    assert_ne!(first, second);
}

/// A message whose header lines all end in CR LF is one whose lines end in LF.
#[test]
fn difference_9_crlf_is_a_line_end() {
    let ran = inject("To: a@b.test\r\nSubject: x\r\n\r\nbody\r\n");
    assert_eq!(ran.recipients(), ["a@b.test"]);
    assert!(!ran.message().contains('\r'));
    assert!(ran.message().ends_with("Subject: x\n\nbody\n"));
}

/// One session with ofmipd.
fn ofmipd(submission: &Submission, data: &str) -> Ran {
    let input = format!("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n{data}");
    submission.run("ofmipd", &[], &[], input.as_bytes())
}

/// ofmipd: only CR LF `.` CR LF ends a message, and sizes and hops are limited.
#[test]
fn difference_10_ofmipd_cannot_be_smuggled_into() {
    let submission = submission();
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n"] {
        let smuggled = format!("Subject: x\r\n\r\none{end}MAIL FROM:<eve@x.test>\r\n.\r\nQUIT\r\n");
        let ran = ofmipd(&submission, &smuggled);
        assert_eq!(ran.exit, Some(0), "{end:?}: {}", ran.stdout);
        assert_eq!(ran.sender(), "a@b.test", "{end:?}");
        assert!(ran.message().contains("MAIL FROM:<eve@x.test>"), "{end:?}");
    }

    submission.control("databytes", "1000\n");
    let large = format!(
        "Subject: x\r\n\r\n{}.\r\nQUIT\r\n",
        "0123456789\r\n".repeat(200)
    );
    let ran = ofmipd(&submission, &large);
    assert!(
        ran.queued.is_none() && ran.stdout.contains("\n552 "),
        "{}",
        ran.stdout
    );
    submission.control("databytes", "0\n");

    let hops = "Received: by x; 1 Jan 2020 00:00:00 -0000\r\n".repeat(200);
    let ran = ofmipd(&submission, &format!("{hops}\r\n.\r\nQUIT\r\n"));
    assert!(
        ran.queued.is_none() && ran.stdout.contains("\n554 "),
        "{}",
        ran.stdout
    );
}

/// ofmipd: a table of names that was made anew counts at once, within a session.
#[test]
fn difference_10_ofmipd_reads_its_table_for_each_message() {
    let submission = submission();
    let table = submission.home().join("names.cdb");
    let write_table = |name: &str| {
        let mut entries = cdb::Writer::new(Cursor::new(Vec::new())).expect("room");
        let entry = format!("{name}\0boss@b.test");
        entries.add(b"a@b.test", entry.as_bytes()).expect("room");
        let entries = entries.finish().expect("room");
        fs::write(&table, entries.into_inner()).expect("a table");
    };
    write_table("One");
    let mut server = submission
        .command("ofmipd")
        .arg(&table)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut requests = server.stdin.take().expect("a pipe");
    let mut replies = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    replies.next().expect("a greeting").expect("a line");
    for name in ["One", "Two"] {
        write_table(name);
        let request = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n\r\n.\r\n";
        requests.write_all(request).expect("ofmipd reads");
        for code in ["250", "250", "354", "250"] {
            let reply = replies.next().expect("a reply").expect("a line");
            assert!(reply.starts_with(code), "{name}: {reply}");
        }
        let message = fs::read_to_string(submission.home().join("mess")).expect("a message");
        assert!(
            message.contains(&format!("\nFrom: \"{name}\" <boss@b.test>\n")),
            "{message}"
        );
    }
    drop(requests);
    server.wait().expect("ofmipd ends");
}

/// Whole names are matched, hosts are split at the last `@`, an empty group lends its name to nobody.
#[test]
fn difference_11_mess822_reads_names_whole() {
    let ran = run("new-inject", &[], "T: eve@x.test\nTo: a@b.test\n\n");
    assert_eq!(ran.recipients(), ["a@b.test"]);
    assert!(ran.message().contains("\nT: eve@x.test\n"));

    let submission = submission();
    submission.control("rewrite", "=old.test:new.test\n");
    let ran = submission.run("new-inject", &[], &[], b"To: \"a@b\"@old.test\n\n");
    assert_eq!(ran.recipients(), ["a@b@new.test"]);

    let ran = run("new-inject", &[], "To: nobody: ;, a@b.test\n\n");
    assert_eq!(lines(&ran, "To:"), ["To: \"nobody\": ;, a@b.test"]);
}

/// Dates out of range are none; no leap second is counted.
#[test]
fn difference_12_dates_are_in_range() {
    for date in [
        "32 Jan 2020 00:00:00 +0000",
        "0 Jan 2020 00:00:00 +0000",
        "1 Jan 2020 24:00:00 +0000",
        "1 Jan 2020 00:60:00 +0000",
        "1 Jan 2020 00:00:61 +0000",
    ] {
        assert_eq!(
            run("822date", &[], &format!("Date: {date}\n")).exit,
            Some(100),
            "{date}"
        );
    }
    // A leap second is the second after it, as in POSIX.
    let ran = run("822date", &[], "Date: 31 Dec 2016 23:59:60 +0000\n");
    assert_eq!(ran.stdout.lines().nth(1), Some("2017-01-01 00:00:00 +0000"));
}

/// There are dates after January 2038.
#[test]
fn difference_13_the_year_2038_is_no_end() {
    let ran = run("822date", &[], "Date: 7 Feb 2106 06:28:16 +0000\n");
    insta::assert_snapshot!(ran.stdout, @r"
    2106-02-07 06:28:16 +0000
    2106-02-07 06:28:16 +0000
    Sun Feb  7 06:28:16 2106
    ");
}

/// Octets from 0x80 are quoted in headers, and the envelope has them as they are.
#[test]
fn difference_14_octets_of_eight_bits_are_quoted() {
    let ran = inject("To: j\u{f6}rg@b.test\n\n");
    assert_eq!(lines(&ran, "To:"), ["To: \"j\u{f6}rg\"@b.test"]);
    assert_eq!(ran.recipients(), ["j\u{f6}rg@b.test"]);
}

/// A message that cannot be printed was not printed.
#[test]
fn difference_15_a_full_disk_is_no_success() {
    for program in ["qmail-inject", "new-inject"] {
        let submission = submission();
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("the device");
        let mut command = submission.command(program);
        command.arg("-n").stdin(Stdio::null()).stdout(full);
        let output = command.output().expect("the program runs");
        assert_eq!(output.status.code(), Some(111), "{program}");
    }
}
