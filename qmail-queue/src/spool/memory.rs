//! A spool that forgets everything when the program ends: for tests, embedders, and `--spool memory`.
//!
//! It keeps no promise across a crash, and says so by its name. It is bounded: beyond its room it refuses as a full disk
//! would.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Content, Envelope, MemoryContent, ReversePath};

use super::{
    Channel, Committed, Entry, Found, Incoming, MessageId, Position, Recipient, Routed, Settled,
    Spool, SpoolDraft, SpoolError,
};

/// A [`Spool`] in memory. Clones share one store.
///
/// Text, envelopes and failure notes together take at most the octets given to [`MemorySpool::with_octets_max`]; a message
/// beyond that is refused with [`io::ErrorKind::StorageFull`].
///
/// ```
/// # futures::executor::block_on(async {
/// use qmail_core::{Address, Envelope, Origin, ReversePath};
/// use qmail_queue::{Entry, MemorySpool, Spool};
///
/// let spool = MemorySpool::new();
/// let entry = Entry { origin: Origin::Network, uid: 0, pid: 1, now: std::time::SystemTime::UNIX_EPOCH };
/// let mut draft = spool.begin(entry).await?;
/// draft.write("Subject: hello\n\nworld\n".into()).await?;
/// let envelope = Envelope::new(ReversePath::Null, vec![Address::new("you@example.org")?]);
/// let id = draft.commit(&envelope).await?.id;
/// assert_eq!(spool.incoming(id).await?.envelope, envelope);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct MemorySpool {
    store: Arc<Mutex<Store>>,
}

impl MemorySpool {
    /// Room that [`MemorySpool::new`] gives: 1 GiB, enough for any test and less than what hosts have.
    pub const OCTETS_MAX: u64 = 1 << 30;

    /// An empty spool with room for [`MemorySpool::OCTETS_MAX`].
    pub fn new() -> Self {
        Self::with_octets_max(Self::OCTETS_MAX)
    }

    /// An empty spool with room for this many octets.
    pub fn with_octets_max(octets_max: u64) -> Self {
        Self {
            store: Arc::new(Mutex::new(Store {
                octets_left: octets_max,
                last: 0,
                messages: BTreeMap::new(),
            })),
        }
    }

    /// Number of accepted messages that are not removed.
    pub fn count(&self) -> usize {
        self.store().messages.len()
    }

    // Every change of the store is complete before anything in it can panic, so a poisoned lock guards a sound store.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, id: MessageId, act: impl FnOnce(&mut Message) -> R) -> Result<R, SpoolError> {
        match self.store().messages.get_mut(&id) {
            Some(message) => Ok(act(message)),
            None => Err(missing(id)),
        }
    }
}

impl Default for MemorySpool {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Store {
    octets_left: u64,
    last: u64,
    messages: BTreeMap<MessageId, Message>,
}

impl Store {
    fn take(&mut self, octets: u64) -> Result<(), SpoolError> {
        match self.octets_left.checked_sub(octets) {
            Some(left) => {
                self.octets_left = left;
                Ok(())
            }
            None => Err(SpoolError::Write {
                path: PathBuf::from("memory"),
                source: io::ErrorKind::StorageFull.into(),
            }),
        }
    }

    fn give_back(&mut self, octets: u64) {
        self.octets_left += octets;
    }
}

#[derive(Debug)]
struct Message {
    text: Bytes,
    /// What it took of the store's room.
    octets_taken: u64,
    stage: Stage,
    failures: Vec<u8>,
    held: bool,
}

#[derive(Debug)]
enum Stage {
    Incoming(Incoming),
    Routed {
        sender: ReversePath,
        birth: SystemTime,
        local: Option<Line>,
        remote: Option<Line>,
    },
}

/// The recipients of an open channel.
#[derive(Debug)]
struct Line {
    due: SystemTime,
    recipients: Vec<(qmail_core::Address, bool)>,
}

impl Message {
    /// The line of a channel; `None` if it is closed or the message is not routed.
    fn line(&mut self, channel: Channel) -> Option<&mut Line> {
        match &mut self.stage {
            Stage::Incoming(_) => None,
            Stage::Routed { local, remote, .. } => match channel {
                Channel::Local => local.as_mut(),
                Channel::Remote => remote.as_mut(),
            },
        }
    }
}

fn path(id: MessageId) -> PathBuf {
    PathBuf::from(format!("memory/{id}"))
}

fn missing(id: MessageId) -> SpoolError {
    SpoolError::Read {
        path: path(id),
        source: io::ErrorKind::NotFound.into(),
    }
}

fn damaged(id: MessageId, reason: &str) -> SpoolError {
    SpoolError::Damaged {
        path: path(id),
        reason: reason.to_owned(),
    }
}

#[async_trait]
impl Spool for MemorySpool {
    async fn begin(&self, entry: Entry) -> Result<Box<dyn SpoolDraft>, SpoolError> {
        let mut draft = MemoryDraft {
            spool: self.clone(),
            entry,
            text: Vec::new(),
            octets_taken: 0,
        };
        draft.append(&entry.received())?;
        Ok(Box::new(draft))
    }

