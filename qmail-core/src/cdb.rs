//! Constant databases: the files `users/cdb`, `control/morercpthosts.cdb`, tcprules and forwarding tables.
//!
//! The layout is that of every cdb tool: a header of 256 pairs (position of a hash table, its slots), the records in the
//! order they were added, the 256 hash tables; all numbers are 32 bits, little-endian, so a file ends below 4 GiB. Of
//! equal keys the first is found first.
//!
//! A [`Cdb`] trusts nothing in the file: whatever it holds, a lookup ends, stays inside it, and gives a record or an
//! error.

use std::io::{self, Seek, SeekFrom, Write};

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
            probe: Probe::new(file, hash(key)),
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
            Ok(probe) => probe.next_match(self.file, self.key),
            Err(damaged) => Err(*damaged),
        };
        if found.is_err() {
            self.probe = Ok(Probe::nothing());
        }
        found.transpose()
    }
}

/// A walk through the slots of one hash table.
#[derive(Debug)]
struct Probe {
    hash: u32,
    table: usize,
    slots: usize,
    slot: usize,
    /// Slots not yet looked at: a full table ends the walk as well as an empty slot does.
    left: usize,
}

impl Probe {
    fn nothing() -> Self {
        Self {
            hash: 0,
            table: 0,
            slots: 0,
            slot: 0,
            left: 0,
        }
    }

    fn new(file: &[u8], hash: u32) -> Result<Self, CdbError> {
        let pair = (hash & 255) as usize * 8;
        let (table, slots) = (number(file, pair)?, number(file, pair + 4)?);
        if slots == 0 {
            return Ok(Self::nothing());
        }
        let fits = slots
            .checked_mul(8)
            .and_then(|octets| octets.checked_add(table))
            .is_some_and(|end| end <= file.len());
        if !fits {
            return Err(CdbError::Damaged(pair));
        }
        let slot = (hash >> 8) as usize % slots;
        Ok(Self {
            hash,
            table,
            slots,
            slot,
            left: slots,
        })
    }

    fn next_match<'a>(&mut self, file: &'a [u8], key: &[u8]) -> Result<Option<&'a [u8]>, CdbError> {
        while self.left > 0 {
            let at = self.table + self.slot * 8;
            let (hash, position) = (number(file, at)?, number(file, at + 4)?);
            if position == 0 {
                self.left = 0;
                break;
            }
            self.left -= 1;
            self.slot = (self.slot + 1) % self.slots;
            if hash == self.hash as usize {
                let (found, data) = record(file, position)?;
                if found == key {
                    return Ok(Some(data));
                }
            }
        }
        Ok(None)
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

/// Builds a constant database. Memory is 8 octets for each record; records go straight to the sink.
///
/// The file is a database only once [`finish`](Self::finish) has returned: write it under another name, sync, rename.
#[derive(Debug)]
pub struct Writer<W: Write> {
    sink: io::BufWriter<W>,
    position: u32,
    /// Hash and position of each record, in order.
    records: Vec<(u32, u32)>,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts a database at the sink's beginning.
    ///
    /// # Errors
    ///
    /// As the sink's.
    pub fn new(sink: W) -> io::Result<Self> {
        let mut sink = io::BufWriter::new(sink);
        sink.write_all(&[0; HEADER_OCTETS])?;
        Ok(Self {
            sink,
            position: HEADER_OCTETS as u32,
            records: Vec::new(),
        })
    }

    /// Adds a record. Equal keys may be added; the first is found first.
    ///
    /// # Errors
    ///
    /// As the sink's; [`io::ErrorKind::FileTooLarge`] if the file would pass 4 GiB.
    pub fn add(&mut self, key: &[u8], data: &[u8]) -> io::Result<()> {
        let octets = 8u64 + key.len() as u64 + data.len() as u64;
        let next = u64::from(self.position) + octets;
        // Each record costs two slots of a hash table in the end.
        let tables = (self.records.len() as u64 + 1) * 16;
        if next + tables > u64::from(u32::MAX) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.sink.write_all(&(key.len() as u32).to_le_bytes())?;
        self.sink.write_all(&(data.len() as u32).to_le_bytes())?;
        self.sink.write_all(key)?;
        self.sink.write_all(data)?;
        self.records.push((hash(key), self.position));
        self.position = next as u32;
        Ok(())
    }

    /// Writes the hash tables and the header, and gives the sink back.
    ///
    /// # Errors
    ///
    /// As the sink's.
    pub fn finish(mut self) -> io::Result<W> {
        let mut header = Vec::with_capacity(HEADER_OCTETS);
        let mut counts = [0u32; 256];
        for (hash, _) in &self.records {
            counts[(hash & 255) as usize] += 1;
        }
        // A stable sort keeps equal keys in the order they came.
        self.records.sort_by_key(|(hash, _)| hash & 255);
        let mut records = &self.records[..];
        let mut table: Vec<(u32, u32)> = Vec::new();
        for count in counts {
            let slots = count * 2;
            header.extend_from_slice(&self.position.to_le_bytes());
            header.extend_from_slice(&slots.to_le_bytes());
            let (own, rest) = records.split_at(count as usize);
            records = rest;
            table.clear();
            table.resize(slots as usize, (0, 0));
            for &(hash, position) in own {
                let mut slot = (hash >> 8) as usize % table.len();
                while table[slot].1 != 0 {
                    slot = (slot + 1) % table.len();
                }
                table[slot] = (hash, position);
            }
            for (hash, position) in &table {
                self.sink.write_all(&hash.to_le_bytes())?;
                self.sink.write_all(&position.to_le_bytes())?;
            }
            self.position += slots * 8;
        }
        self.sink.seek(SeekFrom::Start(0))?;
        self.sink.write_all(&header)?;
        self.sink
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

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
            let cdb = Cdb::new(build(&records)).unwrap();
            for key in [&b""[..], b"a", b"ab", b"cc", b"zz"] {
                let want: Vec<_> = records.iter().filter(|(have, _)| have == key).map(|(_, data)| Ok(&data[..])).collect();
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
            let cdb = Cdb::new(file).unwrap();
            for key in 0..40u8 {
                let _ = cdb.get_all(&[key]).count();
            }
            let _ = cdb.iter().count();
        }
    }
}
