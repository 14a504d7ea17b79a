//! What the makers of messages and the tools for headers do that no case pins, by the reference they are built to.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use qmail_tests::submission::{Ran, Submission};

fn submission() -> Submission {
    Submission::new(Path::new(env!("CARGO_BIN_EXE_qmail-under-test")))
}

fn run(program: &str, arguments: &[&str], input: &str) -> Ran {
    submission().run(program, arguments, &[], input.as_bytes())
}

/// The list file, the home, the control files, the options, the arguments, the header: the first trouble is told.
#[test]
fn the_first_of_several_troubles_is_told() {
    let home = [("QMAIL_HOME", "/nowhere")];
    let lists = [("QMAIL_HOME", "/nowhere"), ("QMAILMFTFILE", "/")];
    for (environment, exit, words) in [
        (&lists[..], 111, "read error"),
        (
            &home[..],
            111,
            "unable to switch to home directory /nowhere",
        ),
        (
            &[("QMAILPLUSDOMAIN", "a(b")][..],
            100,
            "unable to parse address: a(b\n",
        ),
        (&[][..], 100, "unknown option -z"),
    ] {
        let ran = submission().run("qmail-inject", &["-z", "a@("], environment, b"From: (\n\n");
        assert!(ran.refused(exit), "{words}: {ran:?}");
        let start = format!("qmail-inject: fatal: {words}");
        assert!(ran.stderr.starts_with(&start), "{words}: {}", ran.stderr);
    }
    let ran = run("qmail-inject", &["a@("], "From: (\n\n");
    assert!(
        ran.stderr.contains("unable to parse address: a@("),
        "{}",
        ran.stderr
    );
}

/// The queue program writes its own words to descriptor 6, whatever that was for us.
#[test]
fn a_refusal_in_words_of_its_own_is_heard_whatever_descriptor_6_is() {
    let submission = submission();
    let queue = submission.home().join("refusing");
    let script = "#!/bin/sh\ncat >/dev/null\nprintf 'Dnot for you (#5.7.1)' >&6\nexit 82\n";
    fs::write(&queue, script).expect("a script");
    fs::set_permissions(&queue, Permissions::from_mode(0o755)).expect("a mode");
    for redirection in [
        "",
        "6</dev/null",
        "3</dev/null 4</dev/null 6>/dev/null 7</dev/null",
    ] {
        let program = submission.program("qmail-inject");
        let mut command = Command::new("sh");
        command
            .env("QMAIL_HOME", submission.home())
            .env("QMAILQUEUE", &queue)
            .args([
                "-c",
                &format!("exec {} a@b.test {redirection}", program.display()),
            ]);
        let ran = submission.run_command(command, b"\n");
        assert_eq!(
            (ran.exit, ran.stderr.as_str()),
            (Some(100), "qmail-inject: fatal: not for you (#5.7.1)\n"),
            "{redirection}"
        );
    }
}

/// A header may begin with a line that continues nothing.
#[test]
fn tools_for_headers_read_on_behind_leading_blanks() {
    let message = " lead\n\tmore\nSubject: x\n y\nTo: a@b.test\n\nSubject: body\n";
    for (program, arguments, output) in [
        (
            "822header",
            &[][..],
            " lead\n\tmore\nSubject: x\n y\nTo: a@b.test\n",
        ),
        ("822field", &[], " x y\n"),
        ("iftocc", &["a@b.test"], ""),
    ] {
        let ran = run(program, arguments, message);
        assert_eq!(
            (ran.exit, ran.stdout.as_str()),
            (Some(0), output),
            "{program}"
        );
    }
}

/// The third line is what ctime(3) makes of the date.
#[test]
fn dates_are_shown_as_ctime_has_them() {
    let ran = run("822date", &[], "Date: 1 Feb 2003 04:05:06 +0100\n");
    insta::assert_snapshot!(ran.stdout, @r"
    2003-02-01 04:05:06 +0100
    2003-02-01 03:05:06 +0000
    Sat Feb  1 03:05:06 2003
    ");
    let ran = run(
        "822received",
        &[],
        "Received: by x; 1 Feb 2003 04:05:06 +0100\n",
    );
    assert!(
        ran.stdout.starts_with("Sat Feb  1 03:05:06 2003 by x\n"),
        "{}",
        ran.stdout
    );
}

/// ofmipd takes the address wherever it stands, and no address for the empty one.
#[test]
fn ofmipd_ignores_what_stands_around_an_address() {
    for (mail, rcpt, sender, recipient) in [
        ("MAIL", "RCPT TO:<c@d.test>", "", "c@d.test"),
        ("MAIL FROM:", "RCPT <c@d.test>junk", "", "c@d.test"),
        (
            "MAIL FROM:<a@b.test>SIZE=5",
            "RCPT to :  <\"c>\"@d.test> x",
            "a@b.test",
            "c>@d.test",
        ),
        (
            "MAIL x: a@b.test y",
            "RCPT TO:<@e.test:c@d.test>",
            "a@b.test",
            "c@d.test",
        ),
    ] {
        let input = format!("{mail}\r\n{rcpt}\r\nDATA\r\n\r\n.\r\nQUIT\r\n");
        let ran = run("ofmipd", &[], &input);
        assert_eq!(ran.exit, Some(0), "{mail}, {rcpt}: {}", ran.stdout);
        assert_eq!(
            (ran.sender().as_str(), ran.recipients()),
            (sender, vec![recipient.to_owned()]),
            "{mail}, {rcpt}"
        );
    }
    let ran = run("ofmipd", &[], "MAIL\r\nRCPT\r\nRCPT TO:<>\r\nQUIT\r\n");
    assert_eq!(ran.stdout.matches("\r\n555 ").count(), 2, "{}", ran.stdout);
}

/// ofmipd reads the table as another user than the one who makes it.
#[test]
fn the_table_of_names_can_be_read_by_all_whatever_the_umask() {
    let submission = submission();
    let mut command = Command::new("sh");
    command
        .current_dir(submission.home())
        .env(
            "PATH",
            format!("{}/bin:/usr/bin:/bin", submission.home().display()),
        )
        .args(["-c", "umask 077; ofmipname names.cdb names.tmp"]);
    let ran = submission.run_command(command, b"a@b.test:Ann:ann@b.test:\n");
    assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""));
    let made = fs::metadata(submission.home().join("names.cdb")).expect("a table");
    assert_eq!(made.permissions().mode() & 0o777, 0o644);
    assert!(!submission.home().join("names.tmp").exists());
}

#[test]
fn addcr_and_delcr_tell_when_their_output_is_lost() {
    for program in ["addcr", "delcr"] {
        for output in [">&-", "> /dev/full", "| :"] {
            let script = format!(
                "(head -c 1000000 /dev/zero | \"$0\" {program} {output}; echo $? >&2) 2>&1"
            );
            let script = match output {
                // The shell tells of the last in a row alone.
                "| :" => format!(
                    "(head -c 1000000 /dev/zero | (\"$0\" {program}; echo $? >&2) | :) 2>&1"
                ),
                _ => script,
            };
            let binary = env!("CARGO_BIN_EXE_qmail-under-test");
            let told = Command::new("sh")
                .args(["-c", &script, binary])
                .output()
                .unwrap();
            let told = String::from_utf8(told.stdout).unwrap();
            assert!(told.ends_with("111\n"), "{program} {output}: {told}");
        }
    }
}
