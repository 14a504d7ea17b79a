//! What a session tells and asks its owner, and what it may be told.

use bytes::Bytes;
use qmail_core::sasl::Verifier;
use qmail_core::{Account, Credentials, LoginError, Question};

use crate::{Deletions, Listing};

/// What a [`Session`](crate::Session) has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A client wants to log in. Settle it by [`Session::answer_login`](crate::Session::answer_login).
    Login {
        /// To be handed back.
        question: Question<LoginAnswer>,
        /// Its name, and its password or digest.
        credentials: Credentials,
    },
    /// A client logs in by SCRAM-SHA-256, which checks it by itself: what is it to be checked against? Settle it by
    /// [`Session::answer_verifier`](crate::Session::answer_verifier).
    Verifier {
        /// To be handed back.
        question: Question<VerifierAnswer>,
        /// Its name, as it spelt it.
        name: Bytes,
    },
    /// It has proved who it is: open its maildrop. Settle it by
    /// [`Session::answer_login`](crate::Session::answer_login), as [`Event::Login`].
    Proved {
        /// To be handed back.
        question: Question<LoginAnswer>,
        /// What the answer to [`Event::Verifier`] said.
        account: Account,
    },
    /// The client waits for a TLS handshake (RFC 2595 section 4): all replies are sent. Take the stream, make the handshake,
    /// then say [`Session::tls_started`](crate::Session::tls_started); if it fails, close. Octets that come before are thrown
    /// away.
    StartTls,
    /// The client wants a message. Settle it by [`Session::answer_retrieve`](crate::Session::answer_retrieve).
    Retrieve {
        /// To be handed back.
        question: Question<RetrieveAnswer>,
        /// Which: its place in the [`Listing`], from 0.
        message: usize,
        /// For TOP, how many lines of the body are wanted after the header: an owner need not fetch more. `None` for RETR.
        lines: Option<u64>,
    },
    /// The next chunk of the message that was opened is wanted: give it by [`Session::body`](crate::Session::body), or
    /// say [`end_body`](crate::Session::end_body).
    ///
    /// It comes again each time that what was sent is nearly drained, so that a session holds little more than one chunk.
    BodyWanted,
    /// The client has said QUIT after its login: remove what is marked. Settle it by
    /// [`Session::answer_update`](crate::Session::answer_update).
    ///
    /// It never comes when the connection broke or timed out (RFC 1939 section 6).
    Update {
        /// To be handed back.
        question: Question<UpdateAnswer>,
        /// The messages to remove; it may be none. All others stay, and count as seen.
        deleted: Deletions,
    },
}

/// What SCRAM-SHA-256 is to be checked against: the account, and its verifier.
pub type VerifierAnswer = Result<(Account, Verifier), LoginError>;

/// What became of an attempt to log in.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoginAnswer {
    /// The client is in, and these are its messages, numbered so for the whole session.
    Accepted(Listing),
    /// Another program has taken the connection over, as checkpassword runs qmail-pop3d below qmail-popup(8): end without
    /// another word.
    HandedOver,
    /// No such name, or not its password: `-ERR authorization failed`. The client may try again, within
    /// [`Config::logins_max`](crate::Config::logins_max).
    Refused,
    /// It cannot be told at the moment: `-ERR [SYS/TEMP] ...` (RFC 3206), so that a client does not ask its user for
    /// another password. The client may try again, within the same limit.
    Unavailable,
    /// Something else: `-ERR TEXT`, and the connection is closed. Control octets become `?`; it is cut at 400 octets.
    Failed(Bytes),
}

/// What became of a message that the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetrieveAnswer {
    /// Its text follows: [`Event::BodyWanted`] will ask for it.
    Opened,
    /// It is gone, or cannot be read: `-ERR unable to open that message`.
    Unavailable,
}

/// What became of the messages that were marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateAnswer {
    /// All are removed: `+OK `.
    Done,
    /// Some are still there: `-ERR unable to unlink all deleted messages`.
    Incomplete,
}

/// Whether a session wants more of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a TOP needs only the beginning of a message"]
pub enum BodyFlow {
    /// [`Event::BodyWanted`] will ask for more.
    More,
    /// The client has all that it asked for, or is gone: close the message.
    Enough,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// QUIT before the login.
    Quit,
    /// QUIT after the login, and all that was marked is removed.
    Updated,
    /// QUIT after the login, but something that was marked could not be removed.
    UpdatedInPart,
    /// The client closed the connection. Nothing is removed.
    Disconnected,
    /// The client was silent for [`Config::idle`](crate::Config::idle). Nothing is removed.
    TimedOut,
    /// [`Config::errors_max`](crate::Config::errors_max) was reached. Nothing is removed.
    TooManyErrors,
    /// [`Config::logins_max`](crate::Config::logins_max) was reached.
    TooManyLogins,
    /// The client speaks HTTP.
    NotPop3,
    /// [`LoginAnswer::HandedOver`].
    HandedOver,
    /// [`LoginAnswer::Failed`].
    LoginFailed,
    /// A message broke off while it was sent ([`Session::abort_body`](crate::Session::abort_body)). Nothing is removed.
    BodyBroken,
}
