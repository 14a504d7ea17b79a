//! The split-directory spool: qmail's own queue, byte for byte (qmail-queue(8), qmail-send(8)).
//!
//! A queue that the classic programs left can be taken over in place, and the other way round. One thing is better kept than
//! by them: every step that is promised is made durable with the directories that name its files.
//!
//! | state | mess | intd | todo | info | local, remote | bounce |
//! |---|---|---|---|---|---|---|
//! | being written | yes | maybe | | | | |
//! | accepted | yes | maybe | yes | maybe | maybe | maybe |
//! | routed | yes | maybe, after a crash | | yes | one for each open channel | maybe |
//! | forgotten, to be swept up | yes | maybe | | | maybe | maybe |

mod accept;
mod clean;
mod commit;
#[cfg(test)]
mod crash;
pub mod format;
mod hold;
mod keeper;
pub mod layout;
mod route;
mod scan;
mod spares;
#[cfg(test)]
mod tests;
mod tree;
mod trigger;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use futures::channel::oneshot;
use qmail_core::{Content, ReversePath};

pub use keeper::{Keeper, Removal};
pub use spares::SPARE_OCTETS_MAX;
pub use tree::{SendMutex, create_locks};
pub use trigger::Trigger;

use self::accept::SplitDraft;
use self::commit::Committer;
use self::format::{FormatError, ReadError};
use self::keeper::Managed;
use self::layout::Directory;
use self::spares::Spares;
use super::content;
use super::hold::Holds;
use super::{
    Channel, Entry, Found, Incoming, MessageId, Position, Recipient, Routed, Settled, Spool,
    SpoolDraft, SpoolError,
};
use crate::helpers::clean::Request;
use crate::{Disk, DiskFile, RealDisk, Workers};

/// Largest envelope in octets that is read: 100,000 recipients of the longest kind.
const TODO_OCTETS_MAX: u64 = 128 << 20;

/// qmail's queue directory as a [`Spool`]. Cheap to clone; clones share one queue and its group commit.
///
/// Only one process may *run* a queue: take [`SendMutex::lock`] before anything but [`Spool::begin`] is used. Any number may
/// add messages.
///
/// ```no_run
/// # async fn add() -> Result<(), Box<dyn std::error::Error>> {
/// use qmail_queue::{SplitSpool, Workers, split::SendMutex};
/// SplitSpool::create("/var/qmail/queue")?;
/// let _running = SendMutex::lock("/var/qmail/queue")?;
/// let spool = SplitSpool::open("/var/qmail/queue", Workers::threads(4)?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SplitSpool {
    inner: Arc<Inner>,
}

/// What tasks on workers share.
struct Inner {
    disk: Arc<dyn Disk>,
    workers: Workers,
    committer: Committer,
    spares: Spares,
    births: AtomicU64,
    /// A sync of `bounce` has failed: a name that seems to be gone may come back.
    bounce_in_doubt: AtomicBool,
    holds: Holds,
    /// Who removes texts and envelopes, where they are another process's: then of a text no more than its size is looked at.
    managed: Option<Managed>,
}

impl Inner {
    /// Tells newborn files of one process and second apart.
    fn next_birth(&self) -> u64 {
        self.births.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.spares.clear(&*self.disk);
    }
}

