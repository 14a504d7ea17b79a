//! The seam by which a queue hands messages on.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Address, Content, Outcome, ReversePath};

/// A place that mail is delivered to: a local mail store, a remote host, something of an embedder's own.
///
/// The queue calls [`deliver`](Delivery::deliver) many times at once, within its limits per channel and destination.
#[async_trait]
pub trait Delivery: Send + Sync {
    /// Where a recipient goes. Recipients of one message with equal destinations may share a [`Job`].
    ///
    /// The default is the domain in lower case, one job for each recipient.
    fn destination(&self, recipient: &Address) -> Destination {
        Destination {
            key: Bytes::from(recipient.domain().unwrap_or_default().to_ascii_lowercase()),
            recipients_max: 1,
        }
    }

    /// Tries once. The result has one outcome for each of [`Job::recipients`], in their order.
    ///
    /// Never fails as a whole: trouble is an [`Outcome::Deferred`] for the recipients it concerns.
    async fn deliver(&self, job: Job) -> Vec<Outcome>;
}

/// Where a recipient goes, as the queue needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Equal keys share the limit of parallel jobs for one destination, and may share a job.
    pub key: Bytes,
    /// Most recipients that one job to it may have; at least 1.
    pub recipients_max: usize,
}

/// One attempt: this message to these recipients.
#[derive(Clone)]
pub struct Job {
    /// The queue's number of the message; 0 where there is no queue.
    pub message: u64,
    /// The text.
    pub content: Arc<dyn Content>,
    /// The sender as this delivery is to see it: VERP is already expanded.
    pub sender: ReversePath,
    /// One or more, all with the same [`Destination`].
    pub recipients: Vec<Address>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("message", &self.message)
            .field("sender", &self.sender)
            .field("recipients", &self.recipients)
            .finish_non_exhaustive()
    }
}
