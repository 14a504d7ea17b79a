//! The events, their classic lines, and their fields.

use std::fmt;
use std::path::Path;

use qmail_core::{Address, ReversePath};

use super::Masked;
use crate::{Channel, MessageId, SpoolError};

/// Something that a postmaster may want to know.
///
/// `Display` gives the line of qmail-send(8) byte for byte, without time and line end; lines that qmail-send never wrote begin
/// with `warning:` or `alert:` as its own do. [`name`](Self::name) and [`fields`](Self::fields) give the same in pieces, unmasked.
///
/// ```
/// use qmail_queue::{LogEvent, MessageId, Verdict};
/// let event = LogEvent::DeliveryEnded { delivery: 3, verdict: Verdict::Deferral, text: b"Host down.\n" };
/// assert_eq!(event.to_string(), "delivery 3: deferral: Host_down./");
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LogEvent<'a> {
    /// The routing of a message begins.
    NewMessage {
        /// Which.
        id: MessageId,
    },
    /// What is known of a new message.
    MessageInfo {
        /// Which.
        id: MessageId,
        /// Size of its text, the queue's Received field included.
        octets: u64,
        /// Where its bounces go.
        sender: &'a ReversePath,
        /// Process that took it.
        qp: u32,
        /// User who brought it.
        uid: u32,
    },
    /// A delivery attempt to one recipient begins.
    DeliveryStarted {
        /// Counts from 1 in each process.
        delivery: u64,
        /// Which message.
        id: MessageId,
        /// Which way.
        channel: Channel,
        /// To whom, rewritten.
        recipient: &'a Address,
    },
    /// A delivery attempt to one recipient is over.
    DeliveryEnded {
        /// As in [`LogEvent::DeliveryStarted`].
        delivery: u64,
        /// How it ended.
        verdict: Verdict,
        /// What the delivery says of it.
        text: &'a [u8],
    },
    /// A delivery gave no outcome for a recipient; it counts as a deferral.
    ReportMangled {
        /// As in [`LogEvent::DeliveryStarted`].
        delivery: u64,
    },
    /// How busy the queue is: at the start, and after each start and report of a job.
    Status {
        /// Local jobs running.
        local: usize,
        /// Most local jobs at once.
        local_max: usize,
        /// Remote jobs running.
        remote: usize,
        /// Most remote jobs at once.
        remote_max: usize,
        /// Whether the queue is stopping.
        exiting: bool,
    },
    /// The bounce of a message is queued.
    Bounced {
        /// The message that is told of.
        id: MessageId,
        /// Process that took the bounce.
        qp: u32,
    },
    /// A double bounce could not be delivered, and is forgotten.
    TripleBounce {
        /// Which.
        id: MessageId,
    },
    /// A bounce could not be delivered, and there is nobody to tell.
    DoubleBounceDiscarded {
        /// Which.
        id: MessageId,
    },
    /// A message is done with.
    MessageEnded {
        /// Which.
        id: MessageId,
    },
    /// The queue has stopped.
    Exiting,
    /// A recipient failed before any attempt: rewritten, it is too long.
    RecipientTooLong {
        /// Which message.
        id: MessageId,
        /// Who, as given.
        recipient: &'a Address,
    },
    /// The spool did not do what it was asked. Nothing is lost: it will be asked again.
    SpoolTrouble {
        /// What it was asked for, in a few words: `reading`, `marking`.
        doing: &'static str,
        /// What it said.
        error: &'a SpoolError,
        /// What comes of it.
        consequence: &'static str,
    },
    /// A failure could not be noted down for the bounce; it will be tried again.
    NoteTrouble {
        /// What the spool said.
        error: &'a SpoolError,
    },
    /// A bounce could not be queued; it will be tried again.
    BounceTrouble {
        /// Which message it tells of.
        id: MessageId,
        /// Why not.
        error: &'a dyn std::error::Error,
    },
    /// Something in the spool is no message. It is left alone.
    Damaged {
        /// Where it lies.
        path: &'a Path,
        /// What is wrong with it.
        reason: &'a str,
    },
    /// Something else that a postmaster should look at, from the program around the queue.
    Warning {
        /// One line.
        text: &'a str,
    },
    /// Something that a postmaster must look at, from the program around the queue.
    Alert {
        /// One line.
        text: &'a str,
    },
}

