//! What a postmaster can have done with messages of a queue, and the steps of it that are the same whether the queue runs or not.

#[cfg(test)]
mod crash;

use std::collections::HashSet;
use std::io;

use bytes::Bytes;
use qmail_core::{Address, Envelope, Origin, ReversePath, Submit, SubmitError, bounce};

use crate::{Channel, MessageId, Position, Settled, Spool, SpoolError};

/// Recipients that are looked at at once.
const PAGE_RECIPIENTS: usize = 1_000;

/// What is to be done with messages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Try nothing of them until they are released. What is being tried is not broken off.
    Hold,
    /// Try held ones again, at once.
    Release,
    /// Try those now that wait for their time. Their age stays as it is.
    Retry,
    /// Route those recipients anew that are not done with: they go into a new message, and the old one ends.
    Reroute {
        /// What virtualdomains put before local recipients, without the dash; empty: what the tables in force put there.
        prefix: Bytes,
    },
    /// End them.
    Delete {
        /// Whether the sender is told.
        bounce: bool,
    },
}

/// What was done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done {
    /// It is held, after a restart too.
    Held,
    /// It is tried again.
    Released,
    /// It is tried now, or at the next start if the queue does not run.
    Due,
    /// Its recipients that were not done with are in another message.
    Rerouted {
        /// The new message; `None` if there was nobody left, or whoever took it gives it no number yet.
        to: Option<MessageId>,
        /// How many.
        recipients: usize,
    },
    /// It is ended.
    Deleted {
        /// How many of its recipients were not done with.
        recipients: usize,
        /// Whether a bounce tells its sender, now or at the next start.
        bounce: bool,
    },
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held => f.write_str("held"),
            Self::Released => f.write_str("released"),
            Self::Due => f.write_str("due now"),
            Self::Rerouted { recipients: 0, .. } => f.write_str("ended, nobody was left"),
            Self::Rerouted {
                to: None,
                recipients,
            } => write!(f, "{} rerouted as a new message", Recipients(*recipients)),
            Self::Rerouted {
                to: Some(to),
                recipients,
            } => write!(f, "{} rerouted as message {to}", Recipients(*recipients)),
            Self::Deleted { recipients, bounce } => {
                let told = if *bounce {
                    "its sender is told"
                } else {
                    "nobody is told"
                };
                write!(f, "deleted for {}, {told}", Recipients(*recipients))
            }
        }
    }
}

struct Recipients(usize);

impl std::fmt::Display for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            1 => f.write_str("1 recipient"),
            number => write!(f, "{number} recipients"),
        }
    }
}

/// Why nothing was done with a message. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such message, or it is being finished.
    #[error("no such message, or it is just being finished; `qmail queue list` shows them")]
    Unknown,
    /// It is not routed yet.
    #[error("it is new and about to be routed or tried; try again in a moment")]
    New,
    /// It is being tried.
    #[error("it is just being delivered; hold it, and try again when that has ended")]
    Busy,
    /// It is held, and so is not tried.
    #[error("it is held; release it")]
    Held,
    /// It is not held, and so cannot be released.
    #[error("it is not held")]
    NotHeld,
    /// Another program runs the queue, and takes no orders.
    #[error(
        "a program runs this queue that takes no orders, such as a classic qmail-send; stop it first, or send it ALRM to retry all"
    )]
    Elsewhere,
    /// The queue is stopping.
    #[error("the queue is stopping; try again when it runs, or is stopped")]
    Stopping,
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Its text could not be read.
    #[error("cannot read its text: {0}")]
    Text(#[source] io::Error),
    /// The new message could not be queued.
    #[error("cannot queue the new message: {0}")]
    Submit(#[from] SubmitError),
}

/// What became of each message of an order.
pub type Answers = Vec<(MessageId, Result<Done, Refusal>)>;

/// How a local recipient was called before it was routed.
pub(crate) type Original<'a> = dyn Fn(&[u8]) -> Bytes + Send + Sync + 'a;

/// The original of a recipient that `prefix` and a dash were put before.
pub fn without_prefix(prefix: &[u8], recipient: &[u8]) -> Bytes {
    let rest = recipient
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix(b"-"));
    Bytes::copy_from_slice(rest.unwrap_or(recipient))
}

/// Ends a routed message that nobody tries meanwhile: afterwards all its recipients are done with, durably, and only its bounce,
/// if it is to have one, and its removal are left.
///
/// # Errors
///
/// Some recipients may be done with; doing it again is harmless but that a bounce may tell of a recipient twice, or a new message
/// be made twice.
pub(crate) async fn end(
    spool: &dyn Spool,
    submit: &dyn Submit,
    uid: u32,
    original: &Original<'_>,
    id: MessageId,
    order: &Order,
) -> Result<Done, Refusal> {
    let done = match order {
        Order::Reroute { .. } => {
            let waiting = waiting(spool, id, original).await?;
            let recipients = waiting.len();
            let to = match recipients {
                0 => None,
                _ => resubmit(spool, submit, uid, id, waiting).await?,
            };
            Done::Rerouted { to, recipients }
        }
        _ => {
            let bounce = *order == Order::Delete { bounce: true };
            let waiting = match waiting(spool, id, original).await {
                // Nobody is to be told, so whom it was for need not be known.
                Err(Refusal::Spool(SpoolError::Damaged { .. })) if !bounce => Vec::new(),
                waiting => waiting?,
            };
            if bounce {
                for page in waiting.chunks(PAGE_RECIPIENTS) {
                    let mut notes = Vec::new();
                    for recipient in page {
                        bounce::write_note(recipient.as_bytes(), DELETED, &mut notes);
                    }
                    spool.note_failure(id, &notes).await?;
                }
            }
            let bounce = bounce && spool.failures(id).await?.is_some();
            Done::Deleted {
                recipients: waiting.len(),
                bounce,
            }
        }
    };
    for channel in Channel::ALL {
        spool.close_channel(id, channel).await?;
    }
    // Only now: a crash before leaves the failures to be told.
    if *order == (Order::Delete { bounce: false }) {
        spool.clear_failures(id).await?;
    }
    Ok(done)
}

