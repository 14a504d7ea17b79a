//! The envelope as a queue program reads it from descriptor 1 (qmail-queue(8)).

use bytes::Bytes;

use crate::{ADDRESS_OCTETS_MAX, Address, AddressError, Envelope, ReversePath};

/// Largest envelope that is taken, in octets, where each recipient counts [`RECIPIENT_OCTETS`] more than its address: 100,000
/// recipients of the longest kind, more than a million of the usual one.
pub const ENVELOPE_OCTETS_MAX: usize = 128 << 20;

/// What a recipient takes of [`ENVELOPE_OCTETS_MAX`] beside its address: about what it takes of the memory.
pub const RECIPIENT_OCTETS: usize = 64;

/// Reads `F` sender NUL, then `T` recipient NUL for each recipient, then NUL, from octets that come in any pieces.
///
/// ```
/// use qmail_core::{EnvelopeError, EnvelopeReader};
/// let mut reader = EnvelopeReader::default();
/// assert_eq!(reader.receive(b"Fme@here\0Tyou@th")?, None);
/// let envelope = reader.receive(b"ere\0\0whatever follows")?.expect("the end was there");
/// assert_eq!(envelope.sender.as_bytes(), b"me@here");
/// assert_eq!(envelope.recipients[0].as_bytes(), b"you@there");
///
/// let mut reader = EnvelopeReader::default();
/// assert_eq!(reader.receive(b"Tyou@there\0\0"), Err(EnvelopeError::Format));
/// # Ok::<(), EnvelopeError>(())
/// ```
#[derive(Debug, Default)]
pub struct EnvelopeReader {
    sender: Option<ReversePath>,
    recipients: Vec<Address>,
    /// Letter and text of a record whose NUL has not come.
    record: Vec<u8>,
    octets: usize,
}

/// Why octets are no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The octets ended before the envelope.
    #[error("the envelope has no end")]
    Torn,
    /// It does not begin with a sender, or goes on with something other than a recipient.
    #[error("the envelope has an unknown record")]
    Format,
    /// An address is longer than [`ADDRESS_OCTETS_MAX`].
    #[error(transparent)]
    Address(#[from] AddressError),
    /// More than [`ENVELOPE_OCTETS_MAX`].
    #[error("the envelope has too many recipients")]
    TooLarge,
}

impl EnvelopeError {
    /// What a queue program exits with. [`QueueExit`](crate::QueueExit) says what its caller makes of that.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Torn => 54,
            Self::Format => 91,
            Self::Address(_) => 11,
            Self::TooLarge => 31,
        }
    }
}

impl EnvelopeReader {
    /// Takes octets; gives the envelope once its end has come. What follows the end is not looked at.
    ///
    /// # Errors
    ///
    /// Each as soon as it can be told. Then, and after the envelope was given, the reader is good for nothing more.
    pub fn receive(&mut self, mut octets: &[u8]) -> Result<Option<Envelope>, EnvelopeError> {
        while !octets.is_empty() {
            if self.record.is_empty() {
                match (octets[0], &self.sender) {
                    (b'F', None) | (b'T', Some(_)) => {}
                    (0, Some(_)) => return Ok(Some(self.take())),
                    _ => return Err(EnvelopeError::Format),
                }
            }
            let end = memchr::memchr(0, octets);
            let piece = &octets[..end.unwrap_or(octets.len())];
            // The letter is in it.
            if self.record.len() + piece.len() > 1 + ADDRESS_OCTETS_MAX {
                return Err(AddressError::TooLong.into());
            }
            self.record.extend_from_slice(piece);
            let Some(end) = end else { break };
            octets = &octets[end + 1..];
            self.take_record()?;
        }
        Ok(None)
    }

    fn take_record(&mut self) -> Result<(), EnvelopeError> {
        self.octets += self.record.len() + RECIPIENT_OCTETS;
        if self.octets > ENVELOPE_OCTETS_MAX {
            return Err(EnvelopeError::TooLarge);
        }
        let address = Bytes::copy_from_slice(&self.record[1..]);
        self.record.clear();
        match self.sender {
            None => self.sender = Some(ReversePath::new(address)?),
            Some(_) => self.recipients.push(Address::new(address)?),
        }
        Ok(())
    }

    fn take(&mut self) -> Envelope {
        Envelope::new(
            self.sender.take().unwrap_or_default(),
            std::mem::take(&mut self.recipients),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a whole envelope gives; its end if that does not come.
    fn read(pieces: &[&[u8]]) -> Result<Envelope, EnvelopeError> {
        let mut reader = EnvelopeReader::default();
        for piece in pieces {
            if let Some(envelope) = reader.receive(piece)? {
                return Ok(envelope);
            }
        }
        Err(EnvelopeError::Torn)
    }

    #[test]
    fn an_envelope_comes_in_any_pieces() {
        let whole = b"Fs@h\0Ta@b\0T\0Tx y\n\xe9\0\0garbage";
        let envelope = read(&[whole]).unwrap();
        assert_eq!(envelope.sender.as_bytes(), b"s@h");
        let recipients: Vec<_> = envelope.recipients.iter().map(Address::as_bytes).collect();
        assert_eq!(recipients, [&b"a@b"[..], b"", b"x y\n\xe9"]);
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(read(&[head, tail]).as_ref(), Ok(&envelope), "{cut}");
            let has_end = cut >= whole.len() - "garbage".len();
            assert_eq!(read(&[head]).is_ok(), has_end, "{cut}");
        }
        let one_by_one: Vec<_> = whole.chunks(1).collect();
        assert_eq!(read(&one_by_one), Ok(envelope));
    }

    #[test]
    fn what_is_no_envelope_is_told_by_its_code() {
        for (text, code) in [
            ("", 54),
            ("F", 54),
            ("Fs", 54),
            ("Fs\0", 54),
            ("Fs\0T", 54),
            ("Fs\0Ta\0", 54),
            ("Ts\0\0", 91),
            ("fs\0\0", 91),
            ("\0", 91),
            ("Fs\0X", 91),
            ("Fs\0Ta\0Fb\0\0", 91),
        ] {
            let error = read(&[text.as_bytes()]).unwrap_err();
            assert_eq!(error.exit_code(), code, "{text:?}");
        }
        assert!(read(&[b"F\0\0"]).unwrap().recipients.is_empty());
    }

    #[test]
    fn an_address_has_a_longest() {
        for (length, fits) in [(1002, true), (1003, false)] {
            let long = "x".repeat(length);
            for text in [format!("F{long}\0\0"), format!("F\0Ta\0T{long}\0\0")] {
                let result = read(&[text.as_bytes()]);
                let expected = if fits { Ok(()) } else { Err(11) };
                assert_eq!(result.map(drop).map_err(EnvelopeError::exit_code), expected);
                // Told before its end has come.
                let without_end = text.trim_end_matches('\0');
                let error = read(&[without_end.as_bytes()]).unwrap_err();
                assert_eq!(error.exit_code(), if fits { 54 } else { 11 });
            }
        }
    }

    #[test]
    fn an_envelope_has_a_largest() {
        let mut reader = EnvelopeReader::default();
        reader.receive(b"F\0").unwrap();
        let many = b"T\0".repeat(100_000);
        let error = loop {
            match reader.receive(&many) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("it has no end"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.exit_code(), 31);
        assert!(reader.recipients.len() >= 1_000_000);
    }
}
