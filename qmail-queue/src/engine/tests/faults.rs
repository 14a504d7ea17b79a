//! A spool that fails on demand and takes its time.

use std::collections::{BTreeSet, HashSet};
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::SystemTime;

use async_trait::async_trait;
use qmail_core::{Content, ReversePath};

use crate::{
    Channel, Entry, Found, Incoming, MessageId, Position, Recipient, Routed, Settled, Spool,
    SpoolDraft, SpoolError,
};

/// A spool behind faults and delays. Clones share both.
#[derive(Clone)]
pub(super) struct FaultySpool {
    pub(super) inner: Arc<dyn Spool>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    /// Calls by these names fail, so many times.
    failing: Vec<(&'static str, usize)>,
    /// State of the generator; 0 for no delays.
    random: u64,
    /// One call in so many fails; 0 for none.
    one_in: u64,
    calls: Vec<String>,
    damaged: Option<MessageId>,
    /// Messages of which a note is being written.
    noting: BTreeSet<MessageId>,
    hanging: Option<&'static str>,
}

impl Faults {
    fn random(&mut self) -> u64 {
        // xorshift: enough to shuffle, and the same everywhere.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl FaultySpool {
    pub(super) fn new(inner: Arc<dyn Spool>) -> Self {
        Self {
            inner,
            faults: Arc::default(),
        }
    }

    /// The next `times` calls of this name fail.
    pub(super) fn fail(&self, name: &'static str, times: usize) {
        self.faults.lock().unwrap().failing.push((name, times));
    }

    /// From now on every call takes a random number of steps before and after it takes effect, and one in `one_in` fails.
    pub(super) fn shuffle(&self, seed: u64, one_in: u64) {
        let mut faults = self.faults.lock().unwrap();
        faults.random = seed;
        faults.one_in = one_in;
    }

    /// Calls of this name never end.
    pub(super) fn hang(&self, name: &'static str) {
        self.faults.lock().unwrap().hanging = Some(name);
    }

    /// The envelope of this message cannot be understood.
    pub(super) fn damage(&self, id: MessageId) {
        self.faults.lock().unwrap().damaged = Some(id);
    }

    /// What was damaged is whole again.
    pub(super) fn mend(&self) {
        self.faults.lock().unwrap().damaged = None;
    }

    /// Names of all calls so far, with what they are about; empty afterwards.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.faults.lock().unwrap().calls)
    }

    async fn before(&self, name: &'static str, about: String) -> Result<(), SpoolError> {
        self.dawdle().await;
        if self.faults.lock().unwrap().hanging == Some(name) {
            return std::future::pending().await;
        }
        let mut faults = self.faults.lock().unwrap();
        faults.calls.push(format!("{name} {about}"));
        let chance = faults.one_in > 0 && faults.random().is_multiple_of(faults.one_in);
        let planned = faults
            .failing
            .iter_mut()
            .find(|(failing, times)| *failing == name && *times > 0);
        if let Some((_, times)) = planned {
            *times -= 1;
        } else if !chance {
            return Ok(());
        }
        Err(SpoolError::Write {
            path: PathBuf::from(name),
            source: io::Error::other("played"),
        })
    }

    async fn dawdle(&self) {
        let mut steps = {
            let mut faults = self.faults.lock().unwrap();
            if faults.random == 0 {
                return;
            }
            faults.random() % 4
        };
        poll_fn(|context| {
            if steps == 0 {
                return Poll::Ready(());
            }
            steps -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// Ends with the note, also if that is cut off by a crash.
struct Noting<'a>(&'a FaultySpool, MessageId);

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        let Self(spool, id) = *self;
        spool.faults.lock().unwrap().noting.remove(&id);
    }
}

#[async_trait]
impl Spool for FaultySpool {
    async fn begin(&self, entry: Entry) -> Result<Box<dyn SpoolDraft>, SpoolError> {
        self.before("begin", String::new()).await?;
        self.inner.begin(entry).await
    }

    async fn scan(&self, found: &mut (dyn FnMut(Found) + Send)) -> Result<(), SpoolError> {
        self.before("scan", String::new()).await?;
        self.inner.scan(found).await
    }

