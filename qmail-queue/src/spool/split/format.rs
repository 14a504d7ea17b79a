//! What the files of a message hold: sequences of records, a letter and a text that ends in NUL.
//!
//! | file | records |
//! |---|---|
//! | `intd`, `todo` | `u` uid, `p` pid, `F` sender, `T` recipient, in this order |
//! | `info` | `F` sender |
//! | `local`, `remote` | `T` recipient not done, `D` recipient done |
//!
//! A file has no mark of its end: an envelope is complete because it is named in `todo`.

use bytes::Bytes;
use qmail_core::{ADDRESS_OCTETS_MAX, Address, AddressError, Envelope, ReversePath};

use crate::DiskFile;

/// Longest record of an address in octets: letter, address, NUL.
pub const RECORD_OCTETS_MAX: usize = ADDRESS_OCTETS_MAX + 2;

/// Why octets are not what a file of the queue must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file ends inside a record.
    #[error("the last record has no end")]
    Torn,
    /// A letter that means nothing here.
    #[error("unknown record type {:?}", char::from(*letter))]
    UnknownRecord {
        /// The letter.
        letter: u8,
    },
    /// No sender, or a second one.
    #[error("there must be one sender")]
    Sender,
    /// The text of a `u` or `p` record is no number.
    #[error("a number is damaged")]
    Number,
    /// An address that the queue cannot hold.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// An envelope as a file in `todo` holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TodoEnvelope {
    /// User id of who brought the message.
    pub uid: u32,
    /// Process of qmail-queue.
    pub pid: u32,
    /// Sender and recipients.
    pub envelope: Envelope,
}

/// Appends the head of an envelope: everything but its recipients, which [`write_recipient`] appends.
pub fn write_envelope_head(uid: u32, pid: u32, sender: &ReversePath, sink: &mut Vec<u8>) {
    sink.extend_from_slice(format!("u{uid}\0p{pid}\0").as_bytes());
    write_sender(sender, sink);
}

/// Appends a sender: the head's end, and all of an `info` file.
pub fn write_sender(sender: &ReversePath, sink: &mut Vec<u8>) {
    write_record(b'F', sender.as_bytes(), sink);
}

/// Appends a recipient that is not done.
pub fn write_recipient(recipient: &Address, sink: &mut Vec<u8>) {
    write_record(b'T', recipient.as_bytes(), sink);
}

fn write_record(letter: u8, text: &[u8], sink: &mut Vec<u8>) {
    sink.push(letter);
    sink.extend_from_slice(text);
    sink.push(0);
}

/// Parses a whole file of `todo`. The addresses share its octets.
///
/// ```
/// use qmail_queue::split::format::parse_todo;
/// let todo = parse_todo(b"u500\0p77\0Fme@here\0Tyou@there\0".as_slice().into())?;
/// assert_eq!((todo.uid, todo.pid), (500, 77));
/// assert_eq!(todo.envelope.recipients[0].domain(), Some(&b"there"[..]));
/// # Ok::<(), qmail_queue::split::format::FormatError>(())
/// ```
///
/// # Errors
///
/// The octets are no envelope. Missing `u` and `p` records are read as 0, as they always were.
pub fn parse_todo(mut octets: Bytes) -> Result<TodoEnvelope, FormatError> {
    let mut todo = TodoEnvelope::default();
    let mut sender = None;
    while let Some(record) = split_record(&mut octets)? {
        match record.letter {
            b'u' => todo.uid = parse_number(&record.text)?,
            b'p' => todo.pid = parse_number(&record.text)?,
            b'F' if sender.is_some() => return Err(FormatError::Sender),
            b'F' => sender = Some(ReversePath::new(record.text)?),
            b'T' => todo.envelope.recipients.push(Address::new(record.text)?),
            letter => return Err(FormatError::UnknownRecord { letter }),
        }
    }
    todo.envelope.sender = sender.ok_or(FormatError::Sender)?;
    Ok(todo)
}

/// Parses a whole file of `info`.
///
/// # Errors
///
/// The octets are not one sender.
pub fn parse_info(mut octets: Bytes) -> Result<ReversePath, FormatError> {
    let Some(record) = split_record(&mut octets)? else {
        return Err(FormatError::Sender);
    };
    match record.letter {
        b'F' if octets.is_empty() => Ok(ReversePath::new(record.text)?),
        b'F' => Err(FormatError::Sender),
        letter => Err(FormatError::UnknownRecord { letter }),
    }
}

