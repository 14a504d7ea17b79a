//! Hostile servers: the entries of `cases/hostile.json` for smtp-client, which qmail-remote meets.
//!
//! Whatever a server says, the message is not taken for delivered unless it was, a failure that says nothing of the message is a
//! deferral, and the report is fit for a log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use qmail_core::{Address, Delivery, Job, MemoryContent, ReversePath};
use qmail_deliver::{FixedResolver, RemoteConfig, RemoteDelivery, TcpConnect};
use qmail_smtp::client::{Encoder, PartialLine};
use qmail_tests::conformance::from_text;
use qmail_tests::hostile::{entries, ids};
use qmail_tests::scripted::{Manner, Scripted, Then, replies};
use serde_json::Value;

/// control/timeoutremote, in seconds.
const TIMEOUT: &str = "2\n";

/// By when a program must have given up, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(25);

const RECIPIENTS: [&str; 2] = ["a@far.test", "b@far.test"];

/// What came of it.
struct Played {
    /// The reports of qmail-remote: one for each recipient that was spoken of, then that of the message.
    reports: Vec<String>,
    /// What the server heard over each connection.
    heard: Vec<String>,
    /// What it could say.
    written: u64,
}

impl Played {
    fn result(&self) -> &str {
        &self.reports.last().expect("a report of the message")[..1]
    }

    /// The letters of the recipients.
    fn letters(&self) -> String {
        let recipients = &self.reports[..self.reports.len() - 1];
        recipients.iter().map(|report| &report[..1]).collect()
    }

    fn nobody_heard(&self, command: &str) -> bool {
        let lines = |heard: &String| heard.lines().any(|line| line.starts_with(command));
        !self.heard.iter().any(lines)
    }
}

/// qmail-remote against such a server.
fn play(manners: Vec<Manner>, recipients: &[&str]) -> Played {
    Case::new(manners).play("s@near.test", recipients, b"Subject: x\n\nx\n")
}

struct Case {
    server: Scripted,
    home: tempfile::TempDir,
}

impl Case {
    fn new(manners: Vec<Manner>) -> Self {
        let case = Self {
            server: Scripted::start(manners),
            home: tempfile::tempdir().unwrap(),
        };
        let program = case.home.path().join("qmail-remote");
        symlink(env!("CARGO_BIN_EXE_qmail-under-test"), program).unwrap();
        fs::create_dir(case.home.path().join("control")).unwrap();
        let route = format!(":127.0.0.1:{}\n", case.server.address().port());
        case.control("me", "mail.test\n")
            .control("smtproutes", &route)
            .control("timeoutremote", TIMEOUT)
    }

    fn control(self, name: &str, content: &str) -> Self {
        fs::write(self.home.path().join("control").join(name), content).unwrap();
        self
    }

    /// The relay is one that asks for a name and a password.
    fn with_login(self) -> Self {
        let port = self.server.address().port();
        self.control("smtproutes", &format!(":127.0.0.1:{port} joe secret\n"))
    }

    fn play(&self, sender: &str, recipients: &[&str], text: &[u8]) -> Played {
        let message = self.home.path().join("message");
        fs::write(&message, text).unwrap();
        let started = Instant::now();
        let output = Command::new(self.home.path().join("qmail-remote"))
            .args(["far.test", sender])
            .args(recipients)
            .env("QMAIL_HOME", self.home.path())
            .stdin(fs::File::open(message).unwrap())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let elapsed = started.elapsed();
        assert!(elapsed < PATIENCE, "it took {elapsed:?}");
        assert_eq!(output.status.code(), Some(0), "qmail-remote always exits 0");
        let reports = String::from_utf8_lossy(&output.stdout).into_owned();
        let reports = reports.strip_suffix('\0').expect("reports end in NUL");
        Played {
            reports: reports.split('\0').map(str::to_owned).collect(),
            heard: self.server.heard(),
            written: self.server.written(),
        }
    }
}

/// The server of an entry, reply by reply.
fn lockstep(entry: &Value) -> Manner {
    let input = from_text(entry["input"].as_str().expect("input")).expect("octets");
    let then = match entry["then"].as_str() {
        None => Then::CloseUnanswered,
        Some("close") => Then::Close,
        Some("hold") => Then::Hold,
        Some("rst") => Then::Reset,
        Some(other) => panic!("no server does {other}"),
    };
    Manner::Lockstep(replies(&input), then)
}

