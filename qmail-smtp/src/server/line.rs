//! Command lines out of octets that come in any pieces.

use memchr::memchr;

/// The part of a command line that has arrived without its end. Holds nothing between lines.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    part: Vec<u8>,
    /// The line is too long; its octets are counted no more and kept no more.
    overlong: bool,
}

/// What [`LineBuffer::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// No end of a line yet; all was taken.
    Part,
    /// A line that began in this input: without its LF, and without a CR before that.
    Whole(&'a [u8]),
    /// One that began earlier.
    Joined(Vec<u8>),
    /// The end of a line that is longer than allowed.
    Overlong,
}

impl LineBuffer {
    /// Takes input up to the first LF. `octets_max` counts a whole line with its end.
    pub(super) fn take<'a>(&mut self, input: &'a [u8], octets_max: usize) -> (usize, Line<'a>) {
        let Some(end) = memchr(b'\n', input) else {
            self.keep(input, octets_max);
            return (input.len(), Line::Part);
        };
        let taken = end + 1;
        if self.part.is_empty() && !self.overlong {
            if taken > octets_max {
                return (taken, Line::Overlong);
            }
            return (taken, Line::Whole(without_cr(&input[..end])));
        }
        self.keep(&input[..end], octets_max);
        let mut line = std::mem::take(&mut self.part);
        if std::mem::take(&mut self.overlong) {
            return (taken, Line::Overlong);
        }
        line.truncate(without_cr(&line).len());
        (taken, Line::Joined(line))
    }

    /// Keeps octets of a line whose LF is still to come.
    fn keep(&mut self, octets: &[u8], octets_max: usize) {
        if self.overlong || self.part.len() + octets.len() + 1 > octets_max {
            self.overlong = true;
            self.part = Vec::new();
        } else {
            self.part.extend_from_slice(octets);
        }
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `input` when it comes in pieces of `size`; `None` for one that is too long.
    fn lines(input: &[u8], size: usize, octets_max: usize) -> Vec<Option<Vec<u8>>> {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for mut piece in input.chunks(size) {
            while !piece.is_empty() {
                let (taken, line) = buffer.take(piece, octets_max);
                piece = &piece[taken..];
                match line {
                    Line::Part => assert!(piece.is_empty()),
                    Line::Whole(line) => lines.push(Some(line.to_vec())),
                    Line::Joined(line) => lines.push(Some(line)),
                    Line::Overlong => lines.push(None),
                }
                assert!(buffer.part.len() < octets_max);
            }
        }
        lines
    }

    #[test]
    fn lines_do_not_depend_on_pieces() {
        let input =
            b"NOOP\r\n\r\n\nLF only\nCR\rinside\r\r\n12345678901234\r\n123456789012345\r\n\r\nrest";
        let whole = lines(input, input.len(), 16);
        assert_eq!(
            whole,
            [
                Some(b"NOOP".to_vec()),
                Some(b"".to_vec()),
                Some(b"".to_vec()),
                Some(b"LF only".to_vec()),
                Some(b"CR\rinside\r".to_vec()),
                Some(b"12345678901234".to_vec()),
                None,
                Some(b"".to_vec()),
            ]
        );
        for size in 1..input.len() {
            assert_eq!(lines(input, size, 16), whole, "pieces of {size}");
        }
    }
}
