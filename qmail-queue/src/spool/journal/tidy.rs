//! What the writer does of its own accord, so that a journal takes little more room than what is alive in it, and a start reads
//! little more than the index.
//!
//! | when | what |
//! |---|---|
//! | a segment ends, and since the last snapshot there came as much as a segment and a quarter of what is alive | the index is written into the log in parts, a few with each batch: a snapshot |
//! | the next segment begins | it says that a start begins with that snapshot |
//! | a segment before the snapshot has nothing alive | its file is removed |
//! | it has less alive than a quarter of a segment, or the whole takes more than twice what is alive and two segments | what is alive in it is copied forward, a few records with each batch |

use std::collections::BTreeSet;

use super::Inner;
use super::index::{Index, Message};
use super::read::{self, Failures};
use super::record::{Frame, Kind, PAYLOAD_OCTETS_MAX, Place, Stored};
use super::replay::Replayed;
use super::segment::{Opening, path};
use super::snapshot::{self, END};
use crate::Workers;
use crate::spool::{MessageId, SpoolError};

/// Parts of a snapshot that go with one batch.
const PARTS: usize = 4;

/// What a message takes in a snapshot, about.
const SNAPSHOT_MESSAGE_OCTETS: u64 = 100;

/// Messages looked at, and octets copied forward, with one batch.
const LOOKED_AT_MAX: usize = 4096;
const MOVED_OCTETS: u64 = 256 * 1024;

/// See the module.
pub(super) struct Tidy {
    /// Where the segments that are durable say that a start begins.
    replay_from: Place,
    /// The beginning of a whole snapshot that no segment tells of yet.
    snapshot: Option<Place>,
    /// Octets of records since the last snapshot.
    since_snapshot: u64,
    /// The same of the segment that is written to.
    in_current: u64,
    taking: Option<Taking>,
    moving: Option<Moving>,
    /// Segments that cannot be emptied, because something in them cannot be read.
    stuck: BTreeSet<u32>,
    /// Whether to look for a segment that is worth emptying.
    look: bool,
    /// Segments whose files are longer than what they hold.
    loose: Vec<(u32, u32)>,
}

/// A snapshot under way.
struct Taking {
    begin: Option<Place>,
    /// The message that the next part begins with; `None` after the last part.
    next: Option<MessageId>,
}

/// A segment that is being emptied.
struct Moving {
    segment: u32,
    next: MessageId,
}

/// What of a message is to be copied forward.
enum Piece {
    Message(Stored),
    Routed(Stored),
    Notes(Vec<Stored>),
}

impl Tidy {
    pub(super) fn new(replayed: &Replayed) -> Self {
        let (number, end) = replayed.last;
        Self {
            replay_from: replayed.replay_from,
            snapshot: None,
            since_snapshot: replayed.since_snapshot,
            in_current: 0,
            taking: None,
            moving: None,
            stuck: BTreeSet::new(),
            look: false,
            loose: Vec::from_iter((number > 0 && replayed.loose).then_some((number, end))),
        }
    }

    pub(super) fn has_work(&self) -> bool {
        let taking = self.taking.as_ref();
        taking.is_some_and(|taking| taking.next.is_some()) || self.moving.is_some() || self.look
    }

    /// The disk does not take it now.
    pub(super) fn give_up(&mut self) {
        self.taking = None;
        self.moving = None;
    }

