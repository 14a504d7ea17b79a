//! Netstrings, `12:hello world!,`: how QMTP and QMQP mark where octets end.
//!
//! The [`Decoder`] holds no octets back, so that a message of any size passes through it. Lengths are strict: decimal
//! digits, no leading zero, at most what the caller allows.

use crate::decimal::push_decimal;

/// Appends the netstring of these octets.
///
/// ```
/// let mut sink = Vec::new();
/// qmail_core::netstring::write(b"hello world!", &mut sink);
/// qmail_core::netstring::write(b"", &mut sink);
/// assert_eq!(sink, b"12:hello world!,0:,");
/// ```
pub fn write(octets: &[u8], sink: &mut Vec<u8>) {
    write_length(octets.len() as u64, sink);
    sink.extend_from_slice(octets);
    sink.push(END);
}

/// Appends the start of a netstring, up to its colon. The octets and [`END`] are for the caller to send.
pub fn write_length(octets: u64, sink: &mut Vec<u8>) {
    push_decimal(sink, octets);
    sink.push(b':');
}

/// What follows the octets of a netstring.
pub const END: u8 = b',';

/// How many octets the netstring of so many octets has.
pub fn octets_with_frame(octets: u64) -> u64 {
    octets.saturating_add(u64::from(octets.checked_ilog10().unwrap_or(0)) + 3)
}

/// Takes netstrings apart as they come, one after the other.
///
/// ```
/// use qmail_core::netstring::{Decoder, Part};
/// let mut decoder = Decoder::new(100);
/// let mut input = &b"5:hel"[..];
/// assert_eq!(decoder.next(&mut input), Ok(Some(Part::Length(5))));
/// assert_eq!(decoder.next(&mut input), Ok(Some(Part::Octets(b"hel"))));
/// assert_eq!(decoder.next(&mut input), Ok(None));
/// let mut input = &b"lo,3:"[..];
/// assert_eq!(decoder.next(&mut input), Ok(Some(Part::Octets(b"lo"))));
/// assert_eq!(decoder.next(&mut input), Ok(Some(Part::End)));
/// assert_eq!(input, b"3:");
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    octets_max: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a netstring.
    Start,
    /// After a digit other than a first 0.
    Length(u64),
    /// After a first 0.
    Zero,
    /// So many octets are to come, then the comma.
    Octets(u64),
    /// After an error.
    Broken(NetstringError),
}

/// What [`Decoder::next`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A netstring begins, with so many octets.
    Length(u64),
    /// Some of its octets, never none.
    Octets(&'a [u8]),
    /// Its comma.
    End,
}

/// Why input is no netstring. The conversation cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetstringError {
    /// A length has an octet that is neither digit nor colon, or no digit at all.
    #[error("netstring length is no number")]
    NoNumber,
    /// A length starts with 0 and goes on.
    #[error("netstring length has a leading zero")]
    LeadingZero,
    /// A length is above what the decoder allows.
    #[error("netstring is longer than {0} octets")]
    TooLong(u64),
    /// The octet after the last is no comma.
    #[error("netstring does not end in a comma")]
    NoComma,
}

impl Decoder {
    /// A decoder that refuses netstrings of more than `octets_max` octets.
    pub fn new(octets_max: u64) -> Self {
        Self {
            octets_max,
            state: State::Start,
        }
    }

