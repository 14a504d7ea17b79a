//! The seam between the queue and what keeps its messages.
//!
//! A message goes through these states, and each step is durable when its call returns:
//!
//! | state | entered by | holds |
//! |---|---|---|
//! | draft | [`Spool::begin`] | text; gone after a crash |
//! | incoming | [`SpoolDraft::commit`] | text and envelope: **accepted** |
//! | routed | [`Spool::route`] | text, sender, birth, recipients for each channel, marks, failure notes |
//! | gone | [`Spool::remove`], from incoming or routed | |

mod content;
pub(crate) mod directory;
mod gather;
mod hold;
mod journal;
#[cfg(test)]
pub(crate) mod kinds;
mod memory;
pub mod split;

pub use journal::{JournalConfig, JournalSpool};
pub use memory::MemorySpool;
pub use split::SplitSpool;

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Address, Content, Envelope, Origin, ReversePath};

/// A store for queued messages.
///
/// All calls may be made concurrently, also for one message, but for [`Spool::note_failure`]: the engine makes the notes of one
/// message one after the other. A spool shares the cost of durability between calls that wait at the same time (group commit).
#[async_trait]
pub trait Spool: Send + Sync {
    /// Starts a message.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Create`] when no file can be made for it.
    async fn begin(&self, entry: Entry) -> Result<Box<dyn SpoolDraft>, SpoolError>;

    /// Lists every accepted message, in no order: what a start begins from. Calls `found` for each.
    ///
    /// # Errors
    ///
    /// A message that cannot be read is [`Found::Damaged`], not an error; an error means that the spool itself cannot be read.
    async fn scan(&self, found: &mut (dyn FnMut(Found) + Send)) -> Result<(), SpoolError>;

    /// Lists the incoming messages only. A message that is being committed may be among them.
    ///
    /// # Errors
    ///
    /// As [`Spool::scan`].
    async fn incoming_ids(&self) -> Result<Vec<MessageId>, SpoolError> {
        let mut ids = Vec::new();
        let mut found = |found| {
            if let Found::Incoming(id) = found {
                ids.push(id);
            }
        };
        self.scan(&mut found).await?;
        Ok(ids)
    }

    /// Reads the envelope of an incoming message.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Damaged`] if it is not one; the message stays where it is.
    async fn incoming(&self, id: MessageId) -> Result<Incoming, SpoolError>;

    /// Turns an incoming message into a routed one, with no other notes of failure than those given. A crash in between leaves it
    /// incoming.
    ///
    /// # Errors
    ///
    /// The message is still incoming.
    async fn route(&self, id: MessageId, routed: Routed) -> Result<(), SpoolError>;

    /// Reads the sender of a routed message.
    ///
    /// # Errors
    ///
    /// A failed read, or a damaged record.
    async fn sender(&self, id: MessageId) -> Result<ReversePath, SpoolError>;

    /// Reads up to `max` recipients of a channel, from `from` on ([`Position::START`] for the first). Fewer than `max`
    /// means that there are no more.
    ///
    /// # Errors
    ///
    /// A failed read, or a damaged record.
    async fn recipients(
        &self,
        id: MessageId,
        channel: Channel,
        from: Position,
        max: usize,
    ) -> Result<Vec<Recipient>, SpoolError>;

    /// Records that these recipients are done. Durable on return: they are never tried again.
    ///
    /// # Errors
    ///
    /// Nothing is known of what was recorded; marking again is harmless.
    async fn mark_done(
        &self,
        id: MessageId,
        channel: Channel,
        positions: &[Position],
    ) -> Result<(), SpoolError>;

    /// Records that every recipient of a channel is done. Durable on return. A closed channel has no recipients, and closing it
    /// again, marking and putting it off are no errors.
    ///
    /// # Errors
    ///
    /// As [`Spool::mark_done`].
    async fn close_channel(&self, id: MessageId, channel: Channel) -> Result<(), SpoolError>;

    /// Appends to the text of permanent failures, from which the bounce is made. Durable on return. There is never more than one
    /// of these calls at a time for one message.
    ///
    /// # Errors
    ///
    /// At worst a part of it was appended, and appending it again tells it twice.
    async fn note_failure(&self, id: MessageId, note: &[u8]) -> Result<(), SpoolError>;