fn burst(entry: &Value) -> Manner {
    Manner::Burst(from_text(entry["input"].as_str().expect("input")).expect("octets"))
}

#[test]
fn no_server_has_its_way() {
    thread::scope(|scope| {
        for entry in entries("smtp-client") {
            scope.spawn(move || {
                let id = entry["id"].as_str().expect("an id").to_owned();
                check(&id, &entry);
            });
        }
    });
}

fn check(id: &str, entry: &Value) {
    let temporary = |played: &Played| {
        assert_eq!(played.result(), "Z", "{id}: {:?}", played.reports);
        let letters = played.letters();
        assert!(!letters.contains('h'), "{id}: {:?}", played.reports);
    };
    match id {
        "CLI-endless-multiline" => {
            let line = [b"250-", &b"a".repeat(60)[..], b"\r\n"].concat();
            let many = line.repeat(1000);
            for (first, again) in [(&b"220 x\r\n"[..], &many), (b"", &many)] {
                let endless = Manner::Endless(first.to_vec(), again.clone(), Duration::ZERO);
                let played = play(vec![endless], &RECIPIENTS);
                temporary(&played);
                // What the program did not read is in the buffers of the system.
                assert!(played.written < 16 << 20, "{id}: {}", played.written);
            }
        }
        "CLI-greeting-drip" => {
            // A minute is played as a fifth of a second.
            let pause = Duration::from_millis(200);
            let drip = Manner::Endless(b"2".to_vec(), b"2".to_vec(), pause);
            temporary(&play(vec![drip], &RECIPIENTS));
            let line = Manner::Endless(b"220-".to_vec(), b"x\r\n220-".to_vec(), pause);
            temporary(&play(vec![line], &RECIPIENTS));
            temporary(&play(vec![lockstep(entry)], &RECIPIENTS));
        }
        "CLI-rst-mid-data" => {
            let replies = ["220 x\r\n", "250-x\r\n250 PIPELINING\r\n"].into_iter();
            let replies = replies.chain(["250 ok\r\n", "250 ok\r\n", "354 go\r\n"]);
            let replies = replies.map(|reply| reply.as_bytes().to_vec()).collect();
            let case = Case::new(vec![Manner::Lockstep(replies, Then::Reset)]);
            let text = [b"Subject: x\n\n", &b"x\n".repeat(4 << 20)[..]].concat();
            temporary(&case.play("s@near.test", &RECIPIENTS[..1], &text));
        }
        "CLI-outbound-all-eol-mixes" => every_receiver_sees_one_message(),
        "CLI-outbound-sender-crlf" => nothing_breaks_a_command_line(),
        "CLI-mx-localhost" => exchangers_within_are_refused(),
        "CLI-null-mx" => a_null_exchanger_is_final(),
        _ => {
            let recipients = recipients(id);
            let played = play(vec![lockstep(entry)], recipients);
            match entry["expect"]["result"].as_str() {
                Some("temp") if id == "CLI-starttls-stripped" => {}
                Some("temp") => {
                    temporary(&played);
                    temporary(&play(vec![burst(entry)], recipients));
                }
                None => {}
                Some(other) => panic!("{id}: {other}"),
            }
            check_must(id, entry, &played);
        }
    }
}

/// As many as the server of an entry speaks of.
fn recipients(id: &str) -> &'static [&'static str] {
    match id {
        "CLI-all-rcpt-temp-perm" => &RECIPIENTS,
        _ => &RECIPIENTS[..1],
    }
}

