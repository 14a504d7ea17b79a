//! Starting and ending `qmail serve`: the first start, the second, the mistakes, the signals.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use qmail_tests::server::{Client, PATIENCE, Server, fetch_all, log_in, send_mail};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

#[test]
fn the_first_start_makes_a_home_and_later_starts_use_it() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().join("home");
    let mut server = Server::start_free(PROGRAM, &home, &[]);
    let (user, secret) = server.first_user();
    server.wait_for_line("curl -sS -u ");
    for file in [
        "control/me",
        "control/locals",
        "control/rcpthosts",
        "users/assign",
    ] {
        assert!(home.join(file).is_file(), "{file}");
    }
    let passwords = fs::read_to_string(home.join("users/passwords")).unwrap();
    assert!(!passwords.contains(&secret) && passwords.contains("$argon2id$"));
    let mode = fs::metadata(home.join("users/passwords"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let reply = send_mail(server.smtp(), "", &[&user], b"Subject: one\r\n\r\n");
    assert!(reply.starts_with("250 2.0.0 ok "), "{reply}");
    server.wait_for_line("end msg ");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert_eq!(server.lines().last().unwrap(), "status: exiting");

    let server = Server::start_free(PROGRAM, &home, &[]);
    assert_eq!(fetch_all(server.pop3(), &user, &secret).len(), 1);
    // By local part alone, too, and whatever the case.
    let name = user.split('@').next().unwrap().to_ascii_uppercase();
    log_in(server.pop3(), &name, &secret);
    let lines = server.lines();
    assert!(
        !lines.iter().any(|line| line.contains("password")),
        "{lines:#?}"
    );
}

#[test]
fn only_the_password_opens_the_mailbox() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &["--smtp", "127.0.0.1:0"]);
    let (user, secret) = server.first_user();
    for (name, password) in [
        (user.as_str(), "wrong"),
        ("nobody", secret.as_str()),
        ("user@elsewhere.example", secret.as_str()),
        // Mail for postmaster is the user's, but the password is not.
        ("postmaster", secret.as_str()),
    ] {
        let (mut client, _) = Client::connect(server.pop3());
        client.expect(&format!("USER {name}"), "+OK");
        client.expect(&format!("PASS {password}"), "-ERR authorization failed");
    }
    log_in(server.pop3(), &user, &secret);
}

#[test]
fn any_password_opens_every_mailbox_of_a_user() {
    let scratch = tempfile::tempdir().unwrap();
    let maildir = scratch.path().join("mail/ann");
    let option = format!("ann={}", maildir.display());
    let home = scratch.path().join("home");
    let server = Server::start_free(PROGRAM, &home, &["--mailbox", &option, "--any-password"]);
    assert!(maildir.join("new").is_dir());
    send_mail(
        server.smtp(),
        "",
        &["ann@localhost"],
        b"Subject: to ann\r\n\r\n",
    );
    server.wait_for_line("end msg ");
    assert_eq!(fs::read_dir(maildir.join("new")).unwrap().count(), 1);
    assert_eq!(fetch_all(server.pop3(), "ann", "whatever").len(), 1);
    let (mut client, _) = Client::connect(server.pop3());
    client.expect("USER nobody", "+OK");
    client.expect("PASS x", "-ERR");
}

#[test]
fn a_mailbox_of_the_options_gets_a_password() {
    let scratch = tempfile::tempdir().unwrap();
    let option = format!("ann={}", scratch.path().join("ann").display());
    let home = scratch.path().join("home");
    let server = Server::start_free(PROGRAM, &home, &["--mailbox", &option]);
    let line = server.wait_for_line("user ann@");
    let secret = line.split("  password ").nth(1).unwrap();
    log_in(server.pop3(), "ann", secret);
}

/// Starts the program for an error: gives its exit code and the one line it says.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    // Should it start after all, it is ended.
    let output = Command::new("timeout")
        .args(["20", PROGRAM, "serve"])
        .args(arguments)
        .env_remove("QMAIL_HOME")
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), words)
}

