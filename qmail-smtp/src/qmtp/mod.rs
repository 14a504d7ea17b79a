//! QMTP and QMQP, both ways: messages in netstrings, one exchange for each.
//!
//! | | QMTP | QMQP |
//! |---|---|---|
//! | what comes | any number of packages: message, sender, recipients | one package, then the end |
//! | line ends | LF or CR LF, as its first octet says | LF |
//! | what is answered | each recipient | the package |
//! | relay control | the owner's | none: whoever may connect may send anything |
//!
//! A [`Client`] sends packages and is given their answers. A [`Session`] asks its owner once for each package, at [`Event::End`]. An owner starts a draft at [`Event::Begin`],
//! appends each [`Event::Body`], commits it at [`Event::End`], and drops it at [`Event::Closed`].
//!
//! Stricter than qmail-qmtpd(8) and qmail-qmqpd(8): lengths have no leading zeros; answers to earlier packages are sent before
//! a protocol error ends the session.

mod answers;
mod client;
mod frame;
mod package;
mod session;

use bytes::Bytes;
use qmail_core::{Address, Question, ReversePath, netstring};

pub use answers::{ANSWER_OCTETS_MAX, ANSWER_TEXT_OCTETS_MAX, AnswerError, Answers};
pub use client::{Client, ClientCause, ClientEvent, ClientTimeouts, NotReadyError};
pub use frame::{qmqp_frame, qmtp_frame};
pub use session::Session;

/// Which of the two is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The Quick Mail Transfer Protocol, port 209.
    Qmtp,
    /// The Quick Mail Queueing Protocol, port 628.
    Qmqp,
}

/// Longest netstring in octets that is taken.
pub const NETSTRING_OCTETS_MAX: u64 = 2_000_000_000;

/// Longest address in octets that is taken.
pub const PATH_OCTETS_MAX: usize = 999;

/// Most octets that the recipients of one package may have together; beyond, the session ends with
/// [`CloseReason::TooLong`]. Bounds what a session can be made to hold.
pub const ENVELOPE_OCTETS_MAX: usize = 16 * 1024 * 1024;

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A package begins.
    Begin,
    /// The next piece of its message: lines end in LF. At least one and at most
    /// [`CHUNK_OCTETS_MAX`](qmail_core::CHUNK_OCTETS_MAX) octets.
    Body(Bytes),
    /// The package is complete.
    End {
        /// To [`Session::answer`].
        question: Question<End>,
        /// `None`: longer than [`PATH_OCTETS_MAX`], or with octets that no address may have.
        sender: Option<ReversePath>,
        /// In order; `None` as for the sender.
        recipients: Vec<Option<Address>>,
    },
    /// The session is over; a package that was begun is void.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

/// Marks the question of [`Event::End`].
#[derive(Debug)]
pub enum End {}

/// What becomes of a recipient, or of a package. The text has its status at its end: `ok (#2.1.0)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `K`: it is safe.
    Accepted(Bytes),
    /// `Z`: a later try may work.
    Deferred(Bytes),
    /// `D`: never.
    Refused(Bytes),
}

impl Answer {
    fn write(&self, sink: &mut Vec<u8>) {
        let (letter, text) = match self {
            Self::Accepted(text) => (b"K", text),
            Self::Deferred(text) => (b"Z", text),
            Self::Refused(text) => (b"D", text),
        };
        netstring::write(&[letter, &text[..]].concat(), sink);
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client sends no more; or it was QMQP, and it has its answer.
    Ended,
    /// What came is no package.
    Malformed,
    /// A length is above [`NETSTRING_OCTETS_MAX`], or the recipients are above [`ENVELOPE_OCTETS_MAX`].
    TooLong,
    /// The session took too long.
    TimedOut,
}
