//! What is known of each message without looking at the disk: where its records are, and which of its recipients are done.
//!
//! The index is what the records say, one after the other: the writer applies each once it is durable, a start applies them
//! all again.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::payload::{MessageHead, Reader, RoutedHead};
use super::record::{Kind, Stored};
use crate::spool::{Channel, MessageId};

/// All messages, and what is alive of each segment.
#[derive(Debug, Default)]
pub(super) struct Index {
    messages: BTreeMap<MessageId, Message>,
    segments: BTreeMap<u32, Segment>,
    /// Octets of records that are needed.
    live: u64,
}

/// A segment's share.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    /// What it takes on the disk.
    pub(super) octets: u64,
    /// What of that is records that are needed.
    pub(super) live: u64,
}

/// What is known of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) record: Stored,
    pub(super) text_octets: u64,
    /// The text has a file of its own.
    pub(super) in_file: bool,
    pub(super) routed: Option<RoutedMessage>,
}

/// What is known of a routed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoutedMessage {
    pub(super) record: Stored,
    pub(super) birth: u64,
    /// Octets of failures in the record; 0 if they were told.
    pub(super) failures_octets: u32,
    /// Notes of failures that came later.
    pub(super) notes: Vec<Stored>,
    /// `None` for a closed channel.
    pub(super) lines: [Option<Line>; 2],
}

/// The recipients of an open channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) due: u64,
    pub(super) count: u32,
    pub(super) done: Marks,
}

/// A bit for each recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    Few(u64),
    Many(Box<[u64]>),
}

impl Marks {
    /// None of `count`.
    pub(super) fn new(count: u32) -> Self {
        match count {
            0..=64 => Self::Few(0),
            _ => Self::Many(vec![0; count.div_ceil(64) as usize].into()),
        }
    }

    pub(super) fn words(&self) -> &[u64] {
        match self {
            Self::Few(word) => std::slice::from_ref(word),
            Self::Many(words) => words,
        }
    }

    pub(super) fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(word) => std::slice::from_mut(word),
            Self::Many(words) => words,
        }
    }

    pub(super) fn is_set(&self, number: u32) -> bool {
        let word = self.words().get((number / 64) as usize);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn set(&mut self, number: u32) {
        if let Some(word) = self.words_mut().get_mut((number / 64) as usize) {
            *word |= 1 << (number % 64);
        }
    }
}

impl Message {
    /// The line of an open channel.
    pub(super) fn line(&self, channel: Channel) -> Option<&Line> {
        self.routed.as_ref()?.lines[channel as usize].as_ref()
    }

    /// All its records.
    pub(super) fn records(&self) -> impl Iterator<Item = Stored> {
        let routed = self.routed.iter();
        let routed = routed.flat_map(|routed| routed.notes.iter().chain([&routed.record]));
        routed.chain([&self.record]).copied()
    }
}

impl RoutedMessage {
    pub(super) fn new(record: Stored, head: &RoutedHead) -> Self {
        let line = |count: u32| {
            (count > 0).then(|| Line {
                due: head.birth,
                count,
                done: Marks::new(count),
            })
        };
        Self {
            record,
            birth: head.birth,
            failures_octets: head.failures_octets,
            notes: Vec::new(),
            lines: head.counts.map(line),
        }
    }
}

/// What a record changed beside the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// This message is gone, and its text had a file of its own.
    pub(super) orphan: Option<MessageId>,
    /// Nothing in this segment is needed any more.
    pub(super) emptied: bool,
}

/// A record whose octets are whole and mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaningless;

