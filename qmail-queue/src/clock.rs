//! The seam for time: the system's clock, and one that stands still until it is told.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;

/// Both readings of one moment: wall time for what is written down, monotonic time for what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall time; may jump.
    pub wall: SystemTime,
    /// Monotonic time; never goes back.
    pub monotonic: Instant,
}

impl Now {
    /// Whole seconds since 1970; 0 for a clock before that.
    pub fn seconds(&self) -> u64 {
        self.wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}

/// A clock and an alarm.
#[async_trait]
pub trait Clock: Send + Sync {
    /// This moment.
    fn now(&self) -> Now;

    /// Returns at `until`, or a little later; at once if it has passed.
    async fn sleep_until(&self, until: Instant);
}

/// The system's clock. Its alarms ring from one thread of its own, so that it needs no runtime.
///
/// The thread ends when the clock is dropped.
pub struct SystemClock {
    alarms: Arc<Alarms>,
}

impl SystemClock {
    /// Starts the alarm thread.
    ///
    /// # Errors
    ///
    /// The system has no room for a thread.
    pub fn new() -> io::Result<Self> {
        let alarms = Arc::new(Alarms::default());
        let shared = Arc::clone(&alarms);
        thread::Builder::new()
            .name("alarm".to_owned())
            .spawn(move || shared.ring_in_time())?;
        Ok(Self { alarms })
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            wall: system_time(),
            monotonic: instant(),
        }
    }

    async fn sleep_until(&self, until: Instant) {
        let mut place = Place::new(&self.alarms, until);
        poll_fn(|context| {
            if instant() >= until {
                return Poll::Ready(());
            }
            place.wait(context.waker());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for SystemClock {
    fn drop(&mut self) {
        self.alarms.state().closed = true;
        self.alarms.changed.notify_one();
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn system_time() -> SystemTime {
    SystemTime::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn instant() -> Instant {
    Instant::now()
}

/// A clock that stands still until [`advance`](ManualClock::advance) moves it: years of retries pass in no time. Clones share
/// one time.
#[derive(Clone)]
pub struct ManualClock {
    now: Arc<Mutex<Now>>,
    alarms: Arc<Alarms>,
}

impl ManualClock {
    /// A clock that shows `wall`.
    pub fn new(wall: SystemTime) -> Self {
        Self {
            now: Arc::new(Mutex::new(Now {
                wall,
                // Any instant will do: only differences are ever looked at.
                monotonic: instant(),
            })),
            alarms: Arc::new(Alarms::default()),
        }
    }

    /// Moves both times forward and wakes who slept for no longer, the earliest first.
    pub fn advance(&self, by: Duration) {
        let now = {
            let mut now = self.time();
            now.wall += by;
            now.monotonic += by;
            now.monotonic
        };
        while let Some(waker) = self.alarms.state().due(now) {
            waker.wake();
        }
    }

    /// When the next sleeper wants to be woken: where to [`advance`](ManualClock::advance) to when nothing else happens.
    pub fn next_alarm(&self) -> Option<Instant> {
        self.alarms.state().earliest()
    }

    /// Sets the wall time alone, as an operator or a time server does: a jump.
    pub fn set_wall(&self, wall: SystemTime) {
        self.time().wall = wall;
    }

    fn time(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.time()
    }

    async fn sleep_until(&self, until: Instant) {
        let mut place = Place::new(&self.alarms, until);
        poll_fn(|context| {
            // Waiting first and looking second: an advance in between is not missed.
            place.wait(context.waker());
            if self.time().monotonic >= until {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Who sleeps, by the time of waking.
#[derive(Default)]
struct Alarms {
    state: Mutex<AlarmState>,
    changed: Condvar,
}

#[derive(Default)]
struct AlarmState {
    /// The number tells sleepers with one time apart.
    waiting: BTreeMap<(Instant, u64), Waker>,
    last: u64,
    /// Until when the thread sleeps, if it does not sleep until it is called.
    armed: Option<Instant>,
    closed: bool,
}

impl AlarmState {
    fn earliest(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(key, _)| key.0)
    }

    /// Takes out one sleeper whose time has come.
    fn due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

impl Alarms {
    fn state(&self) -> MutexGuard<'_, AlarmState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring_in_time(&self) {
        let mut state = self.state();
        while !state.closed {
            let now = instant();
            if let Some(waker) = state.due(now) {
                // Wakers run code of a runtime: not under the lock.
                drop(state);
                waker.wake();
                state = self.state();
                continue;
            }
            state.armed = state.earliest();
            state = match state.armed {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    self.changed
                        .wait_timeout(state, at.saturating_duration_since(now))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

/// The place of one sleeper among the alarms; given up when it is dropped, so that sleeps that were cut short leave nothing.
struct Place<'a> {
    alarms: &'a Alarms,
    at: Instant,
    number: Option<u64>,
}

impl<'a> Place<'a> {
    fn new(alarms: &'a Alarms, at: Instant) -> Self {
        Self {
            alarms,
            at,
            number: None,
        }
    }

    fn wait(&mut self, waker: &Waker) {
        let mut state = self.alarms.state();
        let number = *self.number.get_or_insert_with(|| {
            state.last += 1;
            state.last
        });
        state.waiting.insert((self.at, number), waker.clone());
        // The thread needs a call only if it would sleep past this.
        if state.armed.is_none_or(|armed| self.at < armed) {
            drop(state);
            self.alarms.changed.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.alarms.state().waiting.remove(&(self.at, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::future::join;

    use super::*;

    #[test]
    fn the_system_clock_rings() {
        let clock = SystemClock::new().unwrap();
        let start = clock.now().monotonic;
        let later = start + Duration::from_millis(20);
        let sooner = start + Duration::from_millis(5);
        block_on(join(clock.sleep_until(later), clock.sleep_until(sooner)));
        assert!(clock.now().monotonic >= later);
        block_on(clock.sleep_until(start));
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(10));
        let start = clock.now();
        let until = start.monotonic + Duration::from_secs(3600);
        let sleeping = clock.clone();
        block_on(join(
            async move { sleeping.sleep_until(until).await },
            async {
                // A sleep that is given up leaves nothing behind.
                let short = clock.sleep_until(start.monotonic + Duration::from_secs(1));
                assert!(futures::poll!(Box::pin(short)).is_pending());
                assert_eq!(clock.next_alarm(), Some(until));
                clock.advance(Duration::from_secs(3600));
            },
        ));
        assert_eq!(clock.now().seconds(), 3610);
        assert_eq!(clock.next_alarm(), None);
        clock.set_wall(SystemTime::UNIX_EPOCH);
        assert_eq!(clock.now().seconds(), 0);
        assert_eq!(clock.now().monotonic, until);
    }
}
