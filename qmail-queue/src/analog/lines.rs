//! Octets cut into lines, whatever pieces they come in.

/// Longest line in octets; the rest of a longer one is passed over. A classic report line has at most some 11,000.
pub const LINE_OCTETS_MAX: usize = 64 * 1024;

/// Cuts a stream into lines. Holds the beginning of one line, and no more than [`LINE_OCTETS_MAX`] octets of it.
///
/// ```
/// use qmail_queue::analog::Lines;
/// let mut lines = Lines::default();
/// let mut seen = Vec::new();
/// for piece in ["a\nb", "c\n\nd"] {
///     lines.feed(piece.as_bytes(), &mut |line| seen.push(line.to_vec()));
/// }
/// assert_eq!(seen, [&b"a"[..], b"bc", b""]);
/// assert_eq!(lines.rest(), b"d");
/// ```
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes the next piece; `each` is told every line that ends in it, without its LF.
    pub fn feed(&mut self, mut octets: &[u8], each: &mut dyn FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', octets) {
            let (line, rest) = (&octets[..end], &octets[end + 1..]);
            if self.begun.is_empty() {
                each(&line[..line.len().min(LINE_OCTETS_MAX)]);
            } else {
                self.keep(line);
                each(&self.begun);
                self.begun.clear();
            }
            octets = rest;
        }
        self.keep(octets);
    }

    /// The last line, if no LF ended it.
    pub fn rest(&self) -> &[u8] {
        &self.begun
    }

    fn keep(&mut self, octets: &[u8]) {
        let room = LINE_OCTETS_MAX - self.begun.len();
        self.begun
            .extend_from_slice(&octets[..octets.len().min(room)]);
    }
}

/// The fields of a line, which blanks part.
pub(super) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|octet| matches!(octet, b' ' | b'\t'))
        .filter(|field| !field.is_empty())
}

/// The decimal digits at the start of a field; 0 without any, [`u64::MAX`] for a number beyond it.
pub(super) fn number(field: &[u8]) -> u64 {
    field
        .iter()
        .take_while(|octet| octet.is_ascii_digit())
        .fold(0u64, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gives_the_same_lines_however_it_is_cut() {
        let text = b"one\n\ntwo words\nthree";
        for cut in 0..=text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in [&text[..cut], &text[cut..]] {
                lines.feed(piece, &mut |line| seen.push(line.to_vec()));
            }
            assert_eq!(seen, [&b"one"[..], b"", b"two words"], "{cut}");
            assert_eq!(lines.rest(), b"three");
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in [&[b'x'; LINE_OCTETS_MAX][..], b"yyy", b"y\nshort\n"] {
            lines.feed(piece, &mut |line| seen.push(line.to_vec()));
        }
        assert_eq!(seen, [vec![b'x'; LINE_OCTETS_MAX], b"short".to_vec()]);
    }

    #[test]
    fn numbers_end_where_their_digits_do() {
        for (field, value) in [
            ("12:", 12),
            ("", 0),
            ("x1", 0),
            ("99999999999999999999", u64::MAX),
        ] {
            assert_eq!(number(field.as_bytes()), value, "{field}");
        }
    }
}
