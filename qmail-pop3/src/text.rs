//! The text of a message on its way to a client (RFC 1939 section 3, "Responses to certain commands are multi-line").
//!
//! One pass with memchr; runs that need no change are copied whole. Nothing is held back: the state between two chunks is
//! a few octets.

use memchr::{memchr, memchr_iter};

/// Makes the multi-line form of a message: every line ends in CR LF, one that begins with `.` gets another.
///
/// A line that is stored with CR LF is sent with one CR LF, and a CR elsewhere is left where it is: a client that takes
/// only CR LF for a line end, as it must, never sees a lone `.` before the end.
#[derive(Debug)]
pub(crate) struct Encoder {
    last: Last,
}

/// What the octet before was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    LineEnd,
    Cr,
    Other,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            last: Last::LineEnd,
        }
    }

    /// Appends the next part of the message to `sink`.
    pub(crate) fn push(&mut self, chunk: &[u8], sink: &mut Vec<u8>) {
        let Some(&last) = chunk.last() else {
            return;
        };
        // Room for a CR on each line of usual length; with shorter lines the sink grows as it goes.
        sink.reserve(chunk.len() + chunk.len() / 16 + 2);
        if self.last == Last::LineEnd && chunk[0] == b'.' {
            sink.push(b'.');
        }
        let mut copied = 0;
        for line_feed in memchr_iter(b'\n', chunk) {
            let after_cr = match line_feed {
                0 => self.last == Last::Cr,
                _ => chunk[line_feed - 1] == b'\r',
            };
            // A dot at the start of the next chunk is that chunk's.
            let before_dot = chunk.get(line_feed + 1) == Some(&b'.');
            if after_cr && !before_dot {
                continue;
            }
            sink.extend_from_slice(&chunk[copied..line_feed]);
            sink.extend_from_slice(match (after_cr, before_dot) {
                (true, _) => b"\n.",
                (false, true) => b"\r\n.",
                (false, false) => b"\r\n",
            });
            copied = line_feed + 1;
        }
        sink.extend_from_slice(&chunk[copied..]);
        self.last = match last {
            b'\n' => Last::LineEnd,
            b'\r' => Last::Cr,
            _ => Last::Other,
        };
    }

    /// Appends what ends the message: a last line without its end gets it, `extra_blank_line` is as in
    /// [`Config`](crate::Config).
    pub(crate) fn finish(self, extra_blank_line: bool, sink: &mut Vec<u8>) {
        if self.last != Last::LineEnd {
            sink.extend_from_slice(b"\r\n");
        }
        if extra_blank_line {
            sink.extend_from_slice(b"\r\n");
        }
        sink.extend_from_slice(b".\r\n");
    }
}

/// Finds where TOP ends: after the header, the empty line, and so many lines of the body.
#[derive(Debug)]
pub(crate) struct TopLimit {
    in_header: bool,
    lines_left: u64,
    line: LineSoFar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineSoFar {
    Empty,
    /// No more than a CR: with an LF it is an empty line.
    Cr,
    Text,
}

impl TopLimit {
    pub(crate) fn new(body_lines: u64) -> Self {
        Self {
            in_header: true,
            lines_left: body_lines,
            line: LineSoFar::Empty,
        }
    }

