//! One deadline of a machine that is only sometimes told the time.

use std::time::{Duration, Instant};

/// A deadline, restarted from inside the machine.
///
/// Owners answer questions without saying what time it is, and may have thought about them for minutes. A wait that
/// begins then is counted from the next time the machine is told: until that, the deadline is one that has already
/// passed, so that a driver comes back at once and tells it.
#[derive(Debug)]
pub(crate) struct Timer {
    now: Instant,
    due: Due,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Never,
    At(Instant),
    After(Duration),
}

impl Timer {
    /// A timer that is never due.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            due: Due::Never,
        }
    }

    /// The time is now `now`. Time that goes backwards stands still.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if let Due::After(wait) = self.due {
            self.start(wait);
        }
    }

    /// Due `wait` after the last tick; never, if the clock does not reach that far.
    pub(crate) fn start(&mut self, wait: Duration) {
        self.due = self.now.checked_add(wait).map_or(Due::Never, Due::At);
    }

    /// Due `wait` after the next tick.
    pub(crate) fn start_at_next_tick(&mut self, wait: Duration) {
        self.due = Due::After(wait);
    }

    /// Never due.
    pub(crate) fn stop(&mut self) {
        self.due = Due::Never;
    }

    /// When to tick next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.due {
            Due::Never => None,
            Due::At(deadline) => Some(deadline),
            Due::After(_) => Some(self.now),
        }
    }

    /// Whether the wait was over at the last tick.
    pub(crate) fn is_due(&self) -> bool {
        matches!(self.due, Due::At(deadline) if deadline <= self.now)
    }

    /// The last tick.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant serves as a start")]
    fn a_wait_begun_at_an_unknown_time_is_counted_from_the_next_tick() {
        let start = Instant::now();
        let mut timer = Timer::new(start);
        timer.start_at_next_tick(SECOND);
        assert_eq!(timer.deadline(), Some(start), "tell me the time at once");
        assert!(!timer.is_due());
        timer.tick(start + 60 * SECOND);
        assert_eq!(timer.deadline(), Some(start + 61 * SECOND));
        timer.tick(start + 59 * SECOND);
        assert!(!timer.is_due());
        timer.tick(start + 61 * SECOND);
        assert!(timer.is_due());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant serves as a start")]
    fn a_wait_beyond_the_clock_never_ends() {
        let mut timer = Timer::new(Instant::now());
        timer.start(Duration::MAX);
        assert_eq!(timer.deadline(), None);
    }
}
