//! The protocol of the spawners, qmail-lspawn(8) and qmail-rspawn(8).
//!
//! | who | octets |
//! |---|---|
//! | spawner, at its start | how many deliveries it makes at once: one octet |
//! | manager | delivery number (one octet), name of the message below `queue/mess`, NUL, sender, NUL, recipient, NUL |
//! | spawner | delivery number, `K`, `Z` or `D`, text, NUL |
//!
//! Reports come in any order. At the end of the requests the spawner finishes what runs and ends.

use qmail_core::{Outcome, REPORT_OCTETS_MAX, Report};

use crate::MessageId;
use crate::split::layout::SPLIT;

/// Deliveries that a classic spawner makes at once: the octet that it begins with. One octet bounds it to 255.
pub const DELIVERIES_MAX: u8 = 120;

/// Longest name of a message in a request.
pub const NAME_OCTETS_MAX: usize = 99;

/// Longest sender or recipient in a request. Both may be longer than an address of the queue: by the prefix of a virtual
/// domain, by a recipient that is put into the sender (VERP).
pub const ADDRESS_OCTETS_MAX: usize = 4096;

/// Longest text of a report that is read; the rest is dropped.
pub const TEXT_OCTETS_MAX: usize = REPORT_OCTETS_MAX - 2;

/// A delivery that a manager asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Number of the delivery, free to be used again once it is reported.
    pub delivery: u8,
    /// Name of the message below `queue/mess`: `PART/ID`.
    pub message: Vec<u8>,
    /// Where bounces go.
    pub sender: Vec<u8>,
    /// To whom, rewritten.
    pub recipient: Vec<u8>,
}

impl Request {
    /// A request for a message of a split-directory spool.
    pub fn new(delivery: u8, id: MessageId, sender: &[u8], recipient: &[u8]) -> Self {
        Self {
            delivery,
            message: format!("{}/{id}", id.0 % SPLIT).into_bytes(),
            sender: sender.to_vec(),
            recipient: recipient.to_vec(),
        }
    }

    /// Appends it as it is sent.
    pub fn write(&self, sink: &mut Vec<u8>) {
        sink.push(self.delivery);
        for field in [&self.message, &self.sender, &self.recipient] {
            sink.extend_from_slice(field);
            sink.push(0);
        }
    }

    /// The recipient split at its last `@`, if it and the name of the message are what they must be.
    ///
    /// # Errors
    ///
    /// What to report instead of a delivery.
    pub fn check(&self) -> Result<(&[u8], &[u8]), Refusal> {
        let name = &self.message;
        let numeric =
            |(at, octet): (usize, &u8)| octet.is_ascii_digit() || (at > 0 && *octet == b'/');
        if !name.iter().enumerate().all(numeric) {
            return Err(Refusal::NameNotNumeric);
        }
        if name.len() > NAME_OCTETS_MAX {
            return Err(Refusal::NameTooLong);
        }
        if name.is_empty() {
            return Err(Refusal::NameTooShort);
        }
        if self.sender.len().max(self.recipient.len()) > ADDRESS_OCTETS_MAX {
            return Err(Refusal::AddressTooLong);
        }
        let at = memchr::memrchr(b'@', &self.recipient).ok_or(Refusal::NoHost)?;
        Ok((&self.recipient[..at], &self.recipient[at + 1..]))
    }
}

/// Why a spawner makes no delivery of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The number is not below the limit.
    NumberTooBig,
    /// A delivery of this number runs.
    NumberInUse,
    /// The name of the message has octets other than digits and slashes, or begins with a slash.
    NameNotNumeric,
    /// More than [`NAME_OCTETS_MAX`].
    NameTooLong,
    /// No name.
    NameTooShort,
    /// More than [`ADDRESS_OCTETS_MAX`].
    AddressTooLong,
    /// A recipient without `@`.
    NoHost,
    /// The message cannot be opened.
    CannotOpen,
    /// Nothing can be learned of the message.
    CannotStat,
    /// The message is no regular file.
    WrongType,
    /// The message is not the queue's.
    WrongOwner,
    /// No pipe.
    NoPipe,
    /// No process.
    NoFork,
    /// No memory.
    NoMemory,
}

