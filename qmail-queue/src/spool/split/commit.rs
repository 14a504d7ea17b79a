//! The group commit: many callers, one sync.
//!
//! Whoever needs something to be durable leaves a [`Job`] here. One worker at a time takes all jobs that wait, makes one
//! [`Disk::sync`] of all they name, and hands each its result. A job may go on with a further one (an envelope that is linked
//! into `todo` needs that directory synced): it joins the next sync, together with whatever came meanwhile. So a sync costs
//! the same for one session or fifty.
//!
//! Sessions come back: those that were just answered bring their next message a moment later, and would miss the sync that
//! begins at once. So after a batch the next one waits until as many have gathered again, for at most half the time that the
//! last sync took, or [`GATHER_MIN`]. A few jobs never wait.
//!
//! A failed sync fails every job that it was for, and no other sync is ever made in its place.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::layout::Directory;
use crate::{Disk, DiskFile, Workers};

/// Most jobs that one sync serves: it bounds how long the first of them waits for the last.
const BATCH_JOBS_MAX: usize = 1024;

/// Batches smaller than this are not waited for.
const GATHER_JOBS_MIN: usize = 4;

/// Waits for a batch, however fast or slow the disk: in the shorter time 50 sessions on a busy machine do come back, and
/// nobody notices the longer.
const GATHER_MIN: Duration = Duration::from_micros(500);
const GATHER_MAX: Duration = Duration::from_millis(5);

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
pub(super) struct Committer {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
    /// Those that were awaited have come.
    gathered: Condvar,
    /// Whether anybody can come while a worker waits.
    gather: bool,
}

#[derive(Default)]
struct State {
    waiting: Vec<Job>,
    /// Whether a worker is at it.
    running: bool,
    /// How many are likely to come, and until when it pays to wait for them; `None` for no waiting.
    awaited: Option<(usize, Instant)>,
}

impl State {
    /// How much longer to wait for company.
    fn patience(&self) -> Option<Duration> {
        let (count, until) = self.awaited?;
        if self.waiting.len() >= count {
            return None;
        }
        let left = until.saturating_duration_since(now());
        (!left.is_zero()).then_some(left)
    }
}

impl Committer {
    pub(super) fn new(disk: Arc<dyn Disk>, workers: &Workers) -> Self {
        Self {
            disk,
            state: Mutex::default(),
            gathered: Condvar::new(),
            gather: workers.are_many(),
        }
    }

    /// Leaves a job for the next sync. Called on a worker, which makes that sync, and those that others need meanwhile, if no
    /// other worker is at it: so nobody waits for a thread to wake up.
    pub(super) fn submit(&self, job: Job) {
        let mut state = self.state();
        state.waiting.push(job);
        let start = !std::mem::replace(&mut state.running, true);
        let gathered = state
            .awaited
            .is_some_and(|(count, _)| count == state.waiting.len());
        drop(state);
        if start {
            self.run();
        } else if gathered {
            self.gathered.notify_one();
        }
    }

    // Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // Should a job panic, the next one to come starts a new run.
        let mut running = Running {
            committer: self,
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
                while let Some(left) = state.patience() {
                    state = self
                        .gathered
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                let count = state.waiting.len().min(BATCH_JOBS_MAX);
                state.waiting.drain(..count).collect::<Vec<_>>()
            };
            let count = batch.len();
            let (further, took) = self.serve(batch);
            let mut state = self.state();
            // They have waited for one sync already: they are first in the next.
            state.waiting.splice(..0, further);
            state.awaited = (self.gather && count >= GATHER_JOBS_MIN)
                .then(|| (count, now() + (took / 2).clamp(GATHER_MIN, GATHER_MAX)));
        }
    }

    /// Gives the jobs that go on, and how long the sync took.
    fn serve(&self, batch: Vec<Job>) -> (Vec<Job>, Duration) {
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
        let start = now();
        let result = self.disk.sync(&files, &paths);
        let took = now() - start;
        let further = batch
            .into_iter()
            .filter_map(|job| {
                drop(job.files);
                (job.then)(copy(&result))
            })
            .collect();
        (further, took)
    }
}

struct Running<'a> {
    committer: &'a Committer,
    ended: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.committer.state().running = false;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a sync takes says how long company is worth waiting for"
)]
fn now() -> Instant {
    Instant::now()
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