/// How a delivery attempt ended, as the log calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Delivered.
    Success,
    /// Failed for good.
    Failure,
    /// To be tried again.
    Deferral,
}

impl Verdict {
    /// `success`, `failure` or `deferral`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Deferral => "deferral",
        }
    }
}

/// The value of a field of an event.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// Octets that a stranger may have chosen: not masked, and maybe not UTF-8.
    Octets(&'a [u8]),
    /// Text of this program.
    Text(&'a str),
    /// Something that writes itself: an error, a path.
    Shown(&'a dyn fmt::Display),
    /// Yes or no.
    Flag(bool),
}

impl LogEvent<'_> {
    /// Name of the event, in lower case with underscores: for structured logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NewMessage { .. } => "new_message",
            Self::MessageInfo { .. } => "message_info",
            Self::DeliveryStarted { .. } => "delivery_started",
            Self::DeliveryEnded { .. } => "delivery_ended",
            Self::ReportMangled { .. } => "report_mangled",
            Self::Status { .. } => "status",
            Self::Bounced { .. } => "bounced",
            Self::TripleBounce { .. } => "triple_bounce",
            Self::DoubleBounceDiscarded { .. } => "double_bounce_discarded",
            Self::MessageEnded { .. } => "message_ended",
            Self::Exiting => "exiting",
            Self::RecipientTooLong { .. } => "recipient_too_long",
            Self::SpoolTrouble { .. } => "spool_trouble",
            Self::NoteTrouble { .. } => "note_trouble",
            Self::BounceTrouble { .. } => "bounce_trouble",
            Self::Damaged { .. } => "damaged",
            Self::Warning { .. } => "warning",
            Self::Alert { .. } => "alert",
        }
    }

    /// Tells each field by name, in a fixed order.
    ///
    /// ```
    /// use qmail_queue::{LogEvent, MessageId, Value};
    /// let mut fields = Vec::new();
    /// LogEvent::Bounced { id: MessageId(7), qp: 99 }.fields(&mut |name, value| {
    ///     let Value::Number(number) = value else { panic!() };
    ///     fields.push((name, number));
    /// });
    /// assert_eq!(fields, [("message", 7), ("qp", 99)]);
    /// ```
    pub fn fields(&self, tell: &mut dyn FnMut(&'static str, Value<'_>)) {
        match *self {
            Self::NewMessage { id }
            | Self::TripleBounce { id }
            | Self::DoubleBounceDiscarded { id }
            | Self::MessageEnded { id } => tell("message", Value::Number(id.0)),
            Self::MessageInfo {
                id,
                octets,
                sender,
                qp,
                uid,
            } => {
                tell("message", Value::Number(id.0));
                tell("octets", Value::Number(octets));
                tell("sender", Value::Octets(sender.as_bytes()));
                tell("qp", Value::Number(qp.into()));
                tell("uid", Value::Number(uid.into()));
            }
            Self::DeliveryStarted {
                delivery,
                id,
                channel,
                recipient,
            } => {
                tell("delivery", Value::Number(delivery));
                tell("message", Value::Number(id.0));
                tell("channel", Value::Text(channel.name()));
                tell("recipient", Value::Octets(recipient.as_bytes()));
            }
            Self::DeliveryEnded {
                delivery,
                verdict,
                text,
            } => {
                tell("delivery", Value::Number(delivery));
                tell("verdict", Value::Text(verdict.name()));
                tell("text", Value::Octets(text));
            }
            Self::ReportMangled { delivery } => tell("delivery", Value::Number(delivery)),
            Self::Status {
                local,
                local_max,
                remote,
                remote_max,
                exiting,
            } => {
                tell("local", Value::Number(local as u64));
                tell("local_max", Value::Number(local_max as u64));
                tell("remote", Value::Number(remote as u64));
                tell("remote_max", Value::Number(remote_max as u64));
                tell("exiting", Value::Flag(exiting));
            }
            Self::Bounced { id, qp } => {
                tell("message", Value::Number(id.0));
                tell("qp", Value::Number(qp.into()));
            }
            Self::Exiting => {}
            Self::RecipientTooLong { id, recipient } => {
                tell("message", Value::Number(id.0));
                tell("recipient", Value::Octets(recipient.as_bytes()));
            }
            Self::SpoolTrouble {
                doing,
                error,
                consequence,
            } => {
                tell("doing", Value::Text(doing));
                tell("error", Value::Shown(&Chain(error)));
                tell("consequence", Value::Text(consequence));
            }
            Self::NoteTrouble { error } => tell("error", Value::Shown(&Chain(error))),
            Self::BounceTrouble { id, error } => {
                tell("message", Value::Number(id.0));
                tell("error", Value::Shown(&Chain(error)));
            }
            Self::Damaged { path, reason } => {
                tell("path", Value::Shown(&path.display()));
                tell("reason", Value::Text(reason));
            }
            Self::Warning { text } | Self::Alert { text } => tell("text", Value::Text(text)),
        }
    }
}

