//! The machine itself: lines in, phases, and the clock that ends it.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use qmail_core::{Machine, Question};

use crate::output::TRANSMIT_OCTETS_LOW;
use crate::phase::{Authorization, Phase, Transaction, Turn, Update};
use crate::{
    BodyFlow, Config, End, Event, Greeting, Listing, LoginAnswer, RetrieveAnswer, UpdateAnswer,
    VerifierAnswer,
};

/// Server side of one POP3 conversation (RFC 1939), with STLS (RFC 2595) and AUTH (RFC 5034). Owns no socket, no clock, and no mail.
///
/// Drive it as [`Machine`] says: its [`Event`]s ask, its `answer_` methods settle. While it is idle it holds the listing,
/// a half-received line, and no buffer.
///
/// The time that it takes a client to take a reply counts as idle; while the owner is asked something no time runs.
///
/// ```
/// use std::{sync::Arc, time::Instant};
/// use qmail_core::Machine;
/// use qmail_pop3::{Config, Event, Greeting, Listing, LoginAnswer, Session};
///
/// let now = Instant::now();
/// let mut session = Session::new(Arc::new(Config::default()), Greeting::Plain, now);
/// session.receive(now, b"USER joe\r\nPASS secret\r\nSTAT\r\n");
/// let Some(Event::Login { question, credentials }) = session.poll_event() else { panic!() };
/// assert!(credentials.fit(b"secret"));
/// let mut listing = Listing::new();
/// listing.push(120, b"first")?;
/// session.answer_login(now, question, LoginAnswer::Accepted(listing));
/// // It took nothing beyond PASS while it waited.
/// session.receive(now, b"STAT\r\n");
///
/// let mut sent = Vec::new();
/// session.poll_transmit(&mut sent);
/// assert_eq!(sent, b"+OK \r\n+OK \r\n+OK \r\n+OK 1 120\r\n");
/// # Ok::<(), qmail_pop3::ListingError>(())
/// ```
pub struct Session {
    config: Arc<Config>,
    phase: Phase,
    line: Line,
    transmit: Vec<u8>,
    event: Option<Event>,
    /// `None` for a time so long that it never comes.
    deadline: Option<Instant>,
    /// Bad commands in a row.
    errors: u32,
    /// The client sends no more: the session ends as soon as its last command is answered.
    eof: bool,
}

impl Session {
    /// A session that begins with its greeting, in the AUTHORIZATION state.
    ///
    /// An owner that hands the connection over after the login answers [`LoginAnswer::HandedOver`], and has qmail-popup.
    pub fn new(config: Arc<Config>, greeting: Greeting, now: Instant) -> Self {
        let mut transmit = Vec::new();
        let phase = Phase::Authorization(Authorization::start(greeting, &mut transmit));
        Self::start(config, phase, transmit, now)
    }

    /// A session of a client that is logged in already, and waits for the `+OK ` to its password: as qmail-pop3d.
    pub fn logged_in(config: Arc<Config>, listing: Listing, now: Instant) -> Self {
        let mut transmit = Vec::new();
        let phase = Phase::Transaction(Transaction::start(listing, &mut transmit));
        Self::start(config, phase, transmit, now)
    }

    fn start(config: Arc<Config>, phase: Phase, transmit: Vec<u8>, now: Instant) -> Self {
        Self {
            deadline: now.checked_add(config.idle),
            config,
            phase,
            line: Line::default(),
            transmit,
            event: None,
            errors: 0,
            eof: false,
        }
    }

