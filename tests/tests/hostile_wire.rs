//! Hostile peers of the smaller protocols: the entries of `cases/hostile.json` for netstring, qmtp-server, qmqp-server, qmqp-client,
//! ident-client and proxy-protocol.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use qmail_core::Machine as _;
use qmail_core::netstring::{self, Decoder, NetstringError, Part};
use qmail_smtp::client::{Encoder, PartialLine};
use qmail_smtp::ident;
use qmail_smtp::qmtp::{Answer, Client as QmtpClient, ClientEvent, ClientTimeouts, Protocol};
use qmail_tests::conformance::from_text;
use qmail_tests::hostile::entries;
use qmail_tests::scripted::{Manner, Scripted, Then};
use qmail_tests::server::{Client, Server, send_mail};
use qmail_tests::submission::{Ran, Submission};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// How long what is to happen soon may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn id(entry: &Value) -> &str {
    entry["id"].as_str().expect("an id")
}

/// The octets of an entry, if they are written down.
fn input(entry: &Value) -> Vec<u8> {
    from_text(entry["input"].as_str().expect("input")).expect("octets")
}

/// The netstrings of the input, and whether it ends within one.
fn netstrings(pieces: &[&[u8]]) -> Result<(Vec<Vec<u8>>, bool), NetstringError> {
    let mut decoder = Decoder::new(1_000_000);
    let mut found = Vec::new();
    for mut piece in pieces.iter().copied() {
        while let Some(part) = decoder.next(&mut piece)? {
            match part {
                // Whatever it says, nothing is made for it.
                Part::Length(_) => found.push(Vec::new()),
                Part::Octets(octets) => found.last_mut().unwrap().extend_from_slice(octets),
                Part::End => {}
            }
        }
    }
    Ok((found, decoder.is_inside()))
}

#[test]
fn netstrings_are_strict() {
    use NetstringError::{LeadingZero, NoNumber, TooLong};
    for entry in entries("netstring") {
        let input = input(&entry);
        let one = |text: &[u8], inside| Ok((vec![text.to_vec()], inside));
        let want = match id(&entry) {
            "NS-empty-input" => Ok((Vec::new(), false)),
            "NS-leading-zero" | "NS-len-zeros" => Err(LeadingZero),
            "NS-plus" | "NS-space" | "NS-alpha-len" => Err(NoNumber),
            "NS-comma-missing-more" => one(b"a", true),
            "NS-len-2pow32" | "NS-len-2pow64" => Err(TooLong(1_000_000)),
            "NS-nested-overrun" => one(b"5:abcde", false),
            "NS-all-splits" => one(&b"hello".repeat(50), false),
            other => panic!("nobody plays {other}"),
        };
        for cut in 0..=input.len() {
            let (first, second) = input.split_at(cut);
            let found = netstrings(&[first, second]);
            if id(&entry) == "NS-nested-overrun" {
                // The inner one ends where the outer does, before its comma; the comma that is left over begins nothing.
                assert_eq!(found, Err(NoNumber), "{}", id(&entry));
                assert_eq!(netstrings(&[b"5:abcde"]), one(b"abcde", true));
                continue;
            }
            assert_eq!(found, want, "{} cut at {cut}", id(&entry));
        }
        let octets: Vec<_> = input.chunks(1).collect();
        assert_eq!(
            netstrings(&octets).is_err(),
            want.is_err() || id(&entry) == "NS-nested-overrun"
        );
    }
}

/// A home for the servers that are run on descriptors.
fn home() -> Submission {
    let home = Submission::new(Path::new(PROGRAM));
    home.control("rcpthosts", "local.test\nb.test\n");
    home
}

const CLIENT: [(&str, &str); 4] = [
    ("PROTO", "TCP"),
    ("TCPREMOTEIP", "192.0.2.9"),
    ("TCPREMOTEHOST", "client.test"),
    ("TCPLOCALHOST", "mail.test"),
];

/// The answers that were given.
fn answers(ran: &Ran) -> Vec<String> {
    let (found, inside) = netstrings(&[ran.stdout.as_bytes()]).expect("netstrings");
    assert!(!inside, "{ran:?}");
    found
        .iter()
        .map(|answer| String::from_utf8_lossy(answer).into_owned())
        .collect()
}

