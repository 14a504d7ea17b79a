//! The conversation itself.

mod answers;
mod commands;
mod login;
mod text;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmail_core::sasl::{Exchange, Mechanism};
use qmail_core::{Address, Envelope, Machine, Reply, ReversePath};

use super::event::{AbortReason, CloseReason, Event};
use super::line::{Line, LineBuffer};
use super::message::{Chunk, Message, Unwanted};
use super::transmit::Transmit;
use super::{Config, Dialect, replies};
use crate::timer::Timer;

/// How long the last words of a session that is over may take to be sent.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(10);

/// The server side of one SMTP connection (RFC 5321).
///
/// The greeting is there to be sent from the start. What to do then is [`Machine`]'s contract; what is asked, and how it is
/// answered, the module's text tells. A dropped [`Question`](qmail_core::Question) leaves the session waiting for ever.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    phase: Phase,
    line: LineBuffer,
    standing: Standing,
    transaction: Option<Transaction>,
    /// A message of which the next chunk is waited for.
    chunked: Option<Box<Message>>,
    events: VecDeque<Event>,
    transmit: Transmit,
    timer: Timer,
    errors: u32,
    idle_commands: u32,
    /// The client has gone while a question was open.
    client_gone: bool,
    /// The owner wants to stop at the next command.
    shutting_down: bool,
}

/// What the client has said and proved so far.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The last greeting was EHLO or LHLO.
    pub(super) extended: bool,
    /// The connection is.
    pub(super) encrypted: bool,
    logged_in: bool,
    /// The current sender came with SMTPUTF8.
    smtp_utf8: bool,
    /// Logins that were tried.
    logins: u32,
    login_failures: u32,
    /// The name that was last given in a login.
    claimed: Option<Bytes>,
    /// What makes the challenges of this session its own.
    nonce: Option<Box<str>>,
}

/// What the session waits for.
#[derive(Debug)]
enum Phase {
    Command,
    /// The owner's answer.
    Asked(Asked),
    Message(Box<Message>),
    /// The end of a chunk that nobody wants.
    Unwanted(Box<Unwanted>),
    /// What the client says to a challenge.
    Response(Box<Exchange>),
    /// TLS. `told`: the owner knows.
    Handshake {
        told: bool,
    },
    Closed,
}

/// The open question, with what becomes of a yes.
#[derive(Debug)]
enum Asked {
    Mail {
        sender: ReversePath,
        smtp_utf8: bool,
    },
    Rcpt(Address),
    Data {
        recipients: usize,
        chunk: Option<Chunk>,
    },
    BodyEnd {
        answers: usize,
    },
    Login(Box<Exchange>),
}

/// An accepted sender and what was accepted after it.
#[derive(Debug)]
struct Transaction {
    envelope: Envelope,
    /// Octets of all its addresses.
    octets: usize,
}

impl Session {
    /// A connection that was just made.
    pub fn new(config: Arc<Config>, now: Instant) -> Self {
        let mut session = Self {
            phase: Phase::Command,
            line: LineBuffer::default(),
            standing: Standing::default(),
            transaction: None,
            chunked: None,
            events: VecDeque::new(),
            transmit: Transmit::default(),
            timer: Timer::new(now),
            errors: 0,
            idle_commands: 0,
            client_gone: false,
            shutting_down: false,
            config,
        };
        session.reply(&replies::greeting(&session.config));
        session.timer.start(session.config.timeouts.command);
        session
    }

