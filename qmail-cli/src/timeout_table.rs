//! The table of hosts that did not answer: `queue/lock/tcpto`, as qmail-remote, qmail-tcpto and qmail-tcpok share it.
//!
//! 64 records of 16 octets: IPv4 address, number of recent timeouts, three unused, time of the last in seconds since 1970
//! (little-endian), four unused. There is no room for an IPv6 address in it, so those are always tried.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::home::Home;

/// Octets of the file.
const OCTETS: usize = 1024;

const RECORD_OCTETS: usize = 16;

/// So many timeouts, and an address is left alone for a while.
const TIMEOUTS_TO_EXCLUDE: u8 = 2;

const TIMEOUTS_MAX: u8 = 10;

/// Timeouts closer together than this in seconds are one sign.
const ONE_SIGN: u64 = 120;

/// What one timeout is worth in seconds when a record must make room.
const ONE_TIMEOUT_IS_WORTH: u64 = 1024;

/// Where the table of a home is.
pub(crate) fn path(home: &Home) -> PathBuf {
    home.queue().join("lock/tcpto")
}

/// The file, locked for as long as the value lives.
pub(crate) struct TimeoutFile(File);

impl TimeoutFile {
    /// Opens and locks it.
    ///
    /// # Errors
    ///
    /// As the system says; there is no file unless the queue has one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// What it says. A file that is too short counts as filled up with zeros.
    pub(crate) fn read(&self) -> io::Result<TimeoutTable> {
        let mut table = TimeoutTable([0; OCTETS]);
        let mut filled = 0;
        while filled < OCTETS {
            match self.0.read_at(&mut table.0[filled..], filled as u64) {
                Ok(0) => break,
                Ok(octets) => filled += octets,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(table)
    }

    /// Makes it say this.
    pub(crate) fn write(&self, table: &TimeoutTable) -> io::Result<()> {
        self.0.write_all_at(&table.0, 0)
    }
}

/// What the file holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TimeoutTable([u8; OCTETS]);

/// A host that timed out lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut {
    pub(crate) address: Ipv4Addr,
    pub(crate) count: u8,
    /// The last time, in seconds since 1970.
    pub(crate) last: u32,
}

impl TimeoutTable {
    /// One without any host.
    pub(crate) fn empty() -> Self {
        Self([0; OCTETS])
    }

    /// All hosts with timeouts.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = TimedOut> {
        self.records().filter(|record| record.count > 0)
    }

    /// Whether the address is not worth trying now. `pid` spreads the time over about half an hour, so that not all
    /// deliveries come back at once.
    pub(crate) fn excludes(&self, address: Ipv4Addr, now: u64, pid: u32) -> bool {
        let pause = (60 + u64::from(pid % 32)) * 64;
        self.find(address).is_some_and(|at| {
            let record = self.record(at);
            record.count >= TIMEOUTS_TO_EXCLUDE
                && now.saturating_sub(u64::from(record.last)) < pause
        })
    }

    /// Connecting timed out.
    pub(crate) fn timed_out(&mut self, address: Ipv4Addr, now: u64) {
        let last = u32::try_from(now).unwrap_or(u32::MAX);
        if let Some(at) = self.find(address) {
            let old = self.record(at);
            if old.count > 0 && now.saturating_sub(u64::from(old.last)) < ONE_SIGN {
                return;
            }
            let count = old.count.saturating_add(1).min(TIMEOUTS_MAX);
            return self.set(
                at,
                TimedOut {
                    address,
                    count,
                    last,
                },
            );
        }
        let worth = |record: &TimedOut| {
            u64::from(record.last) + ONE_TIMEOUT_IS_WORTH * u64::from(record.count)
        };
        let free = self.records().position(|record| record.count == 0);
        let least = || {
            let records = self.records().enumerate();
            records
                .min_by_key(|(_, record)| worth(record))
                .map_or(0, |(at, _)| at)
        };
        let at = free.unwrap_or_else(least);
        self.set(
            at,
            TimedOut {
                address,
                count: 1,
                last,
            },
        );
    }

    /// Connecting worked. `true` if that changes anything.
    pub(crate) fn connected(&mut self, address: Ipv4Addr) -> bool {
        let Some(at) = self.find(address) else {
            return false;
        };
        let record = self.record(at);
        self.set(at, TimedOut { count: 0, ..record });
        record.count > 0
    }

    fn records(&self) -> impl Iterator<Item = TimedOut> {
        (0..OCTETS / RECORD_OCTETS).map(|at| self.record(at))
    }

    fn find(&self, address: Ipv4Addr) -> Option<usize> {
        self.records().position(|record| record.address == address)
    }

    fn record(&self, at: usize) -> TimedOut {
        let octets = &self.0[at * RECORD_OCTETS..];
        let four = |from: usize| {
            [
                octets[from],
                octets[from + 1],
                octets[from + 2],
                octets[from + 3],
            ]
        };
        TimedOut {
            address: four(0).into(),
            count: octets[4],
            last: u32::from_le_bytes(four(8)),
        }
    }

    fn set(&mut self, at: usize, record: TimedOut) {
        let octets = &mut self.0[at * RECORD_OCTETS..][..RECORD_OCTETS];
        octets[..4].copy_from_slice(&record.address.octets());
        octets[4] = record.count;
        octets[8..12].copy_from_slice(&record.last.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    #[test]
    fn two_timeouts_apart_exclude_for_a_while() {
        let mut table = TimeoutTable::empty();
        table.timed_out(HOST, 1000);
        assert!(!table.excludes(HOST, 1000, 0));
        table.timed_out(HOST, 1119);
        assert!(!table.excludes(HOST, 1119, 0), "the same sign");
        table.timed_out(HOST, 1120);
        assert!(table.excludes(HOST, 1120 + 3839, 0));
        assert!(!table.excludes(HOST, 1120 + 3840, 0));
        assert!(table.excludes(HOST, 1120 + 3840, 31));
        assert!(table.connected(HOST));
        assert!(!table.connected(HOST));
        assert_eq!(table.hosts().count(), 0);
        for hour in 0..20 {
            table.timed_out(HOST, 10_000 + hour * 3600);
        }
        assert_eq!(table.hosts().next().map(|host| host.count), Some(10));
    }

    #[test]
    fn a_full_table_forgets_what_matters_least() {
        let mut table = TimeoutTable::empty();
        table.timed_out(HOST, 1000);
        table.timed_out(HOST, 2000);
        for number in 0..200_u8 {
            table.timed_out(Ipv4Addr::new(10, 0, 0, number), 2000 + u64::from(number));
        }
        assert_eq!(table.hosts().count(), 64);
        assert!(table.excludes(HOST, 2000, 0));
    }

    #[test]
    fn the_file_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tcpto");
        assert!(TimeoutFile::open(&path).is_err());
        std::fs::write(&path, b"").unwrap();
        let file = TimeoutFile::open(&path).unwrap();
        let mut table = file.read().unwrap();
        table.timed_out(HOST, 0x0102_0304);
        file.write(&table).unwrap();
        assert!(file.read().unwrap() == table);
        let octets = std::fs::read(&path).unwrap();
        assert_eq!(
            octets[..16],
            *b"\xc0\0\x02\x01\x01\0\0\0\x04\x03\x02\x01\0\0\0\0"
        );
        assert_eq!(octets.len(), OCTETS);
    }
}
