//! The table of hosts that did not answer: `queue/lock/tcpto`, as qmail-remote, qmail-tcpto and qmail-tcpok share it.
//!
//! 64 records of 16 octets: IPv4 address, number of recent timeouts, three unused, time of the last in seconds since 1970
//! (little-endian), four unused. Behind these 1024 octets, where the classic programs do not look, there are 64 records of 32
//! octets for IPv6 addresses once one of them times out: address, number, three unused, time, eight unused.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::home::Home;

/// Octets of the part that the classic programs know.
const CLASSIC_OCTETS: usize = RECORDS * Kind::V4.record_octets();

/// Octets of the file with both parts.
const OCTETS: usize = CLASSIC_OCTETS + RECORDS * Kind::V6.record_octets();

/// Records of each kind.
const RECORDS: usize = 64;

/// What kind of address a record has.
#[derive(Clone, Copy)]
enum Kind {
    V4,
    V6,
}

impl Kind {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn address_octets(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Address, number, time, and as much room as the address takes.
    const fn record_octets(self) -> usize {
        match self {
            Self::V4 => 16,
            Self::V6 => 32,
        }
    }

    /// Where a record of this kind begins.
    const fn place(self, number: usize) -> usize {
        match self {
            Self::V4 => number * self.record_octets(),
            Self::V6 => CLASSIC_OCTETS + number * self.record_octets(),
        }
    }
}

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
        Self::lock(Self::open_unlocked(path)?)
    }

    /// Opens it.
    pub(crate) fn open_unlocked(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    /// Waits for the lock of the opened file.
    pub(crate) fn lock(file: File) -> io::Result<Self> {
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// What it says. A file that is too short counts as filled up with zeros.
    pub(crate) fn read(&self) -> io::Result<TimeoutTable> {
        let mut table = TimeoutTable::empty();
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

    /// Makes it say this. It gets its second part when there is something to say in it.
    pub(crate) fn write(&self, table: &TimeoutTable) -> io::Result<()> {
        let (classic, rest) = table.0.split_at(CLASSIC_OCTETS);
        self.0.write_all_at(classic, 0)?;
        let longer = self.0.metadata()?.len() > CLASSIC_OCTETS as u64;
        if longer || rest.iter().any(|&octet| octet != 0) {
            self.0.write_all_at(rest, CLASSIC_OCTETS as u64)?;
        }
        Ok(())
    }
}

/// What the file holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TimeoutTable([u8; OCTETS]);

/// A host that timed out lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut {
    pub(crate) address: IpAddr,
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
        let kinds = [Kind::V4, Kind::V6].into_iter();
        let records = kinds.flat_map(|kind| self.records(kind));
        records.filter(|record| record.count > 0)
    }

    /// Whether the address is not worth trying now. `pid` spreads the time over about half an hour, so that not all
    /// deliveries come back at once.
    pub(crate) fn excludes(&self, address: IpAddr, now: u64, pid: u32) -> bool {
        let pause = (60 + u64::from(pid % 32)) * 64;
        self.find(address).is_some_and(|at| {
            let record = self.record(Kind::of(address), at);
            record.count >= TIMEOUTS_TO_EXCLUDE
                && now.saturating_sub(u64::from(record.last)) < pause
        })
    }

    /// Connecting timed out.
    pub(crate) fn timed_out(&mut self, address: IpAddr, now: u64) {
        let last = u32::try_from(now).unwrap_or(u32::MAX);
        let (at, count) = match self.find(address) {
            Some(at) => {
                let old = self.record(Kind::of(address), at);
                if old.count > 0 && now.saturating_sub(u64::from(old.last)) < ONE_SIGN {
                    return;
                }
                (at, old.count.saturating_add(1).min(TIMEOUTS_MAX))
            }
            None => (self.room(Kind::of(address)), 1),
        };
        self.set(
            at,
            TimedOut {
                address,
                count,
                last,
            },
        );
    }

    /// Connecting worked. `true` if that changes anything.
    pub(crate) fn connected(&mut self, address: IpAddr) -> bool {
        let Some(at) = self.find(address) else {
            return false;
        };
        let record = self.record(Kind::of(address), at);
        self.set(at, TimedOut { count: 0, ..record });
        record.count > 0
    }

    /// A record that is free, else the one that matters least.
    fn room(&self, kind: Kind) -> usize {
        let worth = |record: &TimedOut| {
            u64::from(record.last) + ONE_TIMEOUT_IS_WORTH * u64::from(record.count)
        };
        let free = self.records(kind).position(|record| record.count == 0);
        let least = || {
            let records = self.records(kind).enumerate();
            records
                .min_by_key(|(_, record)| worth(record))
                .map_or(0, |(at, _)| at)
        };
        free.unwrap_or_else(least)
    }

    fn records(&self, kind: Kind) -> impl Iterator<Item = TimedOut> {
        (0..RECORDS).map(move |at| self.record(kind, at))
    }

    fn find(&self, address: IpAddr) -> Option<usize> {
        self.records(Kind::of(address))
            .position(|record| record.address == address)
    }

    fn record(&self, kind: Kind, at: usize) -> TimedOut {
        let octets = &self.0[kind.place(at)..];
        let behind = &octets[kind.address_octets()..];
        TimedOut {
            address: match kind {
                Kind::V4 => Ipv4Addr::from(first(octets)).into(),
                Kind::V6 => Ipv6Addr::from(first(octets)).into(),
            },
            count: behind[0],
            last: u32::from_le_bytes(first(&behind[4..])),
        }
    }

    fn set(&mut self, at: usize, record: TimedOut) {
        let kind = Kind::of(record.address);
        let octets = &mut self.0[kind.place(at)..][..kind.record_octets()];
        let (address, behind) = octets.split_at_mut(kind.address_octets());
        match record.address {
            IpAddr::V4(v4) => address.copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => address.copy_from_slice(&v6.octets()),
        }
        behind[0] = record.count;
        behind[4..8].copy_from_slice(&record.last.to_le_bytes());
    }
}

