//! The conversation itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qmail_core::Machine;
use qmail_core::sasl::client::Login;

use super::exchange::{Answer, Exchange};
use super::{
    Cause, Config, Event, Extensions, Failure, Protocol, ReplyReader, ServerReply, Stage,
    StartError, Transaction,
};
use crate::timer::Timer;
use opening::Opening;

mod opening;

/// How long the last words of a session that is over may take to be sent.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(10);

/// The client side of one SMTP or LMTP connection (RFC 5321, RFC 2033).
///
/// It begins by itself; what to do then is [`Machine`]'s contract and the module's text.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    phase: Phase,
    extensions: Extensions,
    encrypted: bool,
    /// Until it was used.
    login: Option<Box<Login>>,
    /// The server still holds a transaction that failed.
    stale: bool,
    replies: ReplyReader,
    events: VecDeque<Event>,
    transmit: Vec<u8>,
    timer: Timer,
}

/// What the session waits for.
#[derive(Debug)]
enum Phase {
    Opening(Opening),
    /// The owner, to start something.
    Ready,
    Envelope(Box<Exchange>),
    /// The owner, to give text.
    Body(Box<Exchange>),
    BodyEnd(BodyEnd),
    /// The reply to a final dot that nobody wants.
    NobodyEnd(Box<Failure>),
    Quit,
    Closed,
}

/// Waiting for what the server says of the text.
#[derive(Debug)]
struct BodyEnd {
    /// The final dot was handed out, and as far as we know sent.
    sent: bool,
    /// LMTP: the recipients of whom the server has still to say something.
    awaited: VecDeque<usize>,
    /// LMTP: the last thing that it said of one who has the message.
    taken: Option<ServerReply>,
}

impl Session {
    /// A connection that was just made.
    pub fn new(config: Arc<Config>, now: Instant) -> Self {
        let mut timer = Timer::new(now);
        timer.start(config.timeouts.greeting);
        Self {
            config,
            phase: Phase::Opening(Opening::Greeting),
            extensions: Extensions::default(),
            encrypted: false,
            login: None,
            stale: false,
            replies: ReplyReader::default(),
            events: VecDeque::new(),
            transmit: Vec::new(),
            timer,
        }
    }

    /// A connection on which TLS was made before anything else (RFC 8314 section 3.3).
    pub fn over_tls(config: Arc<Config>, now: Instant) -> Self {
        Self {
            encrypted: true,
            ..Self::new(config, now)
        }
    }