impl Refusal {
    /// What is reported.
    pub fn outcome(self) -> Outcome {
        let (permanent, text) = match self {
            Self::NumberTooBig => (false, "Internal error: delnum too big. (#4.3.5)\n"),
            Self::NumberInUse => (false, "Internal error: delnum in use. (#4.3.5)\n"),
            Self::NameNotNumeric => (true, "Internal error: messid has nonnumerics. (#5.3.5)\n"),
            Self::NameTooLong => (true, "Internal error: messid too long. (#5.3.5)\n"),
            Self::NameTooShort => (true, "Internal error: messid too short. (#5.3.5)\n"),
            Self::AddressTooLong => (true, "Internal error: address too long. (#5.3.5)\n"),
            Self::NoHost => (true, "Sorry, address must include host name. (#5.1.3)\n"),
            Self::CannotOpen => (false, "qmail-spawn unable to open message. (#4.3.0)\n"),
            Self::CannotStat => (false, "qmail-spawn unable to fstat message. (#4.3.0)\n"),
            Self::WrongType => (false, "Sorry, message has wrong type. (#4.3.5)\n"),
            Self::WrongOwner => (false, "Sorry, message has wrong owner. (#4.3.5)\n"),
            Self::NoPipe => (false, "qmail-spawn unable to create pipe. (#4.3.0)\n"),
            Self::NoFork => (false, "qmail-spawn unable to fork. (#4.3.0)\n"),
            Self::NoMemory => (false, "qmail-spawn out of memory. (#4.3.0)\n"),
        };
        let report = Report::from(text);
        if permanent {
            Outcome::Failed(report)
        } else {
            Outcome::Deferred(report)
        }
    }
}

/// Reads requests from octets that come in any pieces.
///
/// ```
/// use qmail_queue::MessageId;
/// use qmail_queue::helpers::spawn::{Request, RequestReader};
/// let mut sent = Vec::new();
/// let request = Request::new(7, MessageId(46), b"me@here", b"you@there");
/// request.write(&mut sent);
/// assert_eq!(sent, b"\x070/46\0me@here\0you@there\0");
/// let mut reader = RequestReader::default();
/// assert_eq!(reader.receive(&mut &sent[..9]), None);
/// assert_eq!(reader.receive(&mut &sent[9..]), Some(request));
/// ```
#[derive(Debug, Default)]
pub struct RequestReader {
    request: Request,
    at: Field,
}

/// What is read next.
#[derive(Clone, Copy, Debug, Default)]
enum Field {
    #[default]
    Delivery,
    Message,
    Sender,
    Recipient,
}

impl RequestReader {
    /// Takes octets off the front, at most to the end of a request; gives that. Without one all octets are taken.
    ///
    /// What is too long comes cut, but longer than allowed, so that [`Request::check`] tells. A request that the end of the
    /// octets cuts off is never given.
    pub fn receive(&mut self, octets: &mut &[u8]) -> Option<Request> {
        loop {
            let (field, octets_max, next) = match self.at {
                Field::Delivery => {
                    let (&delivery, rest) = octets.split_first()?;
                    *octets = rest;
                    self.request.delivery = delivery;
                    self.at = Field::Message;
                    continue;
                }
                Field::Message => (&mut self.request.message, NAME_OCTETS_MAX, Field::Sender),
                Field::Sender => (
                    &mut self.request.sender,
                    ADDRESS_OCTETS_MAX,
                    Field::Recipient,
                ),
                Field::Recipient => (
                    &mut self.request.recipient,
                    ADDRESS_OCTETS_MAX,
                    Field::Delivery,
                ),
            };
            if !take_text(octets, field, octets_max + 1) {
                return None;
            }
            self.at = next;
            if matches!(next, Field::Delivery) {
                return Some(std::mem::take(&mut self.request));
            }
        }
    }
}

