//! The walk through the slots of a hash table.

use super::{CdbError, hash};

/// A file of which two numbers can be read.
pub(super) trait Numbers {
    type Error: From<CdbError>;

    /// Its length.
    fn octets(&self) -> u64;

    /// The two numbers of 32 bits at a position.
    fn pair(&self, at: usize) -> Result<(u32, u32), Self::Error>;
}

/// Finds the records of a key, in the order they were added, as far as their hash tells.
#[derive(Debug)]
pub(super) struct Probe {
    hash: u32,
    table: usize,
    slots: usize,
    slot: usize,
    /// Slots not yet looked at: a full table ends the walk as well as an empty slot does.
    left: usize,
}

impl Probe {
    pub(super) fn nothing() -> Self {
        Self {
            hash: 0,
            table: 0,
            slots: 0,
            slot: 0,
            left: 0,
        }
    }

    pub(super) fn new<N: Numbers + ?Sized>(file: &N, key: &[u8]) -> Result<Self, N::Error> {
        let hash = hash(key);
        let pair = (hash & 255) as usize * 8;
        let (table, slots) = file.pair(pair)?;
        if slots == 0 {
            return Ok(Self::nothing());
        }
        if u64::from(table) + u64::from(slots) * 8 > file.octets() {
            return Err(CdbError::Damaged(pair).into());
        }
        let (table, slots) = (table as usize, slots as usize);
        Ok(Self {
            hash,
            table,
            slots,
            slot: (hash >> 8) as usize % slots,
            left: slots,
        })
    }

    /// Where the next record with the hash of the key is.
    pub(super) fn next_record<N: Numbers + ?Sized>(
        &mut self,
        file: &N,
    ) -> Result<Option<usize>, N::Error> {
        while self.left > 0 {
            let (hash, position) = file.pair(self.table + self.slot * 8)?;
            if position == 0 {
                self.left = 0;
                break;
            }
            self.left -= 1;
            self.slot = (self.slot + 1) % self.slots;
            if hash == self.hash {
                return Ok(Some(position as usize));
            }
        }
        Ok(None)
    }
}
