//! The text of a message as DATA carries it, back to the text that is stored (RFC 5321 section 4.5.2).

use memchr::memchr2;

use super::hops::HopCounter;
use super::{BareCr, BareLf};
use crate::lines::{Room, copy_as_lf};

/// Turns what follows DATA's 354 into message text: CR LF becomes LF, the first dot of a line goes, and a line that is
/// exactly `.` ends it.
///
/// Only CR LF `.` CR LF ends a message, or `.` CR LF as its first line; in whatever pieces it arrives, and nothing else
/// under any policy. One pass; the state between pieces is a few octets.
///
/// ```
/// use qmail_smtp::server::{BareCr, BareLf, Decoder, Progress};
/// let mut decoder = Decoder::new(BareLf::Refuse, BareCr::Refuse, 100);
/// let mut text = Vec::new();
/// let input = b"Subject: x\r\n\r\n..\r\n.\r\nQUIT\r\n";
/// let (taken, progress) = decoder.decode(input, &mut text);
/// assert_eq!(progress, Progress::End);
/// assert_eq!(text, b"Subject: x\n\n.\n");
/// assert_eq!(&input[taken..], b"QUIT\r\n");
/// ```
#[derive(Debug)]
pub struct Decoder {
    at: At,
    /// Whether dots at the start of lines are stuffed, and one alone is the end.
    dots: bool,
    bare_lf: BareLf,
    bare_cr: BareCr,
    hops: HopCounter,
}

/// What the octets so far were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The end of a line, or nothing.
    LineStart,
    /// A dot that begins a line. It is not part of the text, whatever follows.
    Dot,
    /// Such a dot, then CR.
    DotCr,
    /// Text within a line.
    Text,
    /// Text, then a CR that may or may not belong to a line end.
    Cr,
}

/// How a call of [`Decoder::decode`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All input was taken; the message goes on.
    More,
    /// The message is complete. What was not taken is no part of it.
    End,
    /// A LF without CR, under [`BareLf::Refuse`]. The decoder is of no further use.
    BareLf,
    /// A CR without LF, under [`BareCr::Refuse`]. The decoder is of no further use.
    BareCr,
    /// A line was taken by which the message has as many hops as make a loop. Said once; the message goes on.
    Looping,
}

impl Decoder {
    /// At the start of a message. `hops_max` is [`Config::hops_max`](super::Config::hops_max).
    pub fn new(bare_lf: BareLf, bare_cr: BareCr, hops_max: u32) -> Self {
        Self {
            at: At::LineStart,
            dots: true,
            bare_lf,
            bare_cr,
            hops: HopCounter::new(hops_max),
        }
    }

    /// For the text after BDAT (RFC 3030): dots are text like any other, and it ends where [`end_chunks`](Self::end_chunks)
    /// is called.
    pub(super) fn for_chunks(bare_lf: BareLf, bare_cr: BareCr, hops_max: u32) -> Self {
        Self {
            dots: false,
            ..Self::new(bare_lf, bare_cr, hops_max)
        }
    }

    /// The last chunk is over.
    pub(super) fn end_chunks(&mut self, sink: &mut Vec<u8>) -> Progress {
        if matches!(self.at, At::Cr) {
            if self.bare_cr == BareCr::Refuse {
                return Progress::BareCr;
            }
            sink.push(b'\r');
        }
        Progress::End
    }

