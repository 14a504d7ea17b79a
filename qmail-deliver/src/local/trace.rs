//! Loop prevention: has this recipient seen this message before?

use std::io;

use bytes::Bytes;
use qmail_core::{Body, Content};

/// Reads the header of a message and looks for a line that is `line`, octet for octet.
///
/// Gives the reading back from its first octet, so that a message with an ordinary header is opened once.
pub(super) async fn open_checked(
    content: &dyn Content,
    line: &[u8],
) -> io::Result<Option<Box<dyn Body>>> {
    let mut body = content.open().await?;
    let mut search = Search::new(line);
    let mut first = None;
    let mut chunks: u32 = 0;
    while let Some(chunk) = body.next().await? {
        let verdict = search.feed(&chunk);
        chunks += 1;
        first.get_or_insert(chunk);
        match verdict {
            Verdict::Open => {}
            Verdict::Found => return Ok(None),
            Verdict::HeaderEnded => break,
        }
    }
    match first {
        // A header of more than one chunk is not kept.
        Some(_) if chunks > 1 => content.open().await.map(Some),
        first => Ok(Some(Box::new(Reread { first, body }))),
    }
}

/// A body whose first chunk was read before.
struct Reread {
    first: Option<Bytes>,
    body: Box<dyn Body>,
}

#[async_trait::async_trait]
impl Body for Reread {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self.first.take() {
            Some(chunk) => Ok(Some(chunk)),
            None => self.body.next().await,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The header goes on.
    Open,
    /// The line is there.
    Found,
    /// The header is over: an empty line, with or without CR.
    HeaderEnded,
}

/// The search itself, in constant room however long a line is.
struct Search<'a> {
    line: &'a [u8],
    /// Octets of the present line so far.
    octets: usize,
    /// Whether they are those that `line` begins with.
    matches: bool,
    /// Whether they are a CR alone.
    lone_cr: bool,
}

impl<'a> Search<'a> {
    /// `line` ends in LF and has no other.
    fn new(line: &'a [u8]) -> Self {
        Self {
            line,
            octets: 0,
            matches: true,
            lone_cr: false,
        }
    }

    fn feed(&mut self, mut text: &[u8]) -> Verdict {
        while !text.is_empty() {
            let end = memchr::memchr(b'\n', text).map(|at| at + 1);
            let (piece, rest) = text.split_at(end.unwrap_or(text.len()));
            text = rest;
            self.lone_cr = self.octets == 0 && piece.first() == Some(&b'\r')
                || self.octets == 1 && self.lone_cr;
            let expected = self.line.get(self.octets..).unwrap_or_default();
            self.matches = self.matches && expected.starts_with(piece);
            self.octets += piece.len();
            if end.is_none() {
                break;
            }
            if self.octets == 1 || self.octets == 2 && self.lone_cr {
                return Verdict::HeaderEnded;
            }
            if self.matches && self.octets == self.line.len() {
                return Verdict::Found;
            }
            *self = Self::new(self.line);
        }
        Verdict::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(line: &str, pieces: &[&[u8]]) -> Verdict {
        let mut search = Search::new(line.as_bytes());
        for piece in pieces {
            match search.feed(piece) {
                Verdict::Open => {}
                verdict => return verdict,
            }
        }
        Verdict::Open
    }

    #[test]
    fn the_whole_line_counts_and_only_in_the_header() {
        use Verdict::{Found, HeaderEnded, Open};
        const LINE: &str = "Delivered-To: joe@x\n";
        for (text, verdict) in [
            ("", Open),
            ("Delivered-To: joe@x\n\n", Found),
            ("A: b\nDelivered-To: joe@x\n", Found),
            ("Delivered-To: joe@x", Open),
            ("delivered-to: joe@x\n\n", HeaderEnded),
            ("Delivered-To: Joe@x\n\n", HeaderEnded),
            ("Delivered-To: joe@x\r\n\n", HeaderEnded),
            (" Delivered-To: joe@x\n\n", HeaderEnded),
            ("Delivered-To: joe@xx\n\n", HeaderEnded),
            ("Delivered-To: joe@x \n\n", HeaderEnded),
            ("\nDelivered-To: joe@x\n", HeaderEnded),
            ("A: b\n\nDelivered-To: joe@x\n", HeaderEnded),
            ("A: b\r\n\r\nDelivered-To: joe@x\n", HeaderEnded),
            ("A: b\n\r\rDelivered-To: joe@x\n", Open),
            ("x\nDelivered-To: joe@x\n", Found),
            ("\rx\nDelivered-To: joe@x\n", Found),
        ] {
            assert_eq!(search(LINE, &[text.as_bytes()]), verdict, "{text:?}");
            for cut in 0..=text.len() {
                let (before, after) = text.as_bytes().split_at(cut);
                assert_eq!(search(LINE, &[before, after]), verdict, "{text:?} at {cut}");
            }
            let octets: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(search(LINE, &octets), verdict, "{text:?} by octets");
        }
    }
}
