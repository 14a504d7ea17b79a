//! The events, their classic lines, and their fields.

use std::fmt;
use std::path::Path;

use qmail_core::{Address, ReversePath};

use super::masked::{Masked, OneLine};
use crate::{Channel, Done, MessageId, SpoolError};

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
    /// What tells the text of a new message from every other: a program in a dot-qmail file that reads it sees the same octets.
    MessageHash {
        /// Which.
        id: MessageId,
        /// SHA-256 of its text, the queue's Received field included (FIPS 180-4).
        sha256: &'a [u8; 32],
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
    /// A postmaster had something done with a message.
    Ordered {
        /// Which.
        id: MessageId,
        /// What.
        done: &'a Done,
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
            Self::MessageHash { .. } => "message_hash",
            Self::DeliveryStarted { .. } => "delivery_started",
            Self::DeliveryEnded { .. } => "delivery_ended",
            Self::ReportMangled { .. } => "report_mangled",
            Self::Status { .. } => "status",
            Self::Bounced { .. } => "bounced",
            Self::TripleBounce { .. } => "triple_bounce",
            Self::DoubleBounceDiscarded { .. } => "double_bounce_discarded",
            Self::MessageEnded { .. } => "message_ended",
            Self::Ordered { .. } => "ordered",
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
            Self::MessageHash { id, sha256 } => {
                tell("message", Value::Number(id.0));
                tell("sha256", Value::Shown(&Hex(sha256)));
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
            Self::Ordered { id, done } => {
                tell("message", Value::Number(id.0));
                tell("done", Value::Shown(done));
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
            Self::MessageHash { id, sha256 } => {
                write!(f, "hash msg {id}: sha256 {}", Hex(sha256))
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
            Self::Ordered { id, done } => write!(f, "order msg {id}: {done}"),
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
                    OneLine(Chain(error))
                )
            }
            Self::NoteTrouble { error } => {
                let error = OneLine(Chain(error));
                write!(
                    f,
                    "alert: unable to append to bounce message; HELP! sleeping... ({error})"
                )
            }
            Self::BounceTrouble { error, .. } => {
                let error = OneLine(Chain(error));
                write!(
                    f,
                    "warning: trouble injecting bounce message, will try later ({error})"
                )
            }
            Self::Damaged { path, reason } => {
                let (path, reason) = (OneLine(path.display()), OneLine(reason));
                write!(f, "warning: {path}: {reason}; left alone")
            }
            Self::Warning { text } => write!(f, "warning: {}", OneLine(text)),
            Self::Alert { text } => write!(f, "alert: {}", OneLine(text)),
        }
    }
}

/// Octets as two hexadecimal digits each.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    fn shown(value: Value<'_>) -> String {
        match value {
            Value::Number(number) => number.to_string(),
            Value::Octets(octets) => format!("{:?}", String::from_utf8_lossy(octets)),
            Value::Text(text) => format!("{text:?}"),
            Value::Shown(text) => format!("{:?}", text.to_string()),
            Value::Flag(flag) => flag.to_string(),
        }
    }

    #[test]
    fn every_event_has_its_line_and_its_fields() {
        let id = MessageId(49);
        let sender = &ReversePath::new("s s@x").unwrap();
        let recipient = &Address::new(&b"caf\xe9 100%@x\n"[..]).unwrap();
        let error = &SpoolError::Write {
            path: PathBuf::from("remote/3/49"),
            source: io::Error::other("disk on fire"),
        };
        let events = [
            LogEvent::NewMessage { id },
            LogEvent::MessageInfo {
                id,
                octets: 1234,
                sender,
                qp: 5,
                uid: 6,
            },
            LogEvent::MessageHash {
                id,
                sha256: &[0xa5; 32],
            },
            LogEvent::DeliveryStarted {
                delivery: 1,
                id,
                channel: Channel::Remote,
                recipient,
            },
            LogEvent::DeliveryEnded {
                delivery: 1,
                verdict: Verdict::Success,
                text: b"",
            },
            LogEvent::DeliveryEnded {
                delivery: 2,
                verdict: Verdict::Failure,
                text: b"a\n\nb \"c\"\t\x7f\n",
            },
            LogEvent::ReportMangled { delivery: 3 },
            LogEvent::Status {
                local: 1,
                local_max: 10,
                remote: 300,
                remote_max: 400,
                exiting: true,
            },
            LogEvent::Bounced { id, qp: 5 },
            LogEvent::TripleBounce { id },
            LogEvent::DoubleBounceDiscarded { id },
            LogEvent::MessageEnded { id },
            LogEvent::Exiting,
            LogEvent::RecipientTooLong { id, recipient },
            LogEvent::SpoolTrouble {
                doing: "marking",
                error,
                consequence: "message will be delivered twice!",
            },
            LogEvent::NoteTrouble { error },
            LogEvent::BounceTrouble { id, error },
            LogEvent::Damaged {
                path: Path::new("info/3/x"),
                reason: "no message number",
            },
            LogEvent::Warning { text: "look out" },
            LogEvent::Alert { text: "look here" },
        ];
        let mut shows = String::new();
        for event in events {
            shows += &format!("{event}\n    {}", event.name());
            event.fields(&mut |name, value| shows += &format!(" {name}={}", shown(value)));
            shows += "\n";
        }
        insta::assert_snapshot!(shows, @r#"
        new msg 49
            new_message message=49
        info msg 49: bytes 1234 from <s_s@x> qp 5 uid 6
            message_info message=49 octets=1234 sender="s s@x" qp=5 uid=6
        hash msg 49: sha256 a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5
            message_hash message=49 sha256="a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"
        starting delivery 1: msg 49 to remote caf__100_@x/
            delivery_started delivery=1 message=49 channel="remote" recipient="caf� 100%@x\n"
        delivery 1: success: 
            delivery_ended delivery=1 verdict="success" text=""
        delivery 2: failure: a//b_"c"__/
            delivery_ended delivery=2 verdict="failure" text="a\n\nb \"c\"\t\u{7f}\n"
        delivery 3: report mangled, will defer
            report_mangled delivery=3
        status: local 1/10 remote 300/400 exitasap
            status local=1 local_max=10 remote=300 remote_max=400 exiting=true
        bounce msg 49 qp 5
            bounced message=49 qp=5
        triple bounce: discarding bounce/49
            triple_bounce message=49
        warning: no doublebounceto; discarding bounce/49
            double_bounce_discarded message=49
        end msg 49
            message_ended message=49
        status: exiting
            exiting
        warning: recipient too long after rewriting: msg 49 to caf__100_@x/
            recipient_too_long message=49 recipient="caf� 100%@x\n"
        warning: trouble marking: cannot write remote/3/49: disk on fire; message will be delivered twice!
            spool_trouble doing="marking" error="cannot write remote/3/49: disk on fire" consequence="message will be delivered twice!"
        alert: unable to append to bounce message; HELP! sleeping... (cannot write remote/3/49: disk on fire)
            note_trouble error="cannot write remote/3/49: disk on fire"
        warning: trouble injecting bounce message, will try later (cannot write remote/3/49: disk on fire)
            bounce_trouble message=49 error="cannot write remote/3/49: disk on fire"
        warning: info/3/x: no message number; left alone
            damaged path="info/3/x" reason="no message number"
        warning: look out
            warning text="look out"
        alert: look here
            alert text="look here"
        "#);
    }
}
