//! What holds for the server session however octets are cut, whatever they are, and however long they take.

mod common;

use std::time::Duration;

use common::server::{Owner, Seen, Served, outcome};
use insta::assert_snapshot;
use proptest::prelude::*;
use qmail_core::Machine;
use qmail_smtp::server::{BareCr, BareLf, Config, Event, Session, Verdict};

fn config() -> Config {
    Config::new("mx.example.org")
}

const SECOND: Duration = Duration::from_secs(1);

const ENVELOPE: &str = "MAIL FROM:<a@b.example>\r\nRCPT TO:<j@example.org>\r\nDATA\r\n";

fn serve(packets: &[&str]) -> Served {
    let mut served = Served::new(config(), Owner::default());
    for packet in packets {
        served.say(packet);
    }
    served
}

/// Conversations with a bit of everything.
fn conversations() -> Vec<Vec<u8>> {
    let texts = [
        "Subject: x\r\n\r\n..\r\n.x\r\nReceived\r\n.\r\n",
        ".\r\n",
        "Received: 1\r\nreceived: 2\r\nx\r\n\r\n.\r\n",
        "a line that is too much for the limit\r\n.\r\n",
        "a\nb\r\n.\r\n",
        "a\r\n.\n.\r\n",
        "a\r\n.\r\r\n.\r\n",
        "\rb\r\n.\r\n",
        "unfinished\r\n.\r",
    ];
    texts
        .iter()
        .map(|text| {
            format!(
                "EHLO c\r\nBAD\r\nMAIL FROM:<\"a b\"@c> SIZE=3\r\nRCPT TO:<x@y>\r\nRCPT TO:<nobody@y>\r\nNOOP \
                 0123456789012345678901234567890123456789\nRSET\nMAIL FROM:<>\r\nRCPT TO:<k@l>\r\nDATA\r\n{text}\
                 HELO d\r\nMAIL FROM:<e@f>\r\nRCPT TO:<g@h>\r\nDATA\r\nlast\r\n.\r\nQUIT\r\nNOOP\r\n"
            )
            .into_bytes()
        })
        .collect()
}

fn tight() -> Config {
    let mut config = config();
    config.line_octets_max = 40;
    config.message_octets_max = Some(36);
    config.hops_max = 2;
    config.errors_max = 5;
    config
}

fn kept() -> Config {
    let mut config = tight();
    config.bare_lf = BareLf::Keep;
    config.bare_cr = BareCr::Keep;
    config
}

#[test]
fn every_cut_gives_the_same() {
    for config in [tight(), kept()] {
        for input in conversations() {
            let whole = outcome(&config, [&input[..]].into_iter());
            assert_eq!(
                outcome(&config, input.chunks(1)),
                whole,
                "one octet at a time: {}",
                String::from_utf8_lossy(&input)
            );
            for cut in 1..input.len() {
                let (head, tail) = input.split_at(cut);
                assert_eq!(
                    outcome(&config, [head, tail].into_iter()),
                    whole,
                    "cut at {cut}: {}",
                    String::from_utf8_lossy(&input)
                );
            }
        }
    }
}

#[test]
fn the_end_is_found_in_whatever_pieces_it_arrives() {
    let input = b"x\r\n.\r\n";
    for mask in 0..1_u32 << (input.len() - 1) {
        let mut served = serve(&[ENVELOPE]);
        let mut start = 0;
        for end in 1..=input.len() {
            if end == input.len() || mask >> (end - 1) & 1 == 1 {
                served.give(&input[start..end]);
                start = end;
            }
        }
        assert_eq!(served.owner.seen.messages.len(), 1, "{mask:b}");
        assert_eq!(served.owner.seen.messages[0].1, b"x\n");
    }
}