/// A record of `local` or `remote`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientRecord {
    /// Who.
    pub address: Address,
    /// Whether it is marked `D`.
    pub done: bool,
    /// Size of the record: the next begins so much further on.
    pub octets: usize,
}

/// Takes the first record off the front of a part of a `local` or `remote` file; `None` if there is no whole record. What is
/// left then is to be looked at again with more octets, and is damage if there are no more.
///
/// # Errors
///
/// The octets are not recipients. No more than [`RECORD_OCTETS_MAX`] octets are ever needed to tell.
pub fn split_recipient(octets: &mut Bytes) -> Result<Option<RecipientRecord>, FormatError> {
    let record = match split_record(octets) {
        Err(FormatError::Torn) if octets.len() < RECORD_OCTETS_MAX => return Ok(None),
        Err(FormatError::Torn) => return Err(AddressError::TooLong.into()),
        record => record?,
    };
    let Some(record) = record else {
        return Ok(None);
    };
    let done = match record.letter {
        b'T' => false,
        b'D' => true,
        letter => return Err(FormatError::UnknownRecord { letter }),
    };
    Ok(Some(RecipientRecord {
        octets: record.text.len() + 2,
        address: Address::new(record.text)?,
        done,
    }))
}

/// Recipients are read in pieces of this size, after a first one that does for most messages.
const READ_OCTETS: usize = 64 * 1024;
const FIRST_READ_OCTETS: usize = 4096;

/// Why recipients cannot be read.
#[derive(Debug)]
pub(in crate::spool) enum ReadError {
    Io(std::io::Error),
    Format(FormatError),
}

/// Reads up to `max` recipients, from `from` on; they end at `end` or with the file. Fewer than `max` means that there are no
/// more. Blocks.
pub(in crate::spool) fn read_recipients(
    file: &dyn DiskFile,
    from: u64,
    end: u64,
    max: usize,
) -> Result<Vec<RecipientRecord>, ReadError> {
    let mut found = Vec::new();
    let mut at = from;
    let mut rest = Bytes::new();
    let mut piece = FIRST_READ_OCTETS;
    while found.len() < max {
        if let Some(record) = split_recipient(&mut rest).map_err(ReadError::Format)? {
            found.push(record);
            continue;
        }
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut room = vec![0; rest.len() + piece.min(left)];
        piece = READ_OCTETS;
        room[..rest.len()].copy_from_slice(&rest);
        let read = file.read_at(&mut room[rest.len()..], at);
        let count = read.map_err(ReadError::Io)?;
        if count == 0 {
            if rest.is_empty() {
                break;
            }
            return Err(ReadError::Format(FormatError::Torn));
        }
        at += count as u64;
        room.truncate(rest.len() + count);
        rest = room.into();
    }
    Ok(found)
}

struct Record {
    letter: u8,
    text: Bytes,
}

/// Takes a record off the front; `None` at the end. Leaves the octets alone if they are torn.
fn split_record(octets: &mut Bytes) -> Result<Option<Record>, FormatError> {
    let Some(&letter) = octets.first() else {
        return Ok(None);
    };
    let end = memchr::memchr(0, octets).ok_or(FormatError::Torn)?;
    if end == 0 {
        // A NUL where a letter should be: as when a file was not written but only made longer.
        return Err(FormatError::UnknownRecord { letter });
    }
    let text = octets.slice(1..end);
    bytes::Buf::advance(octets, end + 1);
    Ok(Some(Record { letter, text }))
}

