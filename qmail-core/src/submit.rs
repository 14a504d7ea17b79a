//! The seam by which new mail enters: from a network session, a forward, a bounce.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{EnhancedStatus, Envelope, StatusClass};

/// A place that takes new messages: a queue, a relay, a test.
#[async_trait]
pub trait Submit: Send + Sync {
    /// Starts a message.
    ///
    /// # Errors
    ///
    /// As [`Draft::commit`].
    async fn begin(&self, origin: Origin) -> Result<Box<dyn Draft>, SubmitError>;
}

/// A message on its way in. Dropping it throws away what was written.
#[async_trait]
pub trait Draft: Send {
    /// Appends text, with lines ending in LF.
    ///
    /// # Errors
    ///
    /// As [`Draft::commit`]. After an error the draft is good for nothing but dropping.
    async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError>;

    /// Appends the text of another message of the same queue, by its number, or of the beginning so many octets at most, which end
    /// with a line: what a bounce quotes. `false`, and nothing appended, where that queue's texts are not at hand: then the caller
    /// writes the text itself. That is the default.
    ///
    /// It is for a queue manager that may not read texts, while the place that takes its bounces may.
    ///
    /// # Errors
    ///
    /// As [`Draft::commit`].
    async fn quote(&mut self, message: u64, octets_max: Option<u64>) -> Result<bool, SubmitError> {
        let _ = (message, octets_max);
        Ok(false)
    }

    /// Makes the message durable and takes charge of it.
    ///
    /// When this returns `Ok`, the message survives a power cut; only then may a peer be told yes.
    ///
    /// # Errors
    ///
    /// Nothing was accepted. [`SubmitError::class`] tells whether a later try may work.
    async fn commit(self: Box<Self>, envelope: Envelope) -> Result<Receipt, SubmitError>;
}

/// Who brings a message, as its first Received field tells (qmail-queue(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// `invoked from network`.
    Network,
    /// `invoked for bounce`.
    Bounce,
    /// `invoked by alias`.
    Alias,
    /// `invoked by uid N`.
    Uid(u32),
}

/// What a [`Draft::commit`] gives: how the message is called from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The queue's number of the message; 0 where there is no queue.
    pub message: u64,
    /// When it was accepted, in seconds since 1970.
    pub accepted: u64,
    /// The `qp` of log lines and of `250 ok TIME qp N`: the process that took the message.
    pub qp: u32,
}

impl Receipt {
    /// A receipt of these three.
    pub fn new(message: u64, accepted: u64, qp: u32) -> Self {
        Self {
            message,
            accepted,
            qp,
        }
    }
}

/// Why a message was not accepted. `Display` gives the text without its status; the reference table of qmail-queue's exit
/// codes has the classic wording of each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// An address does not fit the queue.
    #[error("envelope address too long for qq")]
    AddressTooLong,
    /// The disk is full, or a write or a sync failed.
    #[error("qq write error or disk full")]
    Write(#[source] io::Error),
    /// A file of the queue could not be made.
    #[error("qq trouble creating files in queue")]
    Create(#[source] io::Error),
    /// The queue takes nothing at the moment.
    #[error("mail server temporarily rejected message")]
    Unavailable,
    /// The place refuses this message for good, with its own words.
    #[error("{text}")]
    Refused {
        /// One line for the peer.
        text: String,
        /// Its status; the class tells whether a later try may work.
        status: EnhancedStatus,
    },
}

impl SubmitError {
    /// The enhanced status for a reply.
    pub fn status(&self) -> EnhancedStatus {
        match self {
            Self::AddressTooLong => EnhancedStatus::permanent(1, 3),
            Self::Write(_) | Self::Create(_) | Self::Unavailable => EnhancedStatus::temporary(3, 0),
            Self::Refused { status, .. } => *status,
        }
    }

    /// Whether trying later may work.
    pub fn class(&self) -> StatusClass {
        self.status().class
    }
}
