//! How a record lies in a segment: a header of 32 octets, a payload, zeros up to a multiple of 8.
//!
//! | octets | header |
//! |---|---|
//! | 0..4 | CRC-32C of the octets 4..32 |
//! | 4..8 | octets of the payload |
//! | 8..12 | CRC-32C of the payload |
//! | 12..16 | up to where in this segment everything was durable when this record was written |
//! | 16..20 | where in its segment this record is |
//! | 20..24 | number of its segment |
//! | 24 | kind |
//! | 25 | 1 if the record was copied forward from an older segment |
//! | 26..32 | 0 |
//!
//! Numbers are little-endian. A record says where it is, so that what an old file left on the disk is never taken for one; and
//! it says what was durable before it, so that what a crash tore can be told from what was damaged later.

use crate::spool::MessageId;

/// Size of a header.
pub(super) const HEADER_OCTETS: usize = 32;

/// Records begin at multiples of this.
const ALIGN: usize = 8;

/// Largest payload: an envelope of 128 MiB and a text beside it.
pub(super) const PAYLOAD_OCTETS_MAX: usize = 130 << 20;

/// Where a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

impl Place {
    pub(super) fn to_octets(self) -> [u8; 8] {
        (u64::from(self.segment) << 32 | u64::from(self.offset)).to_le_bytes()
    }

    pub(super) fn from_number(number: u64) -> Self {
        Self {
            segment: (number >> 32) as u32,
            offset: number as u32,
        }
    }
}

/// A record of the index: where it is, and what it takes there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) place: Place,
    /// Header and zeros included.
    pub(super) octets: u32,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message: text (or that it has a file of its own) and envelope.
    Message,
    /// Where its recipients go.
    Routed,
    /// Some recipients are done.
    Done,
    /// All recipients of a channel are done.
    Closed,
    /// When a channel is due.
    PutOff,
    /// Text of failures.
    Note,
    /// The failures were told.
    Forgotten,
    /// The message is settled, and gone.
    Settled,
    /// A part of the index.
    Snapshot,
    /// The writer has stopped: nothing follows, and all before was durable.
    Stopped,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Message,
        Self::Routed,
        Self::Done,
        Self::Closed,
        Self::PutOff,
        Self::Note,
        Self::Forgotten,
        Self::Settled,
        Self::Snapshot,
        Self::Stopped,
    ];

    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}

/// A record that is not in the log yet. Its octets have room for the header in front.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// A copy of what an older segment holds.
    pub(super) moved: bool,
    octets: Vec<u8>,
}

impl Frame {
    /// One whose payload is to be appended to.
    pub(super) fn new(kind: Kind) -> Self {
        let mut octets = Vec::with_capacity(HEADER_OCTETS + 64);
        octets.resize(HEADER_OCTETS, 0);
        Self::from_octets(kind, octets)
    }

    /// One about a message: its number begins the payload of every kind but [`Kind::Snapshot`] and
    /// [`Kind::Stopped`].
    pub(super) fn about(kind: Kind, id: MessageId) -> Self {
        let mut frame = Self::new(kind);
        frame.octets.extend_from_slice(&id.0.to_le_bytes());
        frame
    }

