//! A segment: a file of records, and what stands at its beginning.
//!
//! | octets | |
//! |---|---|
//! | 0..8 | `qmailjnl` |
//! | 8..12 | version of the format |
//! | 12..16 | its number, which is its name, too |
//! | 16..20, 20..24 | number of the segment before it, and where that ends: what lies beyond was never promised |
//! | 24..32 | place of the record that a start begins with: the first part of the newest whole snapshot, or 0 of the oldest segment |
//! | 32..40 | a number that no message has had yet, nor any higher one |
//! | 40..60 | 0 |
//! | 60..64 | CRC-32C of all before |

use std::path::PathBuf;

use super::payload::Reader;
use super::record::Place;
use crate::spool::MessageId;

/// Version of the format that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;

/// Where the first record begins.
pub(super) const START: u32 = 64;

const MAGIC: &[u8; 8] = b"qmailjnl";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) number: u32,
    pub(super) previous: u32,
    pub(super) previous_end: u32,
    pub(super) replay_from: Place,
    pub(super) next_id: MessageId,
}

/// Why octets are no [`Opening`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoOpening {
    /// It was never written, or is damaged.
    Damaged,
    /// It is whole, and of another version.
    Version(u32),
}

impl Opening {
    pub(super) fn to_octets(self) -> [u8; START as usize] {
        let mut octets = [0; START as usize];
        octets[..8].copy_from_slice(MAGIC);
        octets[8..12].copy_from_slice(&VERSION.to_le_bytes());
        octets[12..16].copy_from_slice(&self.number.to_le_bytes());
        octets[16..20].copy_from_slice(&self.previous.to_le_bytes());
        octets[20..24].copy_from_slice(&self.previous_end.to_le_bytes());
        octets[24..32].copy_from_slice(&self.replay_from.to_octets());
        octets[32..40].copy_from_slice(&self.next_id.0.to_le_bytes());
        let sum = crc32c::crc32c(&octets[..60]);
        octets[60..].copy_from_slice(&sum.to_le_bytes());
        octets
    }

    pub(super) fn parse(octets: &[u8]) -> Result<Self, NoOpening> {
        let octets: &[u8; START as usize] = octets.first_chunk().ok_or(NoOpening::Damaged)?;
        let (content, sum) = octets.split_at(60);
        if &content[..8] != MAGIC || sum != crc32c::crc32c(content).to_le_bytes() {
            return Err(NoOpening::Damaged);
        }
        let read = |mut reader: Reader<'_>| {
            let version = reader.short()?;
            if version != VERSION {
                return Some(Err(NoOpening::Version(version)));
            }
            Some(Ok(Self {
                number: reader.short()?,
                previous: reader.short()?,
                previous_end: reader.short()?,
                replay_from: Place::from_number(reader.long()?),
                next_id: MessageId(reader.long()?),
            }))
        };
        read(Reader(&content[8..])).unwrap_or(Err(NoOpening::Damaged))
    }
}

/// The name of a segment.
pub(super) fn path(number: u32) -> PathBuf {
    format!("{number:010}.log").into()
}

/// The number of the segment of that name; `None` for another file.
pub(super) fn number(name: &std::path::Path) -> Option<u32> {
    let digits = name.to_str()?.strip_suffix(".log")?;
    let number = digits.parse().ok()?;
    (path(number) == name).then_some(number)
}

/// The directory of texts that have files of their own.
pub(super) const TEXTS: &str = "text";

/// The directory of what was damaged.
pub(super) const DAMAGED: &str = "damaged";

/// The file whose lock says who uses the journal.
pub(super) const LOCK: &str = "lock";

/// The file of a text.
pub(super) fn text_path(id: MessageId) -> PathBuf {
    PathBuf::from(TEXTS).join(id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_comes_back_and_damage_is_noticed() {
        let opening = Opening {
            number: 7,
            previous: 5,
            previous_end: 4096,
            replay_from: Place {
                segment: 4,
                offset: 64,
            },
            next_id: MessageId(99),
        };
        let octets = opening.to_octets();
        assert_eq!(Opening::parse(&octets), Ok(opening));
        for at in 0..octets.len() {
            let mut damaged = octets;
            damaged[at] ^= 1;
            assert_eq!(Opening::parse(&damaged), Err(NoOpening::Damaged), "{at}");
            assert_eq!(Opening::parse(&octets[..at]), Err(NoOpening::Damaged));
        }
        let mut other = octets;
        other[8] = 2;
        let sum = crc32c::crc32c(&other[..60]);
        other[60..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Opening::parse(&other), Err(NoOpening::Version(2)));
    }

    #[test]
    fn only_our_names_are_segments() {
        assert_eq!(number(&path(12)), Some(12));
        for name in [
            "12.log",
            "0000000012",
            "0000000012.log.bak",
            "+000000012.log",
        ] {
            assert_eq!(number(name.as_ref()), None, "{name}");
        }
    }
}