/// What a spawner tells of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Number of the delivery.
    pub delivery: u8,
    /// `None` if it is mangled: neither `K` nor `Z` nor `D`. It counts as a deferral.
    pub outcome: Option<Outcome>,
}

/// Appends a report as it is sent. The text ends before its first NUL.
pub fn write_report(delivery: u8, outcome: &Outcome, sink: &mut Vec<u8>) {
    sink.extend_from_slice(&[delivery, outcome.letter()]);
    let text = outcome.report().as_bytes();
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    sink.extend_from_slice(&text[..end]);
    sink.push(0);
}

/// Reads reports from octets that come in any pieces; the other end is not trusted.
///
/// ```
/// use qmail_core::Outcome;
/// use qmail_queue::helpers::spawn::ReportReader;
/// let mut reader = ReportReader::default();
/// let mut octets = &b"\x07Kdid 1+0+0\n\0\x08"[..];
/// let reported = reader.receive(&mut octets).expect("a whole report");
/// assert_eq!(reported.delivery, 7);
/// assert_eq!(reported.outcome, Some(Outcome::Delivered("did 1+0+0\n".into())));
/// assert_eq!(reader.receive(&mut octets), None);
/// ```
#[derive(Debug, Default)]
pub struct ReportReader {
    delivery: Option<u8>,
    text: Vec<u8>,
}

impl ReportReader {
    /// Takes octets off the front, at most to the end of a report; gives that. Without one all octets are taken. Text beyond
    /// [`TEXT_OCTETS_MAX`] is dropped.
    pub fn receive(&mut self, octets: &mut &[u8]) -> Option<Reported> {
        let delivery = match self.delivery {
            Some(delivery) => delivery,
            None => {
                let (&delivery, rest) = octets.split_first()?;
                *octets = rest;
                *self.delivery.insert(delivery)
            }
        };
        // The letter stands before the text.
        if !take_text(octets, &mut self.text, 1 + TEXT_OCTETS_MAX) {
            return None;
        }
        self.delivery = None;
        let text = std::mem::take(&mut self.text);
        let outcome = text.split_first().and_then(|(letter, text)| {
            let report = Report::new(text.to_vec());
            match letter {
                b'K' => Some(Outcome::Delivered(report)),
                b'Z' => Some(Outcome::Deferred(report)),
                b'D' => Some(Outcome::Failed(report)),
                _ => None,
            }
        });
        Some(Reported { delivery, outcome })
    }
}