    /// The connection is encrypted from its start (RFC 8314).
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        if let Phase::Authorization(authorization) = &mut self.phase {
            authorization.encrypt();
        }
        self
    }

    /// What the challenges of SCRAM-SHA-256 and CRAM-MD5 are made of: new for each session and impossible to guess, see
    /// [`Exchange::new`](qmail_core::sasl::Exchange::new). Without one these mechanisms are not offered.
    #[must_use]
    pub fn with_nonce(mut self, nonce: &str) -> Self {
        if let Phase::Authorization(authorization) = &mut self.phase {
            authorization.set_nonce(nonce);
        }
        self
    }

    /// Settles [`Event::Login`] and [`Event::Proved`]. An answer to a question that this session has not asked does nothing, here and below.
    pub fn answer_login(
        &mut self,
        now: Instant,
        _question: Question<LoginAnswer>,
        answer: LoginAnswer,
    ) {
        self.turn(now, |phase, turn| match phase {
            Phase::Authorization(authorization) => authorization.answer_login(answer, turn),
            phase => phase,
        });
    }

    /// Settles [`Event::Verifier`].
    pub fn answer_verifier(
        &mut self,
        now: Instant,
        _question: Question<VerifierAnswer>,
        answer: VerifierAnswer,
    ) {
        self.turn(now, |phase, turn| match phase {
            Phase::Authorization(authorization) => authorization.answer_verifier(answer, turn),
            phase => phase,
        });
    }

    /// The handshake that [`Event::StartTls`] asked for is made. The client begins anew, without another greeting. At any
    /// other time this does nothing.
    pub fn tls_started(&mut self) {
        if let Phase::Authorization(authorization) = &mut self.phase {
            authorization.tls_started();
            self.line = Line::default();
        }
    }

    /// Settles [`Event::Retrieve`]. After [`RetrieveAnswer::Opened`] the text is asked for by [`Event::BodyWanted`].
    pub fn answer_retrieve(
        &mut self,
        now: Instant,
        _question: Question<RetrieveAnswer>,
        answer: RetrieveAnswer,
    ) {
        self.turn(now, |mut phase, turn| {
            if let Phase::Transaction(transaction) = &mut phase {
                transaction.answer(answer, turn);
            }
            phase
        });
    }

    /// Settles [`Event::Update`].
    pub fn answer_update(
        &mut self,
        now: Instant,
        _question: Question<UpdateAnswer>,
        answer: UpdateAnswer,
    ) {
        self.turn(now, |phase, turn| match phase {
            Phase::Update(update) => Update::answer(update, answer, turn),
            phase => phase,
        });
    }

    /// Gives the next chunk of the message that was opened, of any size: the octets as stored, with LF or CR LF.
    ///
    /// A session holds what it is given until it is sent, so give one chunk for each [`Event::BodyWanted`].
    pub fn body(&mut self, now: Instant, chunk: &[u8]) -> BodyFlow {
        let mut flow = BodyFlow::Enough;
        self.turn(now, |mut phase, turn| {
            if let Phase::Transaction(transaction) = &mut phase {
                flow = transaction.body(chunk, turn);
            }
            phase
        });
        flow
    }

    /// The message that was opened is complete.
    pub fn end_body(&mut self, now: Instant) {
        self.turn(now, |mut phase, turn| {
            if let Phase::Transaction(transaction) = &mut phase {
                transaction.end_body(turn);
            }
            phase
        });
    }

    /// The message that was opened cannot be read to its end. The connection is closed without the final dot: nothing
    /// else tells a client that what it has is not the whole.
    pub fn abort_body(&mut self, now: Instant) {
        self.turn(now, |phase, _| match phase {
            Phase::Transaction(transaction) if transaction.is_sending() => {
                Phase::Over(End::BodyBroken)
            }
            phase => phase,
        });
    }

    /// How it ended, once [`is_closed`](Machine::is_closed).
    pub fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Over(end) => Some(end),
            _ => None,
        }
    }

    /// One step of the phase, at `now`: everything but the mere receiving of octets starts the time anew.
    fn turn(&mut self, now: Instant, step: impl FnOnce(Phase, &mut Turn<'_>) -> Phase) -> bool {
        let mut turn = Turn {
            config: &self.config,
            transmit: &mut self.transmit,
            event: &mut self.event,
            misused: false,
        };
        // The phase is put back at once; no step panics.
        let phase = mem::replace(&mut self.phase, Phase::Over(End::Disconnected));
        self.phase = step(phase, &mut turn);
        let misused = turn.misused;
        self.deadline = now.checked_add(self.config.idle);
        self.end_after_eof();
        misused
    }

    fn command(&mut self, now: Instant, line: Option<&[u8]>) {
        let misused = self.turn(now, |phase, turn| match line {
            Some(line) => phase.line(line, turn),
            None => {
                turn.misuse(b"line too long");
                phase
            }
        });
        if !misused {
            self.errors = 0;
            return;
        }
        self.errors = self.errors.saturating_add(1);
        if self.errors >= self.config.errors_max && self.end().is_none() {
            self.phase = Phase::Over(End::TooManyErrors);
        }
    }

    fn is_in_handshake(&self) -> bool {
        matches!(&self.phase, Phase::Authorization(authorization) if authorization.is_in_handshake())
    }

    fn end_after_eof(&mut self) {
        if self.eof && (self.phase.takes_commands() || self.is_in_handshake()) {
            self.phase = Phase::Over(End::Disconnected);
        }
    }
}

