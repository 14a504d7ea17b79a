//! The half of a queue that its manager may not write: texts and envelopes.
//!
//! Where the parts of a mail system do not trust each other, the manager works on `info`, `local`, `remote` and `bounce`, may read
//! `todo`, and has whoever writes `mess`, `intd` and `todo` remove what it is done with.

use std::io;

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

#[async_trait]
impl Keeper for SplitSpool {
    async fn discard(&self, removal: Removal) -> io::Result<()> {
        Self::discard(self, removal).await.map_err(io::Error::other)
    }
}