impl SplitSpool {
    /// Makes what is missing of a queue directory, with the modes of the classic one, owned by the caller; durable on return.
    /// Its parent directory must exist. What exists is left as it is.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn create(root: impl AsRef<Path>) -> io::Result<()> {
        tree::create(root.as_ref())
    }

    /// Opens the queue directory at `root`.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Read`] names the directory that is missing. One that this process may not enter is no error yet: a program
    /// that only adds messages never does.
    pub fn open(root: impl AsRef<Path>, workers: Workers) -> Result<Self, SpoolError> {
        let root = root.as_ref();
        let disk = RealDisk::open(root).map_err(|source| SpoolError::Read {
            path: root.to_owned(),
            source,
        })?;
        Self::check(root, &disk)?;
        Ok(Self::over(Arc::new(disk), workers))
    }

    /// Checks that a disk opened at `root` is a queue directory of this layout: neither lacks a directory, nor has one in which
    /// messages would never be looked for.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Read`] names the directory.
    pub fn check(root: impl AsRef<Path>, disk: &dyn Disk) -> Result<(), SpoolError> {
        let error = |path: &Path, source| {
            let path = root.as_ref().join(path);
            Err(SpoolError::Read { path, source })
        };
        for directory in Directory::all() {
            let path = directory.path();
            match disk.stat(&path) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => {
                    return error(&path, source);
                }
                _ => {}
            }
        }
        let beyond = Path::new("mess").join(layout::SPLIT.to_string());
        if disk.stat(&beyond).is_ok() {
            let words = format!(
                "this queue is split otherwise than in {} parts",
                layout::SPLIT
            );
            return error(&beyond, io::Error::other(words));
        }
        Ok(())
    }

    /// A queue on a disk of the caller's, whose directories ([`Directory::all`]) exist.
    pub fn over(disk: Arc<dyn Disk>, workers: Workers) -> Self {
        Self::made(disk, workers, None)
    }

    /// The same for a queue manager that may neither write texts and envelopes, which `keeper` removes for it, nor read texts:
    /// [`Spool::content`] tells their size, and cannot be opened. Who delivers opens them by himself, and who takes bounces quotes them
    /// ([`Draft::quote`](qmail_core::Draft::quote)). No message can be added to such a spool.
    pub fn managing(disk: Arc<dyn Disk>, workers: Workers, keeper: Arc<dyn Keeper>) -> Self {
        Self::made(disk, workers, Some(Managed::by(keeper)))
    }

    fn made(disk: Arc<dyn Disk>, workers: Workers, managed: Option<Managed>) -> Self {
        Self {
            inner: Arc::new(Inner {
                committer: Committer::new(Arc::clone(&disk), &workers),
                spares: Spares::default(),
                disk,
                workers,
                births: AtomicU64::new(1),
                bounce_in_doubt: AtomicBool::new(false),
                holds: Holds::default(),
                managed,
            }),
        }
    }

    /// From now on the files of up to 512 small messages that were delivered at their first try are kept in `pid` and `intd`, and
    /// written over by the next messages, instead of being removed and made again. They are removed when the last clone is dropped,
    /// and at every [`Spool::clean_up`]; what a crash leaves of them, the latter sweeps up when it is old.
    ///
    /// Not for a queue whose message files others open to deliver from them, as the spawners of the classic programs do: a
    /// process that they leave behind could read the next message in the file that it was given.
    #[must_use]
    pub fn keeping_spares(self) -> Self {
        self.inner.spares.want();
        self
    }

    /// Numbers of the messages that are accepted and not routed, in ascending order. After a [`Trigger`] was pulled, and every
    /// 1500 seconds, this finds what other programs have put into the queue. Foreign names are passed over.
    ///
    /// # Errors
    ///
    /// `todo` cannot be read.
    pub async fn incoming_ids(&self) -> Result<Vec<MessageId>, SpoolError> {
        let (mut ids, _) = self.run(scan::todo).await?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// Does what qmail-clean(8) does for a queue manager that may not remove these files itself. An envelope is gone durably on
    /// return.
    ///
    /// # Errors
    ///
    /// Something could not be removed; that it was not there is no error. The message of an envelope is still incoming.
    pub async fn clean(&self, request: Request) -> Result<(), SpoolError> {
        self.discard(match request {
            Request::Text(id) => Removal::Text(id),
            Request::Envelope(id) => Removal::Envelope(id),
        })
        .await
    }

    /// Removes texts and envelopes for a queue manager that has this spool for its [`Keeper`]. Envelopes are gone durably on return;
    /// any number of removals at the same time share their sync, with each other and with the messages that are taken.
    ///
    /// # Errors
    ///
    /// Something could not be removed; that it was not there is no error. The message of an envelope is still incoming.
    pub async fn discard(&self, removal: Removal) -> Result<(), SpoolError> {
        self.answered(Directory::Todo.path(), move |inner, answer| {
            clean::clean(inner, removal, answer);
        })
        .await
    }

    /// Removes newborn files whose writers are dead: those not accessed for 36 hours. The rest of what crashes leave is swept
    /// up by [`Spool::clean_up`], which needs to know what is incoming.
    ///
    /// # Errors
    ///
    /// `pid` cannot be read, or a file in it not be removed.
    pub async fn sweep_newborn(&self, now: SystemTime) -> Result<(), SpoolError> {
        self.run(move |inner| {
            inner.spares.clear(&*inner.disk);
            scan::sweep_pid(inner, now)
        })
        .await
    }

    /// Starts a message whose text is complete: no Received field is put before it.
    pub(crate) fn adopt(&self, entry: Entry) -> Box<dyn SpoolDraft> {
        let inner = Arc::clone(&self.inner);
        Box::new(SplitDraft::new(inner, entry, Vec::new()))
    }

    /// Runs a task that blocks.
    fn run<R: Send + 'static>(
        &self,
        task: impl FnOnce(&Inner) -> R + Send + 'static,
    ) -> impl Future<Output = R> + Send + 'static {
        let inner = Arc::clone(&self.inner);
        self.inner.workers.run(move || task(&inner))
    }

    /// Runs a task that answers when something is durable.
    async fn answered<T: Send + 'static>(
        &self,
        path: PathBuf,
        task: impl FnOnce(&Arc<Inner>, oneshot::Sender<Result<T, SpoolError>>) + Send + 'static,
    ) -> Result<T, SpoolError> {
        let (answer, result) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        self.inner.workers.start(move || task(&inner, answer));
        result.await.unwrap_or_else(|_| {
            Err(SpoolError::Write {
                path,
                source: io::Error::other("the task was broken off"),
            })
        })
    }
}