    /// Has the session log in before it is ready (RFC 4954). If the server does not let it, it fails; nothing is sent then.
    #[must_use]
    pub fn with_login(mut self, login: Login) -> Self {
        self.login = Some(Box::new(login));
        self
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Starts a transaction, after [`Event::Ready`].
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing was sent, and another transaction may be started instead.
    pub fn start(&mut self, transaction: Transaction) -> Result<(), StartError> {
        if !matches!(self.phase, Phase::Ready) || !self.events.is_empty() {
            return Err(StartError::NotReady);
        }
        let exchange = Exchange::new(transaction, &self.extensions, self.stale)?;
        // From here on the server holds a transaction, until it takes the message or is told to forget it.
        self.stale = true;
        self.go_on(Box::new(exchange));
        Ok(())
    }

    /// The next piece of the text, after [`Event::BodyWanted`]. Line ends may be LF or CR LF.
    ///
    /// All of it is encoded at once into what is to be sent: give [`CHUNK_OCTETS_MAX`](qmail_core::CHUNK_OCTETS_MAX) octets at
    /// most. At any other time it is ignored; [`Event::Failed`] is then under way.
    pub fn body(&mut self, octets: &[u8]) {
        if let Phase::Body(exchange) = &mut self.phase {
            exchange.encoder.encode(octets, &mut self.transmit);
            self.timer
                .start_at_next_tick(self.config.timeouts.data_block);
            if self.transmit.is_empty() {
                self.want_body();
            }
        }
    }

    /// The text is complete. Ignored when [`body`](Self::body) is.
    pub fn end_body(&mut self) {
        let Phase::Body(exchange) = &mut self.phase else {
            return;
        };
        if !self.replies.is_empty() {
            // Its end would be taken for the reply to the text.
            return self.break_off(Cause::OutOfTurn);
        }
        let encoder = std::mem::take(&mut exchange.encoder);
        let accepted = exchange.take_accepted();
        match encoder.finish(self.config.partial_line, &mut self.transmit) {
            Ok(()) => {
                self.events
                    .retain(|event| !matches!(event, Event::BodyWanted));
                self.phase = Phase::BodyEnd(BodyEnd {
                    sent: false,
                    awaited: accepted,
                    taken: None,
                });
                self.timer.start_at_next_tick(self.config.timeouts.data_end);
            }
            Err(_) => self.break_off(Cause::PartialLine),
        }
    }

    /// Ends the conversation politely: QUIT, and a short wait for its reply. Meant for after [`Event::Ready`]; at any other
    /// time it is as [`abort`](Self::abort).
    pub fn quit(&mut self) {
        if !matches!(self.phase, Phase::Ready) {
            return self.abort();
        }
        self.events.clear();
        self.transmit.extend_from_slice(b"QUIT\r\n");
        self.phase = Phase::Quit;
        self.timer.start_at_next_tick(self.config.timeouts.quit);
    }

    /// Drops the connection as it is. A message whose final dot was not sent is not delivered.
    pub fn abort(&mut self) {
        self.break_off(Cause::Aborted);
    }

    /// Sends the commands that may be sent, or ends a transaction that failed.
    fn go_on(&mut self, mut exchange: Box<Exchange>) {
        if let Some(failure) = exchange.failed() {
            self.events.push_back(Event::Failed(failure));
            return self.ready();
        }
        let pipelining = self.extensions.pipelining && self.config.pipelining;
        exchange.write_commands(&self.extensions, pipelining, &mut self.transmit);
        let timeouts = &self.config.timeouts;
        self.timer.start_at_next_tick(match exchange.stage() {
            Stage::Mail => timeouts.mail,
            Stage::Rcpt => timeouts.rcpt,
            Stage::Data => timeouts.data,
            _ => timeouts.hello,
        });
        self.phase = Phase::Envelope(exchange);
    }

    fn ready(&mut self) {
        self.phase = Phase::Ready;
        self.timer.stop();
        self.events.push_back(Event::Ready {
            extensions: self.extensions,
        });
    }

    fn want_body(&mut self) {
        if !matches!(self.events.back(), Some(Event::BodyWanted)) {
            self.events.push_back(Event::BodyWanted);
        }
    }

    fn take_reply(&mut self, reply: ServerReply) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Opening(opening) => self.opening_reply(opening, reply),
            // Nothing was asked: most likely a server that does not want to wait any longer.
            Phase::Ready => {
                self.say_quit();
                self.close(Some(cause_of(reply)));
            }
            Phase::Envelope(exchange) => self.envelope_reply(exchange, reply),
            Phase::Body(_) | Phase::BodyEnd(BodyEnd { sent: false, .. }) => {
                self.fail(Failure {
                    stage: Stage::Body,
                    cause: cause_of(reply),
                    possible_duplicate: false,
                });
            }
            Phase::BodyEnd(end) => match self.config.protocol {
                Protocol::Smtp => self.body_end_reply(reply),
                Protocol::Lmtp => self.final_reply(end, reply),
            },
            Phase::NobodyEnd(failure) => {
                self.events.push_back(Event::Failed(*failure));
                self.stale = true;
                self.ready();
            }
            Phase::Quit | Phase::Closed => self.close(None),
        }
    }

    fn envelope_reply(&mut self, mut exchange: Box<Exchange>, reply: ServerReply) {
        match exchange.answer(reply) {
            Answer::Noted => self.go_on(exchange),
            Answer::Recipient { index, reply } => {
                self.events.push_back(Event::Recipient { index, reply });
                self.go_on(exchange);
            }
            Answer::GoAhead => {
                self.timer.start(self.config.timeouts.data_block);
                self.phase = Phase::Body(exchange);
                self.want_body();
            }
            // RFC 2033 section 4.2 does not let a server do that, and nobody knows what it would answer.
            Answer::GoAheadForNobody if self.config.protocol == Protocol::Lmtp => {
                self.fail(exchange.broken(Cause::NoRecipient));
            }
            Answer::GoAheadForNobody => {
                self.transmit.extend_from_slice(b".\r\n");
                self.timer.start(self.config.timeouts.data_end);
                self.phase = Phase::NobodyEnd(Box::new(exchange.broken(Cause::NoRecipient)));
            }
            Answer::Fatal(failure) => {
                self.say_quit();
                self.fail(failure);
            }
            Answer::Senseless(failure) => {
                self.transmit.clear();
                self.fail(failure);
            }
        }
    }

    fn body_end_reply(&mut self, reply: ServerReply) {
        if reply.is_success() {
            self.events.push_back(Event::Done { reply });
            self.stale = false;
            return self.ready();
        }
        let hangs_up = reply.code() == 421;
        let failure = Failure {
            stage: Stage::BodyEnd,
            cause: cause_of(reply),
            possible_duplicate: false,
        };
        if hangs_up || !matches!(failure.cause, Cause::Refused(_)) {
            self.say_quit();
            self.fail(failure);
        } else {
            self.events.push_back(Event::Failed(failure));
            self.stale = false;
            self.ready();
        }
    }

    /// One of the replies of an LMTP server to the text.
    fn final_reply(&mut self, mut end: BodyEnd, reply: ServerReply) {
        let cause = cause_of(reply.clone());
        let hangs_up = reply.code() == 421 || (300..400).contains(&reply.code());
        let Some(index) = end.awaited.pop_front().filter(|_| !hangs_up) else {
            self.say_quit();
            return self.fail(Failure {
                stage: Stage::BodyEnd,
                cause,
                possible_duplicate: false,
            });
        };
        if reply.is_success() {
            end.taken = Some(reply.clone());
        }
        self.events.push_back(Event::Final { index, reply });
        if !end.awaited.is_empty() {
            self.timer.start(self.config.timeouts.data_end);
            self.phase = Phase::BodyEnd(end);
            return;
        }
        self.stale = false;
        self.events.push_back(match end.taken {
            Some(reply) => Event::Done { reply },
            None => Event::Failed(Failure {
                stage: Stage::BodyEnd,
                cause: Cause::NoRecipient,
                possible_duplicate: false,
            }),
        });
        self.ready();
    }

    fn refused(&mut self, stage: Stage, reply: ServerReply) {
        self.say_quit();
        self.fail(Failure {
            stage,
            cause: cause_of(reply),
            possible_duplicate: false,
        });
    }

    /// The reply is not waited for: nothing more is wanted of this server.
    fn say_quit(&mut self) {
        self.transmit.extend_from_slice(b"QUIT\r\n");
    }

    fn fail(&mut self, failure: Failure) {
        let cause = failure.cause.clone();
        self.events.push_back(Event::Failed(failure));
        self.close(Some(cause));
    }

    /// Ends whatever is under way for a reason that is no reply. Nothing is sent: it might be taken for text.
    fn break_off(&mut self, cause: Cause) {
        let failure = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closed => return,
            Phase::Ready => None,
            Phase::Quit => return self.close(None),
            Phase::Opening(opening) => Some((opening.stage(), false)),
            Phase::Envelope(exchange) => {
                self.transmit.clear();
                return self.fail(exchange.broken(cause));
            }
            Phase::NobodyEnd(failure) => return self.fail(*failure),
            Phase::Body(_) => Some((Stage::Body, false)),
            Phase::BodyEnd(end) => Some((Stage::BodyEnd, end.sent)),
        };
        self.transmit.clear();
        match failure {
            None => self.close(Some(cause)),
            Some((stage, possible_duplicate)) => self.fail(Failure {
                stage,
                cause,
                possible_duplicate,
            }),
        }
    }

    fn close(&mut self, cause: Option<Cause>) {
        self.phase = Phase::Closed;
        self.replies = ReplyReader::default();
        self.timer.start_at_next_tick(LAST_WORDS_WAIT);
        self.events.retain(|event| {
            !matches!(
                event,
                Event::BodyWanted | Event::Ready { .. } | Event::StartTls
            )
        });
        self.events.push_back(Event::Closed { cause });
    }
}