#[test]
fn a_second_instance_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().to_str().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    for more in [&["--no-deliver"][..], &["--spool", "memory"]] {
        let mut arguments = vec!["--home", home, "--smtp", "127.0.0.1:0", "--pop3", "none"];
        arguments.extend(more);
        let (code, words) = refused(&arguments);
        assert_eq!(code, Some(111));
        assert_eq!(words.lines().count(), 1, "{words}");
        assert!(
            words.contains("is running on") && words.contains("--home"),
            "{words}"
        );
    }
    drop(server);
    // The lock dies with its holder, however it dies.
    Server::start_free(PROGRAM, scratch.path(), &[]);
}

#[test]
fn a_bad_control_file_is_told_in_one_line() {
    for (name, text, told) in [
        ("databytes", "ten\n", "control/databytes, line 1, `ten`: "),
        (
            "concurrencyremote",
            "20M\n",
            "control/concurrencyremote, line 1, `20M`: ",
        ),
        (
            "relayclients",
            "everybody\n",
            "control/relayclients, `everybody`: ",
        ),
        (
            "smtproutes",
            "a:b:port\n",
            "control/smtproutes, line 1, `a:b:port`: ",
        ),
        ("morercpthosts.cdb", "no cdb", "control/morercpthosts.cdb"),
        ("me", "", "control/me"),
        ("helohost", "two names\n", "control/helohost, `two names`: "),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let control = scratch.path().join("control");
        fs::create_dir(&control).unwrap();
        fs::write(control.join("me"), "mail.example\n").unwrap();
        fs::write(control.join("rcpthosts"), "mail.example\n").unwrap();
        fs::write(control.join(name), text).unwrap();
        let home = scratch.path().to_str().unwrap();
        let (code, words) = refused(&["--home", home, "--smtp", "127.0.0.1:0", "--pop3", "none"]);
        assert_eq!(code, Some(111), "{words}");
        assert_eq!(words.lines().count(), 1, "{words}");
        assert!(
            words.starts_with("qmail: fatal: ") && words.contains(told),
            "{words}"
        );
        assert!(
            !scratch.path().join("users").exists(),
            "nothing else was made"
        );
    }
}

#[test]
fn a_control_file_that_cannot_be_read_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir_all(scratch.path().join("control/locals")).unwrap();
    fs::write(scratch.path().join("control/me"), "mail.example\n").unwrap();
    let home = scratch.path().to_str().unwrap();
    let (code, words) = refused(&["--home", home, "--smtp", "none", "--pop3", "none"]);
    assert_eq!(code, Some(111), "{words}");
    assert!(words.contains("control/locals: "), "{words}");
}

