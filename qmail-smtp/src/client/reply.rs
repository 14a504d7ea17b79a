//! Replies as a server gives them (RFC 5321 section 4.2).

use std::fmt;

use bytes::Bytes;
use memchr::memchr;
use qmail_core::{EnhancedStatus, Escaped};

/// Most octets of a reply that are kept: what bounces and logs quote (qmail-remote(8)).
pub const REPLY_TEXT_OCTETS_MAX: usize = 5000;

/// Most octets that a reply may have, over all its lines. A longer one is [`ReplyError::TooLong`].
pub const REPLY_OCTETS_MAX: usize = 64 * 1024;

/// One reply of one or more lines.
///
/// The code of the first line counts. The text is all lines with their codes, each ending in LF, cut at
/// [`REPLY_TEXT_OCTETS_MAX`]; CRs are gone and other control octets are `?`, so that it can be quoted in a bounce.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerReply {
    code: u16,
    text: Bytes,
}

/// Why octets are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A line that does not begin with three digits and a space or a hyphen, or with a code outside 200 to 599.
    #[error("a reply does not begin with a reply code")]
    NoCode,
    /// More than [`REPLY_OCTETS_MAX`] octets.
    #[error("a reply has more than {REPLY_OCTETS_MAX} octets")]
    TooLong,
}

impl ServerReply {
    /// The three digits, 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Whether it is 2yz.
    pub fn is_success(&self) -> bool {
        self.code < 300
    }

    /// All lines with their codes, each ending in LF (unless the text was cut).
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The lines without code and end.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text
            .split(|&octet| octet == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| line.get(4..).unwrap_or_default())
    }

    /// The enhanced status in front of the first line's text (RFC 2034), if there is one.
    pub fn status(&self) -> Option<EnhancedStatus> {
        let line = self.lines().next()?;
        let word = line.split(|&octet| octet == b' ').next()?;
        EnhancedStatus::parse(word)
    }
}

/// On one line, escaped for logs.
impl fmt::Display for ServerReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        for (index, line) in text.split(|&octet| octet == b'\n').enumerate() {
            if index > 0 {
                f.write_str(" / ")?;
            }
            Escaped(line).fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServerReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Takes replies out of octets that come in any pieces. Lines may end in LF alone: old servers do that.
///
/// ```
/// use qmail_smtp::client::ReplyReader;
/// let mut reader = ReplyReader::default();
/// let (taken, reply) = reader.read(b"250-mx.example.org\r\n250 SIZE 1000\r\n220 ")?;
/// let reply = reply.expect("one is complete");
/// assert_eq!((taken, reply.code()), (35, 250));
/// assert_eq!(reply.text(), b"250-mx.example.org\n250 SIZE 1000\n");
/// # Ok::<(), qmail_smtp::client::ReplyError>(())
/// ```
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// The first octets of the current line: code and separator.
    head: [u8; 4],
    head_octets: usize,
    /// The code of the first line, once that is complete.
    code: Option<u16>,
    octets: usize,
    text: Vec<u8>,
}

