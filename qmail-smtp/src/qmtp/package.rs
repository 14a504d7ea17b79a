//! A package on its way in: octets of netstrings in, text and an envelope out.

use bytes::Bytes;
use qmail_core::netstring::{Decoder, NetstringError, Part};
use qmail_core::{Address, ReversePath};

use super::{CloseReason, ENVELOPE_OCTETS_MAX, NETSTRING_OCTETS_MAX, PATH_OCTETS_MAX, Protocol};

/// What came of some octets.
#[derive(Debug)]
pub(super) enum Step {
    Begin,
    Body(Bytes),
    End(Option<ReversePath>, Vec<Option<Address>>),
}

/// Takes packages apart, one after the other.
#[derive(Debug)]
pub(super) struct Packages {
    protocol: Protocol,
    outer: Decoder,
    /// The netstrings within: of QMQP all, of QMTP each recipient.
    inner: Decoder,
    field: Field,
    text: Text,
    address: Vec<u8>,
    sender: Option<ReversePath>,
    recipients: Vec<Option<Address>>,
    envelope_octets: usize,
}

/// What the netstring at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Message,
    Sender,
    Recipients,
}

/// How the lines of a message end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    /// The octet that says so is still to come.
    Unknown,
    Lf,
    /// Whether the last octet was a CR that is not passed on yet.
    CrLf {
        after_cr: bool,
    },
}

impl From<NetstringError> for CloseReason {
    fn from(error: NetstringError) -> Self {
        match error {
            NetstringError::TooLong(_) => Self::TooLong,
            _ => Self::Malformed,
        }
    }
}

impl Packages {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            outer: Decoder::new(NETSTRING_OCTETS_MAX),
            inner: Decoder::new(NETSTRING_OCTETS_MAX),
            field: Field::Message,
            text: Text::Unknown,
            address: Vec::new(),
            sender: None,
            recipients: Vec::new(),
            envelope_octets: 0,
        }
    }

    /// Takes one part of the outer netstring; returns how many octets that was.
    pub(super) fn take(
        &mut self,
        octets: &[u8],
        steps: &mut impl Extend<Step>,
    ) -> Result<usize, CloseReason> {
        let mut rest = octets;
        let Some(part) = self.outer.next(&mut rest)? else {
            return Ok(octets.len() - rest.len());
        };
        let nested = self.protocol == Protocol::Qmqp || self.field == Field::Recipients;
        match part {
            part if !nested => self.part(part, steps)?,
            Part::Length(_) => {}
            Part::Octets(mut octets) => {
                while let Some(part) = self.inner.next(&mut octets)? {
                    self.part(part, steps)?;
                }
            }
            Part::End if self.inner.is_inside() || self.field != Field::Recipients => {
                return Err(CloseReason::Malformed);
            }
            Part::End => {
                self.field = Field::Message;
                self.text = Text::Unknown;
                self.envelope_octets = 0;
                let recipients = std::mem::take(&mut self.recipients);
                steps.extend([Step::End(self.sender.take(), recipients)]);
            }
        }
        Ok(octets.len() - rest.len())
    }

    fn part(&mut self, part: Part<'_>, steps: &mut impl Extend<Step>) -> Result<(), CloseReason> {
        match (self.field, part) {
            (Field::Message, Part::Length(octets)) => match self.protocol {
                Protocol::Qmtp if octets == 0 => return Err(CloseReason::Malformed),
                Protocol::Qmtp => {}
                Protocol::Qmqp => {
                    self.text = Text::Lf;
                    steps.extend([Step::Begin]);
                }
            },
            (Field::Message, Part::Octets(octets)) => self.message(octets, steps)?,
            (Field::Message, Part::End) => {
                if self.text == (Text::CrLf { after_cr: true }) {
                    steps.extend([Step::Body(Bytes::from_static(b"\r"))]);
                }
                self.field = Field::Sender;
            }
            (_, Part::Length(_)) => self.address.clear(),
            (_, Part::Octets(octets)) => {
                // One octet too many tells that it is too long.
                let room = PATH_OCTETS_MAX + 1 - self.address.len();
                self.address
                    .extend_from_slice(&octets[..octets.len().min(room)]);
            }
            (Field::Sender, Part::End) => {
                self.sender = self.path().and_then(|path| ReversePath::new(path).ok());
                self.field = Field::Recipients;
            }
            (Field::Recipients, Part::End) => {
                // What an entry costs counts, too: addresses may be empty.
                self.envelope_octets += self.address.len() + size_of::<Option<Address>>();
                if self.envelope_octets > ENVELOPE_OCTETS_MAX {
                    return Err(CloseReason::TooLong);
                }
                let recipient = self.path().and_then(|path| Address::new(path).ok());
                self.recipients.push(recipient);
            }
        }
        Ok(())
    }

    fn path(&self) -> Option<Bytes> {
        // A LF ends a line in what other programs write of it.
        let whole = self.address.len() <= PATH_OCTETS_MAX && !self.address.contains(&b'\n');
        whole.then(|| Bytes::copy_from_slice(&self.address))
    }

    fn message(&mut self, octets: &[u8], steps: &mut impl Extend<Step>) -> Result<(), CloseReason> {
        let mut octets = octets;
        if self.text == Text::Unknown {
            self.text = match octets.split_off_first() {
                Some(b'\n') => Text::Lf,
                Some(b'\r') => Text::CrLf { after_cr: false },
                _ => return Err(CloseReason::Malformed),
            };
            steps.extend([Step::Begin]);
        }
        let body = match &mut self.text {
            Text::CrLf { after_cr } => without_cr(octets, after_cr),
            Text::Lf | Text::Unknown => Bytes::copy_from_slice(octets),
        };
        if !body.is_empty() {
            steps.extend([Step::Body(body)]);
        }
        Ok(())
    }
}

/// CR LF becomes LF; other CRs stay.
fn without_cr(octets: &[u8], after_cr: &mut bool) -> Bytes {
    let mut body = Vec::with_capacity(octets.len() + 1);
    for &octet in octets {
        if *after_cr && octet != b'\n' {
            body.push(b'\r');
        }
        *after_cr = octet == b'\r';
        if !*after_cr {
            body.push(octet);
        }
    }
    body.into()
}
