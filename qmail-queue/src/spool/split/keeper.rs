//! The half of a queue that its manager may not write: texts and envelopes.
//!
//! Where the parts of a mail system do not trust each other, the manager works on `info`, `local`, `remote` and `bounce`, may read
//! `todo`, and has whoever writes `mess`, `intd` and `todo` remove what it is done with.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::SplitSpool;
use crate::MessageId;

/// What is to be removed of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The envelope of a message that was routed. Once this is done, and not before, the message is incoming no longer.
    Envelope(MessageId),
    /// The text of a message that is forgotten, and what is left of its envelope.
    Text(MessageId),
    /// All of a message that was never routed: first the envelope, for good, then the text.
    Message(MessageId),
}

/// Whoever keeps texts and envelopes.
#[async_trait]
pub trait Keeper: Send + Sync + 'static {
    /// Removes. Envelopes are gone durably on return. What was not there is no error.
    ///
    /// # Errors
    ///
    /// Something could not be removed; a message whose envelope was to go is still incoming. Or nobody knows, since the keeper is
    /// gone: then the manager must not go on, because the number may be given to another message meanwhile.
    async fn discard(&self, removal: Removal) -> io::Result<()>;
}

/// Most messages of which the manager remembers that its half has nothing of them.
const BARE_MAX: usize = 16_384;

/// What the manager of a queue has beside its half.
pub(super) struct Managed {
    pub(super) keeper: Arc<dyn Keeper>,
    /// Sizes of incoming messages that had no sender in `info` when their envelopes were read: if they are delivered before they are
    /// routed, the manager need not look at its half again.
    bare: Mutex<HashMap<MessageId, u64>>,
}

impl Managed {
    pub(super) fn by(keeper: Arc<dyn Keeper>) -> Self {
        Self {
            keeper,
            bare: Mutex::default(),
        }
    }

    pub(super) fn note_bare(&self, id: MessageId, octets: u64) {
        let mut bare = self.bare();
        if bare.len() < BARE_MAX || bare.contains_key(&id) {
            bare.insert(id, octets);
        }
    }

    pub(super) fn octets_of_bare(&self, id: MessageId) -> Option<u64> {
        self.bare().get(&id).copied()
    }

    /// Something becomes of it. Whether it was bare until now.
    pub(super) fn end_bare(&self, id: MessageId) -> bool {
        self.bare().remove(&id).is_some()
    }

    // Nothing panics while it holds the lock.
    fn bare(&self) -> MutexGuard<'_, HashMap<MessageId, u64>> {
        self.bare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Keeper for SplitSpool {
    async fn discard(&self, removal: Removal) -> io::Result<()> {
        Self::discard(self, removal).await.map_err(io::Error::other)
    }
}