impl ReplyReader {
    /// Takes input up to the end of a reply, and gives that reply; all of it if there is no end yet.
    ///
    /// # Errors
    ///
    /// What was read is no reply, and what follows cannot be made sense of either.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Option<ServerReply>), ReplyError> {
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            let line_end = memchr(b'\n', rest);
            let part = &rest[..line_end.map_or(rest.len(), |end| end + 1)];
            taken += part.len();
            self.octets += part.len();
            if self.octets > REPLY_OCTETS_MAX {
                return Err(ReplyError::TooLong);
            }
            self.keep(part);
            if line_end.is_some()
                && let Some(code) = self.line_end()?
            {
                let text = std::mem::take(self).text.into();
                return Ok((taken, Some(ServerReply { code, text })));
            }
        }
        Ok((taken, None))
    }

    /// Whether no part of a reply was read yet.
    pub fn is_empty(&self) -> bool {
        self.octets == 0
    }

    fn keep(&mut self, part: &[u8]) {
        let head_taken = part.len().min(self.head.len() - self.head_octets);
        self.head[self.head_octets..self.head_octets + head_taken]
            .copy_from_slice(&part[..head_taken]);
        self.head_octets += head_taken;
        let room = REPLY_TEXT_OCTETS_MAX - self.text.len();
        self.text.extend(
            part.iter()
                .filter(|&&octet| octet != b'\r')
                .map(|&octet| match octet {
                    b'\n' => b'\n',
                    0..b' ' | 0x7f => b'?',
                    _ => octet,
                })
                .take(room),
        );
    }

    /// The current line is complete; gives the code if it was the last.
    fn line_end(&mut self) -> Result<Option<u16>, ReplyError> {
        let head = &self.head[..self.head_octets];
        let (digits, separator) = head.split_at_checked(3).ok_or(ReplyError::NoCode)?;
        let more = match separator {
            b" " | b"\n" | b"\r" => false,
            b"-" => true,
            _ => return Err(ReplyError::NoCode),
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(ReplyError::NoCode);
        }
        let code = digits
            .iter()
            .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let code = *self.code.get_or_insert(code);
        if !(200..600).contains(&code) {
            return Err(ReplyError::NoCode);
        }
        self.head_octets = 0;
        Ok((!more).then_some(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], size: usize) -> Result<Vec<ServerReply>, ReplyError> {
        let mut reader = ReplyReader::default();
        let mut replies = Vec::new();
        for mut piece in input.chunks(size) {
            while !piece.is_empty() {
                let (taken, reply) = reader.read(piece)?;
                piece = &piece[taken..];
                replies.extend(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_do_not_depend_on_pieces() {
        let input =
            b"220 hi\r\n250-x\r\n999-any digits\r\n250 y\n550\r\n450-\n450 \x1b\x00\t\xff\r\r\n25";
        let whole = read(input, input.len()).unwrap();
        let texts: Vec<&[u8]> = whole.iter().map(ServerReply::text).collect();
        assert_eq!(
            texts,
            [
                &b"220 hi\n"[..],
                b"250-x\n999-any digits\n250 y\n",
                b"550\n",
                b"450-\n450 ???\xff\n",
            ]
        );
        let codes: Vec<u16> = whole.iter().map(ServerReply::code).collect();
        assert_eq!(codes, [220, 250, 550, 450]);
        for size in 1..input.len() {
            assert_eq!(read(input, size).unwrap(), whole, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for input in [
            "\r\n",
            "\n",
            "25\r\n",
            "+OK\r\n",
            "2x0 a\r\n",
            "250_a\r\n",
            "2500 a\r\n",
            "199 a\r\n",
            "600 a\r\n",
            "999 a\r\n",
            "250-a\r\nb\r\n",
            "250-a\r\n25\r\n",
            "HTTP/1.1 400 Bad\r\n",
            "-250 a\r\n",
        ] {
            assert_eq!(
                read(input.as_bytes(), input.len()),
                Err(ReplyError::NoCode),
                "{input:?}"
            );
        }
    }

    #[test]
    fn a_reply_is_bounded() {
        let endless = b"250-a\r\n".repeat(REPLY_OCTETS_MAX);
        assert_eq!(read(&endless, 1000), Err(ReplyError::TooLong));
        assert_eq!(
            read(&vec![b'2'; REPLY_OCTETS_MAX + 1], 1000),
            Err(ReplyError::TooLong)
        );
        let mut long = b"250-a\r\n".repeat(2000);
        long.extend_from_slice(b"250 end\r\n");
        let replies = read(&long, 999).unwrap();
        assert_eq!(replies[0].text().len(), REPLY_TEXT_OCTETS_MAX);
    }

    #[test]
    fn a_status_stands_in_front_of_the_text() {
        for (input, status) in [
            ("550 5.1.1 no\r\n", Some("5.1.1")),
            ("550-5.7.1 no\r\n550 x\r\n", Some("5.7.1")),
            ("550 no 5.1.1\r\n", None),
            ("550\r\n", None),
        ] {
            let reply = &read(input.as_bytes(), 100).unwrap()[0];
            assert_eq!(
                reply.status().map(|status| status.to_string()).as_deref(),
                status,
                "{input:?}"
            );
        }
    }

    #[test]
    fn a_log_shows_one_line() {
        let replies = read(b"550-5.1.1 no\r\n550 \xe9\r\n", 100).unwrap();
        assert_eq!(replies[0].to_string(), "550-5.1.1 no / 550 \\xe9");
    }
}
