//! The text of messages, after DATA and BDAT.

use qmail_core::{Question, Reply};

use super::super::data::Progress;
use super::super::event::{CloseReason, Event};
use super::super::message::{Chunk, Message, Step, Unwanted};
use super::super::{Dialect, replies};
use super::{Asked, Phase, Session};

impl Session {
    pub(super) fn begin_message(&mut self, recipients: usize, chunk: Option<Chunk>) {
        self.timer
            .start_at_next_tick(self.config.timeouts.data_block);
        // In SMTP a message is answered once.
        let answers = match self.config.dialect {
            Dialect::Smtp => 1,
            Dialect::Lmtp => recipients,
        };
        let message = Message::new(&self.config, self.timer.now(), answers, chunk);
        self.phase = Phase::Message(Box::new(message));
        self.take_empty_chunk();
    }

    pub(super) fn continue_message(&mut self, mut message: Box<Message>, chunk: Chunk) {
        message.continue_with(chunk);
        self.phase = Phase::Message(message);
        self.timer.start(self.config.timeouts.data_block);
        self.take_empty_chunk();
    }

    /// A chunk without octets is over before any arrives.
    fn take_empty_chunk(&mut self) {
        if let Phase::Message(message) = &self.phase
            && message.chunk().is_some_and(|chunk| chunk.is_over())
        {
            self.take_text(b"");
        }
    }

    /// One step of receiving within a message.
    pub(super) fn take_text(&mut self, octets: &[u8]) -> usize {
        let Phase::Message(message) = &mut self.phase else {
            return 0;
        };
        let Step {
            taken,
            text,
            aborted,
            progress,
        } = message.take(&self.config, octets);
        let (octets, answers, refusal) = (message.octets(), message.answers(), message.refusal());
        let chunk_over = message.chunk().filter(|chunk| chunk.is_over());
        if let Some(reason) = aborted {
            self.events.push_back(Event::Aborted { reason });
        } else if !text.is_empty() {
            self.events.push_back(Event::Body(text));
        }
        self.timer.start(self.config.timeouts.data_block);
        match (progress, refusal) {
            (Progress::More | Progress::Looping, refusal) => {
                if let Some(chunk) = chunk_over {
                    self.end_chunk(chunk, refusal);
                }
            }
            (Progress::End, Some(reply)) => {
                self.phase = Phase::Command;
                self.end_void_message(&reply, answers);
            }
            (Progress::End, None) => {
                self.timer.stop();
                self.phase = Phase::Asked(Asked::BodyEnd { answers });
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

    /// A chunk that is not the last has arrived.
    fn end_chunk(&mut self, chunk: Chunk, refusal: Option<Reply>) {
        let Phase::Message(message) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return;
        };
        match refusal {
            Some(reply) => self.end_void_message(&reply, 1),
            None => {
                self.chunked = Some(message);
                self.reply(&replies::chunk_ok(chunk.octets));
                self.timer.start(self.config.timeouts.command);
            }
        }
    }

    fn end_void_message(&mut self, reply: &Reply, answers: usize) {
        for _ in 0..answers {
            self.reply(reply);
        }
        self.timer.start(self.config.timeouts.command);
        if self.shutting_down {
            self.close_with(&replies::shutting_down(), CloseReason::ShutDown);
        }
    }

    /// Reads a chunk that is not wanted, and says why.
    pub(super) fn drop_chunk(&mut self, chunk: Chunk, reply: Reply) {
        self.timer
            .start_at_next_tick(self.config.timeouts.data_block);
        let unwanted = Unwanted::new(&self.config, self.timer.now(), chunk, reply);
        self.phase = Phase::Unwanted(Box::new(unwanted));
        self.take_unwanted(b"");
    }

    /// One step of receiving a chunk that is not wanted.
    pub(super) fn take_unwanted(&mut self, octets: &[u8]) -> usize {
        let Phase::Unwanted(unwanted) = &mut self.phase else {
            return 0;
        };
        let taken = unwanted.take(octets);
        self.timer.start(self.config.timeouts.data_block);
        if let Some(reply) = unwanted.ended().cloned() {
            self.phase = Phase::Command;
            self.end_void_message(&reply, 1);
        }
        taken
    }
}