fn parse_number(digits: &[u8]) -> Result<u32, FormatError> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(FormatError::Number);
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(FormatError::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn envelopes_are_written_as_the_classic_programs_do() {
        let mut sink = Vec::new();
        let sender = ReversePath::new("me@here").unwrap();
        write_envelope_head(500, 77, &sender, &mut sink);
        write_recipient(&Address::new("you@there").unwrap(), &mut sink);
        assert_eq!(sink, b"u500\0p77\0Fme@here\0Tyou@there\0");
        sink.clear();
        write_envelope_head(0, 1, &ReversePath::Null, &mut sink);
        assert_eq!(sink, b"u0\0p1\0F\0");
    }

    #[test]
    fn damaged_envelopes_are_told() {
        use FormatError::*;
        for (text, error) in [
            ("", Sender),
            ("u1\0p2\0", Sender),
            ("u1\0p2\0Fa\0Fb\0", Sender),
            ("u1\0p2\0Fa", Torn),
            ("u1\0p2\0Fa\0T", Torn),
            ("u1\0p2\0Fa\0Tb\0x", Torn),
            ("u1\0p2\0Fa\0Xb\0", UnknownRecord { letter: b'X' }),
            ("u1\0p2\0Fa\0Db\0", UnknownRecord { letter: b'D' }),
            ("\0\0\0\0", UnknownRecord { letter: 0 }),
            ("ux\0p2\0Fa\0", Number),
            ("u\0p2\0Fa\0", Number),
            ("u+1\0p2\0Fa\0", Number),
            ("u4294967296\0p2\0Fa\0", Number),
        ] {
            assert_eq!(parse_todo(bytes(text)), Err(error), "{text:?}");
        }
        let long = [b"Fa\0T".as_slice(), &[b'x'; 1003], b"\0"].concat();
        let error = Address(AddressError::TooLong);
        assert_eq!(parse_todo(long.into()), Err(error));
        // Classic readers do not need the first two records.
        assert!(parse_todo(bytes("F\0")).is_ok());
    }

    #[test]
    fn an_info_file_is_one_sender() {
        for (text, sender) in [
            ("F\0", Ok("")),
            ("Fa@b\0", Ok("a@b")),
            ("", Err(FormatError::Sender)),
            ("Fa\0Fb\0", Err(FormatError::Sender)),
            ("Fa", Err(FormatError::Torn)),
            ("Ta\0", Err(FormatError::UnknownRecord { letter: b'T' })),
        ] {
            let parsed = parse_info(bytes(text));
            let parsed = parsed.as_ref().map(ReversePath::as_bytes);
            assert_eq!(parsed, sender.as_ref().map(|text| text.as_bytes()));
        }
    }

    #[test]
    fn recipients_come_one_by_one_from_any_piece() {
        let whole = bytes("Ta@b\0Dc@d\0T\0");
        for cut in 0..=whole.len() {
            let mut found = Vec::new();
            let mut rest = whole.slice(..cut);
            while let Some(record) = split_recipient(&mut rest).unwrap() {
                found.push(record);
            }
            let mut rest = Bytes::from([&rest[..], &whole[cut..]].concat());
            while let Some(record) = split_recipient(&mut rest).unwrap() {
                found.push(record);
            }
            assert!(rest.is_empty());
            let shown: Vec<_> = found
                .iter()
                .map(|one| (one.address.as_bytes(), one.done, one.octets))
                .collect();
            assert_eq!(
                shown,
                [(&b"a@b"[..], false, 5), (b"c@d", true, 5), (b"", false, 2)]
            );
        }
        assert!(split_recipient(&mut bytes("Fx\0")).is_err());
        assert!(split_recipient(&mut bytes("\0")).is_err());
        let endless = Bytes::from(vec![b'T'; RECORD_OCTETS_MAX]);
        assert!(split_recipient(&mut endless.clone()).is_err());
        assert_eq!(split_recipient(&mut endless.slice(1..)), Ok(None));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            uid: u32,
            pid: u32,
            sender in proptest::collection::vec(1..=255_u8, 0..40),
            recipients in proptest::collection::vec(proptest::collection::vec(1..=255_u8, 0..40), 0..9),
        ) {
            let envelope = Envelope::new(
                ReversePath::new(sender).unwrap(),
                recipients.into_iter().map(|to| Address::new(to).unwrap()).collect(),
            );
            let mut sink = Vec::new();
            write_envelope_head(uid, pid, &envelope.sender, &mut sink);
            for to in &envelope.recipients {
                write_recipient(to, &mut sink);
            }
            let todo = TodoEnvelope { uid, pid, envelope };
            prop_assert_eq!(parse_todo(sink.into()), Ok(todo));
        }

        #[test]
        fn no_octets_are_too_bad(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let octets = Bytes::from(octets);
            let _ = parse_todo(octets.clone());
            let _ = parse_info(octets.clone());
            let mut rest = octets;
            while let Ok(Some(_)) = split_recipient(&mut rest) {}
        }
    }
}
