//! What a client session is given to do, and what it tells of it.

use std::fmt;

use qmail_core::{Address, EnhancedStatus, ReversePath, StatusClass};

use super::{ReplyError, ServerReply};
use crate::BodyType;

/// One message to be sent; its text comes later.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transaction {
    /// Where bounces go.
    pub sender: ReversePath,
    /// One or more. [`Event::Recipient`] names them by their place here.
    pub recipients: Vec<Address>,
    /// How many octets the text has, for SIZE; an estimate will do (RFC 1870 section 5). Default: not said.
    pub octets: Option<u64>,
    /// What the text consists of, for BODY. Default: not said.
    pub body: Option<BodyType>,
}

impl Transaction {
    /// From and to these, with the rest as it is by default.
    pub fn new(sender: ReversePath, recipients: Vec<Address>) -> Self {
        Self {
            sender,
            recipients,
            octets: None,
            body: None,
        }
    }
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The next message may be started.
    Ready {
        /// What the server announced.
        extensions: Extensions,
    },
    /// The server's word on one recipient. Accepted is not delivered: that is [`Event::Done`].
    Recipient {
        /// Its place in [`Transaction::recipients`].
        index: usize,
        /// 2yz: accepted. 4yz or 5yz: not.
        reply: ServerReply,
    },
    /// All text so far was sent; more is wanted, or its end.
    BodyWanted,
    /// The server has taken charge of the message for all recipients that it accepted.
    Done {
        /// Its reply to the final dot, 2yz.
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

/// What a server announced with EHLO. All absent after HELO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SIZE (RFC 1870).
    pub size: bool,
    /// SIZE's number, unless it is absent, 0, or beyond 64 bits: then there is no limit.
    pub message_octets_max: Option<u64>,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
}

impl Extensions {
    /// Reads the reply to EHLO: its first line is a greeting, each further one a keyword with parameters.
    pub(super) fn parse(reply: &ServerReply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines().skip(1) {
            let mut words = line
                .split(|&octet| octet == b' ')
                .filter(|word| !word.is_empty());
            let Some(keyword) = words.next() else {
                continue;
            };
            match &keyword.to_ascii_uppercase()[..] {
                b"PIPELINING" => extensions.pipelining = true,
                b"8BITMIME" => extensions.eight_bit_mime = true,
                b"ENHANCEDSTATUSCODES" => extensions.enhanced_status_codes = true,
                b"SIZE" => {
                    extensions.size = true;
                    extensions.message_octets_max = words.next().and_then(size_limit);
                }
                _ => {}
            }
        }
        extensions
    }
}

fn size_limit(digits: &[u8]) -> Option<u64> {
    let octets = str::from_utf8(digits).ok()?.parse().ok()?;
    (octets > 0).then_some(octets)
}

/// How far a transaction, or the greeting before the first one, had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for 220.
    Greeting,
    /// EHLO and HELO.
    Hello,
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
    /// A greeting or name that is refused, a protocol error and a lost connection are temporary: they tell of the server,
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

/// A name or address that would not stay what it is within a command line. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("octets that would break the command line")]
pub struct UnsendableError;

/// Why a [`Transaction`] was not started. Nothing was sent, and the session is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// [`Event::Ready`] has not come, or was used up.
    #[error("the session is not ready for a transaction")]
    NotReady,
    /// There is none to send to.
    #[error("the transaction has no recipient")]
    NoRecipient,
    /// The sender has a CR, LF or NUL, or a domain with a control octet, a space or an angle bracket.
    #[error("the sender has octets that would break the command line")]
    Sender,
    /// So has this recipient.
    #[error("recipient {index} has octets that would break the command line")]
    Recipient {
        /// Its place in [`Transaction::recipients`].
        index: usize,
    },
    /// The server announced that it takes no message of this size: permanent, 5.3.4.
    #[error("the server takes at most {octets_max} octets")]
    TooLarge {
        /// [`Extensions::message_octets_max`].
        octets_max: u64,
    },
}