    /// Records of the next piece of work. A snapshot and a move are never in one batch: the index does not know yet of what is
    /// moved in it.
    pub(super) fn frames(&mut self, inner: &Inner) -> Vec<Frame> {
        if let Some(taking) = &mut self.taking {
            return taking.parts(&inner.index());
        }
        if self.moving.is_none() && std::mem::take(&mut self.look) {
            self.moving = self.worth_emptying(inner);
            if self.moving.is_none() && self.is_worth_a_snapshot(inner) {
                let taking = self.taking.insert(Taking::default());
                return taking.parts(&inner.index());
            }
        }
        let Some(moving) = &mut self.moving else {
            return Vec::new();
        };
        let segment = moving.segment;
        let (pieces, next) = moving.pieces(&inner.index());
        match next {
            Some(next) => moving.next = next,
            None => {
                self.moving = None;
                self.look = true;
            }
        }
        let mut frames = Vec::new();
        for (id, piece) in pieces {
            match piece.copy(inner, id) {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    inner.found_damage(path(segment), &error);
                    self.stuck.insert(segment);
                    self.moving = None;
                }
            }
        }
        frames
    }

    /// A record of so many octets got its place in the batch.
    pub(super) fn placed(&mut self, kind: Kind, place: Place, octets: usize) {
        self.in_current += octets as u64;
        if kind == Kind::Snapshot
            && let Some(taking) = &mut self.taking
        {
            taking.begin.get_or_insert(place);
        }
    }

    /// The last part of a snapshot is durable.
    pub(super) fn snapshot_taken(&mut self) {
        if let Some(taking) = self.taking.take_if(|taking| taking.next.is_none()) {
            self.snapshot = taking.begin;
            self.since_snapshot = 0;
            self.in_current = 0;
        }
    }

    /// Where the segment that begins now says that a start begins.
    pub(super) fn replay_from_next(&self, number: u32) -> Place {
        match self.snapshot {
            Some(place) => place,
            None if self.replay_from.segment == 0 => Place {
                segment: number,
                offset: 0,
            },
            None => self.replay_from,
        }
    }

    /// A segment is full.
    pub(super) fn ended(&mut self, inner: &Inner, number: u32, end: u32, octets: u64) {
        self.since_snapshot += self.in_current;
        self.in_current = 0;
        if u64::from(end) < octets - octets / 16 {
            self.loose.push((number, end));
        }
        let index = inner.index();
        let enough = inner.config.segment_octets.max(index.live() / 4);
        let due = self.since_snapshot >= enough || is_too_large(&index, inner);
        if due && self.taking.is_none() && self.snapshot.is_none() {
            self.taking = Some(Taking::default());
        }
        self.look = true;
    }

    /// Messages were removed: maybe there is something worth moving now.
    pub(super) fn removed(&mut self, inner: &Inner) {
        self.look |= is_too_large(&inner.index(), inner);
    }

    /// Whether the next segment should begin before this one is full: it would let others go.
    pub(super) fn wants_next(&self, inner: &Inner) -> bool {
        self.snapshot.is_some() && is_too_large(&inner.index(), inner)
    }

    /// Whether a snapshot now would let segments go that take too much room, and would not soon take as much itself.
    fn is_worth_a_snapshot(&self, inner: &Inner) -> bool {
        let index = inner.index();
        let own = index.len() as u64 * SNAPSHOT_MESSAGE_OCTETS;
        self.snapshot.is_none()
            && is_too_large(&index, inner)
            && self.since_snapshot + self.in_current > inner.config.segment_octets / 4 + own
    }

    /// A segment is durable, with what it says.
    pub(super) fn begun(&mut self, inner: &Inner, opening: Opening) {
        self.replay_from = opening.replay_from;
        self.snapshot.take_if(|place| *place == opening.replay_from);
        for (number, end) in std::mem::take(&mut self.loose) {
            // It only gives room back: if it fails, that is all.
            let file = inner.disk.open(&path(number), true);
            if file.and_then(|file| file.truncate(end.into())).is_ok() {
                inner.index().set_octets(number, end.into());
            }
        }
        self.sweep(inner, Some(opening.number));
    }

    /// Removes the segments that nothing needs: no start reads them, and nothing in them is alive.
    pub(super) fn sweep(&self, inner: &Inner, current: Option<u32>) {
        let mut dead = Vec::new();
        for (&number, segment) in inner.index().segments() {
            if number < self.replay_from.segment && segment.live == 0 && Some(number) != current {
                dead.push(number);
            }
        }
        for number in dead {
            inner.remove_segment(number);
        }
    }

    /// The segment that is best emptied next.
    fn worth_emptying(&self, inner: &Inner) -> Option<Moving> {
        let index = inner.index();
        let too_large = is_too_large(&index, inner);
        let candidates = index.segments().iter().filter(|&(number, segment)| {
            let sparse = segment.live < inner.config.segment_octets / 4;
            // Emptying a segment that is nearly full of what is alive gains nothing.
            let loose = too_large && segment.live < segment.octets - segment.octets / 8;
            *number < self.replay_from.segment
                && segment.live > 0
                && (sparse || loose)
                && !self.stuck.contains(number)
        });
        let (&segment, _) = candidates.min_by_key(|(_, segment)| segment.live)?;
        Some(Moving {
            segment,
            next: MessageId(0),
        })
    }
}

