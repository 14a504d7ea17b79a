//! The seam for time.

use std::time::{Instant, SystemTime};

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
