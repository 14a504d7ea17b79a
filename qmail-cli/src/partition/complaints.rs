//! What a party says of messages that it refuses: one line each, but not each of thousands.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines are at least so far apart.
const PAUSE: Duration = Duration::from_secs(1);

/// The complaints of one party, on its standard output, which is the log.
pub(super) struct Complaints {
    party: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    /// Refused since the last line.
    untold: u64,
}

impl Complaints {
    pub(super) fn of(party: &'static str) -> Self {
        Self {
            party,
            state: Mutex::default(),
        }
    }

    /// A message of `sender` was refused.
    pub(super) fn refused(&self, sender: &str, why: &str) {
        if let Some(line) = self.line(sender, why, Instant::now()) {
            crate::exit::print(&line);
        }
    }

    fn line(&self, sender: &str, why: &str, now: Instant) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now < last + PAUSE) {
            state.untold += 1;
            return None;
        }
        state.last = Some(now);
        let more = match std::mem::take(&mut state.untold) {
            0 => String::new(),
            untold => format!(", and {untold} more before"),
        };
        Some(format!(
            "alert: {}: refused a message of {sender}: {why}{more}\n",
            self.party
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_makes_a_line_a_second() {
        let complaints = Complaints::of("keys");
        let now = Instant::now();
        let said: Vec<_> = [0, 10, 999, 1001]
            .map(|after| complaints.line("network", "too long", now + Duration::from_millis(after)))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(
            said,
            [
                "alert: keys: refused a message of network: too long\n",
                "alert: keys: refused a message of network: too long, and 2 more before\n"
            ]
        );
    }
}
