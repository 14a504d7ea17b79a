//! The group commit: many callers, one sync.
//!
//! Whoever needs something to be durable leaves a [`Job`] here. One worker at a time takes all jobs that wait, makes one
//! [`Disk::sync`] of all they name, and hands each its result. A job may go on with a further one (an envelope that is linked
//! into `todo` needs that directory synced): it joins the next sync, together with whatever came meanwhile. So a sync costs
//! the same for one session or fifty, and nobody waits for a timer.
//!
//! A failed sync fails every job that it was for, and no other sync is ever made in its place.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

use super::layout::Directory;
use crate::{Disk, DiskFile, Workers};

/// Most jobs that one sync serves: it bounds how long the first of them waits for the last.
const BATCH_JOBS_MAX: usize = 1024;

/// What is to be made durable, and what comes then.
pub(super) struct Job {
    /// Files whose content is needed.
    pub(super) files: Vec<Box<dyn DiskFile>>,
    /// Directories whose names are needed.
    pub(super) directories: Vec<Directory>,
    /// Called once, on a worker, after the sync. May give a further job.
    pub(super) then: Box<dyn FnOnce(io::Result<()>) -> Option<Self> + Send>,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    workers: Workers,
}

struct Shared {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Job>,
    /// Whether a worker is at it.
    running: bool,
}

impl Committer {
    pub(super) fn new(disk: Arc<dyn Disk>, workers: Workers) -> Self {
        Self {
            shared: Arc::new(Shared {
                disk,
                state: Mutex::default(),
            }),
            workers,
        }
    }

    /// Leaves a job for the next sync.
    pub(super) fn submit(&self, job: Job) {
        let mut state = self.shared.state();
        state.waiting.push(job);
        let start = !std::mem::replace(&mut state.running, true);
        drop(state);
        if start {
            let shared = Arc::clone(&self.shared);
            self.workers.start(move || shared.run());
        }
    }

    /// Waits until all this is durable.
    pub(super) async fn sync(
        &self,
        files: Vec<Box<dyn DiskFile>>,
        directories: Vec<Directory>,
    ) -> io::Result<()> {
        let (answer, result) = oneshot::channel();
        self.submit(Job {
            files,
            directories,
            then: Box::new(move |synced| {
                let _ = answer.send(synced);
                None
            }),
        });
        // The sender goes without an answer only if the worker panicked.
        result
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the commit was broken off")))
    }
}

impl Shared {
    // Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // Should a job panic, the next one to come starts a new run.
        let mut running = Running {
            shared: self,
            ended: false,
        };
        loop {
            let batch = {
                let mut state = self.state();
                if state.waiting.is_empty() {
                    state.running = false;
                    running.ended = true;
                    return;
                }
                let count = state.waiting.len().min(BATCH_JOBS_MAX);
                state.waiting.drain(..count).collect::<Vec<_>>()
            };
            let further = self.serve(batch);
            if !further.is_empty() {
                // They have waited for one sync already: they are first in the next.
                self.state().waiting.splice(..0, further);
            }
        }
    }

    fn serve(&self, batch: Vec<Job>) -> Vec<Job> {
        let directories: BTreeSet<Directory> = batch
            .iter()
            .flat_map(|job| job.directories.iter().copied())
            .collect();
        let paths: Vec<PathBuf> = directories.into_iter().map(Directory::path).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let files: Vec<&dyn DiskFile> = batch
            .iter()
            .flat_map(|job| job.files.iter().map(|file| &**file))
            .collect();
        let result = self.disk.sync(&files, &paths);
        batch
            .into_iter()
            .filter_map(|job| {
                drop(job.files);
                (job.then)(copy(&result))
            })
            .collect()
    }
}

struct Running<'a> {
    shared: &'a Shared,
    ended: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.state().running = false;
        }
    }
}

/// One result for everybody.
fn copy(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        }),
    }
}
