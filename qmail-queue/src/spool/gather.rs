//! Who wants something durable waits here, so that one sync serves all who wait.
//!
//! Sessions come back: those that were just answered bring their next message a moment later, and would miss the sync that
//! begins at once. So after a batch the next one waits until as many have gathered again, and those who have said that they are
//! [`Coming`] have come, for at most half the time that the last sync took, or [`GATHER_MIN`]. Who comes alone never waits.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Workers;

/// Most items of one batch: it bounds how long the first of them waits for the last.
const BATCH_MAX: usize = 1024;

/// After batches smaller than this nobody is waited for.
const GATHER_COUNT_MIN: usize = 2;

/// Waits for a batch, however fast or slow the disk: in the shorter time 50 sessions on a busy machine do come back, and
/// nobody notices the longer.
const GATHER_MIN: Duration = Duration::from_micros(500);
const GATHER_MAX: Duration = Duration::from_millis(5);

/// Items that wait for the next batch, and the right of one thread at a time to serve batches.
pub(super) struct Gather<T> {
    state: Mutex<State<T>>,
    /// Those that were awaited have come.
    gathered: Condvar,
    /// Whether anybody can come while a worker waits.
    patient: bool,
    coming: Arc<AtomicUsize>,
}

/// Says, while it lives, that somebody is about to put an item.
pub(super) struct Coming(Arc<AtomicUsize>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct State<T> {
    waiting: Vec<T>,
    /// Whether a worker is at it.
    running: bool,
    /// How many are likely to come, and until when it pays to wait for them; `None` for no waiting.
    awaited: Option<(usize, Instant)>,
}

impl<T> State<T> {
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

impl<T> Gather<T> {
    pub(super) fn new(workers: &Workers) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                running: false,
                awaited: None,
            }),
            gathered: Condvar::new(),
            patient: workers.are_many(),
            coming: Arc::default(),
        }
    }

    /// To be dropped when the item is put, or will not be.
    pub(super) fn coming(&self) -> Coming {
        self.coming.fetch_add(1, Ordering::Relaxed);
        Coming(Arc::clone(&self.coming))
    }

    /// Leaves an item for the next batch. `true` if nobody serves batches: then the caller has to, or has to find somebody
    /// who does.
    pub(super) fn put(&self, item: T) -> bool {
        let mut state = self.state();
        state.waiting.push(item);
        let start = !std::mem::replace(&mut state.running, true);
        let gathered = state
            .awaited
            .is_some_and(|(count, _)| count == state.waiting.len());
        drop(state);
        if gathered && !start {
            self.gathered.notify_one();
        }
        start
    }

    /// Serves batches until none waits and `serve` has nothing left to do of its own. Called where [`Gather::put`] has said
    /// `true`. `serve` gets the next batch, which is empty if it has asked to be called again, and gives those items that
    /// are to be in the next one.
    pub(super) fn run(&self, mut serve: impl FnMut(Vec<T>) -> Served<T>) {
        // Should an item panic, the next one to come starts a new run.
        let mut running = Running {
            gather: self,
            ended: false,
        };
        let mut again = false;
        loop {
            let Some(batch) = self.take(again) else {
                running.ended = true;
                return;
            };
            let count = batch.len();
            let served = serve(batch);
            again = served.again;
            let mut state = self.state();
            // They have waited for one batch already: they are first in the next.
            state.waiting.splice(..0, served.further);
            state.awaited = (self.patient && count >= GATHER_COUNT_MIN).then(|| {
                (
                    count,
                    now() + (served.took / 2).clamp(GATHER_MIN, GATHER_MAX),
                )
            });
        }
    }

    /// The next batch; `None` if there is none, and then somebody else may run.
    fn take(&self, again: bool) -> Option<Vec<T>> {
        let mut state = self.state();
        if again {
            let count = state.waiting.len().min(BATCH_MAX);
            return Some(state.waiting.drain(..count).collect());
        }
        if state.waiting.is_empty() {
            state.running = false;
            return None;
        }
        let expected = state.waiting.len() + self.coming.load(Ordering::Relaxed);
        if let Some((count, _)) = &mut state.awaited {
            *count = expected.clamp(*count, BATCH_MAX);
        }
        while let Some(left) = state.patience() {
            state = self
                .gathered
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let count = state.waiting.len().min(BATCH_MAX);
        Some(state.waiting.drain(..count).collect())
    }

    // Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a batch.
pub(super) struct Served<T> {
    /// Items for the next batch.
    pub(super) further: Vec<T>,
    /// How long its sync took.
    pub(super) took: Duration,
    /// Whether there is more to do, even if nobody waits.
    pub(super) again: bool,
}

impl<T> Served<T> {
    /// Nothing came of it, and nothing follows.
    pub(super) fn nothing() -> Self {
        Self {
            further: Vec::new(),
            took: Duration::ZERO,
            again: false,
        }
    }
}

struct Running<'a, T> {
    gather: &'a Gather<T>,
    ended: bool,
}

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        if !self.ended {
            self.gather.state().running = false;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a sync takes says how long company is worth waiting for"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// One error for everybody.
pub(super) fn copy_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