    async fn scan(&self, found: &mut (dyn FnMut(Found) + Send)) -> Result<(), SpoolError> {
        let all: Vec<Found> = self
            .store()
            .messages
            .iter()
            .map(|(&id, message)| match &message.stage {
                Stage::Incoming(_) => Found::Incoming(id),
                Stage::Routed {
                    birth,
                    local,
                    remote,
                    ..
                } => Found::Routed {
                    id,
                    birth: *birth,
                    local: local.as_ref().map(|line| line.due),
                    remote: remote.as_ref().map(|line| line.due),
                },
            })
            .collect();
        // Without the lock: `found` may use the spool.
        all.into_iter().for_each(found);
        Ok(())
    }

    async fn incoming(&self, id: MessageId) -> Result<Incoming, SpoolError> {
        self.with(id, |message| match &message.stage {
            Stage::Incoming(incoming) => Ok(incoming.clone()),
            Stage::Routed { .. } => Err(missing(id)),
        })?
    }

    async fn route(&self, id: MessageId, routed: Routed) -> Result<(), SpoolError> {
        let birth = SystemTime::UNIX_EPOCH + Duration::from_secs(routed.birth_seconds);
        let line = |recipients: Vec<qmail_core::Address>| {
            (!recipients.is_empty()).then(|| Line {
                due: birth,
                recipients: recipients.into_iter().map(|to| (to, false)).collect(),
            })
        };
        let mut store = self.store();
        let octets = routed.failures.len() as u64;
        store.take(octets)?;
        let message = match store.messages.get_mut(&id) {
            Some(message) if matches!(message.stage, Stage::Incoming(_)) => message,
            _ => {
                store.give_back(octets);
                return Err(missing(id));
            }
        };
        message.failures = routed.failures;
        message.octets_taken += octets;
        message.stage = Stage::Routed {
            sender: routed.sender,
            birth,
            local: line(routed.local),
            remote: line(routed.remote),
        };
        Ok(())
    }

    async fn sender(&self, id: MessageId) -> Result<ReversePath, SpoolError> {
        self.with(id, |message| match &message.stage {
            Stage::Incoming(_) => Err(missing(id)),
            Stage::Routed { sender, .. } => Ok(sender.clone()),
        })?
    }

    async fn recipients(
        &self,
        id: MessageId,
        channel: Channel,
        from: Position,
        max: usize,
    ) -> Result<Vec<Recipient>, SpoolError> {
        self.with(id, |message| {
            let Some(line) = message.line(channel) else {
                return Vec::new();
            };
            let start = usize::try_from(from.0).unwrap_or(usize::MAX);
            (from.0..)
                .zip(line.recipients.iter().skip(start).take(max))
                .map(|(at, (address, done))| Recipient {
                    position: Position(at),
                    next: Position(at + 1),
                    address: address.clone(),
                    done: *done,
                })
                .collect()
        })
    }

    async fn mark_done(
        &self,
        id: MessageId,
        channel: Channel,
        positions: &[Position],
    ) -> Result<(), SpoolError> {
        self.with(id, |message| {
            let Some(line) = message.line(channel) else {
                return Ok(());
            };
            for position in positions {
                let at = usize::try_from(position.0).unwrap_or(usize::MAX);
                match line.recipients.get_mut(at) {
                    Some((_, done)) => *done = true,
                    None => return Err(damaged(id, "no recipient at that position")),
                }
            }
            Ok(())
        })?
    }

