//! Lines of text on their way from one line end to the other, 64 octets at a look.

use wide::{CmpEq as _, i8x16};

/// How many octets are looked at together.
const BLOCK_OCTETS: usize = 64;

/// A line with its new end that is no longer than this is copied by a move of fixed size. Mail has few that are longer: RFC 5322
/// section 2.1.1 wants 78 octets and an end.
const LINE_OCTETS: usize = 80;

/// The end of a sink that is being filled: what is behind what was written is made ahead, and taken away again when this is
/// dropped.
pub(crate) struct Room<'a> {
    sink: &'a mut Vec<u8>,
    filled: usize,
}

impl<'a> Room<'a> {
    /// Room for so many octets; it grows where they are not enough.
    pub(crate) fn new(sink: &'a mut Vec<u8>, octets: usize) -> Self {
        let filled = sink.len();
        sink.resize(filled + octets + LINE_OCTETS, 0);
        Self { sink, filled }
    }

    /// Appends octets.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        let end = self.filled + octets.len();
        if end > self.sink.len() {
            self.sink.resize(2 * end, 0);
        }
        self.sink[self.filled..end].copy_from_slice(octets);
        self.filled = end;
    }

    /// Appends the first octets of `text`, then `end`.
    fn push_line<const N: usize>(&mut self, text: &[u8], octets: usize, end: [u8; N]) {
        let room = &mut self.sink[self.filled..];
        match (text.first_chunk(), room.first_chunk_mut()) {
            (Some(text), Some(room)) if octets <= LINE_OCTETS - N => {
                let (text, room): (&[u8; LINE_OCTETS], &mut [u8; LINE_OCTETS]) = (text, room);
                *room = *text;
                room[octets..octets + N].copy_from_slice(&end);
                self.filled += octets + N;
            }
            _ => {
                self.push(&text[..octets]);
                self.push(&end);
            }
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.sink.truncate(self.filled);
    }
}

/// Copies whole lines, the first from within, each CR LF as LF. Stops before a line that begins with a dot, and at the latest
/// before one with a CR or a LF that stands alone; returns how many octets of the input were copied.
///
/// It may stop anywhere earlier, too, but only at the start of a line.
pub(crate) fn copy_as_lf(input: &[u8], room: &mut Room<'_>) -> usize {
    copy_lines(input, 1, room, *b"\n", |cr, lf, after_cr| {
        lf == (cr << 1 | after_cr)
    })
}

/// As [`copy_as_lf`], each LF as CR LF. The input must not begin behind a CR. Any CR makes it stop.
pub(crate) fn copy_as_cr_lf(input: &[u8], room: &mut Room<'_>) -> usize {
    copy_lines(input, 0, room, *b"\r\n", |cr, _, _| cr == 0)
}

/// Copies whole lines with another end. `are_ends` is shown the places of CR and of LF in a block, and whether it follows a CR;
/// where it says yes, each line ends in LF and so many `octets_before` it.
fn copy_lines<const N: usize>(
    input: &[u8],
    octets_before: usize,
    room: &mut Room<'_>,
    end: [u8; N],
    are_ends: impl Fn(u64, u64, u64) -> bool,
) -> usize {
    let (blocks, _) = input.as_chunks::<BLOCK_OCTETS>();
    let (mut start, mut after_cr) = (0, 0);
    for (number, block) in blocks.iter().enumerate() {
        let (cr, mut lf) = (places(block, b'\r'), places(block, b'\n'));
        if !are_ends(cr, lf, after_cr) {
            break;
        }
        after_cr = cr >> (BLOCK_OCTETS - 1);
        while lf != 0 {
            let place = number * BLOCK_OCTETS + lf.trailing_zeros() as usize;
            lf &= lf - 1;
            room.push_line(&input[start..], place - octets_before - start, end);
            start = place + 1;
            if input.get(start) == Some(&b'.') {
                return start;
            }
        }
    }
    start
}

/// Where a block has this octet: bit n for the octet n.
fn places(block: &[u8; BLOCK_OCTETS], octet: u8) -> u64 {
    let wanted = i8x16::splat(octet.cast_signed());
    let (lanes, _) = block.as_chunks::<16>();
    lanes.iter().rev().fold(0, |places, lane| {
        let equal = i8x16::from(lane.map(u8::cast_signed)).cmp_eq(wanted);
        places << 16 | u64::from(equal.move_mask().cast_unsigned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bits() {
        for octet in [b'\r', 0x80, 0xff] {
            for place in 0..BLOCK_OCTETS {
                let mut block = [b'x'; BLOCK_OCTETS];
                block[place] = octet;
                assert_eq!(places(&block, octet), 1 << place, "{octet} at {place}");
            }
        }
    }

    #[test]
    fn lines_of_every_length_are_copied_in_every_room() {
        for length in 0..200 {
            let line = vec![b'a'; length];
            let lf = [&line[..], b"\n"].concat().repeat(4);
            let cr_lf = [&line[..], b"\r\n"].concat().repeat(4);
            for octets in [0, 10, 2 * cr_lf.len()] {
                let mut sink = b"before ".to_vec();
                let taken = copy_as_lf(&cr_lf, &mut Room::new(&mut sink, octets));
                assert_eq!(taken % (length + 2), 0);
                assert!(cr_lf.len() - taken < BLOCK_OCTETS + length + 2);
                let lines = taken / (length + 2);
                assert_eq!(sink, [b"before ", &lf[..lines * (length + 1)]].concat());

                let mut sink = Vec::new();
                let taken = copy_as_cr_lf(&lf, &mut Room::new(&mut sink, octets));
                let lines = taken / (length + 1);
                assert_eq!(sink, &cr_lf[..lines * (length + 2)]);
            }
        }
    }

    #[test]
    fn copying_stops_where_care_is_needed() {
        let line = [b'a'; 78];
        for (doubtful, stops) in [
            (&b"\r\n"[..], false),
            (b"\r\n.", true),
            (b"\n", true),
            (b"\r", true),
            (b"\r\r\n", true),
            (b"\n\r\n", true),
        ] {
            for place in 1..=line.len() {
                let mut text = line.to_vec();
                text.splice(..place, doubtful.iter().copied());
                let lines = [&line[..], b"\r\n", &text, b"\r\n", &line, b"\r\n", &line].concat();
                let mut sink = Vec::new();
                let taken = copy_as_lf(&lines, &mut Room::new(&mut sink, lines.len()));
                let most = line.len() + 2 + doubtful.len();
                assert_eq!(taken < most, stops, "{doubtful:?}");
                assert!(memchr::memchr(b'\r', &sink).is_none(), "{doubtful:?}");
            }
        }
    }
}