impl Index {
    pub(super) fn get(&self, id: MessageId) -> Option<&Message> {
        self.messages.get(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The messages from a number on.
    pub(super) fn from(&self, id: MessageId) -> impl Iterator<Item = (MessageId, &Message)> {
        let range = (Bound::Included(id), Bound::Unbounded);
        self.messages
            .range(range)
            .map(|(&id, message)| (id, message))
    }

    /// Octets of records that are needed.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn segments(&self) -> &BTreeMap<u32, Segment> {
        &self.segments
    }

    /// What all segments take on the disk.
    pub(super) fn octets(&self) -> u64 {
        self.segments.values().map(|segment| segment.octets).sum()
    }

    /// Tells what a segment takes on the disk.
    pub(super) fn set_octets(&mut self, segment: u32, octets: u64) {
        self.segments.entry(segment).or_default().octets = octets;
    }

    /// The file of a segment is gone.
    pub(super) fn forget_segment(&mut self, segment: u32) {
        self.segments.remove(&segment);
    }

    /// Does what a record says. A record about a message that is not there, or that is past that, says nothing: it was
    /// settled meanwhile, or the record that made it is damaged.
    pub(super) fn apply(
        &mut self,
        (kind, moved): (Kind, bool),
        stored: Stored,
        payload: &[u8],
    ) -> Result<Applied, Meaningless> {
        if matches!(kind, Kind::Snapshot | Kind::Stopped) {
            return Ok(Applied::default());
        }
        let mut reader = Reader(payload);
        let id = MessageId(reader.long().ok_or(Meaningless)?);
        match kind {
            Kind::Message => return self.apply_message(stored, payload),
            Kind::Settled => return Ok(self.remove(id)),
            Kind::Routed if moved => return self.move_routed(id, stored),
            Kind::Note => return Ok(self.add_note(id, moved, stored)),
            Kind::Forgotten => return Ok(self.forget_failures(id)),
            _ => {}
        }
        let Some(message) = self.messages.get_mut(&id) else {
            return Ok(Applied::default());
        };
        if kind == Kind::Routed {
            let head = RoutedHead::parse(payload).ok_or(Meaningless)?;
            if message.routed.is_none() {
                message.routed = Some(RoutedMessage::new(stored, &head));
                self.add(stored);
            }
            return Ok(Applied::default());
        }
        let channel = reader.channel().ok_or(Meaningless)?;
        let Some(routed) = &mut message.routed else {
            return Ok(Applied::default());
        };
        let line = &mut routed.lines[channel as usize];
        match (kind, line) {
            (Kind::Closed, line) => *line = None,
            (Kind::PutOff, Some(line)) => line.due = reader.long().ok_or(Meaningless)?,
            (Kind::Done, Some(line)) => {
                while let Some(number) = reader.short() {
                    line.done.set(number);
                }
            }
            _ => {}
        }
        Ok(Applied::default())
    }

    fn apply_message(&mut self, stored: Stored, payload: &[u8]) -> Result<Applied, Meaningless> {
        let head = MessageHead::parse(payload).ok_or(Meaningless)?;
        if head.envelope_at().is_none_or(|at| at > payload.len()) {
            return Err(Meaningless);
        }
        let replaced = match self.messages.get_mut(&head.id) {
            Some(message) => Some(std::mem::replace(&mut message.record, stored)),
            None => {
                let message = Message {
                    record: stored,
                    text_octets: head.text_octets,
                    in_file: head.in_file,
                    routed: None,
                };
                self.messages.insert(head.id, message);
                None
            }
        };
        self.add(stored);
        Ok(self.subtract_all(replaced))
    }

    fn move_routed(&mut self, id: MessageId, stored: Stored) -> Result<Applied, Meaningless> {
        let message = self.messages.get_mut(&id);
        let Some(routed) = message.and_then(|message| message.routed.as_mut()) else {
            return Ok(Applied::default());
        };
        let replaced = std::mem::replace(&mut routed.record, stored);
        self.add(stored);
        Ok(self.subtract_all([replaced]))
    }

    /// A moved note stands for all that were there.
    fn add_note(&mut self, id: MessageId, moved: bool, stored: Stored) -> Applied {
        let message = self.messages.get_mut(&id);
        let Some(routed) = message.and_then(|message| message.routed.as_mut()) else {
            return Applied::default();
        };
        let replaced = if moved {
            std::mem::take(&mut routed.notes)
        } else {
            Vec::new()
        };
        routed.notes.push(stored);
        self.add(stored);
        self.subtract_all(replaced)
    }

    fn forget_failures(&mut self, id: MessageId) -> Applied {
        let message = self.messages.get_mut(&id);
        let Some(routed) = message.and_then(|message| message.routed.as_mut()) else {
            return Applied::default();
        };
        routed.failures_octets = 0;
        let notes = std::mem::take(&mut routed.notes);
        self.subtract_all(notes)
    }

    fn remove(&mut self, id: MessageId) -> Applied {
        let Some(message) = self.messages.remove(&id) else {
            return Applied::default();
        };
        let applied = self.subtract_all(message.records());
        Applied {
            orphan: message.in_file.then_some(id),
            ..applied
        }
    }

    /// Puts messages in the place of all whose numbers are in a range: what a part of a snapshot says.
    pub(super) fn restore(
        &mut self,
        from: MessageId,
        to: MessageId,
        messages: Vec<(MessageId, Message)>,
    ) {
        let known: Vec<MessageId> = self.messages.range(from..to).map(|(&id, _)| id).collect();
        for id in known {
            self.remove(id);
        }
        for (id, message) in messages {
            for stored in message.records() {
                self.add(stored);
            }
            self.messages.insert(id, message);
        }
    }

    fn add(&mut self, stored: Stored) {
        let octets = u64::from(stored.octets);
        self.segments.entry(stored.place.segment).or_default().live += octets;
        self.live += octets;
    }

    fn subtract_all(&mut self, all: impl IntoIterator<Item = Stored>) -> Applied {
        let mut emptied = false;
        for stored in all {
            let octets = u64::from(stored.octets);
            let segment = self.segments.entry(stored.place.segment).or_default();
            segment.live -= octets;
            emptied |= segment.live == 0;
            self.live -= octets;
        }
        Applied {
            orphan: None,
            emptied,
        }
    }
}
