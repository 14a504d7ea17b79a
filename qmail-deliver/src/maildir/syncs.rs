//! One sync of a directory for all deliveries that wait for one.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Shares syncs between threads that need the same directory to be durable.
///
/// A sync that has begun may or may not cover what is renamed meanwhile, so whoever comes while one is running waits for the
/// next; the first of those that wait does it for all.
#[derive(Debug, Default)]
pub(super) struct DirectorySyncs {
    /// Only directories that somebody is syncing now, by device and inode.
    groups: Mutex<HashMap<(u64, u64), Arc<Group>>>,
}

#[derive(Debug, Default)]
struct Group {
    turns: Mutex<Turns>,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    /// Syncs begun so far. At most one is running.
    begun: u64,
    /// Syncs that have ended.
    ended: u64,
    /// The latest that failed. Those who waited for an earlier one take it for theirs too: that is never wrong, only late.
    failed: Option<(u64, i32)>,
}

impl DirectorySyncs {
    /// Returns once a sync of `directory` has ended that began after this call.
    pub(super) fn sync(&self, directory: &File) -> io::Result<()> {
        let metadata = directory.metadata()?;
        let key = (metadata.dev(), metadata.ino());
        let group = lock(&self.groups).entry(key).or_default().clone();
        let result = group.sync(|| directory.sync_all());
        let mut groups = lock(&self.groups);
        // The map's reference and ours: nobody else waits, and nobody can come while the map is locked.
        if Arc::strong_count(&group) == 2 {
            groups.remove(&key);
        }
        result
    }
}

impl Group {
    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut turns = lock(&self.turns);
        let mine = turns.begun + 1;
        while turns.ended < mine {
            if turns.begun < mine && turns.begun == turns.ended {
                turns.begun = mine;
                drop(turns);
                let result = sync();
                turns = lock(&self.turns);
                turns.ended = mine;
                if let Err(error) = &result {
                    turns.failed = Some((mine, error.raw_os_error().unwrap_or(EIO)));
                }
                self.finished.notify_all();
                return result;
            }
            turns = self
                .finished
                .wait(turns)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match turns.failed {
            Some((turn, errno)) if turn >= mine => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}

/// What is guarded is whole at every moment, so a thread that panicked does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For an error that has no number.
const EIO: i32 = 5;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "threads must meet")]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sync_covers_only_who_came_before_it() {
        let group = Group::default();
        let (renamed, synced, running) =
            (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let syncs = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let mine = renamed.fetch_add(1, Ordering::SeqCst) + 1;
                        group
                            .sync(|| {
                                assert!(!running.swap(true, Ordering::SeqCst), "one at a time");
                                let covered = renamed.load(Ordering::SeqCst);
                                thread::sleep(Duration::from_micros(50));
                                synced.store(covered, Ordering::SeqCst);
                                syncs.fetch_add(1, Ordering::SeqCst);
                                running.store(false, Ordering::SeqCst);
                                Ok(())
                            })
                            .unwrap();
                        assert!(synced.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
        assert!(syncs.into_inner() < 16 * 50, "some were shared");
    }

    #[test]
    fn a_failed_sync_fails_all_who_waited_for_it() {
        let group = Group::default();
        let failures = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let result = group.sync(|| {
                        thread::sleep(Duration::from_millis(20));
                        Err(io::Error::from_raw_os_error(28))
                    });
                    assert_eq!(result.unwrap_err().raw_os_error(), Some(28));
                    failures.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(failures.into_inner(), 8);
        assert!(group.sync(|| Ok(())).is_ok(), "a later one starts afresh");
    }

    #[test]
    fn nothing_is_kept_of_directories_at_rest() {
        let scratch = tempfile::tempdir().unwrap();
        let syncs = DirectorySyncs::default();
        let directory = File::open(scratch.path()).unwrap();
        syncs.sync(&directory).unwrap();
        assert!(lock(&syncs.groups).is_empty());
    }
}
