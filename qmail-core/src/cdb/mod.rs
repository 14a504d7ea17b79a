//! Constant databases: the files `users/cdb`, `control/morercpthosts.cdb`, tcprules and forwarding tables.
//!
//! The layout is that of every cdb tool: a header of 256 pairs (position of a hash table, its slots), the records in the
//! order they were added, the 256 hash tables; all numbers are 32 bits, little-endian, so a file ends below 4 GiB. Of
//! equal keys the first is found first.
//!
//! A [`Cdb`] is looked up in memory, an [`OnDisk`] where it lies, a few octets at a time. Both trust nothing in the file: whatever it
//! holds, a lookup ends, stays inside it, and gives a record or an error.

mod on_disk;
mod probe;
mod writer;

use std::borrow::Cow;

pub use on_disk::{OnDisk, ReadAt, ReadError};
use probe::{Numbers, Probe};
pub use writer::Writer;

/// Octets before the first record.
const HEADER_OCTETS: usize = 256 * 8;

/// A constant database to look things up in.
///
/// ```
/// use qmail_core::cdb::{Cdb, Writer};
/// let mut writer = Writer::new(std::io::Cursor::new(Vec::new()))?;
/// writer.add(b"key", b"data")?;
/// let file = writer.finish()?.into_inner();
/// assert_eq!(Cdb::new(file)?.get(b"key")?, Some(&b"data"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cdb<D>(D);

/// Why a file is no constant database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CdbError {
    /// The file is shorter than its header.
    #[error("cdb is shorter than its header; build it anew")]
    Short,
    /// Something in it points outside of it.
    #[error("cdb is damaged: octet {0} points outside; build it anew")]
    Damaged(usize),
}

/// Where something can be looked up: a [`Cdb`], or an [`OnDisk`].
pub trait Table {
    /// The data of the first record with this key.
    ///
    /// # Errors
    ///
    /// The file is damaged where the key would be, or cannot be read.
    fn first(&self, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, ReadError>;
}

impl<D: AsRef<[u8]>> Table for Cdb<D> {
    fn first(&self, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, ReadError> {
        Ok(self.get(key)?.map(Cow::Borrowed))
    }
}

impl<D: AsRef<[u8]>> Cdb<D> {
    /// Takes the octets of a file.
    ///
    /// # Errors
    ///
    /// The file is too short to be a database. Nothing else is looked at yet.
    pub fn new(file: D) -> Result<Self, CdbError> {
        if file.as_ref().len() < HEADER_OCTETS {
            return Err(CdbError::Short);
        }
        Ok(Self(file))
    }

    /// The data of the first record with this key.
    ///
    /// # Errors
    ///
    /// The file is damaged where the key would be.
    pub fn get(&self, key: &[u8]) -> Result<Option<&[u8]>, CdbError> {
        self.get_all(key).next().transpose()
    }

    /// The data of all records with this key, first added first.
    pub fn get_all<'f, 'k>(&'f self, key: &'k [u8]) -> Matches<'f, 'k> {
        let file = self.0.as_ref();
        Matches {
            file,
            key,
            probe: Probe::new(file, key),
        }
    }

    /// All records, key and data, in the order they were added. Ends after the first error.
    pub fn iter(&self) -> impl Iterator<Item = Result<(&[u8], &[u8]), CdbError>> {
        let file = self.0.as_ref();
        // The records end where the first hash table begins; tables follow one another from there.
        let end = number(file, 0).unwrap_or_default();
        let mut position = HEADER_OCTETS;
        std::iter::from_fn(move || {
            if position >= end {
                return None;
            }
            let record = record(file, position);
            position = match record {
                Ok((key, data)) => position + 8 + key.len() + data.len(),
                Err(_) => end,
            };
            Some(record)
        })
    }
}

/// The records of one key, as [`Cdb::get_all`] gives them. Ends after the first error.
#[derive(Debug)]
pub struct Matches<'f, 'k> {
    file: &'f [u8],
    key: &'k [u8],
    probe: Result<Probe, CdbError>,
}

impl<'f> Iterator for Matches<'f, '_> {
    type Item = Result<&'f [u8], CdbError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = match &mut self.probe {
            Ok(probe) => next_match(probe, self.file, self.key),
            Err(damaged) => Err(*damaged),
        };
        if found.is_err() {
            self.probe = Ok(Probe::nothing());
        }
        found.transpose()
    }
}

