//! What holds for the client session however replies are cut, however many commands there are, and however long it takes.

mod common;

use std::time::Duration;

use common::client::{Owner, Sending, config, message};
use insta::assert_snapshot;
use qmail_core::Machine;
use qmail_smtp::client::Transaction;

const SECOND: Duration = Duration::from_secs(1);

fn one() -> [(Transaction, Vec<u8>); 1] {
    [message(
        "a@b.example",
        &["c@d.example"],
        "Subject: x\n\nhi\n",
    )]
}

fn three() -> [(Transaction, Vec<u8>); 1] {
    [message("a@b", &["c@d", "e@f", "g@h"], "x\n")]
}

/// A server that announces PIPELINING, up to the reply to EHLO.
const GREETING: &str = "220 hi\r\n";
const EHLO: &str = "250-mx\r\n250 PIPELINING\r\n";

#[test]
fn a_lost_connection_is_temporary_and_maybe_a_duplicate() {
    let packets = [
        GREETING,
        "250 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "354 go\r\n",
    ];
    let mut outcomes = String::new();
    for count in 0..=packets.len() {
        let mut sending = Sending::new(config(), Owner::new(one()));
        for packet in &packets[..count] {
            sending.say(packet);
        }
        sending.eof();
        outcomes.push_str(&sending.owner.events.join("\n"));
        outcomes.push('\n');
    }
    assert_snapshot!(outcomes, @r#"
    failed at Greeting, Temporary 4.4.2: connection died
    closed: connection died
    failed at Hello, Temporary 4.4.2: connection died
    closed: connection died
    failed at Mail, Temporary 4.4.2: connection died
    closed: connection died
    failed at Rcpt, Temporary 4.4.2: connection died
    closed: connection died
    recipient 0: 250 x
    failed at Data, Temporary 4.4.2: connection died
    closed: connection died
    recipient 0: 250 x
    failed at BodyEnd, Temporary 4.4.2, possible duplicate: connection died
    closed: connection died
    "#);
}

#[test]
fn a_slow_server_is_given_up() {
    let packets = [
        GREETING,
        "250 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "354 go\r\n",
    ];
    let mut outcomes = String::new();
    for count in 0..=packets.len() {
        let mut sending = Sending::new(config(), Owner::new(one()));
        for packet in &packets[..count] {
            sending.say(packet);
        }
        let begun = sending.now;
        // Octets that end no reply win no time.
        sending.give(b"2");
        sending.drain();
        sending.pass(119 * SECOND);
        assert!(!sending.session.is_closed());
        while let Some(deadline) = sending.session.deadline()
            && !sending.session.is_closed()
        {
            sending.now = sending.now.max(deadline);
            sending.session.handle_deadline(deadline);
            sending.drain();
        }
        outcomes.push_str(&format!(
            "{:?}: {}\n",
            sending.now - begun,
            sending.owner.events.join("; ")
        ));
    }
    assert_snapshot!(outcomes, @r#"
    300s: failed at Greeting, Temporary 4.4.2: connection timed out; closed: connection timed out
    300s: failed at Hello, Temporary 4.4.2: connection timed out; closed: connection timed out
    300s: failed at Mail, Temporary 4.4.2: connection timed out; closed: connection timed out
    300s: failed at Rcpt, Temporary 4.4.2: connection timed out; closed: connection timed out
    120s: recipient 0: 250 x; failed at Data, Temporary 4.4.2: connection timed out; closed: connection timed out
    600s: recipient 0: 250 x; failed at BodyEnd, Temporary 4.4.2, possible duplicate: connection timed out; closed: connection timed out
    "#);
}

#[test]
fn an_idle_connection_may_end() {
    let mut sending = Sending::new(config(), Owner::new([]));
    sending.owner.stay = true;
    sending.say(GREETING);
    sending.say("250 x\r\n");
    assert_eq!(sending.session.deadline(), None);
    sending.pass(3600 * SECOND);
    sending.say("421 4.4.2 idle\r\n");
    assert_snapshot!(sending.transcript, @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250 x
    S: 421 4.4.2 idle
       closed: the server refused: 421 4.4.2 idle
    C: QUIT
    "#);
}

#[test]
fn an_endless_reply_ends() {
    let mut sending = Sending::new(config(), Owner::new(one()));
    sending.say(GREETING);
    let line = format!("250-{}\r\n", "a".repeat(60));
    for _ in 0..10_000 {
        sending.give(line.as_bytes());
    }
    assert_eq!(
        sending.owner.events[0],
        "failed at Hello, Temporary 4.5.0: the server does not speak SMTP: a reply has more than 65536 octets"
    );
}

/// Thousands of recipients go out in windows, so that neither side ever waits for the other to read.
#[test]
fn many_recipients_are_sent_in_windows() {
    let recipients: Vec<String> = (0..1000).map(|number| format!("u{number}@d")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut sending = Sending::new(config(), Owner::new([message("a@b", &recipients, "x\n")]));
    sending.say(GREETING);
    sending.say(EHLO);
    let mut answered = 0;
    loop {
        let commands = sending.sent.split(|&octet| octet == b'\n').count() - 2;
        assert!(
            commands - answered <= 100,
            "{commands} sent, {answered} answered"
        );
        if commands == 1002 {
            break;
        }
        sending.give(b"250 ok\r\n");
        answered += 1;
    }
    while answered < 1001 {
        sending.give(b"250 ok\r\n");
        answered += 1;
    }
    sending.give(b"354 go\r\n");
    assert!(sending.sent.ends_with(b"DATA\r\nx\r\n.\r\n"));
    sending.give(b"250 ok\r\n");
    assert_eq!(sending.owner.events.len(), 1001);
}

#[test]
fn every_cut_gives_the_same() {
    let replies: &[u8] =
        b"220-hi\r\n220 you\r\n250-mx\r\n250-SIZE 9\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n\
        550-no\r\n550 such\n450\r\n354 go\r\n";
    let outcome = |pieces: &[&[u8]], end: &str| {
        let mut sending =
            Sending::new(config(), Owner::new([three()[0].clone(), one()[0].clone()]));
        for piece in pieces {
            sending.give(piece);
        }
        for octet in end.as_bytes() {
            sending.give(&[*octet]);
        }
        (sending.sent, sending.owner.events)
    };
    for end in [
        "250 ok\r\n221 x\r\n",
        "450 no\r\n250 flushed\r\n",
        "999\r\n",
    ] {
        let whole = outcome(&[replies], end);
        for cut in 1..replies.len() {
            let (head, tail) = replies.split_at(cut);
            assert_eq!(outcome(&[head, tail], end), whole, "cut at {cut}");
        }
        let octets: Vec<&[u8]> = replies.chunks(1).collect();
        assert_eq!(outcome(&octets, end), whole);
    }
}
