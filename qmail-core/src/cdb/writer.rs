//! Making constant databases.

use std::io::{self, Seek, SeekFrom, Write};

use super::{HEADER_OCTETS, hash};

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
