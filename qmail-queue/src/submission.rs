//! What a program that submits a message says to the running queue of its host, over a stream socket: the framing alone.
//!
//! So no program needs rights of its own to write into a queue: the queue takes the message, and asks the kernel who is calling.
//!
//! | from | what |
//! |---|---|
//! | program | chunks of text: length (4 octets, most significant first, up to [`CHUNK_OCTETS_MAX`]), then so many octets |
//! | manager | [`Quote`]: a number that no length has, then message and limit (8 octets each): the text of a message of the queue |
//! | program | length 0: the text is complete |
//! | program | the envelope, as qmail-queue(8) reads it |
//! | queue | [`Answer`]: 5 octets, then it closes the connection |
//!
//! A connection carries one message. Nothing is queued before the envelope is complete, so whoever stops half-way has submitted
//! nothing. An answer may come before the message is complete, and is final then, too.

use bytes::{Buf as _, Bytes};
use qmail_core::{Envelope, EnvelopeError, EnvelopeReader};

/// Longest chunk of text. A longer one ends the conversation.
pub const CHUNK_OCTETS_MAX: usize = 64 * 1024;

/// What stands before a chunk of text; for the empty chunk, the end of the text.
///
/// # Panics
///
/// A chunk above [`CHUNK_OCTETS_MAX`] is a mistake of the caller.
pub fn chunk_header(octets: usize) -> [u8; 4] {
    assert!(octets <= CHUNK_OCTETS_MAX, "a chunk has its longest");
    (octets as u32).to_be_bytes()
}

/// What stands in the place of a length where the text of a message of the queue is to be quoted.
const QUOTE: u32 = u32::from_be_bytes(*b"QUOT");

/// A text that the queue has itself: what its manager, who may not read texts, quotes in a bounce. It is for nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The number of the message.
    pub message: u64,
    /// If only its beginning is wanted: so many octets at most.
    pub octets_max: Option<u64>,
}

impl Quote {
    /// Size on the wire, behind what stands in the place of a length.
    const OCTETS: usize = 16;

    /// As it goes over the wire, in the place of a chunk. A limit of [`u64::MAX`] is none.
    pub fn to_octets(self) -> [u8; 4 + Self::OCTETS] {
        let mut octets = [0; 4 + Self::OCTETS];
        octets[..4].copy_from_slice(&QUOTE.to_be_bytes());
        octets[4..12].copy_from_slice(&self.message.to_be_bytes());
        octets[12..].copy_from_slice(&self.octets_max.unwrap_or(u64::MAX).to_be_bytes());
        octets
    }

    fn from_octets(octets: [u8; Self::OCTETS]) -> Self {
        let [message, octets_max] = [0, 8].map(|at| {
            let number = octets[at..at + 8].iter();
            number.fold(0, |number, &octet| number << 8 | u64::from(octet))
        });
        Self {
            message,
            octets_max: (octets_max != u64::MAX).then_some(octets_max),
        }
    }
}

/// The queue's side of one conversation.
///
/// ```
/// use bytes::Bytes;
/// use qmail_queue::submission::{Piece, Receiver, chunk_header};
///
/// let mut said = chunk_header(5).to_vec();
/// said.extend_from_slice(b"text\n");
/// said.extend_from_slice(&chunk_header(0));
/// said.extend_from_slice(b"Fme@here\0Tyou@there\0\0");
///
/// let mut octets = Bytes::from(said);
/// let mut receiver = Receiver::default();
/// let Some(Piece::Text(text)) = receiver.receive(&mut octets)? else { panic!() };
/// assert_eq!(text, "text\n");
/// let Some(Piece::Envelope(envelope)) = receiver.receive(&mut octets)? else { panic!() };
/// assert_eq!(envelope.sender.as_bytes(), b"me@here");
/// # Ok::<(), qmail_queue::submission::ReceiveError>(())
/// ```
#[derive(Debug, Default)]
pub struct Receiver(State);

#[derive(Debug)]
enum State {
    /// The length of a chunk, as far as it has come.
    Header([u8; 4], usize),
    /// Octets left of a chunk.
    Text(usize),
    /// A quote, as far as it has come.
    Quote([u8; Quote::OCTETS], usize),
    Envelope(EnvelopeReader),
}

impl Default for State {
    fn default() -> Self {
        Self::Header([0; 4], 0)
    }
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text of the message.
    Text(Bytes),
    /// The text of another message, which the queue has.
    Quote(Quote),
    /// The envelope: the message is complete. Whatever follows is not looked at.
    Envelope(Envelope),
}

/// Why a conversation cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A chunk above [`CHUNK_OCTETS_MAX`].
    #[error("a chunk of text is too long")]
    Chunk,
    /// As [`EnvelopeError`] says.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

impl ReceiveError {
    /// What qmail-queue(8) exits with.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Chunk => EnvelopeError::Format.exit_code(),
            Self::Envelope(error) => error.exit_code(),
        }
    }
}