    /// One whose octets are there already, after [`HEADER_OCTETS`] of room.
    pub(super) fn from_octets(kind: Kind, octets: Vec<u8>) -> Self {
        Self {
            kind,
            moved: false,
            octets,
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.octets[HEADER_OCTETS..]
    }

    pub(super) fn payload_mut(&mut self) -> &mut Vec<u8> {
        &mut self.octets
    }

    /// What it takes in a segment.
    pub(super) fn octets(&self) -> usize {
        self.octets.len().next_multiple_of(ALIGN)
    }

    /// Appends it as it lies at `place`.
    pub(super) fn write(&self, place: Place, synced: u32, sink: &mut Vec<u8>) {
        let payload = self.payload();
        let mut header = [0; HEADER_OCTETS];
        // No payload is larger than its limit, which the makers of frames keep.
        header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        header[12..16].copy_from_slice(&synced.to_le_bytes());
        header[16..20].copy_from_slice(&place.offset.to_le_bytes());
        header[20..24].copy_from_slice(&place.segment.to_le_bytes());
        header[24] = self.kind.code();
        header[25] = u8::from(self.moved);
        let sum = crc32c::crc32c(&header[4..]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
        sink.extend_from_slice(&header);
        sink.extend_from_slice(payload);
        sink.resize(sink.len() + self.octets() - self.octets.len(), 0);
    }
}

/// The header of a record that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) moved: bool,
    pub(super) payload_octets: usize,
    payload_sum: u32,
    pub(super) synced: u32,
}

impl Header {
    /// Reads the header of the record at `place`; `None` if there is none.
    pub(super) fn parse(octets: &[u8], place: Place) -> Option<Self> {
        let header: &[u8; HEADER_OCTETS] = octets.first_chunk()?;
        // First of all: octets that were never written fail here.
        if number(header, 16) != place.offset || number(header, 20) != place.segment {
            return None;
        }
        if number(header, 0) != crc32c::crc32c(&header[4..]) {
            return None;
        }
        let payload_octets = number(header, 4) as usize;
        if payload_octets > PAYLOAD_OCTETS_MAX || header[25] > 1 || header[26..] != [0; 6] {
            return None;
        }
        Some(Self {
            kind: Kind::from_code(header[24])?,
            moved: header[25] == 1,
            payload_octets,
            payload_sum: number(header, 8),
            synced: number(header, 12),
        })
    }

    /// What the record takes in its segment.
    pub(super) fn octets(&self) -> usize {
        (HEADER_OCTETS + self.payload_octets).next_multiple_of(ALIGN)
    }

    /// The payload, if it is whole. `octets` begin with the header.
    pub(super) fn payload<'a>(&self, octets: &'a [u8]) -> Option<&'a [u8]> {
        let payload = octets.get(HEADER_OCTETS..HEADER_OCTETS + self.payload_octets)?;
        (crc32c::crc32c(payload) == self.payload_sum).then_some(payload)
    }
}

/// The first place from `from` on where `octets`, a whole segment, hold a header.
pub(super) fn next_header(octets: &[u8], segment: u32, from: usize) -> Option<(usize, Header)> {
    (from.next_multiple_of(ALIGN)..octets.len())
        .step_by(ALIGN)
        .find_map(|at| {
            let offset = u32::try_from(at).ok()?;
            Some((at, Header::parse(&octets[at..], Place { segment, offset })?))
        })
}

fn number(octets: &[u8], at: usize) -> u32 {
    octets[at..]
        .first_chunk()
        .map_or(0, |four| u32::from_le_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_where_it_is_and_nowhere_else() {
        let place = Place {
            segment: 3,
            offset: 64,
        };
        let mut frame = Frame::about(Kind::Note, MessageId(9));
        frame.payload_mut().extend_from_slice(b"text");
        let mut octets = Vec::new();
        frame.write(place, 64, &mut octets);
        assert_eq!(octets.len(), frame.octets());
        let header = Header::parse(&octets, place).unwrap();
        assert_eq!(
            (header.kind, header.moved, header.synced),
            (Kind::Note, false, 64)
        );
        assert_eq!(header.octets(), octets.len());
        assert_eq!(header.payload(&octets).unwrap(), frame.payload());
        for elsewhere in [
            Place {
                segment: 2,
                offset: 64,
            },
            Place {
                segment: 3,
                offset: 72,
            },
        ] {
            assert_eq!(Header::parse(&octets, elsewhere), None);
        }
    }

    #[test]
    fn every_cut_and_every_changed_bit_is_noticed() {
        let place = Place {
            segment: 1,
            offset: 128,
        };
        let mut frame = Frame::about(Kind::Note, MessageId(9));
        frame.payload_mut().extend_from_slice(b"four");
        let mut octets = Vec::new();
        frame.write(place, 128, &mut octets);
        let whole = |octets: &[u8]| {
            Header::parse(octets, place).is_some_and(|header| header.payload(octets).is_some())
        };
        let end = HEADER_OCTETS + frame.payload().len();
        for cut in 0..end {
            assert!(!whole(&octets[..cut]), "{cut}");
        }
        assert!(whole(&octets[..end]));
        for bit in 0..end * 8 {
            let mut damaged = octets.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!whole(&damaged), "bit {bit}");
        }
    }
}
