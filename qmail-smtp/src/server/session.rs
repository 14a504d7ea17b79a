//! The conversation itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmail_core::{Address, Envelope, Machine, Question, Reply, ReversePath};

use super::command::{self, ArgumentError, Command};
use super::data::Progress;
use super::event::{AbortReason, BodyEnd, CloseReason, Data, Event, Mail, Rcpt, Verdict};
use super::line::{Line, LineBuffer};
use super::message::{Message, Step};
use super::transmit::Transmit;
use super::{Config, replies};
use crate::timer::Timer;

/// Longest name in octets that HELO and EHLO take: RFC 5321 section 4.5.3.1.2.
const NAME_OCTETS_MAX: usize = 255;

/// How long the last words of a session that is over may take to be sent.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(10);

/// The server side of one SMTP connection (RFC 5321).
///
/// The greeting is there to be sent from the start. What to do then is [`Machine`]'s contract; what is asked, and how it is
/// answered, the module's text tells. A dropped [`Question`] leaves the session waiting for ever.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    phase: Phase,
    line: LineBuffer,
    transaction: Option<Transaction>,
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

/// What the session waits for.
#[derive(Debug)]
enum Phase {
    Command,
    /// The owner's answer.
    Asked(Asked),
    Message(Box<Message>),
    Closed,
}

/// The open question, with what becomes of a yes.
#[derive(Debug)]
enum Asked {
    Mail(ReversePath),
    Rcpt(Address),
    Data,
    BodyEnd,
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
            transaction: None,
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

    /// Settles [`Event::Mail`].
    ///
    /// This and the other answers do nothing if another question, or none, is open: the token was another session's.
    pub fn answer_mail(&mut self, question: Question<Mail>, verdict: Verdict) {
        self.settle_mail(question, verdict, None);
    }

    /// Settles [`Event::Mail`] with yes, under another address.
    pub fn accept_mail_as(&mut self, question: Question<Mail>, sender: ReversePath) {
        self.settle_mail(question, Verdict::Accept, Some(sender));
    }

    /// Settles [`Event::Rcpt`].
    pub fn answer_rcpt(&mut self, question: Question<Rcpt>, verdict: Verdict) {
        self.settle_rcpt(question, verdict, None);
    }

    /// Settles [`Event::Rcpt`] with yes, under another address: the host's own literal by its name, or RELAYCLIENT's suffix
    /// appended (qmail-smtpd(8)).
    pub fn accept_rcpt_as(&mut self, question: Question<Rcpt>, recipient: Address) {
        self.settle_rcpt(question, Verdict::Accept, Some(recipient));
    }

    /// Settles [`Event::Data`]. After a yes the message follows, and ends with [`Event::BodyEnd`] or [`Event::Aborted`].
    pub fn answer_data(&mut self, question: Question<Data>, verdict: Verdict) {
        let Some(Asked::Data) = self.answered(question, |asked| matches!(asked, Asked::Data))
        else {
            return;
        };
        match verdict {
            Verdict::Accept => {
                self.reply(&replies::data_go_ahead());
                self.begin_message();
            }
            Verdict::Reply(reply) => {
                self.reply(&reply);
                if (300..400).contains(&reply.code()) {
                    self.begin_message();
                }
            }
            Verdict::Close(reply) => self.close_with(&reply, CloseReason::Refused),
        }
        self.resume();
    }

    /// Settles [`Event::BodyEnd`]: after a yes the client believes that the message is safe.
    pub fn answer_body_end(&mut self, question: Question<BodyEnd>, verdict: Verdict) {
        if self
            .answered(question, |asked| matches!(asked, Asked::BodyEnd))
            .is_none()
        {
            return;
        }
        let accepted = self.decide(verdict, replies::body_ok);
        if accepted {
            self.idle_commands = 0;
        }
        self.resume();
    }

