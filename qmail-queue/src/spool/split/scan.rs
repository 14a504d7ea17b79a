//! Finding what is in the queue, and sweeping up what crashes have left in it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::layout::{self, Directory};
use super::route::remove_rest;
use super::{Inner, exists, unlink_if_there};
use crate::spool::{Channel, Found, MessageId, SpoolError};

/// Age at which a file that nobody claims is swept up. It must exceed the day that a classic qmail-queue may live.
const GARBAGE_AGE: Duration = Duration::from_secs(36 * 3600);

/// Messages in `todo`, in no order, and what else lies there.
pub(super) fn todo(inner: &Inner) -> Result<(Vec<MessageId>, Vec<Found>), SpoolError> {
    let (mut ids, mut foreign) = (Vec::new(), Vec::new());
    for (name, id) in numbered(inner, Directory::Todo)? {
        match id {
            Some(id) => ids.push(id),
            None => foreign.push(no_message(Directory::Todo, &name)),
        }
    }
    Ok((ids, foreign))
}

/// Routed messages of one part of `info`; those that `incoming` tells are in `todo` as well, and count as such.
pub(super) fn info(
    inner: &Inner,
    part: u8,
    incoming: impl Fn(MessageId) -> bool,
) -> Result<Vec<Found>, SpoolError> {
    let directory = Directory::Info(part);
    let mut found = Vec::new();
    for (name, id) in numbered(inner, directory)? {
        let Some(id) = id else {
            found.push(no_message(directory, &name));
            continue;
        };
        if incoming(id) {
            continue;
        }
        let path = directory.file(id);
        let stat = match inner.disk.stat(&path) {
            Ok(stat) => stat,
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let reason = error.to_string();
                found.push(Found::Damaged { path, reason });
                continue;
            }
        };
        if !stat.is_file {
            found.push(no_message(directory, &name));
            continue;
        }
        match (
            due(inner, Channel::Local, id),
            due(inner, Channel::Remote, id),
        ) {
            (Ok(local), Ok(remote)) => found.push(Found::Routed {
                id,
                birth: stat.modified,
                local,
                remote,
            }),
            (Err(damaged), _) | (_, Err(damaged)) => found.push(damaged),
        }
    }
    Ok(found)
}

/// When a channel is due; `None` if it is closed.
fn due(inner: &Inner, channel: Channel, id: MessageId) -> Result<Option<SystemTime>, Found> {
    let path = Directory::channel(channel, id).file(id);
    match inner.disk.stat(&path) {
        Ok(stat) => Ok(Some(stat.modified)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Found::Damaged {
            path,
            reason: error.to_string(),
        }),
    }
}

fn no_message(directory: Directory, name: &Path) -> Found {
    Found::Damaged {
        path: directory.path().join(name),
        reason: "it is no message of this queue".to_owned(),
    }
}

/// Names in a directory, with the message that each stands for if it is one that may lie there.
fn numbered(
    inner: &Inner,
    directory: Directory,
) -> Result<Vec<(PathBuf, Option<MessageId>)>, SpoolError> {
    let path = directory.path();
    let names = inner
        .disk
        .list(&path)
        .map_err(|source| SpoolError::Read { path, source })?;
    Ok(names
        .into_iter()
        .map(|name| {
            let id = layout::message_id(&name).filter(|&id| directory.may_hold(id));
            (name, id)
        })
        .collect())
}

/// Removes old files from `pid`: their writers are dead.
pub(super) fn sweep_pid(inner: &Inner, now: SystemTime) -> Result<(), SpoolError> {
    let directory = Directory::Pid.path();
    let names = inner.disk.list(&directory);
    let names = names.map_err(|source| SpoolError::Read {
        path: directory.clone(),
        source,
    })?;
    let mut result = Ok(());
    for name in names {
        let path = directory.join(name);
        if is_old(inner, &path, now)
            && let Err(source) = inner.disk.unlink(&path)
            && source.kind() != io::ErrorKind::NotFound
        {
            result = Err(SpoolError::Write { path, source });
        }
    }
    result
}

/// Removes old messages of one part of `mess` that were never accepted, or are settled.
pub(super) fn sweep_mess(inner: &Inner, part: u8, now: SystemTime) -> Result<(), SpoolError> {
    let mut result = Ok(());
    for id in old_texts(inner, part, now)? {
        result = result.and(remove_rest(inner, id));
    }
    result
}

/// Old messages of one part of `mess` that were never accepted, or are settled.
pub(super) fn old_texts(
    inner: &Inner,
    part: u8,
    now: SystemTime,
) -> Result<Vec<MessageId>, SpoolError> {
    let mut old = Vec::new();
    for (_, id) in numbered(inner, Directory::Mess(part))? {
        let Some(id) = id else { continue };
        // In this order: a message that is routed meanwhile has its sender before it leaves `todo`.
        if is_old(inner, &Directory::mess(id).file(id), now)
            && !exists(inner, Directory::Todo, id)?
            && !exists(inner, Directory::info(id), id)?
        {
            old.push(id);
        }
    }
    Ok(old)
}

