//! A message on its way in: its text, and the limits on it.

use std::time::Instant;

use bytes::Bytes;
use qmail_core::{CHUNK_OCTETS_MAX, Reply};

use super::data::{Decoder, Progress};
use super::event::AbortReason;
use super::{Config, replies};
use crate::timer::Timer;

/// From the yes to DATA or the first BDAT to the end of the text.
#[derive(Debug)]
pub(super) struct Message {
    decoder: Decoder,
    /// How many replies the complete message gets.
    answers: usize,
    /// The chunk that is arriving, if it comes by BDAT.
    chunk: Option<Chunk>,
    octets: u64,
    /// [`Config::hops_max`] was reached.
    looping: bool,
    /// [`Config::message_octets_max`] was passed.
    too_large: bool,
    /// The owner was told that it is void.
    void: bool,
    /// When the whole of it must have arrived.
    limit: Timer,
}

/// The text that one BDAT announced (RFC 3030).
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) octets: u64,
    /// How much of it is still to come.
    left: u64,
    pub(super) last: bool,
}

impl Chunk {
    pub(super) fn new(octets: u64, last: bool) -> Self {
        Self {
            octets,
            left: octets,
            last,
        }
    }

    /// Whether it has arrived.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }
}

/// What came of some octets.
pub(super) struct Step {
    pub(super) taken: usize,
    /// For the owner; empty once the message is void.
    pub(super) text: Bytes,
    /// The message has become void by this.
    pub(super) aborted: Option<AbortReason>,
    pub(super) progress: Progress,
}

impl Message {
    /// Its time is counted from the next tick. With a `chunk` it comes by BDAT.
    pub(super) fn new(config: &Config, now: Instant, answers: usize, chunk: Option<Chunk>) -> Self {
        let mut limit = Timer::new(now);
        limit.start_at_next_tick(config.timeouts.data);
        let decoder = match chunk {
            None => Decoder::new,
            Some(_) => Decoder::for_chunks,
        };
        Self {
            decoder: decoder(config.bare_lf, config.bare_cr, config.hops_max),
            answers,
            chunk,
            octets: 0,
            looping: false,
            too_large: false,
            void: false,
            limit,
        }
    }

    /// The next chunk is on its way.
    pub(super) fn continue_with(&mut self, chunk: Chunk) {
        self.chunk = Some(chunk);
    }

    /// The chunk that is arriving or has just arrived.
    pub(super) fn chunk(&self) -> Option<Chunk> {
        self.chunk
    }

    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// Takes at most what gives one piece of text.
    pub(super) fn take(&mut self, config: &Config, octets: &[u8]) -> Step {
        // The decoder may give one octet more than it gets.
        let mut octets = &octets[..octets.len().min(CHUNK_OCTETS_MAX - 1)];
        if let Some(chunk) = self.chunk {
            let left = usize::try_from(chunk.left).unwrap_or(usize::MAX);
            octets = &octets[..octets.len().min(left)];
        }
        let mut text = Vec::new();
        let (taken, mut progress) = self.decoder.decode(octets, &mut text);
        if let Some(chunk) = &mut self.chunk {
            chunk.left -= taken as u64;
        }
        self.looping |= progress == Progress::Looping;
        if self.is_at_its_end() && matches!(progress, Progress::More | Progress::Looping) {
            progress = self.decoder.end_chunks(&mut text);
        }
        self.octets = self.octets.saturating_add(text.len() as u64);
        self.too_large |= config
            .message_octets_max
            .is_some_and(|octets_max| self.octets > octets_max);
        // What came first is the reason, so that it does not depend on the pieces: the decoder stops at all but the size.
        let refused = match progress {
            _ if self.too_large => Some(AbortReason::TooLarge),
            _ if self.looping => Some(AbortReason::Looping),
            Progress::BareLf => Some(AbortReason::BareLf),
            Progress::BareCr => Some(AbortReason::BareCr),
            Progress::More | Progress::End | Progress::Looping => None,
        };
        let aborted = refused.filter(|_| self.make_void());
        if self.void {
            text = Vec::new();
        }
        Step {
            taken,
            text: text.into(),
            aborted,
            progress,
        }
    }

    /// Whether the last chunk has arrived.
    fn is_at_its_end(&self) -> bool {
        self.chunk
            .is_some_and(|chunk| chunk.last && chunk.is_over())
    }

    /// Octets of text so far.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// What a complete message is answered that the owner is not asked about. A loop is the worse news: the sender could
    /// make the message smaller.
    pub(super) fn refusal(&self) -> Option<Reply> {
        if self.looping {
            Some(replies::looping())
        } else if self.too_large {
            Some(replies::too_large())
        } else {
            None
        }
    }

    /// `true` once.
    pub(super) fn make_void(&mut self) -> bool {
        !std::mem::replace(&mut self.void, true)
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.limit.tick(now);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.limit.deadline()
    }

    /// Whether it has taken too long at the last tick.
    pub(super) fn is_overdue(&self) -> bool {
        self.limit.is_due()
    }
}

/// A chunk that is read and thrown away, because no message is wanted.
#[derive(Debug)]
pub(super) struct Unwanted {
    left: u64,
    /// What the client is told once it is over.
    reply: Reply,
    /// When it must have arrived.
    limit: Timer,
}

impl Unwanted {
    /// Its time is counted from the next tick.
    pub(super) fn new(config: &Config, now: Instant, chunk: Chunk, reply: Reply) -> Self {
        let mut limit = Timer::new(now);
        limit.start_at_next_tick(config.timeouts.data);
        Self {
            left: chunk.left,
            reply,
            limit,
        }
    }

    /// How much of these octets belongs to it.
    pub(super) fn take(&mut self, octets: &[u8]) -> usize {
        let taken = usize::try_from(self.left).map_or(octets.len(), |left| octets.len().min(left));
        self.left -= taken as u64;
        taken
    }

    /// What the client is told, if that was all.
    pub(super) fn ended(&self) -> Option<&Reply> {
        (self.left == 0).then_some(&self.reply)
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.limit.tick(now);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.limit.deadline()
    }

    /// Whether it has taken too long at the last tick.
    pub(super) fn is_overdue(&self) -> bool {
        self.limit.is_due()
    }
}