    async fn incoming(&self, id: MessageId) -> Result<Incoming, SpoolError> {
        self.before("incoming", id.to_string()).await?;
        if self.faults.lock().unwrap().damaged == Some(id) {
            return Err(SpoolError::Damaged {
                path: PathBuf::from(id.to_string()),
                reason: "played".to_owned(),
            });
        }
        self.inner.incoming(id).await
    }

    async fn route(&self, id: MessageId, routed: Routed) -> Result<(), SpoolError> {
        self.before("route", id.to_string()).await?;
        self.inner.route(id, routed).await?;
        self.dawdle().await;
        Ok(())
    }

    async fn sender(&self, id: MessageId) -> Result<ReversePath, SpoolError> {
        self.before("sender", id.to_string()).await?;
        self.inner.sender(id).await
    }

    async fn recipients(
        &self,
        id: MessageId,
        channel: Channel,
        from: Position,
        max: usize,
    ) -> Result<Vec<Recipient>, SpoolError> {
        let about = format!("{id} {} {}", channel.name(), from.0);
        self.before("recipients", about).await?;
        self.inner.recipients(id, channel, from, max).await
    }

    async fn mark_done(
        &self,
        id: MessageId,
        channel: Channel,
        positions: &[Position],
    ) -> Result<(), SpoolError> {
        let numbers: Vec<u64> = positions.iter().map(|position| position.0).collect();
        let about = format!("{id} {} {numbers:?}", channel.name());
        self.before("mark_done", about).await?;
        self.inner.mark_done(id, channel, positions).await?;
        self.dawdle().await;
        Ok(())
    }

    async fn close_channel(&self, id: MessageId, channel: Channel) -> Result<(), SpoolError> {
        let about = format!("{id} {}", channel.name());
        self.before("close_channel", about).await?;
        self.inner.close_channel(id, channel).await?;
        self.dawdle().await;
        Ok(())
    }

    async fn note_failure(&self, id: MessageId, note: &[u8]) -> Result<(), SpoolError> {
        let alone = self.faults.lock().unwrap().noting.insert(id);
        assert!(alone, "two notes of one message at once");
        let _noting = Noting(self, id);
        self.before("note_failure", id.to_string()).await?;
        self.inner.note_failure(id, note).await?;
        self.dawdle().await;
        Ok(())
    }

    async fn failures(&self, id: MessageId) -> Result<Option<Arc<dyn Content>>, SpoolError> {
        self.before("failures", id.to_string()).await?;
        self.inner.failures(id).await
    }

    async fn clear_failures(&self, id: MessageId) -> Result<(), SpoolError> {
        self.before("clear_failures", id.to_string()).await?;
        self.inner.clear_failures(id).await?;
        self.dawdle().await;
        Ok(())
    }

    async fn put_off(
        &self,
        id: MessageId,
        channel: Channel,
        due: SystemTime,
    ) -> Result<(), SpoolError> {
        let seconds = due.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let about = format!("{id} {} {}", channel.name(), seconds.as_secs());
        self.before("put_off", about).await?;
        self.inner.put_off(id, channel, due).await
    }

    async fn set_held(&self, id: MessageId, held: bool) -> Result<(), SpoolError> {
        self.before("set_held", format!("{id} {held}")).await?;
        self.inner.set_held(id, held).await
    }

    async fn held(&self) -> Result<HashSet<MessageId>, SpoolError> {
        self.inner.held().await
    }

    async fn content(&self, id: MessageId) -> Result<Arc<dyn Content>, SpoolError> {
        self.before("content", id.to_string()).await?;
        self.inner.content(id).await
    }

    async fn remove(&self, settled: Settled) -> Result<(), SpoolError> {
        self.before("remove", settled.id().to_string()).await?;
        self.inner.remove(settled).await?;
        self.dawdle().await;
        Ok(())
    }

    async fn clean_up(&self, now: SystemTime) -> Result<(), SpoolError> {
        self.before("clean_up", String::new()).await?;
        self.inner.clean_up(now).await
    }
}
