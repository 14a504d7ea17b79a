//! What parties ask one another to do with a message, and what they say of it: one message of a [`Channel`](super::channel::Channel) each.
//!
//! | message | octets |
//! |---|---|
//! | request | number (1), message (8), then texts, each ends with NUL |
//! | report | number (1), which of the outcomes (2), `K`, `Z` or `D`, text |
//!
//! A number is free again when all outcomes of its request have been told. What the texts are is for the two parties to know.

use bytes::Bytes;
use qmail_core::{Outcome, Report};

use super::channel::MESSAGE_OCTETS_MAX;

/// Most requests at a time.
pub(super) const NUMBERS: usize = 255;

/// Octets of a request before its texts.
const HEAD_OCTETS: usize = 9;

/// Room for the texts of a request, each with its NUL.
pub(super) const TEXTS_OCTETS_MAX: usize = MESSAGE_OCTETS_MAX - HEAD_OCTETS;

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) number: u8,
    /// The number of a message in the queue; 0 if it does not matter.
    pub(super) message: u64,
    pub(super) texts: Vec<Bytes>,
}

impl Request {
    pub(super) fn write(number: u8, message: u64, texts: &[&[u8]]) -> Vec<u8> {
        let mut octets = vec![number];
        octets.extend_from_slice(&message.to_be_bytes());
        for text in texts {
            octets.extend_from_slice(text);
            octets.push(0);
        }
        octets
    }

    /// # Errors
    ///
    /// Why it is none.
    pub(super) fn read(octets: &[u8]) -> Result<Self, &'static str> {
        let (&number, rest) = octets.split_first().ok_or("too short")?;
        let (message, texts) = rest.split_first_chunk().ok_or("too short")?;
        if usize::from(number) >= NUMBERS {
            return Err("a number that is too large");
        }
        let texts = texts.strip_suffix(&[0]).ok_or("a text without end")?;
        let texts = texts.split(|&octet| octet == 0);
        Ok(Self {
            number,
            message: u64::from_be_bytes(*message),
            texts: texts.map(Bytes::copy_from_slice).collect(),
        })
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) number: u8,
    pub(super) which: u16,
    pub(super) outcome: Outcome,
}

impl Told {
    pub(super) fn write(number: u8, which: u16, outcome: &Outcome) -> Vec<u8> {
        let [high, low] = which.to_be_bytes();
        let mut octets = vec![number, high, low, outcome.letter()];
        octets.extend_from_slice(outcome.report().as_bytes());
        octets
    }

    /// # Errors
    ///
    /// Why it is none.
    pub(super) fn read(octets: &[u8]) -> Result<Self, &'static str> {
        let [number, high, low, letter, text @ ..] = octets else {
            return Err("too short");
        };
        let report = Report::new(text.to_vec());
        Ok(Self {
            number: *number,
            which: u16::from_be_bytes([*high, *low]),
            outcome: match letter {
                b'K' => Outcome::Delivered(report),
                b'Z' => Outcome::Deferred(report),
                b'D' => Outcome::Failed(report),
                _ => return Err("no outcome"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_as_they_were_and_no_others() {
        let octets = Request::write(7, 46, &[b"me@here", b"", b"you@there"]);
        let request = Request::read(&octets).unwrap();
        assert_eq!((request.number, request.message), (7, 46));
        assert_eq!(request.texts, ["me@here", "", "you@there"]);
        for (octets, why) in [
            (&octets[..0], "too short"),
            (&octets[..8], "too short"),
            (&octets[..9], "a text without end"),
            (&octets[..12], "a text without end"),
            (&[255; 10], "a number that is too large"),
        ] {
            assert_eq!(Request::read(octets), Err(why));
        }
    }

    #[test]
    fn reports_come_back_as_they_were_and_no_others() {
        for outcome in [
            Outcome::Delivered("did 1+0+0\n".into()),
            Outcome::Deferred("".into()),
            Outcome::Failed("a\0b".into()),
        ] {
            let told = Told::read(&Told::write(3, 700, &outcome)).unwrap();
            assert_eq!((told.number, told.which, told.outcome), (3, 700, outcome));
        }
        for octets in [&b""[..], b"\x01\0\0", b"\x01\0\0X", b"\x01\0\0\0text"] {
            assert!(Told::read(octets).is_err());
        }
    }
}