impl fmt::Debug for Session {
    /// Shows where it is, and nothing of what the client said: that may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("phase", &self.phase.name())
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

impl Machine for Session {
    type Event = Event;

    fn receive(&mut self, now: Instant, octets: &[u8]) -> usize {
        let mut taken = 0;
        while taken < octets.len() {
            if self.is_closed() {
                return octets.len();
            }
            // These were sent too early, and whoever sent them may not be the client.
            if self.is_in_handshake() {
                return octets.len();
            }
            // A full transmit buffer stops a client that asks faster than it listens.
            if self.event.is_some()
                || !self.phase.takes_commands()
                || self.transmit.len() >= TRANSMIT_OCTETS_LOW
            {
                break;
            }
            let rest = &octets[taken..];
            let Some(line_feed) = memchr::memchr(b'\n', rest) else {
                self.line.keep(rest, self.config.line_octets_max);
                return octets.len();
            };
            taken += line_feed + 1;
            let mut kept = mem::take(&mut self.line);
            let line = kept.complete(&rest[..=line_feed], self.config.line_octets_max);
            self.command(now, line);
        }
        taken
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.eof = true;
        self.line = Line::default();
        self.end_after_eof();
    }

    fn handle_deadline(&mut self, now: Instant) {
        if !self.is_closed() && self.deadline().is_some_and(|deadline| now >= deadline) {
            self.phase = Phase::Over(End::TimedOut);
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        let wanted = match &mut self.phase {
            Phase::Transaction(transaction) => transaction
                .asks_for_body(self.transmit.len())
                .then_some(Event::BodyWanted),
            // The last words in clear go first.
            Phase::Authorization(authorization) => (self.transmit.is_empty()
                && authorization.asks_for_tls())
            .then_some(Event::StartTls),
            _ => None,
        };
        if wanted.is_some() {
            return wanted;
        }
        self.event.take()
    }

    fn poll_transmit(&mut self, sink: &mut Vec<u8>) -> bool {
        if let Phase::Transaction(transaction) = &mut self.phase {
            transaction.go_on(&mut self.transmit);
            self.end_after_eof();
        }
        if self.transmit.is_empty() {
            return false;
        }
        if sink.is_empty() {
            // No copy for the body of a message; the sink's room serves the next one.
            mem::swap(sink, &mut self.transmit);
        } else {
            sink.append(&mut self.transmit);
        }
        true
    }

    fn deadline(&self) -> Option<Instant> {
        // A session that is over has one too: its last words are not to be sent for ever to a client that takes none.
        self.deadline.filter(|_| !self.phase.is_asking())
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }
}

/// A command line of which a part has come.
#[derive(Default)]
struct Line {
    octets: Vec<u8>,
    /// It has more than it may have: what comes is thrown away up to its end.
    too_long: bool,
}

impl Line {
    /// Keeps octets without a line end.
    fn keep(&mut self, octets: &[u8], octets_max: usize) {
        // One octet is the LF's.
        if self.too_long || self.octets.len() + octets.len() >= octets_max {
            self.too_long = true;
            self.octets = Vec::new();
        } else {
            self.octets.extend_from_slice(octets);
        }
    }

    /// The whole line without its end, now that its rest is there; `None` if it is too long.
    fn complete<'a>(&'a mut self, rest: &'a [u8], octets_max: usize) -> Option<&'a [u8]> {
        if self.too_long || self.octets.len() + rest.len() > octets_max {
            return None;
        }
        let line = if self.octets.is_empty() {
            rest
        } else {
            self.octets.extend_from_slice(rest);
            &self.octets
        };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests;