/// What only the prose of an entry says.
fn check_must(id: &str, entry: &Value, played: &Played) {
    let (reports, heard) = (&played.reports, &played.heard);
    let says = |part: &str| heard.iter().any(|heard| heard.contains(part));
    match id {
        "CLI-greeting-empty" | "CLI-cr-only-replies" | "CLI-alpha-code" | "CLI-final-450" => {}
        "CLI-greeting-multiline" => assert!(says("EHLO mail.test\r\n"), "{heard:?}"),
        "CLI-final-eof" => {
            let report = reports.last().unwrap();
            assert!(report.contains("Possible duplicate!"), "{report}");
        }
        "CLI-rcpt-552-toomany" => {
            // Of two recipients the server takes the first, and then the message.
            let Manner::Lockstep(mut replies, then) = lockstep(entry) else {
                panic!("{id} is played reply by reply");
            };
            replies.insert(3, b"250 ok\r\n".to_vec());
            replies.extend([b"354 go\r\n".to_vec(), b"250 ok\r\n".to_vec()]);
            let played = play(vec![Manner::Lockstep(replies, then)], &RECIPIENTS);
            assert_eq!((&*played.letters(), played.result()), ("rs", "K"));
        }
        "CLI-all-rcpt-temp-perm" => {
            assert_eq!(played.letters(), "hs", "{reports:?}");
            assert_ne!(played.result(), "K");
            // The command may have gone ahead with the recipients (RFC 2920); a text must not follow it.
            assert!(!says("Subject"), "{heard:?}");
        }
        "CLI-starttls-stripped" => {
            for policy in ["required\n", "verified\n"] {
                let case = Case::new(vec![lockstep(entry)]).control("remotetls", policy);
                let played = case.play("s@near.test", &RECIPIENTS, b"Subject: x\n\nx\n");
                assert_eq!(played.result(), "Z", "{:?}", played.reports);
                assert!(played.nobody_heard("MAIL"), "{:?}", played.heard);
            }
        }
        "CLI-starttls-then-garbage" => {
            let plain = ["220 x\r\n", "250 x\r\n", "250 ok\r\n", "250 ok\r\n"].into_iter();
            let plain = plain.chain(["354 go\r\n", "250 ok\r\n"]);
            let plain = plain.map(|reply| reply.as_bytes().to_vec()).collect();
            let plain = Manner::Lockstep(plain, Then::CloseUnanswered);
            let played = play(vec![lockstep(entry), plain], &RECIPIENTS[..1]);
            assert_eq!(played.result(), "K", "{:?}", played.reports);
            assert_eq!(played.heard.len(), 2, "once with, once without");
            // The same again and again is no loop.
            let played = play(vec![lockstep(entry)], &RECIPIENTS);
            assert_eq!(played.result(), "Z", "{:?}", played.reports);
            assert!(played.heard.len() <= 2, "{:?}", played.heard);
            let case = Case::new(vec![lockstep(entry)]).control("remotetls", "required\n");
            let played = case.play("s@near.test", &RECIPIENTS, b"Subject: x\n\nx\n");
            assert_eq!(played.result(), "Z", "{:?}", played.reports);
            assert!(played.nobody_heard("MAIL"), "{:?}", played.heard);
        }
        "CLI-auth-plain-without-tls" => {
            let case = Case::new(vec![lockstep(entry)]).with_login();
            let played = case.play("s@near.test", &RECIPIENTS, b"Subject: x\n\nx\n");
            assert_eq!(played.result(), "Z", "{:?}", played.reports);
            assert!(played.nobody_heard("AUTH"), "{:?}", played.heard);
        }
        "CLI-ehlo-500-helo" => {
            assert!(says("HELO mail.test\r\n"), "{heard:?}");
            assert!(says("MAIL FROM:<s@near.test>\r\n"), "{heard:?}");
        }
        "CLI-ehlo-size-overflow" => assert!(says("MAIL FROM:<s@near.test> SIZE="), "{heard:?}"),
        "CLI-control-in-reply" => {
            assert_eq!(played.result(), "D", "{reports:?}");
            let control = |report: &String| report.chars().any(|it| it.is_control() && it != '\n');
            assert!(!reports.iter().any(control), "{reports:?}");
        }
        // Neither does the message count as taken if the reply that is too many comes from the start.
        "CLI-desync-extra-line" => assert_eq!(played.result(), "Z", "{reports:?}"),
        _ => panic!("nobody plays {id}"),
    }
}

/// Every text of up to eight of the octets that matter, read in three ways.
fn every_receiver_sees_one_message() {
    let octets = b"\r\n.A";
    let mut bodies = 0;
    for length in 1..=8_u32 {
        for number in 0..4_usize.pow(length) {
            let body: Vec<u8> = (0..length)
                .map(|place| octets[number >> (2 * place) & 3])
                .collect();
            bodies += 1;
            let (mut encoder, mut sent) = (Encoder::default(), Vec::new());
            encoder.encode(&body, &mut sent);
            encoder.finish(PartialLine::Complete, &mut sent).unwrap();
            let sent = String::from_utf8(sent).unwrap();
            let dots = |lines: Vec<&str>| lines.iter().filter(|&&line| line == ".").count();
            let read = [
                sent.split("\r\n").collect(),
                sent.split('\n')
                    .map(|line| line.trim_end_matches('\r'))
                    .collect(),
                sent.split(['\r', '\n']).collect(),
            ];
            assert_eq!(read.map(dots), [1; 3], "{body:?} is sent as {sent:?}");
            assert!(sent.ends_with(".\r\n"));
        }
    }
    assert_eq!(bodies, 87_380);
}