impl Default for Taking {
    fn default() -> Self {
        Self {
            begin: None,
            next: Some(MessageId(0)),
        }
    }
}

/// Whether the journal takes more room than it should.
fn is_too_large(index: &Index, inner: &Inner) -> bool {
    index.octets() > 2 * (index.live() + inner.config.segment_octets)
}

impl Taking {
    fn parts(&mut self, index: &Index) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(from) = self.next
            && frames.len() < PARTS
        {
            let (frame, to) = snapshot::write(index, from);
            self.next = (to < END).then_some(to);
            frames.push(frame);
        }
        frames
    }
}

impl Moving {
    /// What lies in the segment, of the next messages; and with which to go on.
    fn pieces(&self, index: &Index) -> (Vec<(MessageId, Piece)>, Option<MessageId>) {
        let mut pieces = Vec::new();
        let mut octets = 0;
        for (looked_at, (id, message)) in index.from(self.next).enumerate() {
            if looked_at == LOOKED_AT_MAX || octets >= MOVED_OCTETS {
                return (pieces, Some(id));
            }
            for piece in self.pieces_of(message) {
                octets += piece.octets();
                pieces.push((id, piece));
            }
        }
        (pieces, None)
    }

    fn pieces_of(&self, message: &Message) -> Vec<Piece> {
        let here = |stored: &Stored| stored.place.segment == self.segment;
        let mut pieces = Vec::new();
        if here(&message.record) {
            pieces.push(Piece::Message(message.record));
        }
        if let Some(routed) = &message.routed {
            if here(&routed.record) {
                pieces.push(Piece::Routed(routed.record));
            }
            if routed.notes.iter().any(here) {
                pieces.push(Piece::Notes(routed.notes.clone()));
            }
        }
        pieces
    }
}

impl Piece {
    fn octets(&self) -> u64 {
        match self {
            Self::Message(stored) | Self::Routed(stored) => stored.octets.into(),
            Self::Notes(notes) => notes.iter().map(|stored| u64::from(stored.octets)).sum(),
        }
    }

    /// The record that takes its place.
    fn copy(&self, inner: &Inner, id: MessageId) -> Result<Frame, SpoolError> {
        let mut frame = match self {
            Self::Message(stored) => copy(inner, Kind::Message, *stored)?,
            Self::Routed(stored) => copy(inner, Kind::Routed, *stored)?,
            // No record may be so long: they stay where they are, and their segment with them.
            Self::Notes(notes) if self.octets() > PAYLOAD_OCTETS_MAX as u64 => {
                return Err(read::damaged(notes[0]));
            }
            Self::Notes(notes) => {
                let mut all = Failures::new(Workers::inline());
                for &note in notes {
                    all.push(inner, note, 8)?;
                }
                let mut frame = Frame::about(Kind::Note, id);
                frame.payload_mut().extend_from_slice(&all.read_all()?);
                frame
            }
        };
        frame.moved = true;
        Ok(frame)
    }
}

fn copy(inner: &Inner, kind: Kind, stored: Stored) -> Result<Frame, SpoolError> {
    let payload = read::payload(inner, stored)?;
    let mut frame = Frame::new(kind);
    frame.payload_mut().extend_from_slice(&payload);
    Ok(frame)
}
