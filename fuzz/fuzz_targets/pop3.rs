//! A POP3 session over anything: whole and in pieces it says the same, in whole lines, and only QUIT removes mail.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use qmail_core::sasl::{Mechanism, Verifier};
use qmail_core::{Account, LoginError, Machine};
use qmail_pop3::{
    BodyFlow, Config, End, Event, Greeting, Listing, LoginAnswer, RetrieveAnswer, Session,
    Timestamp, UpdateAnswer,
};

fuzz_target!(|input: (bool, u8, &[u8], &[u8])| {
    let (logged_in, piece_octets, message, commands) = input;
    let now = Instant::now();
    let whole = talk(now, logged_in, usize::MAX, message, commands);
    let pieces = talk(
        now,
        logged_in,
        usize::from(piece_octets).max(1),
        message,
        commands,
    );
    assert_eq!(whole, pieces);
    let (sent, updates, end) = whole;
    if !matches!(end, Some(End::BodyBroken)) {
        assert!(sent.ends_with(b"\r\n"));
    }
    assert!(updates <= 1);
    assert_eq!(updates == 1, matches!(end, Some(End::Updated)));
});

fn talk(
    now: Instant,
    logged_in: bool,
    piece_octets: usize,
    message: &[u8],
    commands: &[u8],
) -> (Vec<u8>, usize, Option<End>) {
    // Without STLS: what is behind it in one piece is thrown away, and so depends on the pieces.
    let mut config = Config::default();
    config.mechanisms = Mechanism::ALL.to_vec();
    let config = Arc::new(config);
    let mut owner = Owner {
        now,
        session: if logged_in {
            Session::logged_in(config, listing(message), now)
        } else {
            let greeting = Greeting::Apop(Timestamp::of_process(1, 2, b"host"));
            Session::new(config, greeting, now).with_nonce("nonce")
        },
        piece_octets,
        message,
        rest: message,
        sent: Vec::new(),
        updates: 0,
    };
    for piece in commands.chunks(piece_octets.min(commands.len().max(1))) {
        owner.offer(piece);
    }
    owner.session.handle_eof(now);
    owner.drain();
    assert!(owner.session.is_closed());
    owner
        .session
        .handle_deadline(now + Duration::from_secs(1 << 20));
    (owner.sent, owner.updates, owner.session.end())
}

struct Owner<'a> {
    now: Instant,
    session: Session,
    piece_octets: usize,
    message: &'a [u8],
    rest: &'a [u8],
    sent: Vec<u8>,
    updates: usize,
}

impl Owner<'_> {
    fn offer(&mut self, mut octets: &[u8]) {
        self.drain();
        while !octets.is_empty() {
            let taken = self.session.receive(self.now, octets);
            octets = &octets[taken..];
            self.drain();
        }
    }

    fn drain(&mut self) {
        let now = self.now;
        loop {
            while let Some(event) = self.session.poll_event() {
                match event {
                    Event::Login {
                        question,
                        credentials,
                    } => {
                        let answer = match credentials.name().first() {
                            Some(b'j') => LoginAnswer::Accepted(listing(self.message)),
                            Some(b'u') => LoginAnswer::Unavailable,
                            Some(b'f') => LoginAnswer::Failed(credentials.name().clone()),
                            Some(b'h') => LoginAnswer::HandedOver,
                            _ => LoginAnswer::Refused,
                        };
                        self.session.answer_login(now, question, answer);
                    }
                    Event::Verifier { question, name } => {
                        let verifier = Verifier::decoy(&name, b"key");
                        let found = match name.first() {
                            Some(b'u') => Err(LoginError::Unavailable {
                                reason: String::new(),
                            }),
                            _ => Ok((Account::new(name), verifier)),
                        };
                        self.session.answer_verifier(now, question, found);
                    }
                    Event::Retrieve {
                        question, message, ..
                    } => {
                        self.rest = self.message;
                        let answer = match message {
                            1 => RetrieveAnswer::Unavailable,
                            _ => RetrieveAnswer::Opened,
                        };
                        self.session.answer_retrieve(now, question, answer);
                    }
                    Event::BodyWanted if self.rest.is_empty() => self.session.end_body(now),
                    Event::BodyWanted => {
                        let (chunk, rest) =
                            self.rest.split_at(self.piece_octets.min(self.rest.len()));
                        self.rest = rest;
                        if self.session.body(now, chunk) == BodyFlow::Enough {
                            self.rest = &[];
                        }
                    }
                    Event::Update { question, deleted } => {
                        assert!(deleted.iter().all(|message| message < 3));
                        self.updates += 1;
                        self.session
                            .answer_update(now, question, UpdateAnswer::Done);
                    }
                    event => panic!("{event:?}"),
                }
            }
            if !self.session.poll_transmit(&mut self.sent) {
                return;
            }
        }
    }
}

fn listing(message: &[u8]) -> Listing {
    let mut listing = Listing::new();
    for id in [b"a", b"b", b"c"] {
        listing
            .push(message.len() as u64, id)
            .expect("three good ids");
    }
    listing
}