#[test]
fn a_silent_client_is_dropped() {
    let mut served = serve(&["NOOP\r\n"]);
    served.pass(299 * SECOND);
    // Octets that end no command win no time.
    served.say("NOO");
    served.pass(SECOND);
    served.say("P\r\n");
    assert_snapshot!(served.transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: NOOP
    S: 250 2.0.0 ok
    C: NOO...
       closed: TimedOut
    S: 421 4.4.2 timeout
    C: P
    "#);
}

#[test]
fn each_command_has_the_whole_time() {
    let mut served = serve(&[]);
    for _ in 0..5 {
        served.pass(299 * SECOND);
        served.say("NOOP\r\n");
        served.say(ENVELOPE.split_inclusive('\n').next().unwrap_or_default());
    }
    assert!(!served.session.is_closed());
}

#[test]
fn text_that_stops_is_dropped() {
    let mut served = serve(&[ENVELOPE, "x\r\n"]);
    served.pass(299 * SECOND);
    served.say("y");
    served.pass(300 * SECOND);
    assert_snapshot!(served.transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<j@example.org>
    C: DATA
       MAIL <a@b.example>
       RCPT <j@example.org>
       DATA for 1
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 354 go ahead
    C: x
    C: y...
       aborted: TimedOut
       closed: TimedOut
    S: 421 4.4.2 timeout
    "#);
}

#[test]
fn text_that_drips_is_dropped() {
    let mut served = serve(&[ENVELOPE]);
    let begun = served.now;
    while !served.session.is_closed() {
        served.pass(59 * SECOND);
        served.give(b"x");
    }
    assert_eq!(
        served.owner.seen.events.last().map(String::as_str),
        Some("closed: TimedOut")
    );
    let lasted = served.now - begun;
    assert!(lasted <= config().timeouts.data + 59 * SECOND, "{lasted:?}");
}

#[test]
fn the_owners_time_is_not_the_clients() {
    let config = config();
    let mut now = common::start();
    let mut session = Session::new(config.into(), now);
    let mut sink = Vec::new();
    session.poll_transmit(&mut sink);
    session.receive(now, b"MAIL FROM:<a@b>\r\n");
    let Some(Event::Mail { question, .. }) = session.poll_event() else {
        panic!("a question");
    };
    assert_eq!(
        session.deadline(),
        None,
        "nothing is expected of the client"
    );
    now += 3600 * SECOND;
    session.handle_deadline(now);
    assert!(!session.is_closed());
    session.answer_mail(question, Verdict::Accept);
    // The machine does not know that an hour has passed, and asks for the time.
    assert!(session.deadline().is_some_and(|deadline| deadline <= now));
    session.handle_deadline(now);
    assert!(!session.is_closed());
    assert_eq!(session.deadline(), Some(now + 300 * SECOND));
    session.handle_deadline(now + 300 * SECOND);
    assert!(session.is_closed());
    assert_eq!(
        session.deadline(),
        Some(now + 300 * SECOND),
        "even its last words have a time to be sent in"
    );
}

#[test]
fn a_client_that_goes_leaves_nothing() {
    for (packets, last) in [
        (&["NOOP\r\nQUI"][..], "closed: ConnectionLost"),
        (&[ENVELOPE][..], "closed: ConnectionLost"),
        (&[ENVELOPE, "x\r\n.\r"][..], "closed: ConnectionLost"),
        (&["QUIT\r\n"][..], "closed: Quit"),
    ] {
        let mut served = serve(packets);
        let sent = served.sent.len();
        served.eof();
        assert!(served.session.is_closed());
        assert!(served.owner.seen.messages.is_empty());
        let events = &served.owner.seen.events;
        assert_eq!(events.last().map(String::as_str), Some(last));
        let aborted = events
            .iter()
            .filter(|event| *event == "aborted: ConnectionLost")
            .count();
        assert_eq!(
            aborted,
            packets.iter().filter(|text| **text == ENVELOPE).count()
        );
        assert_eq!(served.sent.len(), sent, "nothing is said to nobody");
    }
}

#[test]
fn a_client_that_goes_during_a_question_is_noticed_after_it() {
    let now = common::start();
    let mut session = Session::new(config().into(), now);
    session.receive(now, b"MAIL FROM:<a@b>\r\n");
    let Some(Event::Mail { question, .. }) = session.poll_event() else {
        panic!("a question");
    };
    session.handle_eof(now);
    assert!(session.poll_event().is_none());
    session.answer_mail(question, Verdict::Accept);
    assert!(matches!(session.poll_event(), Some(Event::Closed { .. })));

    // Text that will never come is void from the start.
    let mut session = Session::new(config().into(), now);
    let mut rest = &b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"[..];
    loop {
        let taken = session.receive(now, rest);
        rest = &rest[taken..];
        match session.poll_event() {
            Some(Event::Mail { question, .. }) => session.answer_mail(question, Verdict::Accept),
            Some(Event::Rcpt { question, .. }) => session.answer_rcpt(question, Verdict::Accept),
            Some(Event::Data { question, .. }) => {
                session.handle_eof(now);
                session.answer_data(question, Verdict::Accept);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(session.poll_event(), Some(Event::Aborted { .. })));
    assert!(matches!(session.poll_event(), Some(Event::Closed { .. })));
}

#[test]
fn a_session_can_be_shut_down_between_messages() {
    let mut served = serve(&["NOOP\r\n"]);
    served.session.shut_down();
    served.drain();
    assert_snapshot!(served.transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: NOOP
    S: 250 2.0.0 ok
       closed: ShutDown
    S: 421 4.3.2 shutting down
    "#);
    let mut served = serve(&[ENVELOPE]);
    served.session.shut_down();
    served.say("x\r\n.\r\nNOOP\r\n");
    assert_snapshot!(served.transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<j@example.org>
    C: DATA
       MAIL <a@b.example>
       RCPT <j@example.org>
       DATA for 1
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 354 go ahead
    C: x
    C: .
    C: NOOP
       complete, 2 octets
       closed: ShutDown
    S: 250 2.0.0 ok
    S: 421 4.3.2 shutting down
    "#);
}

#[test]
fn a_flood_of_commands_waits_for_its_replies_to_be_read() {
    let now = common::start();
    let mut config = config();
    config.idle_commands_max = u32::MAX;
    let mut session = Session::new(config.into(), now);
    let flood = b"HELP\r\n".repeat(100_000);
    let mut taken = 0;
    let mut sink = Vec::new();
    while taken < flood.len() {
        let step = session.receive(now, &flood[taken..]);
        assert_eq!(session.receive(now, &flood[taken + step..]), 0);
        taken += step;
        sink.clear();
        assert!(session.poll_transmit(&mut sink));
        assert!(sink.len() < 17 * 1024, "{}", sink.len());
    }
}

#[test]
fn a_reply_is_not_kept_back_for_long() {
    let mut now = common::start();
    let mut session = Session::new(config().into(), now);
    let mut rest = &b"NOOP\r\nMAIL FROM:<a@b>\r\nNOOP\r\n"[..];
    rest = &rest[session.receive(now, rest)..];
    let Some(Event::Mail { question, .. }) = session.poll_event() else {
        panic!("a question");
    };
    let mut sink = Vec::new();
    assert!(!session.poll_transmit(&mut sink), "more is to come");
    now += 11 * SECOND;
    session.answer_mail(question, Verdict::Accept);
    assert_eq!(session.receive(now, rest), 0);
    assert!(
        session.poll_transmit(&mut sink),
        "the client has waited enough"
    );
    assert_eq!(session.receive(now, rest), rest.len());
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 512, "{}", size_of::<Session>());
}

/// Octets that are likely to mean something.
fn likely_input() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => Just(&b"\r\n"[..]),
        1 => Just(&b"\n"[..]),
        1 => Just(&b"\r"[..]),
        2 => Just(&b"."[..]),
        1 => Just(&b"EHLO c"[..]),
        2 => Just(&b"MAIL FROM:<a@b>"[..]),
        2 => Just(&b"RCPT TO:<c@d>"[..]),
        2 => Just(&b"RCPT TO:<nobody@d>"[..]),
        2 => Just(&b"DATA"[..]),
        1 => Just(&b"RSET"[..]),
        1 => Just(&b"Received"[..]),
        1 => Just(&b"\0"[..]),
        1 => Just(&b"MAIL FROM:<\"x y\"@b> SIZE=4"[..]),
        1 => Just(&b"a text that is longer than any line"[..]),
    ];
    prop::collection::vec(word, 0..80).prop_map(|words| {
        let mut input = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n".to_vec();
        input.extend(words.concat());
        input
    })
}

fn pieces<'a>(mut input: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().copied().cycle();
    std::iter::from_fn(move || {
        if input.is_empty() {
            return None;
        }
        let length = sizes.next().unwrap_or(1).min(input.len());
        let (piece, rest) = input.split_at(length);
        input = rest;
        Some(piece)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_change_nothing(
        input in likely_input(),
        sizes in prop::collection::vec(1_usize..30, 1..8),
        keep in any::<bool>(),
    ) {
        let config = if keep { kept() } else { tight() };
        let whole: (Vec<u8>, Seen, bool) = outcome(&config, [&input[..]].into_iter());
        prop_assert_eq!(outcome(&config, pieces(&input, &sizes)), whole);
    }

    #[test]
    fn any_octets_are_survived(input in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (sent, seen, _) = outcome(&config(), [&input[..]].into_iter());
        prop_assert!(seen.messages.is_empty());
        for line in sent.split_inclusive(|&octet| octet == b'\n') {
            prop_assert!(line.ends_with(b"\r\n"));
            prop_assert!(line[..line.len() - 2].iter().all(|octet| (b' '..0x7f).contains(octet)));
        }
    }
}