    /// The connection is encrypted from its start (RFC 8314).
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.standing.encrypted = true;
        self
    }

    /// What the challenges of SCRAM-SHA-256 and CRAM-MD5 are made of; see [`Exchange::new`]. One nonce is enough for all
    /// exchanges of a session; without one, these mechanisms are not offered.
    #[must_use]
    pub fn with_nonce(mut self, nonce: &str) -> Self {
        self.standing.nonce = Some(nonce.into());
        self
    }

    /// The handshake that [`Event::StartTls`] asked for has succeeded. The client begins anew, as one that was never heard
    /// (RFC 3207 section 4.2). At any other time this does nothing.
    pub fn tls_started(&mut self) {
        if let Phase::Handshake { .. } = self.phase {
            self.phase = Phase::Command;
            self.transaction = None;
            self.line = LineBuffer::default();
            self.standing = Standing {
                encrypted: true,
                logins: self.standing.logins,
                login_failures: self.standing.login_failures,
                nonce: self.standing.nonce.take(),
                ..Standing::default()
            };
            self.resume();
        }
    }

    /// Ends the session with 421 4.3.2 before the next command; a message that is on its way in is let in.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        if let Phase::Command | Phase::Response(_) = self.phase {
            self.phase = Phase::Command;
            self.resume();
        }
    }

    /// How the current message comes in, for its Received field: `SMTP`, `ESMTPSA`, `UTF8LMTP`, ... (RFC 3848, RFC 6531
    /// section 4.3).
    pub fn protocol(&self) -> &'static str {
        self.standing.protocol(self.config.dialect)
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.standing.encrypted
    }

    /// After an answer, at a time that is not known: what comes next.
    fn resume(&mut self) {
        if self.client_gone {
            self.lose_client();
        } else if self.shutting_down && self.is_between_messages() {
            self.close_with(&replies::shutting_down(), CloseReason::ShutDown);
        } else if matches!(self.phase, Phase::Command | Phase::Response(_)) {
            self.timer.start_at_next_tick(self.config.timeouts.command);
        }
    }

    fn is_between_messages(&self) -> bool {
        matches!(self.phase, Phase::Command) && self.chunked.is_none()
    }

    /// One step of [`Machine::receive`] between messages.
    fn take_line(&mut self, octets: &[u8]) -> usize {
        let is_response = matches!(self.phase, Phase::Response(_));
        let octets_max = if is_response {
            login::RESPONSE_LINE_OCTETS_MAX
        } else {
            self.config.line_octets_max
        };
        let (taken, line) = self.line.take(octets, octets_max);
        match line {
            Line::Part => return taken,
            Line::Whole(line) => self.take_whole_line(line, is_response),
            Line::Joined(line) => self.take_whole_line(&line, is_response),
            Line::Overlong if is_response => self.cancel_login(&replies::response_too_long()),
            Line::Overlong => self.refuse(&replies::line_too_long()),
        }
        match self.phase {
            Phase::Asked(_) => self.timer.stop(),
            Phase::Command | Phase::Response(_) | Phase::Handshake { .. } => {
                self.timer.start(self.config.timeouts.command);
            }
            Phase::Message(_) | Phase::Unwanted(_) | Phase::Closed => {}
        }
        taken
    }

    fn take_whole_line(&mut self, line: &[u8], is_response: bool) {
        if is_response {
            self.respond(line);
        } else {
            self.execute(line);
        }
    }

    fn reply(&mut self, reply: &Reply) {
        self.transmit
            .reply(reply, self.config.reply_style, self.timer.now());
    }

    /// Says no, and counts it.
    fn refuse(&mut self, reply: &Reply) {
        self.reply(reply);
        self.count_error();
    }

    fn count_idle_command(&mut self) {
        self.idle_commands = self.idle_commands.saturating_add(1);
        if self.idle_commands > self.config.idle_commands_max {
            self.count_error();
        }
    }

    fn count_error(&mut self) {
        self.errors = self.errors.saturating_add(1);
        if self.errors > self.config.errors_max && !self.is_closed() {
            self.close_with(&replies::too_many_errors(), CloseReason::TooManyErrors);
        }
    }

    fn close_with(&mut self, reply: &Reply, reason: CloseReason) {
        self.reply(reply);
        self.close(reason);
    }

    fn close(&mut self, reason: CloseReason) {
        self.abort(AbortReason::Reset);
        self.phase = Phase::Closed;
        self.transaction = None;
        self.chunked = None;
        self.line = LineBuffer::default();
        self.timer.start_at_next_tick(LAST_WORDS_WAIT);
        self.events.push_back(Event::Closed { reason });
    }

    fn lose_client(&mut self) {
        self.abort(AbortReason::ConnectionLost);
        if !self.is_closed() {
            self.close(CloseReason::ConnectionLost);
        }
    }

    /// If a message is on its way in that the owner still believes in, tells it.
    fn abort(&mut self, reason: AbortReason) {
        let ((Phase::Message(message), _) | (_, Some(message))) =
            (&mut self.phase, &mut self.chunked)
        else {
            return;
        };
        if message.make_void() {
            self.events.push_back(Event::Aborted { reason });
        }
    }

    fn tick(&mut self, now: Instant) {
        self.timer.tick(now);
        match (&mut self.phase, &mut self.chunked) {
            (Phase::Message(message), _) | (_, Some(message)) => message.tick(now),
            (Phase::Unwanted(chunk), None) => chunk.tick(now),
            _ => {}
        }
    }

    /// Whether a message or a chunk has taken too long at the last tick.
    fn is_overdue(&self) -> bool {
        match (&self.phase, &self.chunked) {
            (Phase::Message(message), _) | (_, Some(message)) => message.is_overdue(),
            (Phase::Unwanted(chunk), None) => chunk.is_overdue(),
            _ => false,
        }
    }
}

