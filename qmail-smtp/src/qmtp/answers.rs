//! What a server answers: one netstring for each recipient (QMTP) or package (QMQP).

use bytes::Bytes;
use qmail_core::netstring::{Decoder, Part};

use super::Answer;

/// Longest answer in octets that is taken; a longer one is none.
pub const ANSWER_OCTETS_MAX: u64 = 1_000_000;

/// Most octets of an answer that are kept; the rest is passed over.
pub const ANSWER_TEXT_OCTETS_MAX: usize = 2000;

/// What came is no answer: no netstring, or one that begins with none of `K`, `Z` and `D`. Nothing that follows can be made
/// sense of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("remote protocol violation")]
pub struct AnswerError;

/// Takes answers out of octets that come in any pieces.
///
/// ```
/// use qmail_smtp::qmtp::{Answer, Answers};
/// let mut answers = Answers::default();
/// let mut input = &b"3:Kok,5:Dnon"[..];
/// assert_eq!(answers.next(&mut input)?, Some(Answer::Accepted("ok".into())));
/// assert_eq!(answers.next(&mut input)?, None);
/// let mut input = &b"e,"[..];
/// assert_eq!(answers.next(&mut input)?, Some(Answer::Refused("none".into())));
/// # Ok::<(), qmail_smtp::qmtp::AnswerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Answers {
    decoder: Decoder,
    letter: Option<u8>,
    text: Vec<u8>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(ANSWER_OCTETS_MAX),
            letter: None,
            text: Vec::new(),
        }
    }
}

impl Answers {
    /// Takes the next answer from the start of `input`; `None` when more is needed, and then all was taken.
    ///
    /// # Errors
    ///
    /// [`AnswerError`], from then on.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, AnswerError> {
        while let Some(part) = self.decoder.next(input).map_err(|_| AnswerError)? {
            match part {
                Part::Length(_) => {
                    self.letter = None;
                    self.text = Vec::new();
                }
                Part::Octets(mut octets) => {
                    if self.letter.is_none() {
                        self.letter = octets.split_off_first().copied();
                    }
                    let room = ANSWER_TEXT_OCTETS_MAX - self.text.len();
                    self.text
                        .extend_from_slice(&octets[..octets.len().min(room)]);
                }
                Part::End => {
                    let text = Bytes::from(std::mem::take(&mut self.text));
                    return match self.letter.take() {
                        Some(b'K') => Ok(Some(Answer::Accepted(text))),
                        Some(b'Z') => Ok(Some(Answer::Deferred(text))),
                        Some(b'D') => Ok(Some(Answer::Refused(text))),
                        _ => {
                            // It stays an error: nothing can be made of this byte either.
                            let _ = self.decoder.next(&mut &b"?"[..]);
                            Err(AnswerError)
                        }
                    };
                }
            }
        }
        Ok(None)
    }

    /// Whether an answer has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.decoder.is_inside()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], size: usize) -> (Vec<Answer>, bool) {
        let mut answers = Answers::default();
        let mut found = Vec::new();
        for mut piece in input.chunks(size) {
            loop {
                match answers.next(&mut piece) {
                    Ok(Some(answer)) => found.push(answer),
                    Ok(None) => break,
                    Err(AnswerError) => {
                        assert_eq!(answers.next(&mut &b"1:K,"[..]), Err(AnswerError));
                        return (found, false);
                    }
                }
            }
        }
        (found, !answers.is_inside())
    }

    #[test]
    fn answers_are_whole_or_none() {
        let ok = || Answer::Accepted("ok".into());
        for (input, found, complete) in [
            (&b""[..], vec![], true),
            (b"3:Kok,", vec![ok()], true),
            (
                b"1:Z,1:D,",
                vec![Answer::Deferred("".into()), Answer::Refused("".into())],
                true,
            ),
            (b"2:Ko", vec![], false),
            (b"3:Kok,3:Kok", vec![ok()], false),
            (b"3:Kok,0:,", vec![ok()], false),
            (b"1:X,", vec![], false),
            (b"HTTP/1.1 400 Bad Request\r\n\r\nKeep", vec![], false),
            (b"03:Kok,", vec![], false),
            (b"9999999:K", vec![], false),
        ] {
            for size in 1..=input.len().max(1) {
                let shown = input.escape_ascii();
                assert_eq!(
                    all(input, size),
                    (found.clone(), complete),
                    "{shown} {size}"
                );
            }
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let text = vec![b'x'; 5000];
        let input = [b"5001:K", &text[..], b","].concat();
        let (found, _) = all(&input, 7);
        assert_eq!(
            found,
            [Answer::Accepted(
                text[..ANSWER_TEXT_OCTETS_MAX].to_vec().into()
            )]
        );
    }
}