    /// Takes the next part from the start of `input`; `None` when more input is needed, and then all was taken.
    ///
    /// After [`Part::End`] the next netstring begins, and `input` is what follows.
    ///
    /// # Errors
    ///
    /// As [`NetstringError`]; from then on the same error again, and nothing is taken.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, NetstringError> {
        while !input.is_empty() {
            if let State::Octets(left) = self.state
                && left > 0
            {
                let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                self.state = State::Octets(left - taken as u64);
                return Ok(input.split_off(..taken).map(Part::Octets));
            }
            let octet = input[0];
            match self.step(octet) {
                Ok((state, part)) => {
                    self.state = state;
                    *input = &input[1..];
                    if part.is_some() {
                        return Ok(part);
                    }
                }
                Err(error) => {
                    self.state = State::Broken(error);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Whether a netstring has begun and not ended: the input must not end here.
    pub fn is_inside(&self) -> bool {
        self.state != State::Start
    }

    /// One octet of a length, its colon, or the comma.
    fn step(&self, octet: u8) -> Result<(State, Option<Part<'static>>), NetstringError> {
        let next = match (self.state, octet) {
            (State::Broken(error), _) => return Err(error),
            (State::Start, b'0') => (State::Zero, None),
            (State::Start, b'1'..=b'9') => (self.length(0, octet)?, None),
            (State::Start, _) => return Err(NetstringError::NoNumber),
            (State::Zero, b':') => (State::Octets(0), Some(Part::Length(0))),
            (State::Zero, b'0'..=b'9') => return Err(NetstringError::LeadingZero),
            (State::Length(length), b':') => (State::Octets(length), Some(Part::Length(length))),
            (State::Length(length), b'0'..=b'9') => (self.length(length, octet)?, None),
            (State::Zero | State::Length(_), _) => return Err(NetstringError::NoNumber),
            (State::Octets(_), END) => (State::Start, Some(Part::End)),
            (State::Octets(_), _) => return Err(NetstringError::NoComma),
        };
        Ok(next)
    }

    fn length(&self, so_far: u64, digit: u8) -> Result<State, NetstringError> {
        so_far
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
            .filter(|&length| length <= self.octets_max)
            .map(State::Length)
            .ok_or(NetstringError::TooLong(self.octets_max))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All netstrings of the input, which is offered in two pieces.
    fn decode(
        input: &[u8],
        cut: usize,
        octets_max: u64,
    ) -> Result<(Vec<Vec<u8>>, bool), NetstringError> {
        let mut decoder = Decoder::new(octets_max);
        let mut strings = Vec::new();
        let mut string = Vec::new();
        for mut piece in [&input[..cut], &input[cut..]] {
            while let Some(part) = decoder.next(&mut piece)? {
                match part {
                    Part::Length(_) => string.clear(),
                    Part::Octets(octets) => string.extend_from_slice(octets),
                    Part::End => strings.push(std::mem::take(&mut string)),
                }
            }
            assert!(piece.is_empty());
        }
        Ok((strings, decoder.is_inside()))
    }

    #[test]
    fn lengths_are_strict() {
        use NetstringError::{LeadingZero, NoComma, NoNumber, TooLong};
        for (input, error) in [
            ("a", NoNumber),
            (":", NoNumber),
            (" 1:a,", NoNumber),
            ("+1:a,", NoNumber),
            ("1 :a,", NoNumber),
            ("0a", NoNumber),
            ("00:,", LeadingZero),
            ("01:a,", LeadingZero),
            ("6", TooLong(5)),
            ("99999999999999999999999", TooLong(5)),
            ("1:ab", NoComma),
            ("0:a", NoComma),
            ("1:a,,", NoNumber),
        ] {
            for cut in 0..=input.len() {
                assert_eq!(decode(input.as_bytes(), cut, 5), Err(error), "{input}");
            }
        }
        assert_eq!(decode(b"5:abc", 2, 5), Ok((vec![], true)));
        assert_eq!(decode(b"", 0, 5), Ok((vec![], false)));
        let huge = u64::MAX.to_string() + ":";
        assert_eq!(decode(huge.as_bytes(), 0, u64::MAX), Ok((vec![], true)));
    }

    #[test]
    fn an_error_stays() {
        let mut decoder = Decoder::new(5);
        let mut input = &b"x1:a,"[..];
        for _ in 0..3 {
            assert_eq!(decoder.next(&mut input), Err(NetstringError::NoNumber));
        }
        assert_eq!(input, b"x1:a,");
    }

    #[test]
    fn the_frame_is_known_beforehand() {
        for octets in [0, 1, 9, 10, 99, 100, 12345] {
            let mut sink = Vec::new();
            write(&vec![b'x'; octets], &mut sink);
            assert_eq!(octets_with_frame(octets as u64), sink.len() as u64);
        }
        assert_eq!(octets_with_frame(u64::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..5)
        ) {
            let mut input = Vec::new();
            for string in &strings {
                write(string, &mut input);
            }
            for cut in 0..=input.len() {
                prop_assert_eq!(decode(&input, cut, 30), Ok((strings.clone(), false)));
            }
        }

        #[test]
        fn any_input_is_survived(input: Vec<u8>, cut: prop::sample::Index) {
            let cut = cut.index(input.len() + 1);
            prop_assert_eq!(decode(&input, cut, 10), decode(&input, 0, 10));
        }
    }
}