/// Removes what is old in a directory and belongs to no message: a crash undid its removal.
pub(super) fn sweep(
    inner: &Inner,
    directory: Directory,
    now: SystemTime,
) -> Result<(), SpoolError> {
    let mut result = Ok(());
    for (_, id) in numbered(inner, directory)? {
        let Some(id) = id else { continue };
        if is_old(inner, &directory.file(id), now)
            && !exists(inner, Directory::Todo, id)?
            && is_stray(inner, directory, id)?
        {
            result = result.and(unlink_if_there(inner, directory, id).map(drop));
        }
    }
    result
}

/// Whether a file belongs to no message, given that its number is not in `todo`.
fn is_stray(inner: &Inner, directory: Directory, id: MessageId) -> Result<bool, SpoolError> {
    let routed = exists(inner, Directory::info(id), id)?;
    Ok(match directory {
        // An envelope under construction has a text, and no sender yet.
        Directory::Intd => routed || !exists(inner, Directory::mess(id), id)?,
        _ => !routed,
    })
}

/// By last access, as the classic programs tell it: a reader keeps a file from being swept up under it. A time to come is not
/// old.
fn is_old(inner: &Inner, path: &Path, now: SystemTime) -> bool {
    inner.disk.stat(path).is_ok_and(|stat| {
        stat.is_file
            && now
                .duration_since(stat.accessed)
                .is_ok_and(|age| age >= GARBAGE_AGE)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, OnceLock};

    use futures::FutureExt;
    use futures::executor::block_on;
    use qmail_core::{Address, Envelope, Origin, ReversePath};

    use super::*;
    use crate::spool::{Entry, Routed, Spool};
    use crate::{Disk, DiskFile, SimDisk, SplitSpool, Stat, Workers};

    /// A disk on which a message is routed when somebody has looked at its text, and then for its sender or its envelope.
    #[derive(Clone)]
    struct Busy {
        disk: SimDisk,
        spool: Arc<OnceLock<SplitSpool>>,
        looked_at: Arc<AtomicBool>,
        unrouted: Arc<Mutex<Option<MessageId>>>,
    }

    impl Disk for Busy {
        fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn DiskFile>> {
            self.disk.create(path, mode)
        }

        fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn DiskFile>> {
            self.disk.open(path, write)
        }

        fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.disk.link(from, to)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.disk.rename(from, to)
        }

        fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.disk.rename_new(from, to)
        }

        fn unlink(&self, path: &Path) -> io::Result<()> {
            self.disk.unlink(path)
        }

        fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
            self.disk.list(path)
        }

        fn stat(&self, path: &Path) -> io::Result<Stat> {
            let stat = self.disk.stat(path);
            if path.starts_with("mess") {
                self.looked_at.store(true, Ordering::SeqCst);
            } else if self.looked_at.load(Ordering::SeqCst) {
                let unrouted = self.unrouted.lock().unwrap().take();
                if let (Some(id), Some(spool)) = (unrouted, self.spool.get()) {
                    let routed = spool.route(id, Routed::default()).now_or_never();
                    routed.expect("nothing waits").expect("nothing fails");
                }
            }
            stat
        }

        fn set_times(&self, path: &Path, time: SystemTime) -> io::Result<()> {
            self.disk.set_times(path, time)
        }

        fn sync(&self, files: &[&dyn DiskFile], directories: &[&Path]) -> io::Result<()> {
            self.disk.sync(files, directories)
        }
    }

    #[test]
    fn what_is_routed_while_it_is_swept_stays() {
        block_on(async {
            let disk = Busy {
                disk: SimDisk::new(Directory::all().map(Directory::path)),
                spool: Arc::default(),
                looked_at: Arc::default(),
                unrouted: Arc::default(),
            };
            let spool = SplitSpool::over(Arc::new(disk.clone()), Workers::inline());
            disk.spool.set(spool.clone()).ok().unwrap();
            let entry = Entry {
                origin: Origin::Network,
                uid: 1,
                pid: 2,
                now: SystemTime::UNIX_EPOCH,
            };
            let draft = spool.begin(entry).await.unwrap();
            let to = vec![Address::new("a@b").unwrap()];
            let envelope = Envelope::new(ReversePath::Null, to);
            let id = draft.commit(&envelope).await.unwrap().id;
            *disk.unrouted.lock().unwrap() = Some(id);
            let late = SystemTime::UNIX_EPOCH + 2 * GARBAGE_AGE;
            spool.clean_up(late).await.unwrap();
            assert!(disk.unrouted.lock().unwrap().is_none(), "it was routed");
            assert!(spool.sender(id).await.is_ok());
            assert!(spool.content(id).await.is_ok(), "its text is gone");
        });
    }
}
