//! An owner of client sessions that sends given messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use qmail_core::{Address, Machine, ReversePath};
use qmail_smtp::client::{Config, Event, Session, Transaction};

use super::show;

/// A transaction from and to these, and a body.
pub fn message(sender: &str, recipients: &[&str], body: &str) -> (Transaction, Vec<u8>) {
    let address = |text: &str| Address::new(text.to_owned()).expect("a short address");
    (
        Transaction::new(
            ReversePath::new(sender.to_owned()).expect("a short address"),
            recipients.iter().map(|text| address(text)).collect(),
        ),
        body.as_bytes().to_vec(),
    )
}

/// Sends messages one after the other, then quits.
#[derive(Default)]
pub struct Owner {
    pub messages: VecDeque<(Transaction, Vec<u8>)>,
    body: Option<Vec<u8>>,
    /// Octets given at a time.
    pub piece: usize,
    pub events: Vec<String>,
    /// Stay instead of QUIT.
    pub stay: bool,
}

impl Owner {
    pub fn new(messages: impl IntoIterator<Item = (Transaction, Vec<u8>)>) -> Self {
        Self {
            messages: messages.into_iter().collect(),
            body: None,
            piece: usize::MAX,
            events: Vec::new(),
            stay: false,
        }
    }

    pub fn settle(&mut self, session: &mut Session, event: Event) -> Option<String> {
        let line = match event {
            Event::Ready { .. } => {
                match self.messages.pop_front() {
                    Some((transaction, body)) => {
                        self.body = Some(body);
                        session.start(transaction).expect("it is sendable");
                    }
                    None if self.stay => {}
                    None => session.quit(),
                }
                return None;
            }
            Event::BodyWanted => {
                let body = self.body.as_mut().expect("a transaction is under way");
                if body.is_empty() {
                    session.end_body();
                } else {
                    let rest = body.split_off(self.piece.min(body.len()));
                    session.body(body);
                    *body = rest;
                }
                return None;
            }
            Event::StartTls => {
                session.tls_started();
                "TLS".to_owned()
            }
            Event::Final { index, reply } => format!("final {index}: {reply}"),
            Event::Recipient { index, reply } => format!("recipient {index}: {reply}"),
            Event::Done { reply } => format!("done: {reply}"),
            Event::Failed(failure) => format!(
                "failed at {:?}, {:?} {}{}: {}",
                failure.stage,
                failure.class(),
                failure.status(),
                if failure.possible_duplicate {
                    ", possible duplicate"
                } else {
                    ""
                },
                failure.cause
            ),
            Event::Closed { cause: None } => "closed".to_owned(),
            Event::Closed { cause: Some(cause) } => format!("closed: {cause}"),
            other => format!("{other:?}"),
        };
        self.events.push(line.clone());
        Some(line)
    }
}

/// One session with its owner.
pub struct Sending {
    pub session: Session,
    pub owner: Owner,
    pub now: Instant,
    pub sent: Vec<u8>,
    pub transcript: String,
}

pub fn config() -> Config {
    Config::new("client.example").expect("a plain name")
}

impl Sending {
    pub fn new(config: Config, owner: Owner) -> Self {
        let now = super::start();
        Self {
            session: Session::new(Arc::new(config), now),
            owner,
            now,
            sent: Vec::new(),
            transcript: String::new(),
        }
    }

    /// The same, with another session.
    pub fn with(mut self, change: impl FnOnce(Session) -> Session) -> Self {
        self.session = change(self.session);
        self
    }

    pub fn give(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let taken = self.session.receive(self.now, octets);
            octets = &octets[taken..];
            let progress = self.drain();
            assert!(taken > 0 || progress, "stuck before {octets:?}");
        }
    }

    pub fn say(&mut self, octets: &str) {
        self.transcript.push_str(&show("S:", octets.as_bytes()));
        self.give(octets.as_bytes());
    }

    pub fn drain(&mut self) -> bool {
        let mut any = false;
        loop {
            if let Some(event) = self.session.poll_event() {
                any = true;
                if let Some(line) = self.owner.settle(&mut self.session, event) {
                    self.transcript.push_str(&format!("   {line}\n"));
                }
                continue;
            }
            let mut sink = Vec::new();
            if !self.session.poll_transmit(&mut sink) {
                return any;
            }
            any = true;
            self.transcript.push_str(&show("C:", &sink));
            self.sent.extend_from_slice(&sink);
        }
    }

    pub fn eof(&mut self) {
        self.session.handle_eof(self.now);
        self.drain();
    }

    pub fn pass(&mut self, wait: std::time::Duration) {
        let until = self.now + wait;
        while let Some(deadline) = self.session.deadline() {
            if deadline > until {
                break;
            }
            self.now = self.now.max(deadline);
            self.session.handle_deadline(self.now);
            self.drain();
        }
        self.now = until;
    }
}

/// A whole conversation: every string is one packet of the server.
pub fn converse(
    config: Config,
    messages: impl IntoIterator<Item = (Transaction, Vec<u8>)>,
    packets: &[&str],
) -> String {
    play(Sending::new(config, Owner::new(messages)), packets)
}

/// The same, for a session that was prepared.
pub fn play(mut sending: Sending, packets: &[&str]) -> String {
    for packet in packets {
        sending.say(packet);
    }
    sending.transcript
}