#[test]
fn a_table_of_users_that_cannot_be_used_is_told() {
    for (assign, told) in [
        (
            "ann\n.\n",
            "/users/assign: bad format in users/assign: line 1, `ann`: not seven colons; write ",
        ),
        (
            "=ann:ann:1:1:/home/ann:::\n",
            "/users/assign: bad format in users/assign: no line with a dot at the end; write `.` there",
        ),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        for (name, text) in [("control/me", "mail.example\n"), ("users/assign", assign)] {
            let path = scratch.path().join(name);
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let home = scratch.path().to_str().unwrap();
        let (code, words) = refused(&["--home", home, "--smtp", "none", "--pop3", "none"]);
        assert_eq!(code, Some(111), "{words}");
        assert_eq!(words.lines().count(), 1, "{words}");
        assert!(words.contains(told), "{words}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_told() {
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().join("home");
    let home = home.to_str().unwrap();
    for arguments in [
        &["--smtp", "25"][..],
        &["--any-password", "--pop3", "0.0.0.0:2110"],
        &["--mailbox", "ann"],
        &["--spool", "tape"],
        &["--unknown"],
        &["argument"],
    ] {
        let (code, _) = refused(&[&["--home", home], arguments].concat());
        assert_eq!(code, Some(100), "{arguments:?}");
    }
    assert!(!scratch.path().join("home").exists());
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().to_str().unwrap();
    let (code, words) = refused(&["--home", home, "--smtp", &address, "--pop3", "none"]);
    assert_eq!(code, Some(111));
    assert!(
        words.contains(&format!("cannot listen on {address} for smtp")),
        "{words}"
    );
}

#[test]
fn term_lets_a_message_in_and_sends_idle_clients_away() {
    let scratch = tempfile::tempdir().unwrap();
    let mut server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let (user, secret) = server.first_user();
    let (mut idle, _) = Client::connect(server.smtp());
    let (mut busy, _) = Client::connect(server.smtp());
    let mut reader = log_in(server.pop3(), &user, &secret);
    busy.expect("HELO client", "250");
    busy.expect("MAIL FROM:<>", "250");
    busy.expect(&format!("RCPT TO:<{user}>"), "250");
    busy.expect("DATA", "354");
    busy.send(b"Subject: late\r\n");
    // So that the line is there before the signal.
    reader.expect("NOOP", "+OK");
    let start = Instant::now();
    server.signal(Signal::TERM);
    let goodbye = idle.reply();
    assert!(goodbye.starts_with("421 "), "{goodbye}");
    busy.send(b"\r\n.\r\n");
    let reply = busy.reply();
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(server.wait().success());
    assert!(start.elapsed() < PATIENCE / 3, "{:?}", start.elapsed());

    // What was let in is delivered, by this process or by the next.
    let delivered = server
        .lines()
        .iter()
        .any(|line| line.starts_with("end msg "));
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    if !delivered {
        server.wait_for_line("end msg ");
    }
    assert_eq!(fetch_all(server.pop3(), &user, &secret).len(), 1);
}

#[test]
fn hup_rereads_the_control_files() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    let control = scratch.path().join("control");
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("HELO client", "250");

    // No relaying for anybody any more, another local domain.
    fs::write(control.join("relayclients"), "").unwrap();
    fs::write(control.join("rcpthosts"), "new.example\n").unwrap();
    fs::write(control.join("locals"), "new.example\n").unwrap();
    fs::write(control.join("databytes"), "1000\n").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("reread: controls");
    // A session keeps the rules that it began with.
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<a@elsewhere.example>", "250");
    let (mut client, _) = Client::connect(server.smtp());
    assert!(client.command("EHLO client").contains("SIZE 1000"));
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<a@elsewhere.example>", "553 5.7.1");
    client.expect("RCPT TO:<user@new.example>", "250");
    client.expect("DATA", "354");
    client.expect("Subject: x\r\n.", "250");
    let line = server.wait_for_line("to local user@new.example");
    assert!(line.starts_with("starting delivery "), "{line}");

    // Bad ones change nothing.
    fs::write(control.join("databytes"), "many\n").unwrap();
    fs::write(control.join("rcpthosts"), "other.example\n").unwrap();
    server.signal(Signal::HUP);
    let line = server.wait_for_line("keeping the old ones");
    assert!(
        line.starts_with("alert: ") && line.contains("databytes"),
        "{line}"
    );
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<user@new.example>", "250");
    client.expect("RCPT TO:<user@other.example>", "553");
}

#[test]
fn without_rcpthosts_nobody_relays_and_the_log_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let control = scratch.path().join("control");
    fs::create_dir(&control).unwrap();
    fs::write(control.join("me"), "mail.example\n").unwrap();
    fs::write(control.join("virtualdomains"), "virtual.example:user\n").unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    server.wait_for_line("warning: control/rcpthosts is missing");
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<a@mail.example>", "250");
    client.expect("RCPT TO:<a@virtual.example>", "250");
    client.expect("RCPT TO:<a@elsewhere.example>", "553");
}

#[test]
fn json_is_all_there_is_on_standard_output() {
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args(["-s", "TERM", "3", PROGRAM, "serve", "--log-format", "json"])
        .args(["--smtp", "127.0.0.1:0", "--pop3", "none", "--home"])
        .arg(scratch.path())
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<String> = lines
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).expect(line);
            event["event"].as_str().expect("a name").to_owned()
        })
        .collect();
    for event in ["running", "status", "listening", "exiting"] {
        assert!(events.iter().any(|other| other == event), "{events:?}");
    }
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("  password ")
    );
}