#[async_trait]
impl Spool for SplitSpool {
    async fn begin(&self, entry: Entry) -> Result<Box<dyn SpoolDraft>, SpoolError> {
        let inner = Arc::clone(&self.inner);
        Ok(Box::new(SplitDraft::new(inner, entry, entry.received())))
    }

    async fn incoming_ids(&self) -> Result<Vec<MessageId>, SpoolError> {
        Self::incoming_ids(self).await
    }

    async fn scan(&self, found: &mut (dyn FnMut(Found) + Send)) -> Result<(), SpoolError> {
        let (incoming, foreign) = self.run(scan::todo).await?;
        foreign.into_iter().for_each(&mut *found);
        let incoming: Arc<BTreeSet<MessageId>> = Arc::new(incoming.into_iter().collect());
        incoming
            .iter()
            .copied()
            .map(Found::Incoming)
            .for_each(&mut *found);
        for part in 0..layout::SPLIT as u8 {
            let incoming = Arc::clone(&incoming);
            let routed =
                self.run(move |inner| scan::info(inner, part, |id| incoming.contains(&id)));
            routed.await?.into_iter().for_each(&mut *found);
        }
        Ok(())
    }

    async fn incoming(&self, id: MessageId) -> Result<Incoming, SpoolError> {
        self.run(move |inner| {
            let path = Directory::Todo.file(id);
            let octets = content::read_whole(&*inner.disk, &path, TODO_OCTETS_MAX)?;
            let todo = format::parse_todo(octets).map_err(|error| damaged(&path, error))?;
            let path = Directory::mess(id).file(id);
            let stat = match inner.disk.stat(&path) {
                Ok(stat) => stat,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let reason = "the text of an accepted message is missing".to_owned();
                    return Err(SpoolError::Damaged { path, reason });
                }
                Err(source) => return Err(SpoolError::Read { path, source }),
            };
            if let Some(managed) = &inner.managed
                && !exists(inner, Directory::info(id), id)?
            {
                managed.note_bare(id, stat.octets);
            }
            Ok(Incoming {
                envelope: todo.envelope,
                uid: todo.uid,
                pid: todo.pid,
                octets: stat.octets,
            })
        })
        .await
    }

    async fn route(&self, id: MessageId, routed: Routed) -> Result<(), SpoolError> {
        let path = Directory::Todo.file(id);
        if let Some(managed) = &self.inner.managed {
            managed.end_bare(id);
        }
        self.answered(path.clone(), move |inner, answer| {
            route::route(inner, id, &routed, answer);
        })
        .await?;
        if let Some(managed) = &self.inner.managed
            && let Err(source) = managed.keeper.discard(Removal::Envelope(id)).await
        {
            self.run(move |inner| route::take_back(inner, id)).await;
            return Err(SpoolError::Write { path, source });
        }
        Ok(())
    }

    async fn sender(&self, id: MessageId) -> Result<ReversePath, SpoolError> {
        self.run(move |inner| {
            let path = Directory::info(id).file(id);
            let octets =
                content::read_whole(&*inner.disk, &path, format::RECORD_OCTETS_MAX as u64)?;
            format::parse_info(octets).map_err(|error| damaged(&path, error))
        })
        .await
    }

    async fn recipients(
        &self,
        id: MessageId,
        channel: Channel,
        from: Position,
        max: usize,
    ) -> Result<Vec<Recipient>, SpoolError> {
        self.run(move |inner| recipients(inner, id, channel, from, max))
            .await
    }

    async fn mark_done(
        &self,
        id: MessageId,
        channel: Channel,
        positions: &[Position],
    ) -> Result<(), SpoolError> {
        let positions = positions.to_vec();
        let path = Directory::channel(channel, id).file(id);
        self.answered(path, move |inner, answer| {
            route::mark_done(inner, id, channel, &positions, answer);
        })
        .await
    }

    async fn close_channel(&self, id: MessageId, channel: Channel) -> Result<(), SpoolError> {
        let path = Directory::channel(channel, id).file(id);
        self.answered(path, move |inner, answer| {
            route::close_channel(inner, id, channel, answer);
        })
        .await
    }

    async fn note_failure(&self, id: MessageId, note: &[u8]) -> Result<(), SpoolError> {
        let note = note.to_vec();
        let path = Directory::Bounce.file(id);
        self.answered(path, move |inner, answer| {
            route::note_failure(inner, id, &note, answer);
        })
        .await
    }

    async fn failures(&self, id: MessageId) -> Result<Option<Arc<dyn Content>>, SpoolError> {
        self.run(move |inner| {
            let path = Directory::Bounce.file(id);
            match content::open(&*inner.disk, &inner.workers, path) {
                Ok(content) if content.octets() == 0 => Ok(None),
                Ok(content) => Ok(Some(content)),
                Err(SpoolError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn clear_failures(&self, id: MessageId) -> Result<(), SpoolError> {
        let path = Directory::Bounce.file(id);
        self.answered(path, move |inner, answer| {
            route::clear_failures(inner, id, answer);
        })
        .await
    }

    async fn put_off(
        &self,
        id: MessageId,
        channel: Channel,
        due: SystemTime,
    ) -> Result<(), SpoolError> {
        self.run(move |inner| {
            let path = Directory::channel(channel, id).file(id);
            match inner.disk.set_times(&path, due) {
                Ok(()) => Ok(()),
                // A closed channel is never due.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(source) => Err(SpoolError::Write { path, source }),
            }
        })
        .await
    }

    async fn set_held(&self, id: MessageId, held: bool) -> Result<(), SpoolError> {
        self.run(move |inner| hold::set(inner, id, held)).await
    }

    async fn held(&self) -> Result<HashSet<MessageId>, SpoolError> {
        self.run(hold::list).await
    }

    async fn content(&self, id: MessageId) -> Result<Arc<dyn Content>, SpoolError> {
        let managed = self.inner.managed.as_ref();
        if let Some(octets) = managed.and_then(|managed| managed.octets_of_bare(id)) {
            return Ok(content::closed_of(octets));
        }
        self.run(move |inner| {
            let path = Directory::mess(id).file(id);
            if inner.managed.is_some() {
                return content::closed(&*inner.disk, path);
            }
            content::open(&*inner.disk, &inner.workers, path)
        })
        .await
    }

    async fn remove(&self, settled: Settled) -> Result<(), SpoolError> {
        let id = settled.id();
        let path = Directory::info(id).file(id);
        match &self.inner.managed {
            None => {
                self.answered(path, move |inner, answer| route::remove(inner, id, answer))
                    .await?;
            }
            Some(managed) => {
                let removal = match managed.end_bare(id) && !settled.was_routed() {
                    true => Removal::Message(id),
                    false => {
                        let own = self.answered(path, move |inner, answer| {
                            route::remove_own(inner, id, answer);
                        });
                        own.await?
                    }
                };
                let removed = managed.keeper.discard(removal).await;
                removed.map_err(|source| SpoolError::Write {
                    path: Directory::mess(id).file(id),
                    source,
                })?;
            }
        }
        if self.inner.holds.knows(id) {
            self.run(move |inner| inner.holds.forget(&*inner.disk, id))
                .await;
        }
        Ok(())
    }

    async fn clean_up(&self, now: SystemTime) -> Result<(), SpoolError> {
        if let Some(managed) = &self.inner.managed {
            return clean_up_own(self, &*managed.keeper, now).await;
        }
        let mut result = self.sweep_newborn(now).await;
        for directory in Directory::all() {
            // A task for each, so that other work comes in between.
            let swept = self.run(move |inner| match directory {
                Directory::Pid | Directory::Todo | Directory::Info(_) => Ok(()),
                Directory::Mess(part) => scan::sweep_mess(inner, part, now),
                Directory::Intd
                | Directory::Bounce
                | Directory::Local(_)
                | Directory::Remote(_) => scan::sweep(inner, directory, now),
            });
            result = result.and(swept.await);
        }
        result
    }
}

/// The same for the manager's half; what the keeper is writing it sweeps up by itself.
async fn clean_up_own(
    spool: &SplitSpool,
    keeper: &dyn Keeper,
    now: SystemTime,
) -> Result<(), SpoolError> {
    let mut result = Ok(());
    for directory in Directory::all() {
        match directory {
            Directory::Pid | Directory::Intd | Directory::Todo | Directory::Info(_) => {}
            Directory::Mess(part) => {
                let old = spool.run(move |inner| scan::old_texts(inner, part, now));
                for id in old.await? {
                    let removed = keeper.discard(Removal::Text(id)).await;
                    let path = Directory::mess(id).file(id);
                    result =
                        result.and(removed.map_err(|source| SpoolError::Write { path, source }));
                }
            }
            Directory::Bounce | Directory::Local(_) | Directory::Remote(_) => {
                let swept = spool.run(move |inner| scan::sweep(inner, directory, now));
                result = result.and(swept.await);
            }
        }
    }
    result
}

/// Reads recipients. Blocks.
fn recipients(
    inner: &Inner,
    id: MessageId,
    channel: Channel,
    from: Position,
    max: usize,
) -> Result<Vec<Recipient>, SpoolError> {
    let path = Directory::channel(channel, id).file(id);
    let file = match inner.disk.open(&path, false) {
        Ok(file) => file,
        // A closed channel has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(SpoolError::Read { path, source }),
    };
    let records = format::read_recipients(&*file, from.0, u64::MAX, max);
    let mut at = from.0;
    let records = records.map_err(|error| match error {
        ReadError::Io(source) => SpoolError::Read { path, source },
        ReadError::Format(error) => damaged(&path, error),
    })?;
    let with_place = |record: format::RecipientRecord| {
        let position = Position(at);
        at += record.octets as u64;
        Recipient {
            position,
            next: Position(at),
            address: record.address,
            done: record.done,
        }
    };
    Ok(records.into_iter().map(with_place).collect())
}

/// Creates a file in place of whatever a crash left there; `true` if there was something.
fn create_afresh(
    disk: &dyn Disk,
    path: &Path,
    mode: u32,
) -> Result<(Box<dyn DiskFile>, bool), SpoolError> {
    let result = match disk.create(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk
            .unlink(path)
            .and_then(|()| disk.create(path, mode))
            .map(|file| (file, true)),
        result => result.map(|file| (file, false)),
    };
    result.map_err(|source| SpoolError::Create {
        path: path.to_owned(),
        source,
    })
}

/// Removes a message's file; `false` if there was none.
fn unlink_if_there(inner: &Inner, directory: Directory, id: MessageId) -> Result<bool, SpoolError> {
    let path = directory.file(id);
    match inner.disk.unlink(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(SpoolError::Write { path, source }),
    }
}

fn exists(inner: &Inner, directory: Directory, id: MessageId) -> Result<bool, SpoolError> {
    let path = directory.file(id);
    match inner.disk.stat(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(SpoolError::Read { path, source }),
    }
}

fn damaged(path: &Path, error: FormatError) -> SpoolError {
    SpoolError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
