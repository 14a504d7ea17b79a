//! The protocol of qmail-clean(8), which removes what a queue manager may not.
//!
//! | request | asks for | answer |
//! |---|---|---|
//! | `foop/ID`, NUL | `intd/ID` and `mess/PART/ID` to be removed | `+` done, `!` trouble |
//! | `todo/ID`, NUL | `intd/ID` and `todo/ID` to be removed | the same |
//! | anything else | | `x` |
//!
//! One octet answers a request, whatever it was; answers come in the order of the requests.

use super::spawn::take_text;
use crate::MessageId;

/// Longest request without its NUL.
pub const REQUEST_OCTETS_MAX: usize = 99;

/// What is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The text of a message that is done with, and what is left of its envelope (`foop`).
    Text(MessageId),
    /// The envelope of a message that is routed (`todo`).
    Envelope(MessageId),
}

impl Request {
    /// Appends it as it is sent.
    pub fn write(self, sink: &mut Vec<u8>) {
        let (verb, id) = match self {
            Self::Text(id) => ("foop", id),
            Self::Envelope(id) => ("todo", id),
        };
        sink.extend_from_slice(format!("{verb}/{id}\0").as_bytes());
    }

    /// `None` for what is no request. Numbers may have leading zeros.
    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > REQUEST_OCTETS_MAX {
            return None;
        }
        let (verb, digits) = text.split_at_checked(5)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // An empty number and one that no inode has are refused here.
        let id = MessageId(std::str::from_utf8(digits).ok()?.parse().ok()?);
        match verb {
            b"foop/" => Some(Self::Text(id)),
            b"todo/" => Some(Self::Envelope(id)),
            _ => None,
        }
    }
}

/// What qmail-clean says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The files are gone, durably, or were not there.
    Done,
    /// Something could not be removed.
    Trouble,
    /// It is no request.
    Refused,
}

impl Answer {
    /// The octet that is sent.
    pub fn octet(self) -> u8 {
        match self {
            Self::Done => b'+',
            Self::Trouble => b'!',
            Self::Refused => b'x',
        }
    }

    /// What an octet that came means; `None` for one that is no answer.
    pub fn from_octet(octet: u8) -> Option<Self> {
        [Self::Done, Self::Trouble, Self::Refused]
            .into_iter()
            .find(|answer| answer.octet() == octet)
    }
}

/// Reads requests from octets that come in any pieces.
///
/// ```
/// use qmail_queue::MessageId;
/// use qmail_queue::helpers::clean::{Request, RequestReader};
/// let mut reader = RequestReader::default();
/// let mut octets = &b"todo/46\0rm -rf\0"[..];
/// assert_eq!(reader.receive(&mut octets), Some(Some(Request::Envelope(MessageId(46)))));
/// assert_eq!(reader.receive(&mut octets), Some(None));
/// assert_eq!(reader.receive(&mut octets), None);
/// ```
#[derive(Debug, Default)]
pub struct RequestReader(Vec<u8>);

impl RequestReader {
    /// Takes octets off the front, at most to the end of a request; gives that, or `Some(None)` for one that is to be refused.
    /// Without one all octets are taken.
    pub fn receive(&mut self, octets: &mut &[u8]) -> Option<Option<Request>> {
        // One more, so that what is too long is not taken for what fits.
        take_text(octets, &mut self.0, REQUEST_OCTETS_MAX + 1)
            .then(|| Request::parse(&std::mem::take(&mut self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<Option<Request>> {
        let mut reader = RequestReader::default();
        let mut requests = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(request) = reader.receive(&mut piece) {
                requests.push(request);
            }
        }
        requests
    }

    #[test]
    fn only_two_verbs_and_a_number_are_a_request() {
        let (text, envelope) = (
            |id| Some(Request::Text(MessageId(id))),
            |id| Some(Request::Envelope(MessageId(id))),
        );
        let longest = format!("foop/{:094}", 7);
        let too_long = format!("foop/{:095}", 7);
        for (sent, request) in [
            ("foop/1", text(1)),
            ("todo/18446744073709551615", envelope(u64::MAX)),
            ("todo/18446744073709551616", None),
            ("foop/0046", text(46)),
            (&longest, text(7)),
            (&too_long, None),
            ("foop/", None),
            ("todo", None),
            ("", None),
            ("foop/1x", None),
            ("foop/+1", None),
            ("foop/-1", None),
            ("foop//1", None),
            ("foop/../1", None),
            ("fooP/1", None),
            ("foox/1", None),
            ("mess/1", None),
            // The fifth octet counts too.
            ("todo.1", None),
            ("foop1", None),
        ] {
            let octets = format!("{sent}\0");
            assert_eq!(read(&[octets.as_bytes()]), [request], "{sent}");
        }
    }

    #[test]
    fn requests_come_in_any_pieces() {
        let sent = [
            Request::Text(MessageId(5)),
            Request::Envelope(MessageId(67)),
        ];
        let mut octets = Vec::new();
        sent.iter().for_each(|request| request.write(&mut octets));
        assert_eq!(octets, b"foop/5\0todo/67\0");
        for cut in 0..=octets.len() {
            assert_eq!(
                read(&[&octets[..cut], &octets[cut..]]),
                sent.map(Some),
                "{cut}"
            );
        }
        // The end cuts a request off.
        assert_eq!(read(&[b"foop/5\0todo/6"]).len(), 1);
    }

    #[test]
    fn a_request_has_one_answer() {
        for answer in [Answer::Done, Answer::Trouble, Answer::Refused] {
            assert_eq!(Answer::from_octet(answer.octet()), Some(answer));
        }
        assert_eq!(Answer::from_octet(b'-'), None);
        // Classically a request with several letters got several answers.
        assert_eq!(read(&[b"todo/xyz\0"]), [None]);
    }
}
