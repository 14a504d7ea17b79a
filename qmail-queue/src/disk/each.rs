//! Syncing the files and directories of a batch one by one, but side by side.
//!
//! One `fsync` after the other costs a journal commit or a flush of the disk's cache each. Those that are under way at the
//! same time share them; and when the data of all new files are on their way before the first `fsync`, its commit serves for
//! nearly all of them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::Workers;

/// Syncs that are under way at the same time.
const THREADS: usize = 8;

/// Something to be made durable.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// A file with all that is known of it: it is new, and its times may mean something (the birth of a message).
    File(Arc<File>),
    /// A file's content alone: a mark in an old file needs no more.
    Content(Arc<File>),
    /// The names in a directory.
    Directory(Arc<OwnedFd>),
}

impl Object {
    fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_all(),
            Self::Content(file) => file.sync_data(),
            Self::Directory(directory) => Ok(rustix::fs::fsync(&**directory)?),
        }
    }

    /// Lets the system begin to write the data of a new file. A hint: whatever comes of it, the sync follows.
    fn start(&self) {
        #[cfg(target_os = "linux")]
        if let Self::File(file) = self {
            // Linux answers this advice by writing what is dirty in the range, and then forgets the pages that lie wholly
            // within it and are clean. The range leaves out the first octet, so that a file of one page, soon to be read
            // again, is not forgotten.
            let length = std::num::NonZeroU64::new(i64::MAX as u64 - 1);
            let _ = rustix::fs::fadvise(file, 1, length, rustix::fs::Advice::DontNeed);
        }
    }
}

/// Syncs batches; its threads are started when they are first needed.
#[derive(Default)]
pub(super) struct SyncEach {
    workers: OnceLock<Option<Workers>>,
}

impl SyncEach {
    /// Makes all objects durable, or gives the first error.
    pub(super) fn sync(&self, objects: Vec<Object>) -> io::Result<()> {
        if let [only] = &objects[..] {
            return only.sync();
        }
        objects.iter().for_each(Object::start);
        // Half of them, so that each thread that is woken finds something to do.
        let helpers = (objects.len().saturating_sub(1) / 2).min(THREADS - 1);
        let batch = Arc::new(Batch {
            objects,
            next: AtomicUsize::new(0),
            result: Mutex::new((0, Ok(()))),
            ended: Condvar::new(),
        });
        // Without threads it only takes longer.
        let workers = self
            .workers
            .get_or_init(|| Workers::threads(THREADS - 1).ok());
        if let Some(workers) = workers {
            for _ in 0..helpers {
                let batch = Arc::clone(&batch);
                workers.start(move || batch.work());
            }
        }
        batch.work();
        batch.wait()
    }
}

struct Batch {
    objects: Vec<Object>,
    next: AtomicUsize,
    /// How many are done, and the first error.
    result: Mutex<(usize, io::Result<()>)>,
    ended: Condvar,
}

impl Batch {
    fn work(&self) {
        while let Some(object) = self.objects.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let synced = object.sync();
            let mut result = self.result();
            result.0 += 1;
            if result.1.is_ok() {
                result.1 = synced;
            }
            if result.0 == self.objects.len() {
                self.ended.notify_one();
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut result = self.result();
        while result.0 < self.objects.len() {
            result = self
                .ended
                .wait(result)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::replace(&mut result.1, Ok(()))
    }

    // Nothing panics while it holds the lock.
    fn result(&self) -> MutexGuard<'_, (usize, io::Result<()>)> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_synced_and_an_error_is_told() {
        let root = tempfile::tempdir().unwrap();
        let each = SyncEach::default();
        let file = |number: usize| {
            let file = tempfile::tempfile_in(root.path()).unwrap();
            std::io::Write::write_all(&mut &file, &vec![b'x'; number * 100]).unwrap();
            Arc::new(file)
        };
        for count in [0, 1, 2, 3, 100] {
            let mut objects: Vec<Object> = (0..count).map(|n| Object::File(file(n))).collect();
            each.sync(objects.clone()).unwrap();
            // A pipe cannot be synced.
            let (reader, _writer) = std::io::pipe().unwrap();
            objects.insert(count / 2, Object::Directory(Arc::new(reader.into())));
            assert!(each.sync(objects).is_err(), "{count}");
        }
    }
}