    async fn close_channel(&self, id: MessageId, channel: Channel) -> Result<(), SpoolError> {
        self.with(id, |message| {
            if let Stage::Routed { local, remote, .. } = &mut message.stage {
                match channel {
                    Channel::Local => *local = None,
                    Channel::Remote => *remote = None,
                }
            }
        })
    }

    async fn note_failure(&self, id: MessageId, note: &[u8]) -> Result<(), SpoolError> {
        let mut store = self.store();
        let octets = note.len() as u64;
        store.take(octets)?;
        match store.messages.get_mut(&id) {
            Some(message) => {
                message.failures.extend_from_slice(note);
                message.octets_taken += octets;
                Ok(())
            }
            None => {
                store.give_back(octets);
                Err(missing(id))
            }
        }
    }

    async fn failures(&self, id: MessageId) -> Result<Option<Arc<dyn Content>>, SpoolError> {
        self.with(id, |message| {
            if message.failures.is_empty() {
                return None;
            }
            let text = Bytes::from(message.failures.clone());
            Some(Arc::new(MemoryContent(text)) as Arc<dyn Content>)
        })
    }

    async fn clear_failures(&self, id: MessageId) -> Result<(), SpoolError> {
        let mut store = self.store();
        let Some(message) = store.messages.get_mut(&id) else {
            return Ok(());
        };
        let octets = message.failures.len() as u64;
        message.failures = Vec::new();
        message.octets_taken -= octets;
        store.give_back(octets);
        Ok(())
    }

    async fn put_off(
        &self,
        id: MessageId,
        channel: Channel,
        due: SystemTime,
    ) -> Result<(), SpoolError> {
        self.with(id, |message| {
            if let Some(line) = message.line(channel) {
                line.due = due;
            }
        })
    }

    async fn set_held(&self, id: MessageId, held: bool) -> Result<(), SpoolError> {
        self.with(id, |message| message.held = held)
    }

    async fn held(&self) -> Result<HashSet<MessageId>, SpoolError> {
        let store = self.store();
        let held = store.messages.iter().filter(|(_, message)| message.held);
        Ok(held.map(|(&id, _)| id).collect())
    }

    async fn content(&self, id: MessageId) -> Result<Arc<dyn Content>, SpoolError> {
        self.with(id, |message| {
            Arc::new(MemoryContent(message.text.clone())) as Arc<dyn Content>
        })
    }

    async fn remove(&self, settled: Settled) -> Result<(), SpoolError> {
        let mut store = self.store();
        if let Some(message) = store.messages.remove(&settled.id()) {
            store.give_back(message.octets_taken);
        }
        Ok(())
    }

    async fn clean_up(&self, _now: SystemTime) -> Result<(), SpoolError> {
        Ok(())
    }
}

struct MemoryDraft {
    spool: MemorySpool,
    entry: Entry,
    text: Vec<u8>,
    octets_taken: u64,
}

impl MemoryDraft {
    fn append(&mut self, chunk: &[u8]) -> Result<(), SpoolError> {
        self.spool.store().take(chunk.len() as u64)?;
        self.octets_taken += chunk.len() as u64;
        self.text.extend_from_slice(chunk);
        Ok(())
    }
}

#[async_trait]
impl SpoolDraft for MemoryDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), SpoolError> {
        self.append(&chunk)
    }

    async fn commit(mut self: Box<Self>, envelope: &Envelope) -> Result<Committed, SpoolError> {
        let addresses = envelope.sender.as_bytes().len()
            + envelope
                .recipients
                .iter()
                .map(|to| to.as_bytes().len())
                .sum::<usize>();
        let mut store = self.spool.store();
        store.take(addresses as u64)?;
        let text = Bytes::from(std::mem::take(&mut self.text));
        let octets = text.len() as u64;
        store.last += 1;
        let id = MessageId(store.last);
        store.messages.insert(
            id,
            Message {
                text,
                octets_taken: self.octets_taken + addresses as u64,
                stage: Stage::Incoming(Incoming {
                    envelope: envelope.clone(),
                    uid: self.entry.uid,
                    pid: self.entry.pid,
                    octets,
                }),
                failures: Vec::new(),
                held: false,
            },
        );
        drop(store);
        // The message has the room now; dropping the draft must not give it back.
        self.octets_taken = 0;
        Ok(Committed { id, octets })
    }
}