    /// Ends the session with 421 4.3.2 before the next command; a message that is on its way in is let in.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        if let Phase::Command = self.phase {
            self.resume();
        }
    }

    fn settle_mail(
        &mut self,
        question: Question<Mail>,
        verdict: Verdict,
        instead: Option<ReversePath>,
    ) {
        let Some(Asked::Mail(sender)) =
            self.answered(question, |asked| matches!(asked, Asked::Mail(_)))
        else {
            return;
        };
        if self.decide(verdict, replies::mail_ok) {
            let sender = instead.unwrap_or(sender);
            self.transaction = Some(Transaction {
                octets: sender.as_bytes().len(),
                envelope: Envelope::new(sender, Vec::new()),
            });
        }
        self.resume();
    }

    fn settle_rcpt(
        &mut self,
        question: Question<Rcpt>,
        verdict: Verdict,
        instead: Option<Address>,
    ) {
        let Some(Asked::Rcpt(recipient)) =
            self.answered(question, |asked| matches!(asked, Asked::Rcpt(_)))
        else {
            return;
        };
        if self.decide(verdict, replies::rcpt_ok)
            && let Some(transaction) = &mut self.transaction
        {
            let recipient = instead.unwrap_or(recipient);
            transaction.octets += recipient.as_bytes().len();
            transaction.envelope.recipients.push(recipient);
        } else {
            self.count_idle_command();
        }
        self.resume();
    }

    /// Takes the open question away, if it is of the right kind.
    fn answered<K>(
        &mut self,
        _question: Question<K>,
        right_kind: impl Fn(&Asked) -> bool,
    ) -> Option<Asked> {
        match &self.phase {
            Phase::Asked(asked) if right_kind(asked) => {
                match std::mem::replace(&mut self.phase, Phase::Command) {
                    Phase::Asked(asked) => Some(asked),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Replies as the owner wishes; `true` if that was a yes.
    fn decide(&mut self, verdict: Verdict, yes: fn() -> Reply) -> bool {
        match verdict {
            Verdict::Accept => {
                self.reply(&yes());
                true
            }
            Verdict::Reply(reply) => {
                self.reply(&reply);
                (200..300).contains(&reply.code())
            }
            Verdict::Close(reply) => {
                self.close_with(&reply, CloseReason::Refused);
                false
            }
        }
    }

    /// After an answer, at a time that is not known: what comes next.
    fn resume(&mut self) {
        if self.client_gone {
            self.lose_client();
        } else if self.shutting_down && matches!(self.phase, Phase::Command) {
            self.close_with(&replies::shutting_down(), CloseReason::ShutDown);
        } else if matches!(self.phase, Phase::Command) {
            self.timer.start_at_next_tick(self.config.timeouts.command);
        }
    }

    fn begin_message(&mut self) {
        self.timer
            .start_at_next_tick(self.config.timeouts.data_block);
        let message = Message::new(&self.config, self.timer.now());
        self.phase = Phase::Message(Box::new(message));
    }

    /// One step of [`Machine::receive`] between messages.
    fn take_line(&mut self, octets: &[u8]) -> usize {
        let (taken, line) = self.line.take(octets, self.config.line_octets_max);
        match line {
            Line::Part => return taken,
            Line::Whole(line) => self.execute(line),
            Line::Joined(line) => self.execute(&line),
            Line::Overlong => self.refuse(&replies::line_too_long()),
        }
        match self.phase {
            Phase::Asked(_) => self.timer.stop(),
            Phase::Command => self.timer.start(self.config.timeouts.command),
            Phase::Message(_) | Phase::Closed => {}
        }
        taken
    }

    fn execute(&mut self, line: &[u8]) {
        let command = command::command(line);
        if !matches!(command, Command::Rcpt(_) | Command::Data | Command::Quit) {
            self.count_idle_command();
            if self.is_closed() {
                return;
            }
        }
        match command {
            Command::Helo(name) => self.greet(name, false),
            Command::Ehlo(name) => self.greet(name, true),
            Command::Mail(argument) => self.mail(argument),
            Command::Rcpt(argument) => self.rcpt(argument),
            Command::Data => self.data(),
            Command::Rset => {
                self.transaction = None;
                self.reply(&replies::flushed());
            }
            Command::Noop => self.reply(&replies::noop()),
            Command::Vrfy => self.reply(&replies::vrfy()),
            Command::Help => self.reply(&replies::help()),
            Command::Quit => {
                let reply = replies::quit(&self.config);
                self.close_with(&reply, CloseReason::Quit);
            }
            Command::Foreign => {
                self.close_with(&replies::unimplemented(), CloseReason::ForeignCommand);
            }
            Command::Unknown => self.refuse(&replies::unimplemented()),
        }
    }

    fn greet(&mut self, name: &[u8], extended: bool) {
        let control = |&octet: &u8| octet < b' ' || octet == 0x7f;
        if name.len() > NAME_OCTETS_MAX || name.iter().any(control) {
            return self.refuse(&replies::bad_name());
        }
        self.transaction = None;
        let reply = if extended {
            replies::ehlo(&self.config)
        } else {
            replies::helo(&self.config)
        };
        self.reply(&reply);
        self.events.push_back(Event::Greeted {
            name: Bytes::copy_from_slice(name),
            extended,
        });
    }

    fn mail(&mut self, argument: &[u8]) {
        match command::mail(argument, &self.config) {
            Ok((sender, parameters)) => {
                self.phase = Phase::Asked(Asked::Mail(sender.clone()));
                self.events.push_back(Event::Mail {
                    question: Question::new(),
                    sender,
                    parameters,
                });
            }
            Err(error) => self.refuse_argument(error),
        }
    }

    fn rcpt(&mut self, argument: &[u8]) {
        let Some(transaction) = &self.transaction else {
            return self.refuse(&replies::mail_first());
        };
        let recipient = match command::rcpt(argument, &self.config) {
            Ok(recipient) => recipient,
            Err(error) => return self.refuse_argument(error),
        };
        if transaction.envelope.recipients.len() >= self.config.recipients_max
            || transaction.octets + recipient.as_bytes().len() > self.config.envelope_octets_max
        {
            // The client means well and is to try again with these (RFC 5321 section 4.5.3.1.10): no error.
            return self.reply(&replies::too_many_recipients());
        }
        self.phase = Phase::Asked(Asked::Rcpt(recipient.clone()));
        self.events.push_back(Event::Rcpt {
            question: Question::new(),
            recipient,
        });
    }

    fn data(&mut self) {
        match &self.transaction {
            None => return self.refuse(&replies::mail_first()),
            Some(transaction) if transaction.envelope.recipients.is_empty() => {
                return self.refuse(&replies::rcpt_first());
            }
            Some(_) => {}
        }
        let Some(transaction) = self.transaction.take() else {
            return;
        };
        self.phase = Phase::Asked(Asked::Data);
        self.events.push_back(Event::Data {
            question: Question::new(),
            envelope: transaction.envelope,
        });
    }

    /// One step of [`Machine::receive`] within a message.
    fn take_text(&mut self, octets: &[u8]) -> usize {
        let Phase::Message(message) = &mut self.phase else {
            return 0;
        };
        let Step {
            taken,
            text,
            aborted,
            progress,
        } = message.take(&self.config, octets);
        let (octets, refusal) = (message.octets(), message.refusal());
        if let Some(reason) = aborted {
            self.events.push_back(Event::Aborted { reason });
        } else if !text.is_empty() {
            self.events.push_back(Event::Body(text));
        }
        self.timer.start(self.config.timeouts.data_block);
        match (progress, refusal) {
            (Progress::More | Progress::Looping, _) => {}
            (Progress::End, Some(reply)) => {
                self.phase = Phase::Command;
                self.end_void_message(&reply);
            }
            (Progress::End, None) => {
                self.timer.stop();
                self.phase = Phase::Asked(Asked::BodyEnd);
                self.events.push_back(Event::BodyEnd {
                    question: Question::new(),
                    octets,
                });
            }
            // Nothing behind this may be taken for a command.
            (Progress::BareLf, _) => {
                let reply = replies::bare_lf(self.config.reply_style);
                self.close_with(&reply, CloseReason::BareLf);
            }
            (Progress::BareCr, _) => self.close_with(&replies::bare_cr(), CloseReason::BareCr),
        }
        taken
    }

    fn end_void_message(&mut self, reply: &Reply) {
        self.reply(reply);
        self.timer.start(self.config.timeouts.command);
        if self.shutting_down {
            self.close_with(&replies::shutting_down(), CloseReason::ShutDown);
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

    fn refuse_argument(&mut self, error: ArgumentError) {
        match error {
            ArgumentError::Syntax => self.refuse(&replies::bad_address()),
            ArgumentError::EmptyRecipient => self.refuse(&replies::empty_recipient()),
            ArgumentError::UnknownParameter => self.refuse(&replies::unknown_parameter()),
            ArgumentError::BadParameter => self.refuse(&replies::bad_parameter()),
            // The size is the message's fault, not the client's.
            ArgumentError::TooLarge => self.reply(&replies::too_large()),
        }
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
        self.phase = Phase::Closed;
        self.transaction = None;
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
        if let Phase::Message(message) = &mut self.phase
            && message.make_void()
        {
            self.events.push_back(Event::Aborted { reason });
        }
    }

    fn tick(&mut self, now: Instant) {
        self.timer.tick(now);
        if let Phase::Message(message) = &mut self.phase {
            message.tick(now);
        }
    }
}

impl Machine for Session {
    type Event = Event;

    fn receive(&mut self, now: Instant, octets: &[u8]) -> usize {
        self.tick(now);
        let mut taken = 0;
        while taken < octets.len() {
            let rest = &octets[taken..];
            if self.is_closed() {
                taken = octets.len();
                break;
            }
            if !self.events.is_empty() || self.transmit.must_go_first(self.timer.now()) {
                break;
            }
            taken += match self.phase {
                Phase::Command => self.take_line(rest),
                Phase::Message(_) => self.take_text(rest),
                Phase::Asked(_) | Phase::Closed => break,
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
            Phase::Command | Phase::Message(_) => self.lose_client(),
        }
    }

    fn handle_deadline(&mut self, now: Instant) {
        self.tick(now);
        let message_is_due = matches!(&self.phase, Phase::Message(message) if message.is_overdue());
        if self.is_closed() {
            if self.timer.is_due() {
                self.timer.stop();
            }
        } else if self.timer.is_due() || message_is_due {
            self.abort(AbortReason::TimedOut);
            let reply = replies::timeout(self.config.reply_style);
            self.close_with(&reply, CloseReason::TimedOut);
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_transmit(&mut self, sink: &mut Vec<u8>) -> bool {
        let keep_back = matches!(self.phase, Phase::Asked(_));
        let closed = self.is_closed();
        self.transmit.poll(keep_back, closed, sink)
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = match &self.phase {
            Phase::Message(message) => message.deadline(),
            _ => None,
        };
        [self.timer.deadline(), limit].into_iter().flatten().min()
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }
}
