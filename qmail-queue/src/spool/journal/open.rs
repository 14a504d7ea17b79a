//! Making a journal, and starting with one that is there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::aside::Aside;
use super::record::Place;
use super::replay::{Replayed, replay};
use super::segment::{DAMAGED, LOCK, TEXTS, text_path};
use super::writer::Writer;
use super::{Inner, JournalConfig, JournalSpool};
use crate::spool::gather::Gather;
use crate::spool::hold::{HOLD, Holds};
use crate::spool::{MessageId, SpoolError, directory};
use crate::{Disk, RealDisk, Workers};

/// Mail is nobody's business but its owner's.
const DIRECTORY_MODE: u32 = 0o700;

/// How often a journal is read again that changes meanwhile.
const VIEW_TRIES: usize = 9;

/// How old a text is that no draft can be writing any more: qmail-send's 36 hours.
const STALE: Duration = Duration::from_secs(129_600);

impl JournalSpool {
    /// Directories of a journal, below its own: what a [`Disk`] of the caller's must have, beside its root.
    pub const DIRECTORIES: [&str; 3] = [TEXTS, DAMAGED, HOLD];

    /// Where a start keeps what is damaged. A spool never removes anything there.
    pub const DAMAGED: &str = DAMAGED;

    /// Makes what is missing of a journal's directory, owned by the caller and closed to others; durable on return. Its parent
    /// directory must exist. What exists is left as it is.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn create(root: impl AsRef<Path>) -> io::Result<()> {
        let journal = directory::make_root(root.as_ref(), DIRECTORY_MODE)?;
        for name in Self::DIRECTORIES {
            directory::make(&journal, Path::new(name), DIRECTORY_MODE)?;
        }
        Ok(rustix::fs::fsync(journal)?)
    }

    /// Opens the journal in the directory `root`, and takes its lock until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// [`SpoolError::InUse`] if somebody else has it open, [`SpoolError::Version`] if it is of another version,
    /// [`SpoolError::Read`] if it cannot be read. Damage is no error: it is told by [`scan`](crate::Spool::scan).
    pub fn open(root: impl AsRef<Path>, workers: Workers) -> Result<Self, SpoolError> {
        Self::open_with(root, workers, JournalConfig::default())
    }

    /// The same, with other sizes than the usual ones.
    ///
    /// # Errors
    ///
    /// As [`JournalSpool::open`]; [`SpoolError::Config`] if a size is too large.
    pub fn open_with(
        root: impl AsRef<Path>,
        workers: Workers,
        config: JournalConfig,
    ) -> Result<Self, SpoolError> {
        let root = root.as_ref();
        let disk = RealDisk::open(root).map_err(|source| SpoolError::Read {
            path: root.to_owned(),
            source,
        })?;
        let lock = lock(root)?;
        Self::start(Arc::new(disk), workers, config, Use::Alone(Some(lock)))
    }

    /// What a journal holds at this moment, for a look at it: somebody else may use it. It takes no lock and writes nothing;
    /// whatever would change it is refused with [`SpoolError::InUse`]. What is removed meanwhile cannot be read any more.
    ///
    /// # Errors
    ///
    /// As [`JournalSpool::open`], but [`SpoolError::InUse`].
    pub fn view(disk: &Arc<dyn Disk>, workers: &Workers) -> Result<Self, SpoolError> {
        let mut tries = VIEW_TRIES;
        loop {
            let disk = Arc::clone(disk);
            match Self::start(disk, workers.clone(), JournalConfig::default(), Use::Look) {
                // A segment was removed, or cut to what it holds, between its listing and its reading.
                Err(SpoolError::Read { source, .. })
                    if matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                    ) && tries > 1 =>
                {
                    tries -= 1;
                }
                result => return result,
            }
        }
    }

    /// A journal on a disk of the caller's. The directories of [`JournalSpool::DIRECTORIES`] must exist, and nobody else may
    /// use it.
    ///
    /// # Errors
    ///
    /// As [`JournalSpool::open_with`].
    pub fn over(
        disk: Arc<dyn Disk>,
        workers: Workers,
        config: JournalConfig,
    ) -> Result<Self, SpoolError> {
        Self::start(disk, workers, config, Use::Alone(None))
    }

    fn start(
        disk: Arc<dyn Disk>,
        workers: Workers,
        config: JournalConfig,
        how: Use,
    ) -> Result<Self, SpoolError> {
        config.check()?;
        let look = matches!(how, Use::Look);
        let replayed = replay(&*disk, &Aside { disk: &*disk, look })?;
        let Replayed { next_id, .. } = replayed;
        let writer = Writer::new(&replayed);
        let inner = Inner {
            gather: Gather::new(&workers),
            disk,
            workers,
            config,
            writer: Mutex::new(writer),
            index: Mutex::new(replayed.index),
            files: Mutex::default(),
            current: AtomicU32::new(0),
            next_id: AtomicU64::new(next_id.0),
            damages: Mutex::new(replayed.damages),
            how,
            holds: Holds::default(),
            was_closed: replayed.stopped,
            left_out: replayed.left_out,
        };
        inner.miss_texts();
        if !look {
            for number in replayed.given_up {
                inner.remove_segment(number);
            }
            inner.remove_dead(replayed.replay_from);
            // Whatever it is that cannot be removed, it is only in the way.
            let _ = sweep_texts(&inner, None, replayed.left_out);
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

/// How a journal is used.
pub(super) enum Use {
    /// By us alone; with its lock, where it has one.
    Alone(#[expect(dead_code, reason = "it is held")] Option<OwnedFd>),
    /// To look at, whoever else uses it.
    Look,
}

impl Inner {
    /// Removes segments that a crash kept from being removed.
    fn remove_dead(&self, replay_from: Place) {
        let mut dead = Vec::new();
        for (&number, segment) in self.index().segments() {
            if number < replay_from.segment && segment.live == 0 {
                dead.push(number);
            }
        }
        for number in dead {
            self.remove_segment(number);
        }
    }

    /// Tells of texts that are not there.
    fn miss_texts(&self) {
        let in_files: Vec<MessageId> = {
            let index = self.index();
            let all = index.from(MessageId(0));
            all.filter(|(_, message)| message.in_file)
                .map(|(id, _)| id)
                .collect()
        };
        for id in in_files {
            let path = text_path(id);
            if let Err(source) = self.disk.stat(&path) {
                let error = SpoolError::Read {
                    path: path.clone(),
                    source,
                };
                self.found_damage(path, &error);
            }
        }
    }
}

/// Removes texts that no message has: all, or with a time only those that are so old that no draft can be writing them.
/// Those that a record which is `left_out` may have named are kept aside.
pub(super) fn sweep_texts(
    inner: &Inner,
    now: Option<SystemTime>,
    left_out: bool,
) -> Result<(), SpoolError> {
    let directory = Path::new(TEXTS);
    let names = inner.disk.list(directory);
    let names = names.map_err(|source| SpoolError::Read {
        path: directory.to_owned(),
        source,
    })?;
    let known: BTreeSet<PathBuf> = {
        let index = inner.index();
        let all = index.from(MessageId(0));
        all.filter(|(_, message)| message.in_file)
            .map(|(id, _)| text_path(id))
            .collect()
    };
    let mut result = Ok(());
    for path in names.into_iter().map(|name| directory.join(name)) {
        let is_old = |now: SystemTime| {
            let stat = inner.disk.stat(&path);
            stat.is_ok_and(|stat| now.duration_since(stat.modified).unwrap_or_default() > STALE)
        };
        if known.contains(&path) || !now.is_none_or(is_old) {
            continue;
        }
        let aside = Aside {
            disk: &*inner.disk,
            look: false,
        };
        let removed = if left_out {
            aside.text(&path).map(drop)
        } else {
            inner.disk.unlink(&path)
        };
        if let Err(source) = removed {
            result = Err(SpoolError::Write { path, source });
        }
    }
    result
}

fn lock(root: &Path) -> Result<OwnedFd, SpoolError> {
    let path = root.join(LOCK);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600));
    let file = file.map_err(|error| SpoolError::Create {
        path: path.clone(),
        source: error.into(),
    })?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(SpoolError::InUse {
            path: root.to_owned(),
        }),
        Err(error) => Err(SpoolError::Read {
            path,
            source: error.into(),
        }),
    }
}