/// Only 4yz and 5yz are refusals.
fn cause_of(reply: ServerReply) -> Cause {
    if reply.code() >= 400 {
        Cause::Refused(reply)
    } else {
        Cause::Unexpected(reply)
    }
}

impl Machine for Session {
    type Event = Event;

    fn receive(&mut self, now: Instant, octets: &[u8]) -> usize {
        self.timer.tick(now);
        let mut taken = 0;
        while taken < octets.len() {
            if self.is_closed() {
                return octets.len();
            }
            // It was sent in clear, before the handshake, and must not pass for what is said after it.
            if matches!(self.phase, Phase::Opening(Opening::Handshake)) {
                self.break_off(Cause::OutOfTurn);
                continue;
            }
            // What comes with a 354 comes before the text, and is no reply to it.
            let out_of_turn = matches!(self.phase, Phase::Body(_));
            if !self.events.is_empty() && !out_of_turn {
                break;
            }
            match self.replies.read(&octets[taken..]) {
                Ok((read, reply)) => {
                    taken += read;
                    if let Some(reply) = reply {
                        self.take_reply(reply);
                    } else if matches!(self.phase, Phase::BodyEnd(BodyEnd { sent: false, .. })) {
                        // Its end would be taken for the reply to the text.
                        self.break_off(Cause::OutOfTurn);
                    }
                }
                Err(error) => self.break_off(Cause::NotSmtp(error)),
            }
        }
        self.timer.tick(now);
        taken
    }

    fn handle_eof(&mut self, now: Instant) {
        self.timer.tick(now);
        self.break_off(Cause::ConnectionLost);
    }

    fn handle_deadline(&mut self, now: Instant) {
        self.timer.tick(now);
        if self.timer.is_due() {
            self.timer.stop();
            self.break_off(Cause::TimedOut);
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_transmit(&mut self, sink: &mut Vec<u8>) -> bool {
        if self.transmit.is_empty() {
            return false;
        }
        if sink.is_empty() {
            std::mem::swap(sink, &mut self.transmit);
        } else {
            sink.extend_from_slice(&self.transmit);
        }
        self.transmit = Vec::new();
        match &mut self.phase {
            Phase::Body(_) => self.want_body(),
            Phase::BodyEnd(end) => end.sent = true,
            _ => {}
        }
        true
    }

    fn unsent(&mut self) {
        if let Phase::BodyEnd(end) = &mut self.phase {
            end.sent = false;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timer.deadline()
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }
}
