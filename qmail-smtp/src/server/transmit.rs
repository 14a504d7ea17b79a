//! Replies that wait to be sent together (RFC 2920 section 3.2).

use std::time::{Duration, Instant};

use qmail_core::{Reply, ReplyStyle};

/// Once so many octets wait to be sent, no more commands are taken until they were.
const OCTETS_MAX: usize = 16 * 1024;

/// A reply is kept back for those of the commands behind it at most this long.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Keeps replies while more commands are at hand. Holds nothing once they are sent.
#[derive(Debug, Default)]
pub(super) struct Transmit {
    octets: Vec<u8>,
    /// When the first of them was made.
    since: Option<Instant>,
    /// More commands are at hand, whose replies may go with these.
    more_to_come: bool,
    /// They must go now, nevertheless.
    overdue: bool,
}

impl Transmit {
    pub(super) fn reply(&mut self, reply: &Reply, style: ReplyStyle, now: Instant) {
        self.since.get_or_insert(now);
        reply.write(style, &mut self.octets);
    }

    /// Whether what waits has to be sent before another command is taken.
    pub(super) fn must_go_first(&mut self, now: Instant) -> bool {
        let waited = self
            .since
            .map_or(Duration::ZERO, |since| now.duration_since(since));
        self.overdue = self.octets.len() >= OCTETS_MAX || waited >= WAIT_MAX;
        self.overdue
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Whether the last input had more than was taken.
    pub(super) fn expect_more(&mut self, more_to_come: bool) {
        self.more_to_come = more_to_come;
    }

    /// Gives everything out, unless it is better kept: because of commands at hand, or because the owner is about to add a
    /// reply. After the last word nothing is kept.
    pub(super) fn poll(&mut self, owner_asked: bool, closed: bool, sink: &mut Vec<u8>) -> bool {
        let keep = (self.more_to_come || owner_asked) && !self.overdue && !closed;
        if self.octets.is_empty() || keep {
            return false;
        }
        let mut octets = std::mem::take(&mut self.octets);
        if sink.is_empty() {
            *sink = octets;
        } else {
            sink.append(&mut octets);
        }
        self.since = None;
        self.overdue = false;
        true
    }
}
