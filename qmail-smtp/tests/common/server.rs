//! An owner of server sessions that keeps what it accepts.

use std::sync::Arc;
use std::time::Instant;

use qmail_core::sasl::{Finding, Inquiry, Verifier};
use qmail_core::{
    Account, Address, EnhancedStatus, Envelope, LoginError, Machine, Reply, ReplyStyle,
};
use qmail_smtp::server::{BareCr, Config, Event, ParameterPolicy, Session, Verdict};

use super::show;

/// What a [`Owner`] saw and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events as lines, bodies left out.
    pub events: Vec<String>,
    /// Accepted messages.
    pub messages: Vec<(Envelope, Vec<u8>)>,
}

/// Accepts everything but recipients whose local part says otherwise.
pub struct Owner {
    pub seen: Seen,
    draft: Option<(Envelope, Vec<u8>)>,
    pub mail: Verdict,
    pub data: Verdict,
    pub end: Verdict,
    pub rcpt: fn(&Address) -> Verdict,
}

pub fn no_such_mailbox() -> Verdict {
    Verdict::Reply(Reply::new(
        550,
        Some(EnhancedStatus::permanent(1, 1)),
        "no such mailbox",
    ))
}

impl Default for Owner {
    fn default() -> Self {
        Self {
            seen: Seen::default(),
            draft: None,
            mail: Verdict::Accept,
            data: Verdict::Accept,
            end: Verdict::Accept,
            rcpt: |recipient| match recipient.local_part() {
                b"nobody" => no_such_mailbox(),
                b"busy" => Verdict::Reply(Reply::new(
                    450,
                    Some(EnhancedStatus::temporary(2, 1)),
                    "come back later",
                )),
                _ => Verdict::Accept,
            },
        }
    }
}

impl Owner {
    /// Settles one event; gives a line about it, if it is worth one.
    pub fn settle(&mut self, session: &mut Session, event: Event) -> Option<String> {
        let line = match event {
            Event::Greeted { name, extended } => {
                let extended = if extended { "extended " } else { "" };
                format!("{extended}greeted by {}", qmail_core::Escaped(&name))
            }
            Event::StartTls => {
                session.tls_started();
                "TLS started".to_owned()
            }
            Event::Login { question, inquiry } => {
                let line = format!("login of {}", qmail_core::Escaped(inquiry.name()));
                session.answer_login(question, account_of(&inquiry));
                line
            }
            Event::LoggedIn(account) => format!("{} is logged in", account.name.escape_ascii()),
            Event::LoginFailed { name, failure } => format!("no login of {name:?}: {failure}"),
            Event::Mail {
                question,
                sender,
                parameters,
            } => {
                session.answer_mail(question, self.mail.clone());
                let mut line = format!("MAIL <{sender}>");
                if let Some(size) = parameters.size {
                    line.push_str(&format!(" size {size}"));
                }
                if let Some(body) = parameters.body {
                    line.push_str(&format!(" {body:?}"));
                }
                if let Some(id) = parameters.envelope_id {
                    line.push_str(&format!(" id {} {:?}", id.escape_ascii(), parameters.ret));
                }
                if parameters.smtp_utf8 {
                    line.push_str(" UTF-8");
                }
                line
            }
            Event::Rcpt {
                question,
                recipient,
                parameters,
            } => {
                session.answer_rcpt(question, (self.rcpt)(&recipient));
                let mut line = format!("RCPT {recipient:?}");
                if let Some(notify) = parameters.notify {
                    line.push_str(&format!(" {notify:?}"));
                }
                if let Some(original) = parameters.original {
                    line.push_str(&format!(" for {}", qmail_core::Escaped(&original)));
                }
                line
            }
            Event::Data { question, envelope } => {
                session.answer_data(question, self.data.clone());
                let line = format!("DATA for {}", envelope.recipients.len());
                self.draft = Some((envelope, Vec::new()));
                line
            }
            Event::Body(chunk) => {
                assert!(!chunk.is_empty() && chunk.len() <= qmail_core::CHUNK_OCTETS_MAX);
                let draft = self.draft.as_mut().expect("DATA came first");
                draft.1.extend_from_slice(&chunk);
                return None;
            }
            Event::BodyEnd { question, octets } => {
                let draft = self.draft.take().expect("DATA came first");
                assert_eq!(octets, draft.1.len() as u64);
                session.answer_body_end(question, self.end.clone());
                self.seen.messages.push(draft);
                format!("complete, {octets} octets")
            }
            Event::Aborted { reason } => {
                self.draft.take().expect("DATA came first");
                format!("aborted: {reason:?}")
            }
            Event::Closed { reason } => format!("closed: {reason:?}"),
            other => format!("{other:?}"),
        };
        self.seen.events.push(line.clone());
        Some(line)
    }
}