fn nothing_breaks_a_command_line() {
    let friendly = ["220 x\r\n", "250 x\r\n", "250 ok\r\n", "250 ok\r\n"].into_iter();
    let friendly = friendly.chain(["354 go\r\n", "250 ok\r\n"]);
    let friendly: Vec<_> = friendly.map(|reply| reply.as_bytes().to_vec()).collect();
    let case = || {
        Case::new(vec![Manner::Lockstep(
            friendly.clone(),
            Then::CloseUnanswered,
        )])
    };
    let text = b"Subject: x\n\nx\n";
    let evil = "a@b>\r\nRCPT TO:<x@y";
    for (sender, recipient) in [(evil, "a@far.test"), ("s@near.test", evil)] {
        let played = case().play(sender, &[recipient], text);
        assert_ne!(played.result(), "K", "{:?}", played.reports);
        assert!(played.nobody_heard("RCPT TO:<x"), "{:?}", played.heard);
    }
    assert!(RemoteConfig::new("x\r\nMAIL FROM:<a>").is_err());
    // A line of a control file ends at its LF; the rest is another line.
    let played = case().control("helohost", "x\rMAIL FROM:<a>\n");
    let played = played.play("s@near.test", &["a@far.test"], text);
    assert_eq!(played.result(), "Z", "{:?}", played.reports);
    assert!(played.heard.is_empty(), "{:?}", played.heard);
}

/// What becomes of a message to a domain whose exchangers the resolver knows.
fn deliver(resolver: FixedResolver) -> String {
    let mut config = RemoteConfig::new("me.test").unwrap();
    config.own_addresses = ["127.0.0.1", "::1", "192.0.2.200"]
        .map(|address| address.parse().unwrap())
        .to_vec();
    let connect = Arc::new(TcpConnect);
    let remote = RemoteDelivery::new(config, Arc::new(resolver), connect, Instant::now, 1);
    let job = Job {
        message: 0,
        content: Arc::new(MemoryContent("Subject: x\n\nx\n".into())),
        sender: ReversePath::new("s@near.test").unwrap(),
        recipients: vec![Address::new("a@far.test").unwrap()],
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcomes = runtime.unwrap().block_on(remote.deliver(job));
    let report = String::from_utf8_lossy(outcomes[0].report().as_bytes()).into_owned();
    format!("{}{report}", char::from(outcomes[0].letter()))
}

fn exchangers_within_are_refused() {
    for (address, status) in [
        ("127.0.0.1", "#5.4.6"),
        ("::1", "#5.4.6"),
        ("0.0.0.0", "#5.4.6"),
        ("::", "#5.4.6"),
        ("::ffff:127.0.0.1", "#5.4.6"),
        ("169.254.169.254", "#5.4.4"),
        ("fe80::1", "#5.4.4"),
        ("224.0.0.1", "#5.4.4"),
        ("ff02::1", "#5.4.4"),
        ("255.255.255.255", "#5.4.4"),
    ] {
        let resolver = FixedResolver::new()
            .with_mx("far.test", 0, "mx.test")
            .with_address("mx.test", address.parse::<IpAddr>().unwrap());
        let report = deliver(resolver);
        assert!(report.starts_with('D'), "{address}: {report}");
        assert!(report.contains(status), "{address}: {report}");
    }
}

fn a_null_exchanger_is_final() {
    // Its address, too, is known, and must not be used.
    let resolver = FixedResolver::new()
        .with_mx("far.test", 0, "")
        .with_address("far.test", [192, 0, 2, 1]);
    let report = deliver(resolver);
    assert!(
        report.starts_with('D') && report.contains("5.1.10"),
        "{report}"
    );
}

#[test]
fn the_entries_are_known() {
    assert_eq!(ids("smtp-client").len(), 22);
}