    /// How much of the next chunk is wanted, if that is the end; `None` if all of it is, and more.
    pub(crate) fn cut(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut start = 0;
        while let Some(length) = memchr(b'\n', &chunk[start..]) {
            let line = self.line.and(&chunk[start..start + length]);
            start += length + 1;
            self.line = LineSoFar::Empty;
            if self.in_header {
                self.in_header = line == LineSoFar::Text;
            } else {
                self.lines_left = self.lines_left.saturating_sub(1);
            }
            if !self.in_header && self.lines_left == 0 {
                return Some(start);
            }
        }
        self.line = self.line.and(&chunk[start..]);
        None
    }
}

impl LineSoFar {
    /// The line with these octets appended, none of them LF.
    fn and(self, octets: &[u8]) -> Self {
        match (self, octets) {
            (line, []) => line,
            (Self::Empty, [b'\r']) => Self::Cr,
            _ => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(chunks: &[&[u8]], extra_blank_line: bool) -> Vec<u8> {
        let mut sink = Vec::new();
        let mut encoder = Encoder::new();
        for chunk in chunks {
            encoder.push(chunk, &mut sink);
        }
        encoder.finish(extra_blank_line, &mut sink);
        sink
    }

    #[test]
    fn messages_become_multi_line_replies() {
        for (message, reply) in [
            (&b""[..], &b".\r\n"[..]),
            (b"\n", b"\r\n.\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b"a\n", b"a\r\n.\r\n"),
            (b"a\r\nb\r\n", b"a\r\nb\r\n.\r\n"),
            (b".\n..\n.a\n", b"..\r\n...\r\n..a\r\n.\r\n"),
            (b".\r\n.", b"..\r\n..\r\n.\r\n"),
            (b"a\r", b"a\r\r\n.\r\n"),
            (b"a\r\r\nb", b"a\r\r\nb\r\n.\r\n"),
            (b"a\r.\rb\r\n.\r\nc\n", b"a\r.\rb\r\n..\r\nc\r\n.\r\n"),
            (b"c\0\xff\n", b"c\0\xff\r\n.\r\n"),
        ] {
            assert_eq!(
                encoded(&[message], false).escape_ascii().to_string(),
                reply.escape_ascii().to_string()
            );
        }
        assert_eq!(encoded(&[b""], true), b"\r\n.\r\n");
        assert_eq!(encoded(&[b"a"], true), b"a\r\n\r\n.\r\n");
    }

    #[test]
    fn top_ends_after_its_lines() {
        for (message, lines, end) in [
            (&b"A: b\n\n1\n2\n3\n"[..], 0, Some(6)),
            (b"A: b\n\n1\n2\n3\n", 1, Some(8)),
            (b"A: b\n\n1\n2\n3\n", 3, Some(12)),
            (b"A: b\n\n1\n2\n3\n", 4, None),
            (b"A: b\n\n1\n2\n3\n", u64::MAX, None),
            (b"A: b\r\n\r\n1\r\n2\r\n", 1, Some(11)),
            (b"A: b\n\r\r\n1\n", 0, None),
            (b"\n\n\n", 1, Some(2)),
            (b"A: b\n", 0, None),
            (b"A: b", 0, None),
            (b"", 0, None),
        ] {
            for cut in 0..=message.len() {
                let mut limit = TopLimit::new(lines);
                let found = limit.cut(&message[..cut]).or_else(|| {
                    let rest = limit.cut(&message[cut..])?;
                    Some(cut + rest)
                });
                assert_eq!(found, end, "{} {lines} {cut}", message.escape_ascii());
            }
        }
    }

    /// What a client makes of a reply: reads lines up to the lone dot, and undoes the dots.
    fn decoded(mut reply: &[u8]) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        loop {
            let end = memchr::memmem::find(reply, b"\r\n")?;
            let line = &reply[..end];
            reply = &reply[end + 2..];
            if line == b"." {
                return reply.is_empty().then_some(message);
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            message.extend_from_slice(b"\r\n");
        }
    }

    /// The same message with every line end CR LF, the plain way.
    fn with_crlf(message: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        for &octet in message {
            if octet == b'\n' && lines.last() != Some(&b'\r') {
                lines.push(b'\r');
            }
            lines.push(octet);
        }
        if !lines.is_empty() && !lines.ends_with(b"\r\n") {
            lines.extend_from_slice(b"\r\n");
        }
        lines
    }

    fn troublesome_text() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(&b".\r\na \xff"[..]), 0..60)
    }

    proptest! {
        #[test]
        fn a_client_gets_what_is_stored(message in troublesome_text()) {
            let reply = encoded(&[&message], false);
            prop_assert_eq!(decoded(&reply), Some(with_crlf(&message)));
            prop_assert!(memchr_iter(b'\n', &reply).all(|at| at > 0 && reply[at - 1] == b'\r'));
        }

        #[test]
        fn chunks_make_no_difference(message in troublesome_text(), cuts in proptest::collection::vec(0_usize..60, 0..4)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &message[pair[0]..pair[1]]).collect();
            prop_assert_eq!(encoded(&chunks, false), encoded(&[&message], false));
        }
    }
}