    /// The text of permanent failures, if there is any.
    ///
    /// # Errors
    ///
    /// A failed read.
    async fn failures(&self, id: MessageId) -> Result<Option<Arc<dyn Content>>, SpoolError>;

    /// Forgets the text of permanent failures: the bounce is queued, or is not to be.
    ///
    /// # Errors
    ///
    /// A failed removal: the bounce may be made again.
    async fn clear_failures(&self, id: MessageId) -> Result<(), SpoolError>;

    /// Writes down when a channel is to be tried next, for the start after a clean stop. Need not be durable.
    ///
    /// # Errors
    ///
    /// A failed write; the next start tries at once.
    async fn put_off(
        &self,
        id: MessageId,
        channel: Channel,
        due: SystemTime,
    ) -> Result<(), SpoolError>;

    /// Holds a routed message, or releases it: a note for the engine, also for the one of the next start. Durable on return.
    ///
    /// # Errors
    ///
    /// Nothing is known of what was written; saying it again is harmless. A spool may not be able to keep this.
    async fn set_held(&self, id: MessageId, held: bool) -> Result<(), SpoolError> {
        let _ = held;
        Err(SpoolError::Write {
            path: format!("the hold of message {id}").into(),
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    /// Which messages are held.
    ///
    /// # Errors
    ///
    /// A failed read.
    async fn held(&self) -> Result<HashSet<MessageId>, SpoolError> {
        Ok(HashSet::new())
    }

    /// The text of a message, as accepted. Opening may fail later if the message is removed.
    ///
    /// # Errors
    ///
    /// The message is gone or cannot be read.
    async fn content(&self, id: MessageId) -> Result<Arc<dyn Content>, SpoolError>;

    /// Removes a message that is settled, routed or still incoming. Durable on return: no recipient of it is ever tried again, even
    /// if its channels were never closed. So a message that is settled at once needs no other call before this one, not even
    /// [`Spool::route`].
    ///
    /// # Errors
    ///
    /// Some of it may be left; [`Spool::scan`] may find it again, as it was before this call. Removing again is harmless.
    async fn remove(&self, settled: Settled) -> Result<(), SpoolError>;

    /// Looks for what crashed writers left long ago, and removes it. Called now and then.
    ///
    /// # Errors
    ///
    /// A failed removal; the next call tries again.
    async fn clean_up(&self, now: SystemTime) -> Result<(), SpoolError>;

    /// Tells that no more calls are to come: a clean stop. A spool may write down what its next start is better off to know.
    /// Calls that come all the same are served.
    ///
    /// # Errors
    ///
    /// What was to be written down is not. All that was durable is.
    async fn close(&self) -> Result<(), SpoolError> {
        Ok(())
    }
}

/// A message being written. Dropping it throws it away.
#[async_trait]
pub trait SpoolDraft: Send {
    /// Appends text. Small chunks are gathered.
    ///
    /// # Errors
    ///
    /// The draft is good for nothing but dropping.
    async fn write(&mut self, chunk: Bytes) -> Result<(), SpoolError>;

    /// Makes text and envelope durable: the file **and** every directory that names it, before it returns.
    ///
    /// # Errors
    ///
    /// Nothing was accepted. A failed sync is never retried as if it had worked.
    async fn commit(self: Box<Self>, envelope: &Envelope) -> Result<Committed, SpoolError>;
}

/// Number of a message, unique while the message exists. In the split-directory spool it is the inode of `mess/N/ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The two ways out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// To a mailbox, a program, an alias here.
    Local,
    /// To another host.
    Remote,
}

impl Channel {
    /// Both, in the order in which they are looked at.
    pub const ALL: [Self; 2] = [Self::Local, Self::Remote];

    /// `local` or `remote`, as in file names and log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// What is known of a message before its text.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Who brings it; shown in its first Received field.
    pub origin: Origin,
    /// User id of who brings it, for the log.
    pub uid: u32,
    /// Process that takes it: the `qp` of log lines.
    pub pid: u32,
    /// When it came.
    pub now: SystemTime,
}

impl Entry {
    /// What every message of the queue starts with: its Received field, one line.
    fn received(&self) -> Vec<u8> {
        let seconds = self
            .now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut line = Vec::with_capacity(80);
        qmail_core::header::received::write_queue_field(self.pid, self.origin, seconds, &mut line);
        line
    }
}

/// An accepted message, just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its number from now on.
    pub id: MessageId,
    /// Its size, the Received field of the queue included.
    pub octets: u64,
}

/// One message that [`Spool::scan`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// Accepted, not routed.
    Incoming(MessageId),
    /// Routed.
    Routed {
        /// Which.
        id: MessageId,
        /// When it was routed: its age for retries and lifetime.
        birth: SystemTime,
        /// When its local recipients are due; `None` if that channel is closed.
        local: Option<SystemTime>,
        /// The same for its remote recipients.
        remote: Option<SystemTime>,
    },
    /// Something that is no message, left alone: for the log.
    Damaged {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it, in a few words.
        reason: String,
    },
}

