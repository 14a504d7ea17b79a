//! The way into a spool.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Address, Draft, Envelope, Origin, Receipt, Submit, SubmitError};

use crate::{Clock, Committed, Entry, Spool, SpoolDraft, SpoolError};

/// A [`Submit`] over a spool alone, for a program that only accepts: whoever runs an [`Engine`](crate::Engine) on the spool later
/// delivers what it took.
///
/// Where an engine runs in the same program, use its [`Queue`](crate::Queue), which tells the engine of each message at once.
#[derive(Clone)]
pub struct Intake {
    spool: Arc<dyn Spool>,
    clock: Arc<dyn Clock>,
    pid: u32,
    uid: u32,
    extra: Arc<[Address]>,
}

impl Intake {
    /// An intake of the process `pid`, which runs as `uid`: both are shown in the log and in Received fields.
    pub fn new(spool: Arc<dyn Spool>, clock: Arc<dyn Clock>, pid: u32, uid: u32) -> Self {
        Self {
            spool,
            clock,
            pid,
            uid,
            extra: Arc::default(),
        }
    }

    /// Recipients that every message gets besides its own, bounces too: one who keeps a record of all mail. They come first in
    /// the envelope (the QUEUE_EXTRA of the classic qmail-queue). Default: none.
    #[must_use]
    pub fn with_extra_recipients(mut self, extra: impl Into<Arc<[Address]>>) -> Self {
        self.extra = extra.into();
        self
    }

    pub(crate) async fn begin(&self, origin: Origin) -> Result<IntakeDraft, SubmitError> {
        let entry = Entry {
            origin,
            uid: match origin {
                Origin::Uid(uid) => uid,
                _ => self.uid,
            },
            pid: self.pid,
            now: self.clock.now().wall,
        };
        let draft = self.spool.begin(entry).await.map_err(refused)?;
        Ok(IntakeDraft {
            draft,
            clock: Arc::clone(&self.clock),
            entry,
            extra: Arc::clone(&self.extra),
        })
    }
}

#[async_trait]
impl Submit for Intake {
    async fn begin(&self, origin: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        Ok(Box::new(Self::begin(self, origin).await?))
    }
}

/// A message on its way into a spool.
pub(crate) struct IntakeDraft {
    draft: Box<dyn SpoolDraft>,
    clock: Arc<dyn Clock>,
    /// What the spool was told of the message.
    pub(crate) entry: Entry,
    extra: Arc<[Address]>,
}

impl IntakeDraft {
    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError> {
        self.draft.write(chunk).await.map_err(refused)
    }

    /// Puts the extra recipients into the envelope.
    pub(crate) async fn commit(
        self,
        envelope: &mut Envelope,
    ) -> Result<(Committed, Receipt), SubmitError> {
        let extra = self.extra.iter().cloned();
        envelope.recipients.splice(0..0, extra);
        let committed = self.draft.commit(envelope).await.map_err(refused)?;
        let accepted = self.clock.now().seconds();
        let receipt = Receipt::new(committed.id.0, accepted, self.entry.pid);
        Ok((committed, receipt))
    }
}

#[async_trait]
impl Draft for IntakeDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError> {
        Self::write(self, chunk).await
    }

    async fn commit(self: Box<Self>, mut envelope: Envelope) -> Result<Receipt, SubmitError> {
        let (_, receipt) = Self::commit(*self, &mut envelope).await?;
        Ok(receipt)
    }
}

/// What the one who brings a message is told of the spool's trouble. The path and the cause stay inside, for the log.
fn refused(error: SpoolError) -> SubmitError {
    let kind = match &error {
        SpoolError::Create { source, .. }
        | SpoolError::Write { source, .. }
        | SpoolError::Read { source, .. } => source.kind(),
        SpoolError::Damaged { .. } | SpoolError::Version { .. } => io::ErrorKind::InvalidData,
        SpoolError::InUse { .. } => io::ErrorKind::ResourceBusy,
        SpoolError::Config { .. } => io::ErrorKind::InvalidInput,
    };
    let created = matches!(error, SpoolError::Create { .. });
    let error = io::Error::new(kind, error);
    if created {
        SubmitError::Create(error)
    } else {
        SubmitError::Write(error)
    }
}
