//! What a client session tells of what it was given to do.

use std::fmt;

use qmail_core::sasl::client::ExchangeError;
use qmail_core::{EnhancedStatus, StatusClass};

use super::{Extensions, ReplyError, ServerReply};

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The server is ready for a TLS handshake, and nothing else will do: take the stream, make the handshake, then say
    /// [`Session::tls_started`](super::Session::tls_started). Only under
    /// [`Config::start_tls`](super::Config::start_tls), once, before the first [`Event::Ready`].
    StartTls,
    /// The next message may be started.
    Ready {
        /// What the server announced.
        extensions: Extensions,
    },
    /// The server's word on one recipient. Accepted is not delivered: that is [`Event::Done`].
    Recipient {
        /// Its place in [`Transaction::recipients`](super::Transaction::recipients).
        index: usize,
        /// 2yz: accepted. 4yz or 5yz: not.
        reply: ServerReply,
    },
    /// All text so far was sent; more is wanted, or its end.
    BodyWanted,
    /// The server has taken charge of the message for all recipients that it accepted.
    ///
    /// By LMTP it holds for those whose [`Event::Final`] was 2yz, and `reply` is the last of these.
    Done {
        /// Its reply to the final dot, 2yz.
        reply: ServerReply,
    },
    /// The server's last word on one recipient that it had accepted: LMTP only (RFC 2033 section 4.2), between the text and
    /// [`Event::Done`] or [`Event::Failed`], which says nothing else of this recipient.
    Final {
        /// Its place in [`Transaction::recipients`](super::Transaction::recipients).
        index: usize,
        /// 2yz: it has the message. 4yz or 5yz: it has not.
        reply: ServerReply,
    },
    /// No recipient has the message. A refusal told by [`Event::Recipient`] stays in force; for the others this counts.
    Failed(Failure),
    /// The connection is over; no further event comes.
    Closed {
        /// Why, unless it was [`Session::quit`](super::Session::quit).
        cause: Option<Cause>,
    },
}

/// How far a transaction, or the greeting before the first one, had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for 220.
    Greeting,
    /// EHLO, HELO and LHLO.
    Hello,
    /// STARTTLS and the handshake.
    StartTls,
    /// AUTH.
    Auth,
    /// RSET, after an earlier transaction that was refused.
    Reset,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The text.
    Body,
    /// The final dot.
    BodyEnd,
}

/// Why no recipient has the message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Where it happened.
    pub stage: Stage,
    /// What it was.
    pub cause: Cause,
    /// Whether the server may have the message nevertheless: the final dot was sent, and no reply came.
    pub possible_duplicate: bool,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The server said no.
    Refused(ServerReply),
    /// The server accepted no recipient; [`Event::Recipient`] told of each.
    NoRecipient,
    /// [`Config::start_tls`](super::Config::start_tls) requires what the server does not offer, or no way to log in is
    /// common to both sides and permitted by [`Login`](qmail_core::sasl::client::Login).
    NotOffered,
    /// The server does not keep to the SASL mechanism, or is an impostor.
    Login(ExchangeError),
    /// What the server said is no reply.
    NotSmtp(ReplyError),
    /// A reply that makes no sense here.
    Unexpected(ServerReply),
    /// The server began to speak before it had the whole text.
    OutOfTurn,
    /// The connection ended.
    ConnectionLost,
    /// The server, or the network to it, was too slow.
    TimedOut,
    /// The last line has no end, and [`PartialLine::Refuse`](super::PartialLine::Refuse) holds.
    PartialLine,
    /// The owner gave up: [`Session::abort`](super::Session::abort).
    Aborted,
}

impl Failure {
    /// Whether a later try may help.
    ///
    /// A greeting, name or login that is refused, a protocol error and a lost connection are temporary: they tell of the server,
    /// not of the message (qmail-remote(8)). [`Cause::NoRecipient`] is permanent by itself; [`Event::Recipient`] has told what
    /// holds for each.
    pub fn class(&self) -> StatusClass {
        match (&self.cause, self.stage) {
            (Cause::PartialLine | Cause::NoRecipient, _) => StatusClass::Permanent,
            (
                Cause::Refused(reply),
                Stage::Mail | Stage::Rcpt | Stage::Data | Stage::BodyEnd | Stage::Body,
            ) if reply.code() >= 500 => StatusClass::Permanent,
            _ => StatusClass::Temporary,
        }
    }

    /// The server's own enhanced status, if it gave one that agrees with [`class`](Self::class); else one for the cause.
    pub fn status(&self) -> EnhancedStatus {
        let class = self.class();
        if let Cause::Refused(reply) = &self.cause
            && let Some(status) = reply.status()
            && status.class == class
        {
            return status;
        }
        let (subject, detail) = match &self.cause {
            Cause::Refused(_) => (0, 0),
            Cause::NoRecipient => (1, 0),
            Cause::NotSmtp(_) | Cause::Unexpected(_) | Cause::OutOfTurn => (5, 0),
            Cause::NotOffered | Cause::Login(_) => (7, 0),
            Cause::ConnectionLost | Cause::TimedOut => (4, 2),
            Cause::PartialLine => (6, 2),
            Cause::Aborted => (3, 0),
        };
        EnhancedStatus {
            class,
            subject,
            detail,
        }
    }
}

/// For logs: what happened, and the server's words.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reply) => write!(f, "the server refused: {reply}"),
            Self::NoRecipient => f.write_str("the server accepted no recipient"),
            Self::NotOffered => f.write_str("the server does not offer what is required"),
            Self::Login(error) => write!(f, "the login went wrong: {error}"),
            Self::NotSmtp(error) => write!(f, "the server does not speak SMTP: {error}"),
            Self::Unexpected(reply) => write!(f, "unexpected reply: {reply}"),
            Self::OutOfTurn => f.write_str("the server spoke out of turn"),
            Self::ConnectionLost => f.write_str("connection died"),
            Self::TimedOut => f.write_str("connection timed out"),
            Self::PartialLine => f.write_str("the last line of the message has no end"),
            Self::Aborted => f.write_str("given up"),
        }
    }
}
