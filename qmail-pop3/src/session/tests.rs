//! A session with an owner in memory; the tests by what they are about.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts at some moment, and goes on from there by itself"
)]

mod conversations;
mod limits;
mod login;

use qmail_core::sasl::Verifier;
use qmail_core::{Account, Credentials, LoginError};

use super::*;
use crate::Timestamp;

/// An owner in memory: one user `joe` with password `se cret`, three messages, and a record of what was asked.
struct Owner {
    session: Session,
    now: Instant,
    messages: Vec<Option<Vec<u8>>>,
    /// Octets of a message that are given at a time.
    chunk_octets: usize,
    sent: Vec<u8>,
    update: Option<Vec<usize>>,
    update_answer: UpdateAnswer,
}

impl Owner {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        let greeting = Greeting::Apop(Timestamp::of_process(7, 99, b"pop.example.org"));
        Self {
            session: Session::new(Arc::new(config), greeting, now),
            now,
            messages: [
                &b"Subject: two\n\n1\n2\n3\n4\n"[..],
                b"Subject: one\n\nfirst\n.dot\n..\nlast",
                b"Subject: three\n",
            ]
            .map(|text| Some(text.to_vec()))
            .to_vec(),
            chunk_octets: usize::MAX,
            sent: Vec::new(),
            update: None,
            update_answer: UpdateAnswer::Done,
        }
    }

    fn logged_in(config: Config) -> Self {
        let mut owner = Self::new(config);
        let listing = owner.listing();
        owner.session = Session::logged_in(Arc::clone(&owner.session.config), listing, owner.now);
        owner
    }

    fn listing(&self) -> Listing {
        let mut listing = Listing::new();
        for (number, message) in self.messages.iter().enumerate() {
            let octets = message.as_ref().map_or(5, Vec::len) as u64;
            listing
                .push(octets, format!("id{}", number + 1).as_bytes())
                .expect("an id");
        }
        listing
    }

    /// Offers octets until all are taken, settling what is asked.
    fn offer(&mut self, mut octets: &[u8]) {
        loop {
            self.drain();
            if octets.is_empty() {
                return;
            }
            let taken = self.session.receive(self.now, octets);
            octets = &octets[taken..];
        }
    }

    fn eof(&mut self) {
        self.session.handle_eof(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        let mut body: Option<Vec<u8>> = None;
        loop {
            while let Some(event) = self.session.poll_event() {
                self.settle(event, &mut body);
            }
            let mut batch = Vec::new();
            if !self.session.poll_transmit(&mut batch) {
                return;
            }
            // Little more than one chunk, doubled at worst, is ever held.
            assert!(batch.len() <= TRANSMIT_OCTETS_LOW + 1024 + 2 * self.chunk_octets.min(65536));
            self.sent.append(&mut batch);
        }
    }

    fn settle(&mut self, event: Event, body: &mut Option<Vec<u8>>) {
        let now = self.now;
        match event {
            Event::Login {
                question,
                credentials,
            } => {
                let secret: &[u8] = match credentials {
                    Credentials::Apop { .. } => b"tanstaaf",
                    _ => b"se cret",
                };
                let answer = match credentials.name().as_ref() {
                    b"joe" if credentials.fit(secret) => LoginAnswer::Accepted(self.listing()),
                    b"busy" => LoginAnswer::Unavailable,
                    b"homeless" => LoginAnswer::Failed("this user has no $HOME/Maildir".into()),
                    b"other" => LoginAnswer::HandedOver,
                    _ => LoginAnswer::Refused,
                };
                self.session.answer_login(now, question, answer);
            }
            Event::Verifier { question, name } => {
                let found = match name.as_ref() {
                    b"joe" => Ok((Account::new("joe"), verifier())),
                    _ => Err(LoginError::Refused),
                };
                self.session.answer_verifier(now, question, found);
            }
            Event::Proved { question, account } => {
                assert_eq!(account.name, "joe");
                let answer = LoginAnswer::Accepted(self.listing());
                self.session.answer_login(now, question, answer);
            }
            Event::StartTls => {
                self.sent.extend_from_slice(b"-- TLS\r\n");
                self.session.tls_started();
            }
            Event::Retrieve {
                question, message, ..
            } => {
                body.clone_from(&self.messages[message]);
                let answer = match body {
                    Some(_) => RetrieveAnswer::Opened,
                    None => RetrieveAnswer::Unavailable,
                };
                self.session.answer_retrieve(now, question, answer);
            }
            Event::BodyWanted => {
                let rest = body.as_mut().expect("a message was opened");
                if rest.is_empty() {
                    self.session.end_body(now);
                    return;
                }
                let chunk: Vec<u8> = rest.drain(..self.chunk_octets.min(rest.len())).collect();
                if self.session.body(now, &chunk) == BodyFlow::Enough {
                    *body = None;
                }
            }
            Event::Update { question, deleted } => {
                self.update = Some(deleted.iter().collect());
                self.session
                    .answer_update(now, question, self.update_answer);
            }
        }
    }

    /// The conversation, command by command, as in the RFCs.
    fn talk(mut self, commands: &[&str]) -> String {
        let mut shown = String::new();
        self.drain();
        show(&mut shown, &mut self.sent);
        for command in commands {
            shown.push_str(&format!("C: {}\n", command.as_bytes().escape_ascii()));
            self.offer(format!("{command}\r\n").as_bytes());
            show(&mut shown, &mut self.sent);
        }
        if let Some(end) = self.session.end() {
            shown.push_str(&format!("({end:?}"));
            if let Some(deleted) = &self.update {
                shown.push_str(&format!(", deleted {deleted:?}"));
            }
            shown.push_str(")\n");
        }
        shown
    }
}

/// Of the password `se cret`.
fn verifier() -> Verifier {
    Verifier::new(b"se cret", b"salt", 4096).expect("within limits")
}

fn show(shown: &mut String, sent: &mut Vec<u8>) {
    for line in sent.split_inclusive(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("whole lines");
        shown.push_str(&format!("S: {}|\n", line.escape_ascii()));
    }
    sent.clear();
}

fn classic() -> Config {
    let mut config = Config::classic();
    config.logins_max = 3;
    config
}