/// What the entry expects of what was queued and answered.
fn check_queued(entry: &Value, ran: &Ran) {
    let id = id(entry);
    assert_eq!(ran.signal, None, "{id}");
    assert!(matches!(ran.exit, Some(0 | 100 | 111)), "{id}: {ran:?}");
    let queued = u64::from(ran.queued.is_some());
    match &entry["expect"]["queued"] {
        Value::Array(counts) => assert!(counts.contains(&queued.into()), "{id}: {ran:?}"),
        Value::Number(count) => assert_eq!(count.as_u64(), Some(queued), "{id}: {ran:?}"),
        _ => {}
    }
    if let Some(prefixes) = entry["expect"]["reply_prefixes"].as_array() {
        let answers = answers(ran);
        assert_eq!(answers.len(), prefixes.len(), "{id}: {answers:?}");
        for (answer, prefix) in answers.iter().zip(prefixes) {
            assert!(
                answer.starts_with(prefix.as_str().unwrap()),
                "{id}: {answer}"
            );
        }
    }
    if entry["expect"]["closed"] == "yes" {
        assert_eq!(ran.exit, Some(100), "{id}: {ran:?}");
    }
}

#[test]
fn qmtp_clients_get_what_they_deserve() {
    for entry in entries("qmtp-server") {
        if id(&entry) == "QMTP-len-huge" {
            a_length_alone_costs_nothing();
            continue;
        }
        let input = input(&entry);
        let ran = home().run("qmail-qmtpd", &[], &CLIENT, &input);
        check_queued(&entry, &ran);
        match id(&entry) {
            "QMTP-valid" | "QMTP-bad-flavour" => {}
            "QMTP-rcpt-overrun" => assert_eq!(ran.exit, Some(100)),
            "QMTP-no-rcpts" => {
                let valid = &entries("qmtp-server")[0];
                let both = [&input[..], &self::input(valid)].concat();
                let ran = home().run("qmail-qmtpd", &[], &CLIENT, &both);
                check_queued(valid, &ran);
            }
            "QMTP-sender-nul" => {
                let answers = answers(&ran);
                assert!(
                    answers[0].starts_with('D') && answers[0].contains("5.1.7"),
                    "{answers:?}"
                );
            }
            "QMTP-sender-newline" => {
                if ran.queued.is_some() {
                    assert_eq!(ran.recipients(), ["alice@local.test"]);
                    assert!(!ran.message().contains("root@"), "{}", ran.message());
                }
            }
            "QMTP-bare-cr" => {
                if ran.queued.is_some() {
                    assert_eq!(ran.sender(), "s@remote.test");
                    let (mut encoder, mut sent) = (Encoder::default(), Vec::new());
                    encoder.encode(ran.message().as_bytes(), &mut sent);
                    encoder.finish(PartialLine::Complete, &mut sent).unwrap();
                    let lines = sent.split(|octet| b"\r\n".contains(octet));
                    assert_eq!(lines.filter(|&line| line == b".").count(), 1);
                }
            }
            other => panic!("nobody plays {other}"),
        }
    }
}

/// QMTP-len-huge: the length of a large message, and then nothing. That this comes to an end is the limit on the whole
/// connection, which the machine's own tests have.
fn a_length_alone_costs_nothing() {
    let home = home();
    let mut child = (home.command("qmail-qmtpd").envs(CLIENT))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let memory = || {
        sleep(Duration::from_millis(500));
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap()
    };
    let before = memory();
    let mut stdin = child.stdin.as_ref().unwrap();
    stdin.write_all(b"199999999:\n").unwrap();
    let after = memory();
    assert!(after - before <= 1024, "from {before} to {after} KiB");
    drop(child.stdin.take());
    let output: Output = child.wait_with_output().unwrap();
    let ran = home.ran(&output);
    assert_eq!(ran.exit, Some(0));
    assert!(ran.queued.is_none());
}