impl fmt::Display for LogEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NewMessage { id } => write!(f, "new msg {id}"),
            Self::MessageInfo {
                id,
                octets,
                sender,
                qp,
                uid,
            } => {
                let sender = Masked(sender.as_bytes());
                write!(
                    f,
                    "info msg {id}: bytes {octets} from <{sender}> qp {qp} uid {uid}"
                )
            }
            Self::DeliveryStarted {
                delivery,
                id,
                channel,
                recipient,
            } => {
                let (channel, recipient) = (channel.name(), Masked(recipient.as_bytes()));
                write!(
                    f,
                    "starting delivery {delivery}: msg {id} to {channel} {recipient}"
                )
            }
            Self::DeliveryEnded {
                delivery,
                verdict,
                text,
            } => write!(
                f,
                "delivery {delivery}: {}: {}",
                verdict.name(),
                Masked(text)
            ),
            Self::ReportMangled { delivery } => {
                write!(f, "delivery {delivery}: report mangled, will defer")
            }
            Self::Status {
                local,
                local_max,
                remote,
                remote_max,
                exiting,
            } => {
                let exiting = if exiting { " exitasap" } else { "" };
                write!(
                    f,
                    "status: local {local}/{local_max} remote {remote}/{remote_max}{exiting}"
                )
            }
            Self::Bounced { id, qp } => write!(f, "bounce msg {id} qp {qp}"),
            Self::TripleBounce { id } => write!(f, "triple bounce: discarding bounce/{id}"),
            Self::DoubleBounceDiscarded { id } => {
                write!(f, "warning: no doublebounceto; discarding bounce/{id}")
            }
            Self::MessageEnded { id } => write!(f, "end msg {id}"),
            Self::Exiting => f.write_str("status: exiting"),
            Self::RecipientTooLong { id, recipient } => {
                let recipient = Masked(recipient.as_bytes());
                write!(
                    f,
                    "warning: recipient too long after rewriting: msg {id} to {recipient}"
                )
            }
            Self::SpoolTrouble {
                doing,
                error,
                consequence,
            } => {
                write!(
                    f,
                    "warning: trouble {doing}: {}; {consequence}",
                    Chain(error)
                )
            }
            Self::NoteTrouble { error } => {
                let error = Chain(error);
                write!(
                    f,
                    "alert: unable to append to bounce message; HELP! sleeping... ({error})"
                )
            }
            Self::BounceTrouble { error, .. } => {
                let error = Chain(error);
                write!(
                    f,
                    "warning: trouble injecting bounce message, will try later ({error})"
                )
            }
            Self::Damaged { path, reason } => {
                write!(f, "warning: {}: {reason}; left alone", path.display())
            }
            Self::Warning { text } => write!(f, "warning: {text}"),
            Self::Alert { text } => write!(f, "alert: {text}"),
        }
    }
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}
