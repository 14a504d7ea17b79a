//! What stands where a log may end: behind the last whole record of the newest segment, and where that segment's opening
//! should be.
//!
//! Nothing tells which octets there were promised. So they are looked at: a write that a power cut tore lacks octets, and
//! those read as zeros, because a segment has its whole length, of zeros, before it is written to. What lacks none was written
//! whole, and changed later.

use super::payload::RoutedHead;
use super::record::{HEADER_OCTETS, Header, Kind, next_header};
use super::segment::START;

/// A disk writes so many octets whole or not at all.
const SECTOR_OCTETS: usize = 512;

/// Longest run of zeros at the end of a record of numbers; those that are longer are gaps. A text of failures ends with none.
const NUMBER_ZEROS_MAX: usize = 31;

/// An envelope ends with one.
const ENVELOPE_ZEROS: usize = 1;

/// Octets compared at once.
const BLOCK_OCTETS: usize = 4096;

static ZEROS: [u8; BLOCK_OCTETS] = [0; BLOCK_OCTETS];

/// What octets are that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing was written there.
    Blank,
    /// Some of what was written is missing, as a power cut leaves it; whether there are whole records behind.
    Torn { records: bool },
    /// All of it is there, and not as it was written.
    Damaged,
}

/// Where the last octet is that is not zero: the multiple of 8 behind it.
pub(super) fn written(octets: &[u8]) -> usize {
    let mut end = octets.len();
    while end > 0 {
        let start = (end - 1) / BLOCK_OCTETS * BLOCK_OCTETS;
        let block = &octets[start..end];
        if *block != ZEROS[..block.len()] {
            let zeros = trailing_zeros(block);
            return (end - zeros).next_multiple_of(8).min(octets.len());
        }
        end = start;
    }
    0
}

/// What stands at `at` of a segment, where there is no whole record but maybe a header. `written` is [`written`] of `octets`.
pub(super) fn of_records(
    octets: &[u8],
    segment: u32,
    at: usize,
    header: Option<Header>,
    written: usize,
) -> Tail {
    if at >= written {
        return Tail::Blank;
    }
    let torn = match header {
        Some(header) => payload_is_torn(octets, at, header),
        None => header_is_torn(octets, segment, at, written),
    };
    if !torn {
        return Tail::Damaged;
    }
    let behind = at + header.map_or(1, |header| header.octets());
    Tail::Torn {
        records: has_records(&octets[..written], segment, behind),
    }
}

/// What a segment is that does not begin with a whole opening.
pub(super) fn of_opening(octets: &[u8], segment: u32) -> Tail {
    let written = written(octets);
    if written == 0 {
        Tail::Blank
    } else if written <= START as usize || is_zero(octets, 0, 8) {
        Tail::Torn {
            records: has_records(&octets[..written], segment, START as usize),
        }
    } else {
        Tail::Damaged
    }
}

/// Whether a record from `from` on is whole.
fn has_records(octets: &[u8], segment: u32, mut from: usize) -> bool {
    while let Some((at, header)) = next_header(octets, segment, from) {
        if header.payload(&octets[at..]).is_some() {
            return true;
        }
        from = at + header.octets();
    }
    false
}

fn header_is_torn(octets: &[u8], segment: u32, at: usize, written: usize) -> bool {
    // Neither a sum nor a kind is ever zero.
    const KIND_AT: usize = 24;
    let next = next_header(&octets[..written], segment, at + 1).map_or(written, |(next, _)| next);
    let sector = (at + 1).next_multiple_of(SECTOR_OCTETS);
    at + HEADER_OCTETS > octets.len()
        || is_zero(octets, at, 8)
        || is_zero(octets, at + KIND_AT, next.saturating_sub(at + KIND_AT))
        || (sector < at + HEADER_OCTETS && is_zero(octets, sector, SECTOR_OCTETS))
}

fn payload_is_torn(octets: &[u8], at: usize, header: Header) -> bool {
    let start = at + HEADER_OCTETS;
    // A file that ends early lacks octets.
    let Some(payload) = octets.get(start..start + header.payload_octets) else {
        return true;
    };
    let most = match header.kind {
        Kind::Routed if ends_with_failures(payload) => 0,
        Kind::Message | Kind::Routed => ENVELOPE_ZEROS,
        Kind::Note => 0,
        _ => NUMBER_ZEROS_MAX,
    };
    // All but parts of the index begin with a number that is not zero.
    let no_number = header.kind != Kind::Snapshot && payload.len() >= 8 && is_zero(payload, 0, 8);
    let first_sector = start.next_multiple_of(SECTOR_OCTETS) - start;
    let sectors = payload.get(first_sector..).unwrap_or_default();
    no_number
        || trailing_zeros(payload) > most
        || sectors
            .chunks_exact(SECTOR_OCTETS)
            .any(|sector| *sector == ZEROS[..SECTOR_OCTETS])
}

