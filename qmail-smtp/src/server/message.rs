//! A message on its way in: its text, and the limits on it.

use std::time::Instant;

use bytes::Bytes;
use qmail_core::{CHUNK_OCTETS_MAX, Reply};

use super::data::{Decoder, Progress};
use super::event::AbortReason;
use super::{Config, replies};
use crate::timer::Timer;

/// From the yes to DATA to the final dot.
#[derive(Debug)]
pub(super) struct Message {
    decoder: Decoder,
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
    /// Its time is counted from the next tick.
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let mut limit = Timer::new(now);
        limit.start_at_next_tick(config.timeouts.data);
        Self {
            decoder: Decoder::new(config.bare_lf, config.bare_cr, config.hops_max),
            octets: 0,
            looping: false,
            too_large: false,
            void: false,
            limit,
        }
    }

    /// Takes at most what gives one chunk.
    pub(super) fn take(&mut self, config: &Config, octets: &[u8]) -> Step {
        // The decoder may give one octet more than it gets.
        let octets = &octets[..octets.len().min(CHUNK_OCTETS_MAX - 1)];
        let mut text = Vec::new();
        let (taken, progress) = self.decoder.decode(octets, &mut text);
        self.octets = self.octets.saturating_add(text.len() as u64);
        self.looping |= progress == Progress::Looping;
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
