//! Lookups in a database that is not in memory.

use std::borrow::Cow;
use std::io;

use super::probe::{Numbers, Probe};
use super::{CdbError, HEADER_OCTETS, Table};

/// Reading at a position, as files can.
pub trait ReadAt {
    /// Fills `octets` with those from position `at` on.
    ///
    /// # Errors
    ///
    /// There are not so many, or they cannot be read.
    fn read_exact_at(&self, octets: &mut [u8], at: u64) -> io::Result<()>;
}

/// A constant database that stays where it is: a lookup reads five times on the average, however large it is. For programs that look
/// a few things up and end; who stays is better off with a [`Cdb`](super::Cdb).
#[derive(Clone, Debug)]
pub struct OnDisk<R> {
    file: R,
    octets: u64,
}

/// Why a lookup gives no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file is no database.
    #[error(transparent)]
    Cdb(#[from] CdbError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
}

impl<R: ReadAt> OnDisk<R> {
    /// Takes a file of so many octets, which does not change any more.
    ///
    /// # Errors
    ///
    /// It is too short to be a database. Nothing else is looked at yet.
    pub fn new(file: R, octets: u64) -> Result<Self, CdbError> {
        if octets < HEADER_OCTETS as u64 {
            return Err(CdbError::Short);
        }
        Ok(Self { file, octets })
    }

    /// Key and data of the record at a position, if its key is as long as ours.
    fn record(&self, at: usize, key_octets: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let (found, data_octets) = self.pair(at)?;
        if found as usize != key_octets {
            return Ok(None);
        }
        let (start, octets) = (at as u64 + 8, u64::from(found) + u64::from(data_octets));
        // Before there is room made for them.
        if start + octets > self.octets {
            return Err(CdbError::Damaged(at).into());
        }
        let mut record = vec![0; octets as usize];
        self.file.read_exact_at(&mut record, start)?;
        Ok(Some(record))
    }
}

impl<R: ReadAt> Numbers for OnDisk<R> {
    type Error = ReadError;

    fn octets(&self) -> u64 {
        self.octets
    }

    fn pair(&self, at: usize) -> Result<(u32, u32), ReadError> {
        if at as u64 + 8 > self.octets {
            return Err(CdbError::Damaged(at).into());
        }
        let mut octets = [0; 8];
        self.file.read_exact_at(&mut octets, at as u64)?;
        let both = u64::from_le_bytes(octets);
        Ok((both as u32, (both >> 32) as u32))
    }
}

impl<R: ReadAt> Table for OnDisk<R> {
    fn first(&self, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, ReadError> {
        let mut probe = Probe::new(self, key)?;
        while let Some(at) = probe.next_record(self)? {
            if let Some(mut record) = self.record(at, key.len())?
                && record.starts_with(key)
            {
                return Ok(Some(Cow::Owned(record.split_off(key.len()))));
            }
        }
        Ok(None)
    }
}
