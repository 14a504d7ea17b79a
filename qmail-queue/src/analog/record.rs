//! The lines of matchup, read back.

use super::lines::{fields, number};
use super::stamp::Stamp;
use crate::Verdict;

/// A line of matchup that reports count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A message that is done with (`m`).
    Message(Message<'a>),
    /// A delivery attempt that is over (`d`).
    Attempt(Attempt<'a>),
}

/// A message that is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// When it was routed.
    pub birth: Stamp,
    /// When it was done with.
    pub done: Stamp,
    /// The same as text.
    pub done_shown: &'a [u8],
    /// Size in octets.
    pub octets: u64,
    /// Recipients who got it.
    pub successes: u64,
    /// Recipients who did not.
    pub failures: u64,
    /// Attempts that were to be repeated.
    pub deferrals: u64,
    /// Its sender, in angle brackets.
    pub sender: &'a [u8],
    /// Process that took it.
    pub qp: &'a [u8],
    /// User who brought it.
    pub uid: &'a [u8],
}

/// A delivery attempt that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// How it ended.
    pub verdict: Verdict,
    /// When its message was routed.
    pub birth: Stamp,
    /// When it began.
    pub start: Stamp,
    /// When it ended.
    pub end: Stamp,
    /// The same as text.
    pub end_shown: &'a [u8],
    /// Size of its message in octets.
    pub octets: u64,
    /// The sender, in angle brackets.
    pub sender: &'a [u8],
    /// Channel, a dot, recipient.
    pub recipient: &'a [u8],
    /// Process that took its message.
    pub qp: &'a [u8],
    /// User who brought its message.
    pub uid: &'a [u8],
    /// What the delivery said, up to the first blank.
    pub reason: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a line; `None` for one that is neither. Fields that are missing are empty, as awk has them.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = fields(line);
        let mut next = || fields.next().unwrap_or_default();
        match next() {
            b"m" => {
                let birth = Stamp::parse(next());
                let done_shown = next();
                Some(Self::Message(Message {
                    birth,
                    done: Stamp::parse(done_shown),
                    done_shown,
                    octets: number(next()),
                    successes: number(next()),
                    failures: number(next()),
                    deferrals: number(next()),
                    sender: next(),
                    qp: next(),
                    uid: next(),
                }))
            }
            b"d" => {
                let verdict = match next() {
                    b"k" => Verdict::Success,
                    b"d" => Verdict::Failure,
                    b"z" => Verdict::Deferral,
                    _ => return None,
                };
                let (birth, start) = (Stamp::parse(next()), Stamp::parse(next()));
                let end_shown = next();
                Some(Self::Attempt(Attempt {
                    verdict,
                    birth,
                    start,
                    end: Stamp::parse(end_shown),
                    end_shown,
                    octets: number(next()),
                    sender: next(),
                    recipient: next(),
                    qp: next(),
                    uid: next(),
                    reason: next(),
                }))
            }
            _ => None,
        }
    }

    /// The process that took the message.
    pub fn qp(&self) -> &'a [u8] {
        match self {
            Self::Message(message) => message.qp,
            Self::Attempt(attempt) => attempt.qp,
        }
    }

    /// The sender, in angle brackets.
    pub fn sender(&self) -> &'a [u8] {
        match self {
            Self::Message(message) => message.sender,
            Self::Attempt(attempt) => attempt.sender,
        }
    }

    /// Channel, a dot, recipient; a message has several, and so none.
    pub fn recipient(&self) -> Option<&'a [u8]> {
        match self {
            Self::Message(_) => None,
            Self::Attempt(attempt) => Some(attempt.recipient),
        }
    }
}

impl Message<'_> {
    /// From routing to end, in nanoseconds.
    pub(super) fn qtime(&self) -> i128 {
        self.done.0 - self.birth.0
    }

    /// Recipients it had.
    pub(super) fn recipients(&self) -> i128 {
        i128::from(self.successes) + i128::from(self.failures)
    }

    /// Attempts at them.
    pub(super) fn tries(&self) -> i128 {
        self.recipients() + i128::from(self.deferrals)
    }
}

impl Attempt<'_> {
    /// How long it took, in nanoseconds.
    pub(super) fn xdelay(&self) -> i128 {
        self.end.0 - self.start.0
    }

    /// From the routing of the message to its end, in nanoseconds.
    pub(super) fn ddelay(&self) -> i128 {
        self.end.0 - self.birth.0
    }
}
