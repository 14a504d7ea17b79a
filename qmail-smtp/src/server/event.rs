//! What a server session tells and asks its owner, and what it can be answered.

use bytes::Bytes;
use qmail_core::sasl::{Failure, Inquiry};
use qmail_core::{Account, Address, Envelope, Question, Reply, ReversePath};

use super::parameters::MailParameters;
use crate::dsn::RcptParameters;

/// What happened. Those with a question wait for its answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// HELO, EHLO or LHLO was answered with 250. A transaction that was open is forgotten.
    Greeted {
        /// What the client calls itself: at most 255 octets, none of them control octets. May be empty.
        name: Bytes,
        /// Whether it was not HELO.
        extended: bool,
    },
    /// The client asked for TLS (RFC 3207) and was told to begin; that reply has been given out. Make the handshake on the
    /// stream, then say [`Session::tls_started`](super::Session::tls_started); if it fails, close. Octets that come before
    /// are dropped.
    StartTls,
    /// The client is proving who it is.
    Login {
        /// To [`Session::answer_login`](super::Session::answer_login).
        question: Question<Auth>,
        /// What to ask a [`PasswordChecker`](qmail_core::PasswordChecker).
        inquiry: Inquiry,
    },
    /// The client has proved who it is, and was told so.
    LoggedIn(Account),
    /// It has not.
    LoginFailed {
        /// The name it gave, if it came to that.
        name: Option<Bytes>,
        /// Why.
        failure: Failure,
    },
    /// A sender was named. Yes replaces a transaction that was open, no leaves it as it was.
    Mail {
        /// To [`Session::answer_mail`](super::Session::answer_mail).
        question: Question<Mail>,
        /// Unquoted, without source route, at most [`PATH_OCTETS_MAX`](super::PATH_OCTETS_MAX) octets, no control octets.
        sender: ReversePath,
        /// What stood after it.
        parameters: MailParameters,
    },
    /// A recipient was named.
    Rcpt {
        /// To [`Session::answer_rcpt`](super::Session::answer_rcpt).
        question: Question<Rcpt>,
        /// As the sender's address; never empty.
        recipient: Address,
        /// What stood after it.
        parameters: RcptParameters,
    },
    /// The client wants to send its message. Whatever the answer, the session has forgotten the envelope.
    Data {
        /// To [`Session::answer_data`](super::Session::answer_data).
        question: Question<Data>,
        /// The sender and the accepted recipients, one or more.
        envelope: Envelope,
    },
    /// The next piece of the message: lines end in LF, stuffed dots are gone. At least one and at most
    /// [`CHUNK_OCTETS_MAX`](qmail_core::CHUNK_OCTETS_MAX) octets.
    Body(Bytes),
    /// The message is complete.
    BodyEnd {
        /// To [`Session::answer_body_end`](super::Session::answer_body_end). Say yes only once the message is safe.
        question: Question<BodyEnd>,
        /// How many octets all [`Event::Body`] had together.
        octets: u64,
    },
    /// The message begun after [`Event::Data`] is void: throw it away. The client is told by the machine.
    Aborted {
        /// Why.
        reason: AbortReason,
    },
    /// The session is over; no further event comes.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

/// Marks the question of [`Event::Login`].
#[derive(Debug)]
pub enum Auth {}

/// Marks the question of [`Event::Mail`].
#[derive(Debug)]
pub enum Mail {}

/// Marks the question of [`Event::Rcpt`].
#[derive(Debug)]
pub enum Rcpt {}

/// Marks the question of [`Event::Data`].
#[derive(Debug)]
pub enum Data {}

/// Marks the question of [`Event::BodyEnd`].
#[derive(Debug)]
pub enum BodyEnd {}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, in the classic words.
    Accept,
    /// In the owner's words. Its code decides: 2yz is a yes (3yz at DATA), anything else a no.
    Reply(Reply),
    /// In the owner's words, and the session ends; for the transaction it is a no, for a complete message whatever the owner
    /// did with it.
    Close(Reply),
}

/// Why a message is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbortReason {
    /// The client is gone.
    ConnectionLost,
    /// It sent no end within the time of [`Timeouts`](super::Timeouts).
    TimedOut,
    /// A LF without CR; the session ends.
    BareLf,
    /// A CR without LF; the session ends.
    BareCr,
    /// More than [`Config::message_octets_max`](super::Config::message_octets_max) octets. The rest is read and dropped.
    TooLarge,
    /// [`Config::hops_max`](super::Config::hops_max) reached. The rest is read and dropped.
    Looping,
    /// The client took it back between two chunks (RSET, EHLO, QUIT).
    Reset,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client said QUIT.
    Quit,
    /// The client went without saying so.
    ConnectionLost,
    /// The client did not speak within the time of [`Timeouts`](super::Timeouts).
    TimedOut,
    /// More than [`Config::errors_max`](super::Config::errors_max) errors, or failed logins.
    TooManyErrors,
    /// A command of another protocol, or of an extension whose data would follow unasked and be taken for commands.
    ForeignCommand,
    /// A LF without CR in a message.
    BareLf,
    /// A CR without LF in a message.
    BareCr,
    /// The owner answered with [`Verdict::Close`].
    Refused,
    /// The owner called [`Session::shut_down`](super::Session::shut_down).
    ShutDown,
}