/// The first octets of a record's part, which has as many.
fn first<const N: usize>(octets: &[u8]) -> [u8; N] {
    *octets.first_chunk().expect("records are long enough")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const HOST_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

    #[test]
    fn two_timeouts_apart_exclude_for_a_while() {
        let mut table = TimeoutTable::empty();
        for host in [HOST, HOST_6] {
            table.timed_out(host, 1000);
            assert!(!table.excludes(host, 1000, 0));
            table.timed_out(host, 1119);
            assert!(!table.excludes(host, 1119, 0), "the same sign");
            table.timed_out(host, 1120);
            assert!(table.excludes(host, 1120 + 3839, 0));
            assert!(!table.excludes(host, 1120 + 3840, 0));
            assert!(table.excludes(host, 1120 + 3840, 31));
            assert!(table.connected(host));
            assert!(!table.connected(host));
            assert_eq!(table.hosts().count(), 0);
        }
        for hour in 0..20 {
            table.timed_out(HOST, 10_000 + hour * 3600);
        }
        assert_eq!(table.hosts().next().map(|host| host.count), Some(10));
    }

    #[test]
    fn a_full_table_forgets_what_matters_least() {
        let mut table = TimeoutTable::empty();
        for host in [HOST, HOST_6] {
            table.timed_out(host, 1000);
            table.timed_out(host, 2000);
        }
        for number in 0..200_u8 {
            let (four, six) = (Ipv4Addr::new(10, 0, 0, number), u128::from(number));
            table.timed_out(four.into(), 2000 + u64::from(number));
            table.timed_out(
                Ipv6Addr::from(1 << 96 | six).into(),
                2000 + u64::from(number),
            );
        }
        assert_eq!(table.hosts().count(), 128);
        assert!(table.excludes(HOST, 2000, 0));
        assert!(table.excludes(HOST_6, 2000, 0));
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
        assert_eq!(octets.len(), 1024, "as the classic one");
        table.timed_out(HOST_6, 0x0102_0304);
        file.write(&table).unwrap();
        assert!(file.read().unwrap() == table);
        let octets = std::fs::read(&path).unwrap();
        assert_eq!(
            octets[1024..1056],
            *b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\0\0\0\x04\x03\x02\x01\0\0\0\0\0\0\0\0"
        );
        assert_eq!(octets.len(), OCTETS);
        file.write(&TimeoutTable::empty()).unwrap();
        assert!(
            std::fs::read(&path)
                .unwrap()
                .iter()
                .all(|&octet| octet == 0)
        );
    }
}