/// The envelope of an incoming message, with what the log says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Sender and recipients as they were given.
    pub envelope: Envelope,
    /// Who brought it.
    pub uid: u32,
    /// Which process took it.
    pub pid: u32,
    /// Size of the text.
    pub octets: u64,
}

/// Where the recipients of a message go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// Where bounces go.
    pub sender: ReversePath,
    /// Rewritten recipients delivered here.
    pub local: Vec<Address>,
    /// Recipients delivered elsewhere.
    pub remote: Vec<Address>,
    /// The message's age counts from here, in whole seconds since 1970.
    pub birth_seconds: u64,
    /// The text of permanent failures to begin with: those of recipients that can go nowhere.
    pub failures: Vec<u8>,
}

/// A recipient of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where its record is, for [`Spool::mark_done`].
    pub position: Position,
    /// Where the record after it is.
    pub next: Position,
    /// Who it is, rewritten.
    pub address: Address,
    /// Whether it is done with.
    pub done: bool,
}

/// Place of a recipient's record in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

impl Position {
    /// The first record.
    pub const START: Self = Self(0);
}

/// Leave to remove a message. It exists only for a message whose recipients are all done and whose bounce, if there is one, is
/// queued: the engine makes it as the last step of finishing, and nobody else can.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the message is settled and takes room until it is removed"]
pub struct Settled {
    id: MessageId,
    /// Whether it was routed, for all that is known.
    routed: bool,
}

impl Settled {
    pub(crate) fn new(id: MessageId) -> Self {
        Self { id, routed: true }
    }

    /// The same for a message that its engine has never given to [`Spool::route`].
    pub(crate) fn unrouted(id: MessageId) -> Self {
        Self { id, routed: false }
    }

    pub(crate) fn was_routed(&self) -> bool {
        self.routed
    }

    /// Leave to remove any message, for tests of spools.
    #[cfg(any(test, feature = "sim"))]
    pub fn of_a_test(id: MessageId) -> Self {
        Self::new(id)
    }

    /// Which message.
    pub fn id(&self) -> MessageId {
        self.id
    }
}

/// Why a spool did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// A file could not be made.
    #[error("cannot create {}", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Writing or syncing failed; what was written is not to be relied on.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it must.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong, in a few words.
        reason: String,
    },
    /// The spool was made by a program that keeps it in another form.
    #[error("{} has the format of version {found}, and this program knows version {known} only: use the program that made it", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it is.
        found: u32,
        /// What can be read.
        known: u32,
    },
    /// A size that was asked for is larger than the form of the spool allows.
    #[error("{what} is {octets} octets, and {octets_max} is the most")]
    Config {
        /// Which.
        what: &'static str,
        /// What was asked for.
        octets: u64,
        /// What is possible.
        octets_max: u64,
    },
    /// Another process, or another part of this one, uses the spool.
    #[error("{} is in use by another process: stop that first", path.display())]
    InUse {
        /// Its directory.
        path: PathBuf,
    },
}