#[test]
fn qmqp_clients_get_what_they_deserve() {
    for entry in entries("qmqp-server") {
        let many = id(&entry) == "QMQP-100k-rcpts";
        let input = if many {
            let mut inner = Vec::new();
            netstring::write(b"Subject: t\n\nx\n", &mut inner);
            netstring::write(b"s@remote.test", &mut inner);
            for number in 0..100_000 {
                netstring::write(format!("u{number}@local.test").as_bytes(), &mut inner);
            }
            let mut outer = Vec::new();
            netstring::write(&inner, &mut outer);
            outer
        } else {
            input(&entry)
        };
        let started = Instant::now();
        let ran = home().run("qmail-qmqpd", &[], &CLIENT, &input);
        check_queued(&entry, &ran);
        match id(&entry) {
            "QMQP-valid" => {}
            "QMQP-outer-long" => assert_eq!(ran.stdout, "", "no answer"),
            "QMQP-nul-rcpt" => assert!(answers(&ran)[0].starts_with('D'), "{ran:?}"),
            "QMQP-100k-rcpts" => {
                assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
                assert!(answers(&ran)[0].starts_with('K'), "{ran:?}");
                let want = (0..100_000).map(|number| format!("u{number}@local.test"));
                assert!(ran.recipients().into_iter().eq(want));
            }
            other => panic!("nobody plays {other}"),
        }
    }
}

/// What a QMQP client makes of an answer, if the connection ends behind it.
fn qmqp_events(answer: &[u8]) -> Vec<ClientEvent> {
    let now = Instant::now();
    let mut client = QmtpClient::new(Protocol::Qmqp, ClientTimeouts::default(), now);
    assert_eq!(client.poll_event(), Some(ClientEvent::Ready));
    client.start(2, b"s@near.test", &[b"a@far.test"]).unwrap();
    client.body(b"x\n");
    client.poll_transmit(&mut Vec::new());
    let (mut events, mut rest) = (Vec::new(), answer);
    while !rest.is_empty() {
        rest = &rest[client.receive(now, rest)..];
        events.extend(std::iter::from_fn(|| client.poll_event()));
    }
    client.handle_eof(now);
    events.extend(std::iter::from_fn(|| client.poll_event()));
    events
}

#[test]
fn qmqp_servers_are_believed_in_whole_answers_only() {
    for entry in entries("qmqp-client") {
        assert!(
            ["QMQPC-html", "QMQPC-k-no-comma", "QMQPC-unknown-letter"].contains(&id(&entry)),
            "nobody plays {}",
            id(&entry)
        );
        let input = input(&entry);
        let events = qmqp_events(&input);
        assert!(
            matches!(events[..], [.., ClientEvent::Closed { cause: Some(_) }]),
            "{events:?}"
        );
        let answered = |event: &ClientEvent| {
            matches!(
                event,
                ClientEvent::Answer {
                    answer: Answer::Accepted(_) | Answer::Refused(_),
                    ..
                }
            )
        };
        assert!(!events.iter().any(answered), "{events:?}");
        if let Some(exit) = qmqpc_exit(&input) {
            assert_eq!(exit, 74, "{}", id(&entry));
        }
    }
    let accepted = qmqp_events(b"2:Ko,");
    assert!(
        matches!(
            accepted[..],
            [
                ClientEvent::Answer {
                    answer: Answer::Accepted(_),
                    ..
                },
                ..
            ]
        ),
        "{accepted:?}"
    );
}

/// The exit code of qmail-qmqpc, whose port only root has.
fn qmqpc_exit(answer: &[u8]) -> Option<i32> {
    let host = Ipv4Addr::new(127, 20, 40, 1);
    let listener = TcpListener::bind((host, 628)).ok()?;
    let replies = vec![Vec::new(), answer.to_vec()];
    let _server = Scripted::at(listener, vec![Manner::Lockstep(replies, Then::Close)]);
    let home = home();
    home.control("qmqpservers", &format!("{host}\n"));
    fs::write(home.home().join("text"), "Subject: x\n\nx\n").unwrap();
    fs::write(
        home.home().join("envelope"),
        "Fs@near.test\0Ta@far.test\0\0",
    )
    .unwrap();
    let open = |name: &str| fs::File::open(home.home().join(name)).unwrap();
    let status = Command::new(home.program("qmail-qmqpc"))
        .env("QMAIL_HOME", home.home())
        .stdin(open("text"))
        .stdout(open("envelope"))
        .status()
        .unwrap();
    status.code()
}

#[test]
fn ident_answers_are_kept_for_what_they_are() {
    for entry in entries("ident-client") {
        let input = input(&entry);
        let want = match id(&entry) {
            "IDENT-normal" => Some("joe"),
            // As qmail's: asked and answered, by nobody. Whoever shows it shows nothing.
            "IDENT-error-reply" => Some(""),
            "IDENT-no-newline" | "IDENT-silent" => None,
            other => panic!("nobody plays {other}"),
        };
        for cut in 0..=input.len() {
            let mut answer = ident::Answer::new(998);
            let (first, second) = input.split_at(cut);
            let user = answer.receive(first).or_else(|| answer.receive(second));
            assert_eq!(user.as_deref(), want.map(str::as_bytes), "{}", id(&entry));
        }
    }
}

