//! What a sender may ask about delivery status notifications (RFC 3461), as servers hear it and clients say it.

use bytes::Bytes;

/// Longest `ENVID=` in characters, coded: RFC 3461 section 4.4.
pub(crate) const ENVID_OCTETS_MAX: usize = 100;

/// Longest `ORCPT=` in characters, coded: RFC 3461 section 4.2.
pub(crate) const ORCPT_OCTETS_MAX: usize = 500;

/// How much of the message a bounce is to bring back (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// `FULL`.
    Full,
    /// `HDRS`.
    Headers,
}

/// When the sender wants to be told (RFC 3461 section 4.1). None of them: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// Once the message was delivered.
    pub success: bool,
    /// When it cannot be delivered.
    pub failure: bool,
    /// While its delivery is delayed.
    pub delay: bool,
}

/// What may be said of a recipient in RCPT. A server finds there only what it announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RcptParameters {
    /// `NOTIFY=` (RFC 3461 section 4.1).
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461 section 4.2): the original recipient, as `rfc822;joe@example.org`, decoded.
    pub original: Option<Bytes>,
}

impl Notify {
    /// The value of `NOTIFY=`.
    pub(crate) fn write(self, sink: &mut Vec<u8>) {
        let wanted = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let mut words = wanted.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
        sink.extend_from_slice(words.next().unwrap_or("NEVER").as_bytes());
        for word in words {
            sink.push(b',');
            sink.extend_from_slice(word.as_bytes());
        }
    }
}

/// Decodes `+` with two hexadecimal digits (RFC 3461 section 4, xtext). `None` where that is not what follows a `+`, and for what would be
/// a control octet: nobody needs it, and it would go into header fields of a bounce.
pub(crate) fn decode_xtext(text: &[u8]) -> Option<Bytes> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        plain.push(if octet == b'+' {
            let (digits, tail) = rest.split_at_checked(2)?;
            rest = tail;
            hex_octet(digits)?
        } else {
            octet
        });
    }
    Some(plain.into())
}

/// Upper-case digits only, as the RFC says; no control octet.
fn hex_octet(digits: &[u8]) -> Option<u8> {
    let octet = digits.iter().try_fold(0_u8, |octet, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some(octet * 16 + value)
    })?;
    (!is_control(octet)).then_some(octet)
}

/// The other way. `None` for what [`decode_xtext`] would not give: empty, a control octet, or more than `octets_max` coded.
pub(crate) fn encode_xtext(plain: &[u8], octets_max: usize) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(plain.len());
    for &octet in plain {
        match octet {
            octet if is_control(octet) => return None,
            b'+' | b'=' | b' ' | 0x80.. => {
                text.push(b'+');
                text.extend(
                    [octet >> 4, octet & 15].map(|digit| b"0123456789ABCDEF"[usize::from(digit)]),
                );
            }
            _ => text.push(octet),
        }
    }
    (!text.is_empty() && text.len() <= octets_max).then_some(text)
}

/// Whether this is a kind of address, a semicolon, and an address.
pub(crate) fn is_original(text: &[u8]) -> bool {
    memchr::memchr(b';', text).is_some_and(|semicolon| semicolon > 0 && semicolon + 1 < text.len())
}

fn is_control(octet: u8) -> bool {
    octet < b' ' || octet == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_coded_is_read() {
        for plain in ["a", "a+b=c d@e", "\u{e9}", "rfc822;x y@z"] {
            let text = encode_xtext(plain.as_bytes(), 100).expect("short and plain");
            assert!(text.iter().all(u8::is_ascii_graphic), "{plain}");
            assert_eq!(decode_xtext(&text).as_deref(), Some(plain.as_bytes()));
        }
        for bad in ["", "a\r", "\0", "\u{7f}", "12345678901"] {
            assert_eq!(encode_xtext(bad.as_bytes(), 10), None, "{bad:?}");
        }
    }

    #[test]
    fn wishes_are_words() {
        let mut notify = Notify::default();
        let written = |notify: Notify| {
            let mut sink = Vec::new();
            notify.write(&mut sink);
            String::from_utf8(sink).expect("ASCII")
        };
        assert_eq!(written(notify), "NEVER");
        notify.delay = true;
        assert_eq!(written(notify), "DELAY");
        notify.success = true;
        notify.failure = true;
        assert_eq!(written(notify), "SUCCESS,FAILURE,DELAY");
    }
}
