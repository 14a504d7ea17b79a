//! The text of a message, as DATA carries it (RFC 5321 section 4.5.2).

use memchr::memchr2;

use super::PartialLine;
use crate::lines::{Room, copy_as_cr_lf};

/// Turns stored text into what follows DATA's 354: LF becomes CR LF, CR LF stays, a line that begins with a dot gets
/// another one, and a line of one dot ends it.
///
/// A CR that no LF follows is taken for the end of a line too, so that no receiver, however it reads line ends, sees the
/// end of the message before its end. One pass; the state between pieces is two flags.
///
/// ```
/// use qmail_smtp::client::{Encoder, PartialLine};
/// let mut encoder = Encoder::default();
/// let mut sink = Vec::new();
/// encoder.encode(b"Subject: x\n\n.\n", &mut sink);
/// encoder.finish(PartialLine::Complete, &mut sink).expect("lines are completed");
/// assert_eq!(sink, b"Subject: x\r\n\r\n..\r\n.\r\n");
/// ```
#[derive(Debug)]
pub struct Encoder {
    line_start: bool,
    /// The text so far ends in a CR, for which nothing was written yet.
    cr: bool,
}

/// The last line has no end, and [`PartialLine::Refuse`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SMTP cannot transfer messages with partial final lines")]
pub struct PartialLineError;

impl Default for Encoder {
    fn default() -> Self {
        Self {
            line_start: true,
            cr: false,
        }
    }
}

impl Encoder {
    /// Appends the next piece of the text to `sink`.
    pub fn encode(&mut self, mut input: &[u8], sink: &mut Vec<u8>) {
        let Some(&first) = input.first() else {
            return;
        };
        // One in sixteen octets a line end is more than mail has.
        let mut sink = Room::new(sink, input.len() + input.len() / 16 + 3);
        if self.cr {
            self.cr = false;
            self.line_end(&mut sink);
            if first == b'\n' {
                input = &input[1..];
            }
        }
        while let Some(&octet) = input.first() {
            if self.line_start && octet == b'.' {
                sink.push(b".");
            }
            let whole = copy_as_cr_lf(input, &mut sink);
            if whole > 0 {
                self.line_start = true;
                input = &input[whole..];
                continue;
            }
            let Some(length) = memchr2(b'\r', b'\n', input) else {
                self.line_start = false;
                sink.push(input);
                return;
            };
            sink.push(&input[..length]);
            let end = match (input[length], input.get(length + 1)) {
                (b'\r', Some(b'\n')) => 2,
                (b'\r', None) => {
                    self.cr = true;
                    self.line_start = false;
                    return;
                }
                _ => 1,
            };
            self.line_end(&mut sink);
            input = &input[length + end..];
        }
    }

    /// Appends the end of the message.
    ///
    /// # Errors
    ///
    /// Under [`PartialLine::Refuse`], if the last line has no end; nothing is appended then.
    pub fn finish(
        self,
        partial_line: PartialLine,
        sink: &mut Vec<u8>,
    ) -> Result<(), PartialLineError> {
        let complete = self.cr || self.line_start;
        if !complete && partial_line == PartialLine::Refuse {
            return Err(PartialLineError);
        }
        if !self.line_start {
            sink.extend_from_slice(b"\r\n");
        }
        sink.extend_from_slice(b".\r\n");
        Ok(())
    }

    fn line_end(&mut self, sink: &mut Room<'_>) {
        sink.push(b"\r\n");
        self.line_start = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(input: &[u8], size: usize) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let mut sink = Vec::new();
        for piece in input.chunks(size) {
            encoder.encode(piece, &mut sink);
        }
        encoder
            .finish(PartialLine::Complete, &mut sink)
            .expect("completed");
        sink
    }

    #[test]
    fn lines_end_in_cr_lf_and_begin_with_no_lone_dot() {
        for (input, expected) in [
            ("", ".\r\n"),
            ("a\n", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("\n", "\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            (
                ".\n..\n.x\na.\n\n.\n",
                "..\r\n...\r\n..x\r\na.\r\n\r\n..\r\n.\r\n",
            ),
            ("a\r\n.b", "a\r\n..b\r\n.\r\n"),
            ("a\r.\r.\n", "a\r\n..\r\n..\r\n.\r\n"),
            ("a\r\r\n", "a\r\n\r\n.\r\n"),
            ("a\r", "a\r\n.\r\n"),
            ("\r", "\r\n.\r\n"),
            ("a\n\r.\r\n", "a\r\n\r\n..\r\n.\r\n"),
        ] {
            for size in 1..=input.len().max(1) {
                let found = encoded(input.as_bytes(), size);
                assert_eq!(
                    String::from_utf8_lossy(&found),
                    expected,
                    "{input:?} in pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn a_text_of_several_blocks_may_be_cut_anywhere() {
        for end in ["\n", "\r\n", "\r"] {
            let (mut text, mut expected) = (String::new(), String::new());
            for length in [0, 1, 62, 63, 64, 65, 100, 3, 0, 61, 31, 31, 200, 7] {
                let dot = if length % 2 == 1 { "." } else { "" };
                let line = format!("{dot}{}", "a".repeat(length));
                text += &format!("{line}{end}");
                expected += &format!("{dot}{line}\r\n");
            }
            expected += ".\r\n";
            for size in 1..300 {
                let found = encoded(text.as_bytes(), size);
                assert_eq!(
                    String::from_utf8_lossy(&found),
                    expected,
                    "{end:?} in pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn a_partial_line_can_be_refused() {
        for (input, refused) in [
            ("", false),
            ("a\n", false),
            ("a\r", false),
            ("a", true),
            ("a\n.", true),
        ] {
            let mut encoder = Encoder::default();
            let mut sink = Vec::new();
            encoder.encode(input.as_bytes(), &mut sink);
            let length = sink.len();
            let result = encoder.finish(PartialLine::Refuse, &mut sink);
            assert_eq!(result.is_err(), refused, "{input:?}");
            if refused {
                assert_eq!(sink.len(), length, "nothing that ends the message");
            }
        }
    }

    /// Every text of up to eight of the octets that matter, read as the most careless receivers read: LF alone or CR alone
    /// ends a line for them, too.
    #[test]
    fn every_receiver_sees_one_message() {
        let octets = b"\r\n.A";
        for length in 0..=8_u32 {
            for number in 0..4_usize.pow(length) {
                let input: Vec<u8> = (0..length)
                    .map(|place| octets[number >> (2 * place) & 3])
                    .collect();
                let sent = encoded(&input, input.len().max(1));
                let inner = sent.strip_suffix(b".\r\n").expect("ends with a dot");
                assert!(inner.is_empty() || inner.ends_with(b"\r\n"), "{input:?}");
                let dot = inner
                    .split(|&octet| octet == b'\r' || octet == b'\n')
                    .any(|line| line == b".");
                assert!(!dot, "{input:?} has a lone dot in {inner:?}");
                let bare = inner.iter().filter(|&&octet| octet == b'\r').count()
                    != memchr::memmem::find_iter(inner, b"\r\n").count()
                    || inner.iter().filter(|&&octet| octet == b'\n').count()
                        != memchr::memmem::find_iter(inner, b"\r\n").count();
                assert!(!bare, "{input:?} has a bare line end in {inner:?}");
            }
        }
    }
}