/// Moves octets up to a NUL to `text`, of which no more than `octets_max` are kept; `true` if the NUL came, and is taken too.
pub(super) fn take_text(octets: &mut &[u8], text: &mut Vec<u8>, octets_max: usize) -> bool {
    let (piece, rest, ended) = match memchr::memchr(0, octets) {
        Some(end) => (&octets[..end], &octets[end + 1..], true),
        None => (*octets, &[][..], false),
    };
    let room = octets_max - text.len();
    text.extend_from_slice(&piece[..piece.len().min(room)]);
    *octets = rest;
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(pieces: &[&[u8]]) -> Vec<Request> {
        let mut reader = RequestReader::default();
        let mut requests = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(request) = reader.receive(&mut piece) {
                requests.push(request);
            }
            assert!(piece.is_empty());
        }
        requests
    }

    fn reports(pieces: &[&[u8]]) -> Vec<Reported> {
        let mut reader = ReportReader::default();
        let mut reports = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(reported) = reader.receive(&mut piece) {
                reports.push(reported);
            }
            assert!(piece.is_empty());
        }
        reports
    }

    #[test]
    fn requests_come_in_any_pieces() {
        let sent = [
            Request::new(0, MessageId(46), b"", b"a@b"),
            Request::new(255, MessageId(u64::MAX), b"s@h", b""),
            // A request of nothing is four octets.
            Request::default(),
        ];
        let mut octets = Vec::new();
        sent.iter().for_each(|request| request.write(&mut octets));
        for cut in 0..=octets.len() {
            assert_eq!(requests(&[&octets[..cut], &octets[cut..]]), sent, "{cut}");
            assert!(requests(&[&octets[..cut]]).len() <= 3);
        }
        let one_by_one: Vec<_> = octets.chunks(1).collect();
        assert_eq!(requests(&one_by_one), sent);
        // Cut off by the end.
        assert_eq!(requests(&[&octets[..octets.len() - 1]]).len(), 2);
    }

    #[test]
    fn requests_are_checked() {
        let long_name = "1".repeat(100);
        let long_address = "x".repeat(ADDRESS_OCTETS_MAX + 1);
        for (name, sender, recipient, refusal) in [
            ("../46", "", "a@b", Refusal::NameNotNumeric),
            ("/46", "", "a@b", Refusal::NameNotNumeric),
            ("0/4 6", "", "a@b", Refusal::NameNotNumeric),
            (&long_name, "", "a@b", Refusal::NameTooLong),
            ("", "", "a@b", Refusal::NameTooShort),
            ("0/46", "", "ab", Refusal::NoHost),
            ("0/46", &long_address, "a@b", Refusal::AddressTooLong),
            ("0/46", "", &long_address, Refusal::AddressTooLong),
        ] {
            let mut octets = vec![1];
            octets.extend(
                [name, sender, recipient]
                    .map(|field| format!("{field}\0"))
                    .concat()
                    .bytes(),
            );
            let [request] = &requests(&[&octets])[..] else {
                panic!("one request")
            };
            assert_eq!(request.check(), Err(refusal), "{name} {recipient}");
        }
        let request = Request::new(1, MessageId(46), b"", b"a@b@c");
        assert_eq!(request.check(), Ok((&b"a@b"[..], &b"c"[..])));
    }

    #[test]
    fn an_endless_request_keeps_little() {
        let mut reader = RequestReader::default();
        for _ in 0..100 {
            assert_eq!(reader.receive(&mut &[b'1'; 1000][..]), None);
        }
        assert_eq!(reader.request.message.len(), NAME_OCTETS_MAX + 1);
    }

    #[test]
    fn reports_come_in_any_pieces() {
        let mut octets = Vec::new();
        let sent = [
            (0, Outcome::Delivered("did 0+0+1\n".into())),
            (1, Outcome::Deferred("".into())),
            (255, Outcome::Failed("a\nb\n".into())),
        ];
        for (delivery, outcome) in &sent {
            write_report(*delivery, outcome, &mut octets);
        }
        octets.extend_from_slice(b"\x02\0\x03Xwhat\0");
        let mut expected: Vec<_> = sent
            .into_iter()
            .map(|(delivery, outcome)| Reported {
                delivery,
                outcome: Some(outcome),
            })
            .collect();
        expected.extend([2, 3].map(|delivery| Reported {
            delivery,
            outcome: None,
        }));
        for cut in 0..=octets.len() {
            assert_eq!(
                reports(&[&octets[..cut], &octets[cut..]]),
                expected,
                "{cut}"
            );
        }
        let one_by_one: Vec<_> = octets.chunks(1).collect();
        assert_eq!(reports(&one_by_one), expected);
    }

    #[test]
    fn a_report_is_cut_at_its_first_nul_and_at_its_limit() {
        let mut octets = Vec::new();
        write_report(3, &Outcome::Failed("before\0after".into()), &mut octets);
        assert_eq!(octets, b"\x03Dbefore\0");
        octets = b"\x01Z".to_vec();
        octets.resize(50_000, b'x');
        octets.extend_from_slice(b"\0\x02K\0");
        let reports = reports(&[&octets]);
        let Some(Outcome::Deferred(report)) = &reports[0].outcome else {
            panic!("a deferral")
        };
        assert_eq!(report.as_bytes().len(), TEXT_OCTETS_MAX);
        assert_eq!(reports[1].delivery, 2);
    }
}
