//! A QMTP or QMQP client that says anything: whole and in pieces it means the same, and who is answered was asked about.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use qmail_core::{Machine, ReversePath};
use qmail_smtp::qmtp::{Answer, CloseReason, Event, PATH_OCTETS_MAX, Protocol, Session};

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (qmqp, size, octets) = input;
    let protocol = if qmqp { Protocol::Qmqp } else { Protocol::Qmtp };
    let now = Instant::now();
    let whole = talk(now, protocol, usize::MAX, octets);
    assert_eq!(whole, talk(now, protocol, usize::from(size) + 1, octets));
    assert!(whole.ended.is_some());
});

/// All that came of a connection.
#[derive(Debug, Default, PartialEq)]
struct Talk {
    messages: Vec<(Vec<u8>, Option<ReversePath>, usize)>,
    sent: Vec<u8>,
    ended: Option<CloseReason>,
}

fn talk(now: Instant, protocol: Protocol, size: usize, octets: &[u8]) -> Talk {
    let mut session = Session::new(protocol, Duration::from_secs(1), now);
    let (mut talk, mut text) = (Talk::default(), Vec::new());
    for mut piece in octets.chunks(size) {
        while !piece.is_empty() {
            let taken = session.receive(now, piece);
            piece = &piece[taken..];
            drain(&mut session, &mut talk, &mut text);
        }
    }
    session.handle_eof(now);
    drain(&mut session, &mut talk, &mut text);
    assert!(session.is_closed());
    talk
}

fn drain(session: &mut Session, talk: &mut Talk, text: &mut Vec<u8>) {
    while let Some(event) = session.poll_event() {
        assert_eq!(talk.ended, None, "nothing comes after the end");
        match event {
            Event::Begin => text.clear(),
            Event::Body(octets) => text.extend_from_slice(&octets),
            Event::End {
                question,
                sender,
                recipients,
            } => {
                for recipient in recipients.iter().flatten() {
                    assert!(recipient.as_bytes().len() <= PATH_OCTETS_MAX);
                    assert!(!recipient.as_bytes().contains(&b'\n'));
                }
                let answers = vec![Answer::Accepted("ok".into()); recipients.len()];
                talk.messages
                    .push((std::mem::take(text), sender, recipients.len()));
                session.answer(question, answers);
            }
            Event::Closed { reason } => talk.ended = Some(reason),
            event => panic!("{event:?}"),
        }
    }
    session.poll_transmit(&mut talk.sent);
}
