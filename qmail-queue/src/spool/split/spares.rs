//! Files of removed messages, kept for the next ones.
//!
//! A message that is delivered at once lives for some milliseconds. Making its two files and removing them again is most of what it
//! costs the file system: inodes and blocks are taken and given back, and ext4 without a journal takes no inode twice within
//! minutes, but looks at all of them, one by one, for each new file. So the files of such a message may be kept for one to come.
//!
//! A spare of number N is the former `mess/B/N`, moved to `pid/spare.N`, and `intd/N`, which stays where it is. Whoever looks at the
//! queue sees no message: files like these are also left by a writer that was killed, and are swept up when they are old. The next
//! message writes over both files and has the same number. Nothing that was promised depends on them while they are spare: the name
//! in `todo` was removed, durably, before.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Inner;
use super::layout::Directory;
use crate::Disk;
use crate::spool::MessageId;

/// Most spares. What is removed beyond is removed.
const SPARES_MAX: usize = 512;

/// A longer text is not kept: it would take room for a message that needs little. Nor is one whose readers hold its file open
/// (`content`): they must not find another text in it.
pub const SPARE_OCTETS_MAX: u64 = 16 * 1024;

const _: () = assert!(SPARE_OCTETS_MAX <= qmail_core::CHUNK_OCTETS_MAX as u64);

/// Numbers of spares.
#[derive(Debug, Default)]
pub(super) struct Spares {
    wanted: AtomicBool,
    free: Mutex<Vec<MessageId>>,
}

impl Spares {
    /// From now on files are kept.
    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    // Nothing panics while it holds the lock.
    fn free(&self) -> MutexGuard<'_, Vec<MessageId>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number whose files may be written over. Its text is at [`path`].
    pub(super) fn take(&self) -> Option<MessageId> {
        self.free().pop()
    }

    fn has_room(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && self.free().len() < SPARES_MAX
    }

    /// Removes them all. Called at every clean-up, so that none is ever as old as what is swept up.
    pub(super) fn clear(&self, disk: &dyn Disk) {
        for id in std::mem::take(&mut *self.free()) {
            // What cannot be removed now is swept up when it is old.
            let _ = disk.unlink(&path(id));
            let _ = disk.unlink(&Directory::Intd.file(id));
        }
    }
}

/// Where the text of a spare lies.
pub(super) fn path(id: MessageId) -> PathBuf {
    Directory::Pid.path().join(format!("spare.{id}"))
}

/// Keeps the files of a message that was never routed, and whose name in `todo` is gone for good; `false` if they are to be removed.
pub(super) fn keep(inner: &Inner, id: MessageId) -> bool {
    if !inner.spares.has_room() {
        return false;
    }
    let text = Directory::mess(id).file(id);
    let small = |stat: crate::disk::Stat| stat.is_file && stat.octets <= SPARE_OCTETS_MAX;
    if !inner.disk.stat(&text).is_ok_and(small) {
        return false;
    }
    if inner.disk.rename(&text, &path(id)).is_err() {
        return false;
    }
    inner.spares.free().push(id);
    true
}
