//! Which addresses are not worth trying now, by the rules of qmail's downed-host table.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses to which connecting timed out lately.
///
/// Only timeouts count: a host that refuses answers at once, and costs nothing to ask again. Two timeouts, at least two
/// minutes apart, keep an address from being tried for about an hour, so that a dead host does not hold all deliveries up
/// for a minute each.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    records: BTreeMap<IpAddr, Record>,
}

#[derive(Debug)]
struct Record {
    timeouts: u32,
    last: Instant,
    /// How long the address is left alone: spread, so that not all deliveries come back at once.
    pause: Duration,
}

impl Backoff {
    /// Whether the address is to be left alone for now.
    pub(super) fn excludes(&self, address: IpAddr, now: Instant) -> bool {
        self.records.get(&address).is_some_and(|record| {
            record.timeouts >= TIMEOUTS_TO_EXCLUDE
                && now.saturating_duration_since(record.last) < record.pause
        })
    }

    /// Connecting timed out. `spread` is a random number.
    pub(super) fn timed_out(&mut self, address: IpAddr, now: Instant, spread: u32) {
        let pause = PAUSE_STEP * (60 + spread % 32);
        if let Some(record) = self.records.get_mut(&address) {
            // Deliveries that were all under way to the same host are one sign, not many.
            if now.saturating_duration_since(record.last) >= ONE_SIGN {
                record.timeouts = (record.timeouts + 1).min(TIMEOUTS_MAX);
                record.last = now;
                record.pause = pause;
            }
            return;
        }
        if self.records.len() >= RECORDS_MAX {
            self.forget_one();
        }
        let record = Record {
            timeouts: 1,
            last: now,
            pause,
        };
        self.records.insert(address, record);
    }

    /// Connecting worked.
    pub(super) fn connected(&mut self, address: IpAddr) {
        self.records.remove(&address);
    }

    /// Drops the record that matters least: old, and few timeouts.
    fn forget_one(&mut self) {
        let worth = |record: &Record| record.last + ONE_TIMEOUT_IS_WORTH * record.timeouts;
        let least = self
            .records
            .iter()
            .min_by_key(|(_, record)| worth(record))
            .map(|(address, _)| *address);
        if let Some(address) = least {
            self.records.remove(&address);
        }
    }
}

const RECORDS_MAX: usize = 1024;
const TIMEOUTS_TO_EXCLUDE: u32 = 2;
const TIMEOUTS_MAX: u32 = 10;
const ONE_SIGN: Duration = Duration::from_secs(120);
const PAUSE_STEP: Duration = Duration::from_secs(64);
const ONE_TIMEOUT_IS_WORTH: Duration = Duration::from_secs(1024);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn two_timeouts_apart_exclude_for_an_hour() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let host = IpAddr::from([192, 0, 2, 1]);
        backoff.timed_out(host, at(0), 0);
        assert!(!backoff.excludes(host, at(0)), "once is nothing");
        backoff.timed_out(host, at(119), 0);
        assert!(!backoff.excludes(host, at(119)), "the same sign");
        backoff.timed_out(host, at(120), 0);
        assert!(backoff.excludes(host, at(120)));
        assert!(backoff.excludes(host, at(120 + 3839)));
        assert!(!backoff.excludes(host, at(120 + 3840)));
        assert!(!backoff.excludes(IpAddr::from([192, 0, 2, 2]), at(120)));
        backoff.timed_out(host, at(5000), 31);
        assert!(backoff.excludes(host, at(5000 + 5823)), "spread");
        backoff.connected(host);
        assert!(!backoff.excludes(host, at(5000)));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn the_table_is_bounded() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        let often = IpAddr::from([192, 0, 2, 1]);
        backoff.timed_out(often, start, 0);
        backoff.timed_out(often, start + ONE_SIGN, 0);
        for number in 0..5000_u32 {
            let now = start + ONE_SIGN + Duration::from_millis(number.into());
            backoff.timed_out(Ipv4Addr::from(number).into(), now, 0);
        }
        assert_eq!(backoff.records.len(), RECORDS_MAX);
        assert!(
            backoff.excludes(often, start + ONE_SIGN),
            "kept for its count"
        );
    }
}