/// All answers to a server that asks; the port is one that only root has.
#[test]
fn mail_is_taken_whatever_ident_says() {
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, 113)) else {
        return;
    };
    let entries = entries("ident-client");
    let manner = |entry: &Value| {
        let then = match id(entry) {
            "IDENT-silent" => Then::Hold,
            _ => Then::Close,
        };
        Manner::Lockstep(vec![input(entry)], then)
    };
    let _ident = Scripted::at(listener, entries.iter().map(manner).collect());
    let scratch = tempfile::tempdir().unwrap();
    let (user, _) = Server::start_free(PROGRAM, scratch.path(), &[]).first_user();
    fs::write(scratch.path().join("control/timeoutident"), "2\n").unwrap();
    let server = Server::start_free(PROGRAM, scratch.path(), &[]);
    for entry in &entries {
        let started = Instant::now();
        let reply = send_mail(server.smtp(), "", &[&user], b"Subject: x\r\n\r\nx\r\n");
        assert!(reply.starts_with("250"), "{}: {reply}", id(entry));
        assert!(started.elapsed() < SOON, "{}", id(entry));
    }
}

#[test]
fn only_a_trusted_proxy_is_heard() {
    let make = |proxies: &str| {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("control")).unwrap();
        fs::write(scratch.path().join("control/me"), "mail.test\n").unwrap();
        fs::write(scratch.path().join("control/proxyclients"), proxies).unwrap();
        fs::write(scratch.path().join("control/relayclients"), "192.0.2.7\n").unwrap();
        let server = Server::start_free(PROGRAM, scratch.path(), &[]);
        (server, scratch)
    };
    let (trusting, _home) = make("127.0.0.1\n");
    let (strict, _strict_home) = make("");
    for entry in entries("proxy-protocol") {
        let input = match id(&entry) {
            "PROXY-v1-long" => [b"PROXY TCP4 ", &b"1".repeat(200)[..], b"\r\n"].concat(),
            _ => input(&entry),
        };
        match id(&entry) {
            "PROXY-untrusted" => {
                let (mut client, greeting) = Client::connect(strict.smtp());
                assert!(greeting.starts_with("220"), "{greeting}");
                client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\n");
                let reply = client.reply();
                assert!(reply.starts_with('5') || reply.is_empty(), "{reply}");
                if !reply.is_empty() {
                    client.expect("MAIL FROM:<s@remote.test>", "250");
                    client.expect("RCPT TO:<x@remote.test>", "553");
                }
                let (mut client, _) = Client::connect(strict.smtp());
                client.send(&input);
                let reply = client.reply();
                assert!(reply.starts_with('5') || reply.is_empty(), "{reply}");
            }
            "PROXY-v2-local" => {
                // `\x20`: the LOCAL command; the client is who it seems to be, and may not relay.
                let mut client = Client::open(trusting.smtp());
                client.send(&input);
                let greeting = client.reply();
                assert!(greeting.starts_with("220"), "{greeting}");
                client.expect("MAIL FROM:<s@remote.test>", "250");
                client.expect("RCPT TO:<x@remote.test>", "553");
            }
            "PROXY-v1-long" | "PROXY-v1-badport" | "PROXY-v1-lf" | "PROXY-v2-bad-version" => {
                let before = trusting.lines().len();
                let mut client = Client::open(trusting.smtp());
                client.send(&input);
                client.try_send(b"EHLO x\r\n");
                assert_eq!(client.reply(), "", "{}: no banner", id(&entry));
                let logged =
                    |lines: &[String]| lines[before..].iter().any(|it| it.contains("PROXY"));
                assert!(
                    trusting.wait_for(logged),
                    "{}: {:?}",
                    id(&entry),
                    trusting.lines()
                );
            }
            other => panic!("nobody plays {other}"),
        }
    }
    for server in [&trusting, &strict] {
        let lines = server.lines();
        assert!(
            !lines.iter().any(|line| line.contains("panicked")),
            "{lines:?}"
        );
        assert!(
            !lines.iter().any(|line| line.starts_with("new msg")),
            "{lines:?}"
        );
    }
}