impl Standing {
    /// The mechanisms by which the client may log in now.
    pub(super) fn offered<'a>(
        &'a self,
        config: &'a Config,
    ) -> impl Iterator<Item = Mechanism> + 'a {
        let login = config.login.as_ref();
        login
            .filter(|login| self.encrypted || login.in_clear)
            .into_iter()
            .flat_map(|login| login.mechanisms.iter().copied())
            .filter(|mechanism| match mechanism {
                Mechanism::CramMd5 | Mechanism::ScramSha256 => self.nonce.is_some(),
                _ => true,
            })
    }

    fn protocol(&self, dialect: Dialect) -> &'static str {
        let names: &[&str; 4] = match (dialect, self.smtp_utf8) {
            (Dialect::Smtp, false) if !self.extended => return "SMTP",
            (Dialect::Smtp, false) => &["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"],
            (Dialect::Smtp, true) => &["UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"],
            (Dialect::Lmtp, false) => &["LMTP", "LMTPA", "LMTPS", "LMTPSA"],
            (Dialect::Lmtp, true) => &["UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"],
        };
        names[usize::from(self.encrypted) * 2 + usize::from(self.logged_in)]
    }
}

impl Machine for Session {
    type Event = Event;

    fn receive(&mut self, now: Instant, octets: &[u8]) -> usize {
        self.tick(now);
        let mut taken = 0;
        while taken < octets.len() {
            let rest = &octets[taken..];
            // In a handshake these were sent too early, and whoever sent them may not be the client.
            if matches!(self.phase, Phase::Closed | Phase::Handshake { .. }) {
                taken = octets.len();
                break;
            }
            if !self.events.is_empty() || self.transmit.must_go_first(self.timer.now()) {
                break;
            }
            taken += match self.phase {
                Phase::Command | Phase::Response(_) => self.take_line(rest),
                Phase::Message(_) => self.take_text(rest),
                Phase::Unwanted(_) => self.take_unwanted(rest),
                Phase::Asked(_) | Phase::Handshake { .. } | Phase::Closed => break,
            };
        }
        self.transmit.expect_more(taken < octets.len());
        taken
    }

    fn handle_eof(&mut self, now: Instant) {
        self.tick(now);
        match self.phase {
            Phase::Asked(_) => self.client_gone = true,
            Phase::Closed => {}
            _ => self.lose_client(),
        }
    }

    fn handle_deadline(&mut self, now: Instant) {
        self.tick(now);
        if self.is_closed() {
            if self.timer.is_due() {
                self.timer.stop();
            }
        } else if self.timer.is_due() || self.is_overdue() {
            self.abort(AbortReason::TimedOut);
            let reply = replies::timeout(self.config.reply_style);
            self.close_with(&reply, CloseReason::TimedOut);
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none()
            && let Phase::Handshake { told: told @ false } = &mut self.phase
            && self.transmit.is_empty()
        {
            *told = true;
            return Some(Event::StartTls);
        }
        event
    }

    fn poll_transmit(&mut self, sink: &mut Vec<u8>) -> bool {
        let keep_back = matches!(self.phase, Phase::Asked(_));
        let closed = self.is_closed();
        self.transmit.poll(keep_back, closed, sink)
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = match (&self.phase, &self.chunked) {
            (Phase::Message(message), _) | (_, Some(message)) => message.deadline(),
            (Phase::Unwanted(chunk), None) => chunk.deadline(),
            _ => None,
        };
        [self.timer.deadline(), limit].into_iter().flatten().min()
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }
}
