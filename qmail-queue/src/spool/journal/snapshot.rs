//! A part of the index as the payload of a record.
//!
//! | octets | |
//! |---|---|
//! | 0..8, 8..16 | the numbers of messages that this part tells of: from, and up to (not included) |
//! | for each message | number (8), place of its record (8), octets of that (4), size of the text (8), flags (4) |
//! | if it is routed | place and octets of that record (8, 4), birth (8), octets of failures in it (4) |
//! | for each open channel, local first | due (8), number of recipients (4), a bit for each that is done, in words of 8 octets |
//! | if it is routed | number of notes (4), place and octets of each (8, 4) |
//!
//! Flags: 1 the text has a file of its own, 2 routed, 4 local is open, 8 remote is open.

use super::index::{Index, Line, Marks, Message, RoutedMessage};
use super::payload::Reader;
use super::record::{Frame, Kind, Place, Stored};
use crate::spool::MessageId;

/// Size of a part; one message that takes more makes a larger one.
const PART_OCTETS: usize = 64 * 1024;

const IN_FILE: u32 = 1;
const ROUTED: u32 = 2;
const OPEN: [u32; 2] = [4, 8];

/// The number after the last message.
pub(super) const END: MessageId = MessageId(u64::MAX);

/// What a part says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) from: MessageId,
    pub(super) to: MessageId,
    pub(super) messages: Vec<(MessageId, Message)>,
}

/// The record of the part that begins with `from`, and where the next one begins.
pub(super) fn write(index: &Index, from: MessageId) -> (Frame, MessageId) {
    let mut frame = Frame::new(Kind::Snapshot);
    let mut part = Vec::new();
    let mut to = END;
    for (id, message) in index.from(from) {
        if part.len() >= PART_OCTETS {
            to = id;
            break;
        }
        write_message(id, message, &mut part);
    }
    let payload = frame.payload_mut();
    payload.extend_from_slice(&from.0.to_le_bytes());
    payload.extend_from_slice(&to.0.to_le_bytes());
    payload.extend_from_slice(&part);
    (frame, to)
}

fn write_message(id: MessageId, message: &Message, sink: &mut Vec<u8>) {
    let mut flags = if message.in_file { IN_FILE } else { 0 };
    if let Some(routed) = &message.routed {
        flags |= ROUTED;
        for (line, open) in routed.lines.iter().zip(OPEN) {
            flags |= if line.is_some() { open } else { 0 };
        }
    }
    sink.extend_from_slice(&id.0.to_le_bytes());
    write_stored(message.record, sink);
    sink.extend_from_slice(&message.text_octets.to_le_bytes());
    sink.extend_from_slice(&flags.to_le_bytes());
    let Some(routed) = &message.routed else {
        return;
    };
    write_stored(routed.record, sink);
    sink.extend_from_slice(&routed.birth.to_le_bytes());
    sink.extend_from_slice(&routed.failures_octets.to_le_bytes());
    for line in routed.lines.iter().flatten() {
        sink.extend_from_slice(&line.due.to_le_bytes());
        sink.extend_from_slice(&line.count.to_le_bytes());
        for word in line.done.words() {
            sink.extend_from_slice(&word.to_le_bytes());
        }
    }
    // No message has more notes than recipients.
    sink.extend_from_slice(&(routed.notes.len() as u32).to_le_bytes());
    for &note in &routed.notes {
        write_stored(note, sink);
    }
}

fn write_stored(stored: Stored, sink: &mut Vec<u8>) {
    sink.extend_from_slice(&stored.place.to_octets());
    sink.extend_from_slice(&stored.octets.to_le_bytes());
}

/// Whether a part is the last of its snapshot.
pub(super) fn is_last(payload: &[u8]) -> bool {
    payload.get(8..16) == Some(&END.0.to_le_bytes())
}

/// Reads a part; `None` if it means nothing.
pub(super) fn parse(payload: &[u8]) -> Option<Part> {
    let mut reader = Reader(payload);
    let mut part = Part {
        from: MessageId(reader.long()?),
        to: MessageId(reader.long()?),
        messages: Vec::new(),
    };
    let mut least = part.from;
    while !reader.0.is_empty() {
        let (id, message) = parse_message(&mut reader)?;
        if id < least || id >= part.to {
            return None;
        }
        least = MessageId(id.0 + 1);
        part.messages.push((id, message));
    }
    (part.from <= part.to).then_some(part)
}

fn parse_message(reader: &mut Reader<'_>) -> Option<(MessageId, Message)> {
    let id = MessageId(reader.long()?);
    let record = parse_stored(reader)?;
    let text_octets = reader.long()?;
    let flags = reader.short()?;
    let routed = if flags & ROUTED != 0 {
        Some(parse_routed(reader, flags)?)
    } else {
        None
    };
    let message = Message {
        record,
        text_octets,
        in_file: flags & IN_FILE != 0,
        routed,
    };
    Some((id, message))
}

fn parse_routed(reader: &mut Reader<'_>, flags: u32) -> Option<RoutedMessage> {
    let record = parse_stored(reader)?;
    let birth = reader.long()?;
    let failures_octets = reader.short()?;
    let mut lines = [None, None];
    for (line, open) in lines.iter_mut().zip(OPEN) {
        if flags & open != 0 {
            *line = Some(parse_line(reader)?);
        }
    }
    let count = reader.short()?;
    let notes = (0..count).map(|_| parse_stored(reader));
    Some(RoutedMessage {
        record,
        birth,
        failures_octets,
        notes: notes.collect::<Option<_>>()?,
        lines,
    })
}

fn parse_line(reader: &mut Reader<'_>) -> Option<Line> {
    let due = reader.long()?;
    let count = reader.short()?;
    // A count that was never written would take room for nothing.
    if count as usize / 8 > reader.0.len() {
        return None;
    }
    let mut done = Marks::new(count);
    for word in done.words_mut() {
        *word = reader.long()?;
    }
    Some(Line { due, count, done })
}

fn parse_stored(reader: &mut Reader<'_>) -> Option<Stored> {
    Some(Stored {
        place: Place::from_number(reader.long()?),
        octets: reader.short()?,
    })
}