impl Drop for MemoryDraft {
    fn drop(&mut self) {
        self.spool.store().give_back(self.octets_taken);
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use qmail_core::{Address, Origin};

    use super::*;

    fn address(text: &'static str) -> Address {
        Address::new(text).expect("a short address")
    }

    fn entry() -> Entry {
        Entry {
            origin: Origin::Network,
            uid: 5,
            pid: 6,
            now: SystemTime::UNIX_EPOCH,
        }
    }

    fn envelope() -> Envelope {
        Envelope::new(
            address("from@here").into(),
            vec![address("a@here"), address("b@there")],
        )
    }

    async fn accept(spool: &MemorySpool) -> MessageId {
        let mut draft = spool.begin(entry()).await.unwrap();
        draft.write("text\n".into()).await.unwrap();
        draft.commit(&envelope()).await.unwrap().id
    }

    async fn found(spool: &MemorySpool) -> Vec<Found> {
        let mut all = Vec::new();
        spool.scan(&mut |one| all.push(one)).await.unwrap();
        all
    }

    #[test]
    fn a_message_goes_through_its_states() {
        block_on(async {
            let spool = MemorySpool::new();
            let id = accept(&spool).await;
            assert_eq!(found(&spool).await, [Found::Incoming(id)]);
            let incoming = spool.incoming(id).await.unwrap();
            assert_eq!((incoming.uid, incoming.pid), (5, 6));
            assert!(spool.sender(id).await.is_err());

            let birth = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
            let routed = Routed {
                sender: incoming.envelope.sender,
                local: vec![address("a@here")],
                remote: vec![address("b@there"), address("c@there")],
                birth_seconds: 9,
                failures: Vec::new(),
            };
            spool.route(id, routed).await.unwrap();
            assert!(spool.incoming(id).await.is_err());
            assert_eq!(spool.sender(id).await.unwrap().as_bytes(), b"from@here");

            let first = spool
                .recipients(id, Channel::Remote, Position::START, 1)
                .await
                .unwrap();
            assert_eq!(first.len(), 1);
            let rest = spool
                .recipients(id, Channel::Remote, first[0].next, 9)
                .await
                .unwrap();
            assert_eq!(rest.len(), 1);
            assert_eq!(rest[0].address, address("c@there"));
            spool
                .mark_done(id, Channel::Remote, &[rest[0].position])
                .await
                .unwrap();
            let again = spool
                .recipients(id, Channel::Remote, Position::START, 9)
                .await
                .unwrap();
            assert_eq!(
                again.iter().map(|to| to.done).collect::<Vec<_>>(),
                [false, true]
            );

            let due = birth + Duration::from_secs(100);
            spool.put_off(id, Channel::Remote, due).await.unwrap();
            spool.close_channel(id, Channel::Local).await.unwrap();
            assert_eq!(
                found(&spool).await,
                [Found::Routed {
                    id,
                    birth,
                    local: None,
                    remote: Some(due)
                }]
            );

            assert!(spool.failures(id).await.unwrap().is_none());
            spool.note_failure(id, b"no\n").await.unwrap();
            assert_eq!(spool.failures(id).await.unwrap().unwrap().octets(), 3);
            spool.clear_failures(id).await.unwrap();
            assert!(spool.failures(id).await.unwrap().is_none());

            spool.remove(Settled::new(id)).await.unwrap();
            assert!(spool.content(id).await.is_err());
            assert_eq!(spool.count(), 0);
        });
    }

    #[test]
    fn room_is_bounded_and_given_back() {
        block_on(async {
            let spool = MemorySpool::with_octets_max(200);
            for _ in 0..10 {
                let id = accept(&spool).await;
                let mut draft = spool.begin(entry()).await.unwrap();
                let error = draft.write(vec![0; 200].into()).await.unwrap_err();
                assert!(matches!(error, SpoolError::Write { .. }), "{error}");
                drop(draft);
                spool.note_failure(id, b"note").await.unwrap();
                spool.remove(Settled::new(id)).await.unwrap();
            }
            assert_eq!(spool.store().octets_left, 200);
        });
    }
}