impl Receiver {
    /// Takes octets from the front; gives the next piece, or nothing when all were taken and more must come.
    ///
    /// # Errors
    ///
    /// As soon as it can be told. Then, and after the envelope was given, the receiver is good for nothing more.
    pub fn receive(&mut self, octets: &mut Bytes) -> Result<Option<Piece>, ReceiveError> {
        while !octets.is_empty() {
            match &mut self.0 {
                State::Header(header, have) => {
                    header[*have] = octets.get_u8();
                    *have += 1;
                    if *have == header.len() {
                        self.0 = match u32::from_be_bytes(*header) {
                            0 => State::Envelope(EnvelopeReader::default()),
                            QUOTE => State::Quote([0; Quote::OCTETS], 0),
                            length if length as usize <= CHUNK_OCTETS_MAX => {
                                State::Text(length as usize)
                            }
                            _ => return Err(ReceiveError::Chunk),
                        };
                    }
                }
                State::Text(left) => {
                    let text = octets.split_to(octets.len().min(*left));
                    *left -= text.len();
                    if *left == 0 {
                        self.0 = State::default();
                    }
                    return Ok(Some(Piece::Text(text)));
                }
                State::Quote(quote, have) => {
                    quote[*have] = octets.get_u8();
                    *have += 1;
                    if *have == quote.len() {
                        let quote = Quote::from_octets(*quote);
                        self.0 = State::default();
                        return Ok(Some(Piece::Quote(quote)));
                    }
                }
                State::Envelope(reader) => {
                    let envelope = reader.receive(&std::mem::take(octets))?;
                    return Ok(envelope.map(Piece::Envelope));
                }
            }
        }
        Ok(None)
    }
}

/// What the queue says in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As qmail-queue(8) exits; 0 says that the message is in the queue and survives a power cut.
    pub exit_code: u8,
    /// The `qp` of the log line about the message; 0 if it was not taken.
    pub qp: u32,
}

impl Answer {
    /// Size on the wire.
    pub const OCTETS: usize = 5;

    /// As it goes over the wire.
    pub fn to_octets(self) -> [u8; Self::OCTETS] {
        let [a, b, c, d] = self.qp.to_be_bytes();
        [self.exit_code, a, b, c, d]
    }

    /// From the wire.
    pub fn from_octets(octets: [u8; Self::OCTETS]) -> Self {
        let [exit_code, a, b, c, d] = octets;
        Self {
            exit_code,
            qp: u32::from_be_bytes([a, b, c, d]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Vec<u8> {
        let mut said = Vec::new();
        for text in ["Subject: x\n", "\nbody\n"] {
            said.extend_from_slice(&chunk_header(text.len()));
            said.extend_from_slice(text.as_bytes());
        }
        said.extend_from_slice(&chunk_header(0));
        said.extend_from_slice(b"Fs@h\0Ta@b\0Tc@d\0\0more");
        said
    }

    /// Text and envelope of what comes in these pieces.
    fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<Envelope>), ReceiveError> {
        let mut receiver = Receiver::default();
        let mut text = Vec::new();
        for piece in pieces {
            let mut octets = Bytes::copy_from_slice(piece);
            while let Some(piece) = receiver.receive(&mut octets)? {
                match piece {
                    Piece::Text(chunk) => text.extend_from_slice(&chunk),
                    Piece::Quote(quote) => text.extend_from_slice(format!("{quote:?}").as_bytes()),
                    Piece::Envelope(envelope) => return Ok((text, Some(envelope))),
                }
            }
        }
        Ok((text, None))
    }

    #[test]
    fn a_message_comes_in_any_pieces() {
        let whole = whole();
        let (text, envelope) = read(&[&whole]).unwrap();
        assert_eq!(text, b"Subject: x\n\nbody\n");
        let envelope = envelope.unwrap();
        assert_eq!(envelope.recipients.len(), 2);
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            let (cut_text, cut_envelope) = read(&[head, tail]).unwrap();
            assert_eq!(
                (cut_text, cut_envelope.as_ref()),
                (text.clone(), Some(&envelope)),
                "{cut}"
            );
            let (_, without_end) = read(&[head]).unwrap();
            assert_eq!(
                without_end.is_some(),
                cut >= whole.len() - "more".len(),
                "{cut}"
            );
        }
        let one_by_one: Vec<_> = whole.chunks(1).collect();
        assert_eq!(read(&one_by_one).unwrap(), (text, Some(envelope)));
    }

    #[test]
    fn a_quote_stands_between_chunks_in_any_pieces() {
        for (octets_max, shown) in [(None, "None"), (Some(0), "Some(0)"), (Some(7), "Some(7)")] {
            let quote = Quote {
                message: 46,
                octets_max,
            };
            let said = [&chunk_header(1)[..], b"x", &quote.to_octets(), &whole()].concat();
            let whole =
                format!("xQuote {{ message: 46, octets_max: {shown} }}Subject: x\n\nbody\n");
            for cut in 0..=said.len() {
                let (text, envelope) = read(&[&said[..cut], &said[cut..]]).unwrap();
                assert_eq!(text, whole.as_bytes(), "{cut}");
                assert!(envelope.is_some());
            }
        }
    }

    #[test]
    fn hostile_frames_are_refused() {
        let long = (CHUNK_OCTETS_MAX as u32 + 1).to_be_bytes();
        assert_eq!(read(&[&long]), Err(ReceiveError::Chunk));
        assert_eq!(read(&[&[0xff; 4]]).unwrap_err().exit_code(), 91);
        let no_envelope = [&chunk_header(0)[..], b"Tx\0\0"].concat();
        assert_eq!(read(&[&no_envelope]).unwrap_err().exit_code(), 91);
        let address = [&chunk_header(0)[..], b"F", &[b'x'; 1003]].concat();
        assert_eq!(read(&[&address]).unwrap_err().exit_code(), 11);
    }

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let answer = Answer {
            exit_code: 53,
            qp: 0x0102_0304,
        };
        assert_eq!(answer.to_octets(), [53, 1, 2, 3, 4]);
        assert_eq!(Answer::from_octets(answer.to_octets()), answer);
    }
}