/// Joe's password is `secret`, and nobody knows anything of `busy` now.
fn account_of(inquiry: &Inquiry) -> Result<Finding, LoginError> {
    match (inquiry, &inquiry.name()[..]) {
        (_, b"busy") => Err(LoginError::Unavailable {
            reason: "no disk".to_owned(),
        }),
        (Inquiry::Check(credentials), b"joe") if credentials.fit(b"secret") => {
            Ok(Finding::Account(Account::new("joe")))
        }
        (Inquiry::Verifier { .. }, b"user") => {
            let verifier = Verifier::new(b"pencil", b"salt", 1).expect("within limits");
            Ok(Finding::Verifier(Account::new("user"), verifier))
        }
        _ => Err(LoginError::Refused),
    }
}

/// One session with its owner, and what was sent so far.
pub struct Served {
    pub session: Session,
    pub owner: Owner,
    pub now: Instant,
    pub sent: Vec<u8>,
    pub transcript: String,
}

impl Served {
    pub fn new(config: Config, owner: Owner) -> Self {
        let now = super::start();
        let mut served = Self {
            session: Session::new(Arc::new(config), now).with_nonce("n0nce"),
            owner,
            now,
            sent: Vec::new(),
            transcript: String::new(),
        };
        served.drain();
        served
    }

    /// Gives octets as one piece, until all are taken.
    pub fn give(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let taken = self.session.receive(self.now, octets);
            octets = &octets[taken..];
            let progress = self.drain();
            assert!(taken > 0 || progress, "stuck before {octets:?}");
        }
    }

    /// Gives octets, and shows them.
    pub fn say(&mut self, octets: &str) {
        self.transcript.push_str(&show("C:", octets.as_bytes()));
        self.give(octets.as_bytes());
    }

    /// Drains events and transmits; whether there were any.
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
            self.transcript.push_str(&show("S:", &sink));
            self.sent.extend_from_slice(&sink);
        }
    }

    pub fn eof(&mut self) {
        self.session.handle_eof(self.now);
        self.drain();
    }

    /// Lets time pass, with the deadlines in it.
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

/// A whole conversation: every string is one packet of the client.
pub fn converse(config: Config, packets: &[&str]) -> String {
    let mut served = Served::new(config, Owner::default());
    for packet in packets {
        served.say(packet);
    }
    served.transcript
}

/// What a session sends and its owner sees, when `input` comes in the pieces that `cuts` gives.
pub fn outcome<'a>(
    config: &Config,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Seen, bool) {
    let mut served = Served::new(config.clone(), Owner::default());
    for piece in pieces {
        served.give(piece);
    }
    (served.sent, served.owner.seen, served.session.is_closed())
}

/// As it comes.
pub fn config() -> Config {
    Config::new("mx.example.org")
}

/// As the program qmail-smtpd will want it.
pub fn classic() -> Config {
    let mut config = config();
    config.reply_style = ReplyStyle::Classic;
    config.parameters = ParameterPolicy::Ignore;
    config.extensions.size = false;
    config.bare_cr = BareCr::Keep;
    config
}

/// Everything up to the text, in one packet.
pub const ENVELOPE: &str =
    "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<j@example.org>\r\nDATA\r\n";