/// Whether a routed record says that it ends with failures, and has the size for it.
fn ends_with_failures(payload: &[u8]) -> bool {
    RoutedHead::parse(payload).is_some_and(|head| {
        let failures = u64::from(head.failures_octets);
        failures > 0 && head.failures_at() + failures == payload.len() as u64
    })
}

/// Whether so many octets from `at` on are zero; what is beyond the end is.
fn is_zero(octets: &[u8], at: usize, count: usize) -> bool {
    let octets = octets.get(at..).unwrap_or_default();
    let octets = &octets[..count.min(octets.len())];
    octets.iter().all(|&octet| octet == 0)
}

fn trailing_zeros(octets: &[u8]) -> usize {
    octets.iter().rev().take_while(|&&octet| octet == 0).count()
}

#[cfg(test)]
mod tests {
    use super::super::record::{Frame, Place};
    use super::*;
    use crate::spool::MessageId;

    const SEGMENT: u32 = 3;

    /// A segment with the opening missing, and these records.
    fn segment(frames: &[Frame]) -> (Vec<u8>, Vec<usize>) {
        let mut octets = vec![0; START as usize];
        let mut places = Vec::new();
        for frame in frames {
            let place = Place {
                segment: SEGMENT,
                offset: octets.len() as u32,
            };
            places.push(octets.len());
            frame.write(place, START, &mut octets);
        }
        octets.resize(octets.len() + 10_000, 0);
        (octets, places)
    }

    fn note(octets: usize) -> Frame {
        let mut frame = Frame::about(Kind::Note, MessageId(9));
        let text = (0..octets).map(|at| b'a' + (at % 26) as u8);
        frame.payload_mut().extend(text);
        frame
    }

    fn tail_at(octets: &[u8], at: usize) -> Tail {
        let place = Place {
            segment: SEGMENT,
            offset: at as u32,
        };
        let header = Header::parse(&octets[at..], place);
        of_records(octets, SEGMENT, at, header, written(octets))
    }

    #[test]
    fn the_last_octet_is_found_wherever_it_is() {
        assert_eq!(written(&[]), 0);
        assert_eq!(written(&[0; 10_000]), 0);
        for at in (0..10_000).step_by(13) {
            let mut octets = [0; 10_000];
            octets[at] = 1;
            assert_eq!(written(&octets), (at + 1).next_multiple_of(8), "{at}");
        }
        assert_eq!(written(&[0, 0, 1]), 3);
    }

    /// Any sectors of a write may be on the disk, and the others not.
    #[test]
    fn sectors_that_are_missing_are_a_tear() {
        let frames = [note(700), note(900), note(30), note(450)];
        let (octets, places) = segment(&frames);
        let sectors = written(&octets).div_ceil(SECTOR_OCTETS);
        for kept in 0..1_u32 << sectors {
            let mut torn = octets.clone();
            for sector in (0..sectors).filter(|sector| kept >> sector & 1 == 0) {
                torn[sector * SECTOR_OCTETS..][..SECTOR_OCTETS].fill(0);
            }
            let broken = places.iter().zip(&frames).position(|(&at, frame)| {
                torn[at..at + frame.octets()] != octets[at..at + frame.octets()]
            });
            let Some(broken) = broken else { continue };
            let tail = tail_at(&torn, places[broken]);
            let whole = (broken + 1..frames.len()).any(|number| {
                let (at, length) = (places[number], frames[number].octets());
                torn[at..at + length] == octets[at..at + length]
            });
            match tail {
                Tail::Blank => assert!(!whole, "{kept:b}"),
                Tail::Torn { records } => assert_eq!(records, whole, "{kept:b}"),
                Tail::Damaged => panic!("{kept:b}: record {broken}"),
            }
        }
    }

    #[test]
    fn an_octet_that_is_changed_is_no_tear() {
        let (octets, places) = segment(&[note(40), note(700)]);
        for at in places[0]..written(&octets) {
            let mut damaged = octets.clone();
            damaged[at] ^= 0x80;
            let broken = places[usize::from(at >= places[1])];
            // The zeros behind a text belong to no record.
            if !is_whole(&damaged, broken) {
                assert_eq!(tail_at(&damaged, broken), Tail::Damaged, "{at}");
            }
        }
    }

    fn is_whole(octets: &[u8], at: usize) -> bool {
        let place = Place {
            segment: SEGMENT,
            offset: at as u32,
        };
        let header = Header::parse(&octets[at..], place);
        header.is_some_and(|header| header.payload(&octets[at..]).is_some())
    }

    #[test]
    fn an_opening_is_missing_or_damaged() {
        let (mut octets, _) = segment(&[note(40)]);
        assert_eq!(of_opening(&octets, SEGMENT), Tail::Torn { records: true });
        octets[..8].copy_from_slice(b"qmailjnl");
        assert_eq!(of_opening(&octets, SEGMENT), Tail::Damaged);
        octets[START as usize..].fill(0);
        assert_eq!(of_opening(&octets, SEGMENT), Tail::Torn { records: false });
        assert_eq!(of_opening(&[0; 500], SEGMENT), Tail::Blank);
    }
}
