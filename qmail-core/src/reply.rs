//! Replies as an SMTP or LMTP server gives them, and enhanced status codes (RFC 5321 section 4.2, RFC 3463).

use std::fmt;

use bytes::Bytes;

use crate::decimal::push_decimal;

/// The first number of an [`EnhancedStatus`] (RFC 3463 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// 2: done.
    Success,
    /// 4: may work later.
    Temporary,
    /// 5: will not work later either.
    Permanent,
}

impl StatusClass {
    fn digit(self) -> u8 {
        match self {
            Self::Success => b'2',
            Self::Temporary => b'4',
            Self::Permanent => b'5',
        }
    }
}

/// An enhanced status code, `class.subject.detail` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    /// Success, temporary or permanent.
    pub class: StatusClass,
    /// What it is about, 0 to 999: 1 addressing, 2 mailbox, 3 mail system, 4 network, 5 protocol, 6 content, 7 security.
    pub subject: u16,
    /// The detail within the subject, 0 to 999.
    pub detail: u16,
}

impl EnhancedStatus {
    /// `2.subject.detail`.
    pub const fn success(subject: u16, detail: u16) -> Self {
        Self {
            class: StatusClass::Success,
            subject,
            detail,
        }
    }

    /// `4.subject.detail`.
    pub const fn temporary(subject: u16, detail: u16) -> Self {
        Self {
            class: StatusClass::Temporary,
            subject,
            detail,
        }
    }

    /// `5.subject.detail`.
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self {
            class: StatusClass::Permanent,
            subject,
            detail,
        }
    }

    /// Reads exactly `c.s.d`: class 2, 4 or 5, two numbers of one to three digits.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let mut parts = octets.split(|&octet| octet == b'.');
        let class = match parts.next()? {
            b"2" => StatusClass::Success,
            b"4" => StatusClass::Temporary,
            b"5" => StatusClass::Permanent,
            _ => return None,
        };
        let (subject, detail) = (small_number(parts.next()?)?, small_number(parts.next()?)?);
        parts.next().is_none().then_some(Self {
            class,
            subject,
            detail,
        })
    }

    /// Appends it as it is shown.
    fn write(self, sink: &mut Vec<u8>) {
        sink.extend_from_slice(&[self.class.digit(), b'.']);
        push_decimal(sink, self.subject.into());
        sink.push(b'.');
        push_decimal(sink, self.detail.into());
    }
}

fn small_number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 3 {
        return None;
    }
    digits.iter().try_fold(0, |value, &digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u16::from(digit - b'0'))
    })
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            char::from(self.class.digit()),
            self.subject,
            self.detail
        )
    }
}

/// Where a reply shows its [`EnhancedStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyStyle {
    /// In front of each line, `550 5.1.1 no such mailbox` (RFC 2034, announced as ENHANCEDSTATUSCODES).
    #[default]
    Enhanced,
    /// At the end, `550 no such mailbox (#5.1.1)`, as the classic programs write it, and on 4yz and 5yz only.
    Classic,
}

/// One reply: a three-digit code, maybe an enhanced status, one or more lines of text.
///
/// Text is made harmless when it is written: control octets become `?`, so that nothing can add a line, and a line is
/// cut at [`Reply::LINE_OCTETS_MAX`] (RFC 5321 section 4.5.3.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<EnhancedStatus>,
    text: Bytes,
}

impl Reply {
    /// Longest line in octets, CR LF included (RFC 5321 section 4.5.3.1.5).
    pub const LINE_OCTETS_MAX: usize = 512;

    /// A reply with one line, or several separated by LF.
    ///
    /// # Panics
    ///
    /// If `code` is not within 200 to 599: codes are written in programs, never taken from input.
    pub fn new(code: u16, status: Option<EnhancedStatus>, text: impl Into<Bytes>) -> Self {
        assert!(
            (200..600).contains(&code),
            "reply code {code} is not an SMTP code"
        );
        Self {
            code,
            status,
            text: text.into(),
        }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status, if there is one.
    pub fn status(&self) -> Option<EnhancedStatus> {
        self.status
    }

    /// The text; lines are separated by LF.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether the code is 2yz or 3yz.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Appends the reply with its CR LFs.
    pub fn write(&self, style: ReplyStyle, sink: &mut Vec<u8>) {
        let mut lines = self.text.split(|&octet| octet == b'\n').peekable();
        let (shown_first, shown_last) = match (style, self.status) {
            (ReplyStyle::Enhanced, status) => (status, None),
            (ReplyStyle::Classic, Some(status)) if self.code >= 400 => (None, Some(status)),
            (ReplyStyle::Classic, _) => (None, None),
        };
        while let Some(line) = lines.next() {
            let more = lines.peek().is_some();
            let start = sink.len();
            push_decimal(sink, self.code.into());
            sink.push(if more { b'-' } else { b' ' });
            if let Some(status) = shown_first {
                status.write(sink);
                sink.push(b' ');
            }
            let tail = match shown_last {
                Some(status) if !more => format!(" (#{status})"),
                _ => String::new(),
            };
            let room = Self::LINE_OCTETS_MAX - 2 - tail.len() - (sink.len() - start);
            let line = &line[..line.len().min(room)];
            sink.extend(line.iter().map(|&octet| {
                if octet < b' ' || octet == 0x7f {
                    b'?'
                } else {
                    octet
                }
            }));
            sink.extend_from_slice(tail.as_bytes());
            sink.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply, style: ReplyStyle) -> String {
        let mut sink = Vec::new();
        reply.write(style, &mut sink);
        String::from_utf8(sink).expect("ASCII")
    }

    #[test]
    fn a_status_stands_where_the_style_wants_it() {
        let reply = Reply::new(
            550,
            Some(EnhancedStatus::permanent(1, 1)),
            "no such\nmailbox",
        );
        assert_eq!(
            written(&reply, ReplyStyle::Enhanced),
            "550-5.1.1 no such\r\n550 5.1.1 mailbox\r\n"
        );
        assert_eq!(
            written(&reply, ReplyStyle::Classic),
            "550-no such\r\n550 mailbox (#5.1.1)\r\n"
        );
        let ok = Reply::new(250, Some(EnhancedStatus::success(0, 0)), "ok");
        assert_eq!(written(&ok, ReplyStyle::Classic), "250 ok\r\n");
    }

    #[test]
    fn text_cannot_add_a_line_or_grow_one() {
        let evil = Reply::new(451, None, "a\r250 b\0");
        assert_eq!(written(&evil, ReplyStyle::Enhanced), "451 a?250 b?\r\n");
        let long = Reply::new(550, Some(EnhancedStatus::permanent(1, 1)), vec![b'x'; 1000]);
        for style in [ReplyStyle::Enhanced, ReplyStyle::Classic] {
            assert_eq!(written(&long, style).len(), Reply::LINE_OCTETS_MAX);
        }
    }

    #[test]
    fn only_whole_status_codes_parse() {
        for (text, ok) in [
            ("5.1.1", true),
            ("2.0.0", true),
            ("3.0.0", false),
            ("5.1", false),
            ("5.1.1.1", false),
            ("5.1111.1", false),
            ("5.a.1", false),
        ] {
            assert_eq!(
                EnhancedStatus::parse(text.as_bytes()).is_some(),
                ok,
                "{text}"
            );
        }
    }
}