fn next_match<'f>(
    probe: &mut Probe,
    file: &'f [u8],
    key: &[u8],
) -> Result<Option<&'f [u8]>, CdbError> {
    while let Some(position) = probe.next_record(file)? {
        let (found, data) = record(file, position)?;
        if found == key {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

impl Numbers for [u8] {
    type Error = CdbError;

    fn octets(&self) -> u64 {
        self.len() as u64
    }

    fn pair(&self, at: usize) -> Result<(u32, u32), CdbError> {
        Ok((number(self, at)? as u32, number(self, at + 4)? as u32))
    }
}

/// The little-endian number at a position.
fn number(file: &[u8], at: usize) -> Result<usize, CdbError> {
    let octets = file.get(at..).and_then(|rest| rest.first_chunk());
    let number = octets.map(|&octets| u32::from_le_bytes(octets) as usize);
    number.ok_or(CdbError::Damaged(at))
}

/// Key and data of the record at a position.
fn record(file: &[u8], at: usize) -> Result<(&[u8], &[u8]), CdbError> {
    let (key_octets, data_octets) = (number(file, at)?, number(file, at + 4)?);
    let rest = &file[at + 8..];
    rest.split_at_checked(key_octets)
        .and_then(|(key, rest)| Some((key, rest.get(..data_octets)?)))
        .ok_or(CdbError::Damaged(at))
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, &octet| {
        hash.wrapping_mul(33) ^ u32::from(octet)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor};

    use proptest::prelude::*;

    use super::*;

    /// A file that is not one.
    struct Memory<'a>(&'a [u8]);

    impl ReadAt for Memory<'_> {
        fn read_exact_at(&self, octets: &mut [u8], at: u64) -> io::Result<()> {
            let at = usize::try_from(at).map_err(io::Error::other)?;
            let found = self.0.get(at..).and_then(|rest| rest.get(..octets.len()));
            octets.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn build(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
        for (key, data) in records {
            writer.add(key, data).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn an_empty_database_is_a_header() {
        let file = build(&[]);
        assert_eq!(file.len(), HEADER_OCTETS);
        assert_eq!(&file[..8], &[0, 8, 0, 0, 0, 0, 0, 0]);
        let cdb = Cdb::new(file).unwrap();
        assert_eq!(cdb.get(b""), Ok(None));
        assert_eq!(cdb.iter().count(), 0);
        assert_eq!(Cdb::new([0; 2047]).err(), Some(CdbError::Short));
    }

    #[test]
    fn the_layout_is_the_common_one() {
        let file = build(&[(b"one".to_vec(), b"Hello".to_vec())]);
        assert_eq!(&file[2048..2056], &[3, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(&file[2056..2064], b"oneHello");
        assert_eq!(file.len(), 2064 + 16);
        let hash = hash(b"one");
        let pair = (hash & 255) as usize * 8;
        assert_eq!(&file[pair..pair + 8], &[0x10, 8, 0, 0, 2, 0, 0, 0]);
        let slot = 2064 + ((hash >> 8) as usize % 2) * 8;
        assert_eq!(&file[slot..slot + 4], &hash.to_le_bytes());
        assert_eq!(&file[slot + 4..slot + 8], &2048u32.to_le_bytes());
    }

    proptest! {
        #[test]
        fn what_was_added_is_found(
            records in proptest::collection::vec(("[a-c]{0,2}", proptest::collection::vec(any::<u8>(), 0..4)), 0..40)
        ) {
            let records: Vec<_> = records.into_iter().map(|(key, data)| (key.into_bytes(), data)).collect();
            let file = build(&records);
            let on_disk = OnDisk::new(Memory(&file), file.len() as u64).unwrap();
            let cdb = Cdb::new(&file).unwrap();
            for key in [&b""[..], b"a", b"ab", b"cc", b"zz"] {
                let want: Vec<_> = records.iter().filter(|(have, _)| have == key).map(|(_, data)| Ok(&data[..])).collect();
                let first = on_disk.first(key).unwrap();
                prop_assert_eq!(first.as_deref().map(Ok), want.first().copied());
                prop_assert_eq!(cdb.get_all(key).collect::<Vec<_>>(), want);
            }
            let all: Vec<_> = cdb.iter().map(|record| record.map(|(key, data)| (key.to_vec(), data.to_vec())).unwrap()).collect();
            prop_assert_eq!(all, records);
        }

        #[test]
        fn a_hostile_file_gives_an_error_at_worst(
            damage in proptest::collection::vec((0usize..3000, any::<u8>()), 0..60),
            cut in 0usize..3000,
        ) {
            let records: Vec<_> = (0..30u8).map(|n| (vec![n], vec![n; 3])).collect();
            let mut file = build(&records);
            file.truncate(cut.max(HEADER_OCTETS));
            for (at, octet) in damage {
                let at = at % file.len();
                file[at] = octet;
            }
            let cdb = Cdb::new(&file).unwrap();
            let on_disk = OnDisk::new(Memory(&file), file.len() as u64).unwrap();
            for key in 0..40u8 {
                let _ = cdb.get_all(&[key]).count();
                match (cdb.get(&[key]), on_disk.first(&[key])) {
                    (Ok(in_memory), Ok(on_disk)) => prop_assert_eq!(in_memory, on_disk.as_deref()),
                    // What is read differs a little: a record of another length is not.
                    (in_memory, on_disk) => prop_assert!(in_memory.is_err() || on_disk.is_err()),
                }
            }
            let _ = cdb.iter().count();
        }
    }
}
