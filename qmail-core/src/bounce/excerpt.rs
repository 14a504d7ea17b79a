//! The beginning of a message, for a bounce that is not to carry all of it.

/// Cuts a text that comes in chunks at the last line end within a number of octets. A line of more than 64 KiB is cut
/// anywhere, and ended with an LF.
///
/// ```
/// let mut excerpt = qmail_core::bounce::Excerpt::new(9);
/// let mut text = Vec::new();
/// assert!(!excerpt.push(b"one\ntw", &mut text));
/// assert!(excerpt.push(b"o\nthree\n", &mut text));
/// excerpt.end(&mut text);
/// assert_eq!(text, b"one\ntwo\n");
/// ```
#[derive(Clone, Debug)]
pub struct Excerpt {
    room: u64,
    /// The beginning of a line whose end has not come.
    held: Vec<u8>,
    /// Whether what was put out ends within a line.
    torn: bool,
}

impl Excerpt {
    /// An excerpt of at most so many octets.
    pub fn new(octets_max: u64) -> Self {
        Self {
            room: octets_max,
            held: Vec::new(),
            torn: false,
        }
    }

    /// Takes the next chunk, and appends to `sink` what surely belongs to the excerpt. `true` if nothing further will.
    pub fn push(&mut self, chunk: &[u8], sink: &mut Vec<u8>) -> bool {
        let length = usize::try_from(self.room).map_or(chunk.len(), |room| room.min(chunk.len()));
        self.room -= length as u64;
        self.held.extend_from_slice(&chunk[..length]);
        let lines = match memchr::memrchr(b'\n', &self.held) {
            Some(last) => last + 1,
            None if self.held.len() > LINE_OCTETS_MAX => self.held.len(),
            None => return self.room == 0,
        };
        self.torn = self.held[lines - 1] != b'\n';
        sink.extend(self.held.drain(..lines));
        self.room == 0
    }

    /// Ends the excerpt: what belongs to a line that did not end is left out.
    pub fn end(self, sink: &mut Vec<u8>) {
        if self.torn {
            sink.push(b'\n');
        }
    }
}

/// Longest beginning of a line that is held back.
const LINE_OCTETS_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_ends_with_a_line_however_the_text_is_cut() {
        let text = b"one\ntwo\n\nfour and more\n";
        for (octets_max, want) in [
            (0, &b""[..]),
            (3, b""),
            (4, b"one\n"),
            (8, b"one\ntwo\n"),
            (9, b"one\ntwo\n\n"),
            (22, b"one\ntwo\n\n"),
            (23, text),
            (99, text),
        ] {
            for cut in 0..=text.len() {
                let mut excerpt = Excerpt::new(octets_max);
                let mut sink = Vec::new();
                let full = excerpt.push(&text[..cut], &mut sink);
                if !full {
                    excerpt.push(&text[cut..], &mut sink);
                }
                excerpt.end(&mut sink);
                assert_eq!(sink, want, "{octets_max} octets, cut at {cut}");
            }
        }
    }

    #[test]
    fn an_endless_line_is_cut_anywhere() {
        let mut excerpt = Excerpt::new(200_000);
        let mut sink = Vec::new();
        for _ in 0..30 {
            excerpt.push(&[b'x'; 10_000], &mut sink);
        }
        excerpt.end(&mut sink);
        assert!(sink.len() > 200_000 - LINE_OCTETS_MAX - 10_000 && sink.len() <= 200_001);
        assert!(sink.ends_with(b"x\n"));
    }
}