    /// Appends the text in `input` to `sink`, at most one octet more than `input` has. Returns how much was taken: all of it
    /// with [`Progress::More`].
    pub fn decode(&mut self, input: &[u8], sink: &mut Vec<u8>) -> (usize, Progress) {
        let mut sink = Room::new(sink, input.len() + 1);
        let mut taken = 0;
        while let Some(&octet) = input.get(taken) {
            match self.at {
                At::LineStart if octet == b'.' && self.dots => {
                    self.header_text(b".");
                    self.at = At::Dot;
                    taken += 1;
                }
                At::LineStart => self.at = At::Text,
                At::Dot if octet == b'\r' => {
                    self.at = At::DotCr;
                    taken += 1;
                }
                At::Dot => self.at = At::Text,
                At::DotCr if octet == b'\n' => return (taken + 1, Progress::End),
                At::DotCr => self.at = At::Cr,
                At::Cr if octet == b'\n' => {
                    self.at = At::LineStart;
                    taken += 1;
                    if self.line_end(&mut sink) {
                        return (taken, Progress::Looping);
                    }
                }
                At::Cr => {
                    if self.bare_cr == BareCr::Refuse {
                        return (taken, Progress::BareCr);
                    }
                    self.header_text(b"\r");
                    sink.push(b"\r");
                    self.at = At::Text;
                }
                At::Text => {
                    if self.hops.ended() {
                        let whole = copy_as_lf(&input[taken..], &mut sink);
                        if whole > 0 {
                            self.at = At::LineStart;
                            taken += whole;
                            continue;
                        }
                    }
                    let rest = &input[taken..];
                    let end = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    self.header_text(&rest[..end]);
                    sink.push(&rest[..end]);
                    taken += end;
                    match rest.get(end) {
                        None => {}
                        Some(b'\r') => {
                            self.at = At::Cr;
                            taken += 1;
                        }
                        Some(_) if self.bare_lf == BareLf::Refuse => {
                            return (taken, Progress::BareLf);
                        }
                        Some(_) => {
                            taken += 1;
                            if self.line_end(&mut sink) {
                                return (taken, Progress::Looping);
                            }
                        }
                    }
                }
            }
        }
        (taken, Progress::More)
    }

    /// Whether that makes a loop.
    fn line_end(&mut self, sink: &mut Room<'_>) -> bool {
        sink.push(b"\n");
        self.hops.line_end()
    }

    fn header_text(&mut self, octets: &[u8]) {
        if !self.hops.ended() {
            self.hops.text(octets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is stored of lines of many lengths, some of which begin with dots, and what was sent of them.
    fn text() -> (Vec<u8>, Vec<u8>) {
        let (mut stored, mut sent) = (b"Subject: x\n\n".to_vec(), b"Subject: x\r\n\r\n".to_vec());
        for length in [0, 1, 62, 63, 64, 65, 100, 3, 0, 61, 31, 31, 200, 7] {
            let line = [
                &b"."[..if length % 2 == 1 { 1 } else { 0 }],
                &vec![b'a'; length],
            ]
            .concat();
            stored.extend_from_slice(&[&line[..], b"\n"].concat());
            if line.starts_with(b".") {
                sent.push(b'.');
            }
            sent.extend_from_slice(&[&line[..], b"\r\n"].concat());
        }
        sent.extend_from_slice(b".\r\n");
        (stored, sent)
    }

    fn decoded<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Progress) {
        let mut decoder = Decoder::new(BareLf::Refuse, BareCr::Refuse, 100);
        let mut found = Vec::new();
        for piece in pieces {
            let (taken, progress) = decoder.decode(piece, &mut found);
            if progress != Progress::More {
                return (found, progress);
            }
            assert_eq!(taken, piece.len());
        }
        (found, Progress::More)
    }

    #[test]
    fn a_text_of_several_blocks_may_be_cut_anywhere() {
        let (stored, sent) = text();
        let whole = (stored, Progress::End);
        for cut in 0..sent.len() {
            let (head, tail) = sent.split_at(cut);
            assert_eq!(decoded([head, tail].into_iter()), whole, "cut at {cut}");
        }
        for size in 1..300 {
            assert_eq!(decoded(sent.chunks(size)), whole, "pieces of {size}");
        }
    }

    #[test]
    fn a_line_end_that_is_none_is_found_anywhere() {
        let (_, sent) = text();
        for (from, to, want) in [
            (&b"\r\n"[..], &b"\n"[..], Progress::BareLf),
            (b"a", b"\n", Progress::BareLf),
            (b"a", b"\r", Progress::BareCr),
        ] {
            for place in memchr::memmem::find_iter(&sent, from) {
                let mut bad = sent.clone();
                bad.splice(place..place + from.len(), to.iter().copied());
                let (_, found) = decoded([&bad[..]].into_iter());
                assert_eq!(found, want, "at {place}");
            }
        }
    }
}
