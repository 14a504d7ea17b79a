//! A POP3 client that may ask for TLS at any time: what it said before the handshake is forgotten, and what comes line by line means
//! the same octet by octet.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use qmail_core::Machine;
use qmail_pop3::{
    Config, End, Event, Greeting, Listing, LoginAnswer, RetrieveAnswer, Session, UpdateAnswer,
};

fuzz_target!(|input: &[u8]| {
    let [flags, commands @ ..] = input else {
        return;
    };
    let now = Instant::now();
    // What comes with STLS in one piece is thrown away; what comes a line at a time is not.
    let lines = commands.split_inclusive(|&octet| octet == b'\n');
    let by_lines = talk(now, *flags, lines);
    assert_eq!(talk(now, *flags, commands.chunks(1)), by_lines);
    // At once: whatever is lost, the session ends and removes nothing without QUIT.
    talk(now, *flags, commands.chunks(usize::MAX));
});

/// What was sent, how often it was encrypted, and the end.
type Talk = (Vec<u8>, usize, Option<End>);

fn talk<'a>(now: Instant, flags: u8, pieces: impl Iterator<Item = &'a [u8]>) -> Talk {
    let mut config = Config::default();
    config.tls = true;
    config.in_clear = flags & 1 == 0;
    config.errors_max = u32::from(flags >> 1);
    let mut session = Session::new(Arc::new(config), Greeting::Plain, now);
    let (mut sent, mut handshakes, mut updates) = (Vec::new(), 0, 0);
    let mut drain = |session: &mut Session| {
        loop {
            while let Some(event) = session.poll_event() {
                match event {
                    Event::StartTls => {
                        handshakes += 1;
                        session.tls_started();
                    }
                    Event::Login { question, .. } => {
                        let mut listing = Listing::new();
                        listing.push(1, b"a").expect("a good id");
                        session.answer_login(now, question, LoginAnswer::Accepted(listing));
                    }
                    Event::Retrieve { question, .. } => {
                        session.answer_retrieve(now, question, RetrieveAnswer::Opened);
                    }
                    Event::BodyWanted => session.end_body(now),
                    Event::Update { question, .. } => {
                        updates += 1;
                        session.answer_update(now, question, UpdateAnswer::Done);
                    }
                    event => panic!("{event:?}"),
                }
            }
            if !session.poll_transmit(&mut sent) {
                return;
            }
        }
    };
    drain(&mut session);
    for mut piece in pieces {
        while !piece.is_empty() {
            let taken = session.receive(now, piece);
            piece = &piece[taken..];
            drain(&mut session);
        }
    }
    session.handle_eof(now);
    drain(&mut session);
    assert!(session.is_closed());
    assert!(handshakes <= 1, "encrypted twice");
    assert_eq!(updates == 1, matches!(session.end(), Some(End::Updated)));
    (sent, handshakes, session.end())
}