const DELETED: &[u8] = b"The postmaster has deleted this message from the queue. (#5.7.0)\n";

/// Who is not done with, as they were called before they were routed.
async fn waiting(
    spool: &dyn Spool,
    id: MessageId,
    original: &Original<'_>,
) -> Result<Vec<Address>, Refusal> {
    let mut waiting = Vec::new();
    for channel in Channel::ALL {
        let mut from = Position::START;
        loop {
            let page = spool.recipients(id, channel, from, PAGE_RECIPIENTS).await?;
            for recipient in page.iter().filter(|recipient| !recipient.done) {
                let address = match channel {
                    // It is shorter than what was an address.
                    Channel::Local => Address::new(original(recipient.address.as_bytes()))
                        .unwrap_or_else(|_| recipient.address.clone()),
                    Channel::Remote => recipient.address.clone(),
                };
                waiting.push(address);
            }
            if page.len() < PAGE_RECIPIENTS {
                break;
            }
            from = page.last().map_or(from, |last| last.next);
        }
    }
    Ok(waiting)
}

/// Queues the same text for these recipients.
async fn resubmit(
    spool: &dyn Spool,
    submit: &dyn Submit,
    uid: u32,
    id: MessageId,
    recipients: Vec<Address>,
) -> Result<Option<MessageId>, Refusal> {
    let sender: ReversePath = spool.sender(id).await?;
    let text = spool.content(id).await?;
    let mut draft = submit.begin(Origin::Uid(uid)).await?;
    if !draft.quote(id.0, None).await? {
        let mut body = text.open().await.map_err(Refusal::Text)?;
        while let Some(chunk) = body.next().await.map_err(Refusal::Text)? {
            draft.write(chunk).await?;
        }
    }
    let receipt = draft.commit(Envelope::new(sender, recipients)).await?;
    // A queue program says only that it took the message.
    Ok((receipt.message > 0).then_some(MessageId(receipt.message)))
}

/// Carries out an order on a spool that no engine runs on: the caller holds its lock.
///
/// `submit` takes rerouted messages, brought by `uid`; `original` tells how a local recipient was called before virtualdomains put
/// a prefix before it. What only a running queue can do is left to the next start: attempts, bounces.
pub async fn carry_out(
    spool: &dyn Spool,
    submit: &dyn Submit,
    uid: u32,
    original: impl Fn(&[u8]) -> Bytes + Send + Sync,
    order: &Order,
    ids: &[MessageId],
) -> Result<Answers, SpoolError> {
    let listing = crate::Listing::read(spool).await?;
    let held = spool.held().await?;
    let mut answers = Answers::new();
    let mut routed = HashSet::new();
    let mut incoming = HashSet::new();
    for found in &listing.messages {
        match *found {
            crate::Found::Routed { id, .. } => drop(routed.insert(id)),
            crate::Found::Incoming(id) => drop(incoming.insert(id)),
            crate::Found::Damaged { .. } => {}
        }
    }
    for &id in ids {
        let result = if routed.contains(&id) {
            one(spool, submit, uid, &original, order, id, held.contains(&id)).await
        } else if incoming.contains(&id) {
            incoming_one(spool, order, id).await
        } else {
            Err(Refusal::Unknown)
        };
        answers.push((id, result));
    }
    Ok(answers)
}

async fn one(
    spool: &dyn Spool,
    submit: &dyn Submit,
    uid: u32,
    original: &Original<'_>,
    order: &Order,
    id: MessageId,
    held: bool,
) -> Result<Done, Refusal> {
    match order {
        Order::Hold => {
            spool.set_held(id, true).await?;
            Ok(Done::Held)
        }
        Order::Release if !held => Err(Refusal::NotHeld),
        Order::Retry if held => Err(Refusal::Held),
        Order::Release => {
            due_at_start(spool, id).await?;
            spool.set_held(id, false).await?;
            Ok(Done::Released)
        }
        Order::Retry => {
            due_at_start(spool, id).await?;
            Ok(Done::Due)
        }
        Order::Reroute { .. } | Order::Delete { .. } => {
            let done = end(spool, submit, uid, original, id, order).await?;
            if spool.failures(id).await?.is_none() {
                spool.remove(Settled::new(id)).await?;
            }
            Ok(done)
        }
    }
}

/// A message that is not routed yet can only be ended, without a bounce.
async fn incoming_one(spool: &dyn Spool, order: &Order, id: MessageId) -> Result<Done, Refusal> {
    if *order != (Order::Delete { bounce: false }) {
        return Err(Refusal::New);
    }
    // A damaged one has no recipients that could be told.
    let recipients = match spool.incoming(id).await {
        Ok(incoming) => incoming.envelope.recipients.len(),
        Err(SpoolError::Damaged { .. }) => 0,
        Err(error) => return Err(error.into()),
    };
    spool.remove(Settled::new(id)).await?;
    Ok(Done::Deleted {
        recipients,
        bounce: false,
    })
}

async fn due_at_start(spool: &dyn Spool, id: MessageId) -> Result<(), SpoolError> {
    for channel in Channel::ALL {
        spool
            .put_off(id, channel, std::time::SystemTime::UNIX_EPOCH)
            .await?;
    }
    Ok(())
}
