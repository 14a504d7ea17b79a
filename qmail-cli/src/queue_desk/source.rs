//! Where the messages are, and who does what is ordered.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::Submit;
use qmail_core::route::Tables;
use qmail_queue::split::SendMutex;
use qmail_queue::{
    Answers, JournalSpool, MessageId, Order, Queue, Refusal, SplitSpool, Spool, SpoolError,
    Workers, carry_out,
};

use crate::home::{Home, SpoolKind};

/// The spool of a home, in whatever form it is.
///
/// # Errors
///
/// It cannot be opened; a journal only by one process at a time.
pub(crate) fn open_spool(home: &Home, workers: Workers) -> io::Result<Arc<dyn Spool>> {
    Ok(match SpoolKind::of(&home.queue()) {
        Some(SpoolKind::Journal) => {
            Arc::new(JournalSpool::open(home.journal(), workers).map_err(io::Error::other)?)
        }
        _ => Arc::new(SplitSpool::open(home.queue(), workers).map_err(io::Error::other)?),
    })
}

/// A queue to look at.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    fn spool(&self) -> &dyn Spool;

    /// Has something done.
    async fn order(&self, order: &Order, ids: &[MessageId]) -> Result<Answers, SpoolError>;

    /// When messages are due, if somebody knows better than the spool.
    async fn due_times(&self, _ids: HashSet<MessageId>) -> Option<HashMap<MessageId, Due>> {
        None
    }

    /// What the last deferral of a message said, if somebody knows.
    fn reason(&self, _id: MessageId) -> Option<Box<[u8]>> {
        None
    }
}

/// When the local and the remote recipients of a message are due, in seconds since 1970.
pub(crate) type Due = [Option<u64>; 2];

/// A queue that runs in this process.
pub(crate) struct Running {
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) queue: Queue,
}

#[async_trait]
impl Source for Running {
    fn spool(&self) -> &dyn Spool {
        &*self.spool
    }

    async fn order(&self, order: &Order, ids: &[MessageId]) -> Result<Answers, SpoolError> {
        Ok(self.queue.order(order.clone(), ids.to_vec()).await)
    }

    async fn due_times(&self, ids: HashSet<MessageId>) -> Option<HashMap<MessageId, Due>> {
        Some(self.queue.due_times(ids).await)
    }

    fn reason(&self, id: MessageId) -> Option<Box<[u8]>> {
        self.queue.reason(id)
    }
}

/// A queue that nobody runs, with its lock.
pub(crate) struct Resting {
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) submit: Arc<dyn Submit>,
    pub(crate) uid: u32,
    pub(crate) tables: Arc<Tables>,
    /// Nobody else starts it meanwhile. `None` if whoever has the spool holds it.
    pub(crate) _lock: Option<SendMutex>,
}

#[async_trait]
impl Source for Resting {
    fn spool(&self) -> &dyn Spool {
        &*self.spool
    }

    async fn order(&self, order: &Order, ids: &[MessageId]) -> Result<Answers, SpoolError> {
        let tables = Arc::clone(&self.tables);
        let prefix = match order {
            Order::Reroute { prefix } => prefix.clone(),
            _ => Bytes::new(),
        };
        let original = move |recipient: &[u8]| {
            if prefix.is_empty() {
                return Bytes::copy_from_slice(tables.strip_prefix(recipient));
            }
            qmail_queue::without_prefix(&prefix, recipient)
        };
        carry_out(&*self.spool, &*self.submit, self.uid, original, order, ids).await
    }
}

/// A queue that another process runs, which cannot be asked: it can be looked at, and no more.
pub(crate) struct Watched {
    pub(crate) spool: Arc<dyn Spool>,
}

#[async_trait]
impl Source for Watched {
    fn spool(&self) -> &dyn Spool {
        &*self.spool
    }

    async fn order(&self, _order: &Order, ids: &[MessageId]) -> Result<Answers, SpoolError> {
        let refused = |&id| (id, Err(Refusal::Elsewhere));
        Ok(ids.iter().map(refused).collect())
    }
}
