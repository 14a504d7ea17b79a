//! What a start does: reads the records since the newest snapshot, in order, into an index. Writes nothing but what it keeps
//! aside.
//!
//! | found | done |
//! |---|---|
//! | octets that are no record, but were durable once, as a record after them says | damage: told, kept aside, skipped |
//! | the same, and nothing says that they were durable; some of them are missing | the torn end of the last writes before a crash: cut off; kept aside if there are whole records behind |
//! | the same, and none is missing | told, kept aside, cut off: nobody knows whether they were promised |
//! | a snapshot that is not whole | every segment there is is read instead; a message that was settled may come back then, which is told |
//! | a segment that is missing or damaged at its beginning | the same, as far as it can be read |
//! | a segment whose beginning was never written, or that a later one does not know | the writer gave it up: left out |
//! | the newest one, its beginning damaged, and nothing says that it was durable | told, the file moved aside |

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::aside::Aside;
use super::index::Index;
use super::record::{HEADER_OCTETS, Header, Kind, Place, Stored, next_header};
use super::segment::{self, NoOpening, Opening, START};
use super::snapshot::{self, END};
use super::tail::{self, Tail};
use crate::Disk;
use crate::spool::content::read_exactly;
use crate::spool::hold::HOLD;
use crate::spool::{MessageId, SpoolError};

/// Damages that are told one by one.
const DAMAGES_MAX: usize = 1000;

/// What a start knows.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) index: Index,
    /// Number and durable end of the last segment; 0 and 0 if there is none.
    pub(super) last: (u32, u32),
    /// A number that no file has.
    pub(super) next_number: u32,
    pub(super) next_id: MessageId,
    /// Where the next start may begin.
    pub(super) replay_from: Place,
    /// Octets of records since there.
    pub(super) since_snapshot: u64,
    /// Whether what lies behind the last segment's end is of no use to anybody.
    pub(super) loose: bool,
    /// Whether all that was ever promised is known to have been there: the last writer had stopped, or nothing was written.
    pub(super) stopped: bool,
    /// Whether records were left out that may have named a text.
    pub(super) left_out: bool,
    /// Segments that do not count.
    pub(super) given_up: Vec<u32>,
    pub(super) damages: Vec<Damage>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) path: PathBuf,
    pub(super) reason: String,
}

/// Reads a journal. `aside` gets the octets of each damage.
pub(super) fn replay(disk: &dyn Disk, aside: &Aside<'_>) -> Result<Replayed, SpoolError> {
    let mut listing = Listing::read(disk)?;
    listing.move_aside(aside);
    let Some(last) = listing.last() else {
        return Ok(listing.into_replayed(Vec::new()));
    };
    let begin = last.replay_from;
    let mut reading = Reading::new(disk, aside);
    let mut chain = listing.chain(last, begin.segment, &mut reading.damages);
    for &(number, end) in &chain {
        let from = if number == begin.segment {
            begin.offset.max(START)
        } else {
            START
        };
        reading.segment(number, from, end)?;
    }
    let whole = begin.offset == 0 || reading.covered == Some(END);
    let missing = chain
        .first()
        .is_none_or(|&(number, _)| number != begin.segment);
    if !whole || missing {
        reading.damages.push(Damage {
            path: segment::path(begin.segment),
            reason: "the newest snapshot is not whole: all segments were read instead, and a message that was delivered may be delivered again".to_owned(),
        });
        (reading.index, reading.since) = (Index::default(), 0);
        chain = listing.all(last);
        for &(number, end) in &chain {
            reading.segment(number, START, end)?;
        }
    }
    let mut replayed = listing.into_replayed(reading.damages);
    replayed.index = reading.index;
    replayed.last = (last.number, reading.end);
    (replayed.loose, replayed.stopped) = (reading.loose, reading.stopped);
    replayed.left_out |= reading.left_out;
    replayed.since_snapshot = reading.since;
    replayed.next_id = last.next_id.max(reading.next_id);
    replayed.replay_from = if whole && !missing {
        begin
    } else {
        Place {
            segment: chain.first().map_or(0, |&(number, _)| number),
            offset: 0,
        }
    };
    let from = replayed.replay_from.segment;
    replayed.given_up.retain(|number| {
        let counts = chain.iter().any(|(counts, _)| counts == number);
        *number >= from && !counts
    });
    for (number, octets) in replayed_octets(disk, &replayed, &chain)? {
        replayed.index.set_octets(number, octets);
    }
    Ok(replayed)
}

/// The sizes of all segments that count or hold something that is needed.
fn replayed_octets(
    disk: &dyn Disk,
    replayed: &Replayed,
    chain: &[(u32, Option<u32>)],
) -> Result<Vec<(u32, u64)>, SpoolError> {
    let from = replayed.replay_from.segment;
    let older = list(disk)?.into_iter().filter(|&number| number < from);
    let counting = chain.iter().map(|&(number, _)| number);
    counting
        .chain(older)
        .map(|number| {
            let path = segment::path(number);
            match disk.stat(&path) {
                Ok(stat) => Ok((number, stat.octets)),
                Err(source) => Err(SpoolError::Read { path, source }),
            }
        })
        .collect()
}

/// The numbers of all segments, in order.
fn list(disk: &dyn Disk) -> Result<Vec<u32>, SpoolError> {
    let mut numbers: Vec<u32> = names(disk)?
        .iter()
        .filter_map(|name| segment::number(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn names(disk: &dyn Disk) -> Result<Vec<PathBuf>, SpoolError> {
    disk.list(Path::new("")).map_err(|source| SpoolError::Read {
        path: PathBuf::from("."),
        source,
    })
}

/// All segments, and how each begins.
struct Listing {
    openings: BTreeMap<u32, Option<Opening>>,
    /// Those whose beginning is not whole, and nothing says that it ever was.
    unproven: BTreeMap<u32, Tail>,
    /// Those of them that are not to be removed.
    kept: Vec<u32>,
    damages: Vec<Damage>,
}

impl Listing {
    fn read(disk: &dyn Disk) -> Result<Self, SpoolError> {
        let mut listing = Self {
            openings: BTreeMap::new(),
            unproven: BTreeMap::new(),
            kept: Vec::new(),
            damages: Vec::new(),
        };
        for name in names(disk)? {
            if let Some(number) = segment::number(&name) {
                let opening = listing.opening(disk, number)?;
                listing.openings.insert(number, opening);
            } else if ![segment::TEXTS, segment::DAMAGED, segment::LOCK, HOLD]
                .iter()
                .any(|ours| name == Path::new(ours))
            {
                listing.damages.push(Damage {
                    path: name,
                    reason: "it is none of ours".to_owned(),
                });
            }
        }
        listing.damages.sort_by(|a, b| a.path.cmp(&b.path));
        listing.mend(disk)?;
        Ok(listing)
    }

    /// A segment whose beginning is lost, but not what was durable in it, is given another one.
    fn mend(&mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        let mut before: Option<Opening> = None;
        for (&number, opening) in &mut self.openings {
            if opening.is_none() {
                let path = segment::path(number);
                let octets = read(disk, &path, None).map_err(|source| SpoolError::Read {
                    path: path.clone(),
                    source,
                })?;
                let written = &octets[..tail::written(&octets)];
                if !was_durable(written, number, START as usize - 1) {
                    let found = tail::of_opening(&octets, number);
                    self.unproven.insert(number, found);
                    continue;
                }
                let first = Opening {
                    number,
                    previous: 0,
                    previous_end: 0,
                    replay_from: Place {
                        segment: number,
                        offset: 0,
                    },
                    next_id: MessageId(1),
                };
                *opening = Some(before.map_or(first, |before| Opening {
                    number,
                    previous: before.number,
                    previous_end: 0,
                    ..before
                }));
                let reason = "its beginning is damaged".to_owned();
                self.damages.push(Damage { path, reason });
            }
            before = opening.or(before);
        }
        Ok(())
    }

    /// Moves away what may be a newer segment than the last one that is known to have been begun. Those before that one are
    /// read, or known not to count.
    fn move_aside(&mut self, aside: &Aside<'_>) {
        let last = self.last().map_or(0, |last| last.number);
        for (&number, &found) in self.unproven.range(last + 1..) {
            let told = match found {
                Tail::Blank | Tail::Torn { records: false } => continue,
                Tail::Torn { records: true } => false,
                Tail::Damaged => true,
            };
            self.kept.push(number);
            let moved = aside.segment(number);
            if told || moved.is_err() {
                let what = "its beginning is damaged, and nothing tells whether its messages were promised";
                let where_to = match moved {
                    Ok(path) => format!("moved to {}", path.display()),
                    Err(error) => format!("it cannot be moved to {}: {error}", segment::DAMAGED),
                };
                self.damages.push(Damage {
                    path: segment::path(number),
                    reason: format!(
                        "{what}: left out, and {where_to}; look there for what is missed"
                    ),
                });
            }
        }
    }

    fn opening(&self, disk: &dyn Disk, number: u32) -> Result<Option<Opening>, SpoolError> {
        let path = segment::path(number);
        match read(disk, &path, Some(START)).map(|octets| Opening::parse(&octets)) {
            Ok(Ok(opening)) => Ok((opening.number == number).then_some(opening)),
            Ok(Err(NoOpening::Damaged)) => Ok(None),
            Ok(Err(NoOpening::Version(found))) => Err(SpoolError::Version {
                path,
                found,
                known: segment::VERSION,
            }),
            Err(source) => Err(SpoolError::Read { path, source }),
        }
    }

    /// The last segment that was begun.
    fn last(&self) -> Option<Opening> {
        self.openings.values().rev().flatten().next().copied()
    }

    /// The segments from `first` up to the last, in order, each with its durable end; the last one's is to be found out.
    fn chain(
        &self,
        last: Opening,
        first: u32,
        damages: &mut Vec<Damage>,
    ) -> Vec<(u32, Option<u32>)> {
        let mut chain = vec![(last.number, None)];
        let mut next = last;
        while next.number > first && next.previous >= first.max(1) && next.previous < next.number {
            let number = next.previous;
            let path = segment::path(number);
            match self.openings.get(&number) {
                Some(Some(opening)) => {
                    // 0 is for a beginning that was lost.
                    let end = (next.previous_end > 0).then_some(next.previous_end);
                    chain.push((number, end));
                    next = *opening;
                }
                Some(None) | None => {
                    let reason = "it is missing, or its beginning is damaged".to_owned();
                    damages.push(Damage { path, reason });
                    break;
                }
            }
        }
        chain.reverse();
        chain
    }

    /// Every segment that counts, as far as is known.
    fn all(&self, last: Opening) -> Vec<(u32, Option<u32>)> {
        let ends: BTreeMap<u32, u32> = self
            .openings
            .values()
            .flatten()
            .map(|opening| (opening.previous, opening.previous_end))
            .collect();
        let numbers = self
            .openings
            .range(..=last.number)
            .map(|(&number, _)| number);
        numbers
            .map(|number| (number, ends.get(&number).copied()))
            .collect()
    }

    fn into_replayed(self, damages: Vec<Damage>) -> Replayed {
        let mut given_up: Vec<u32> = self.openings.keys().copied().collect();
        given_up.retain(|number| !self.kept.contains(number));
        let last = self.openings.keys().next_back();
        let mut replayed = Replayed {
            next_number: last.map_or(1, |last| last.saturating_add(1)),
            next_id: MessageId(1),
            index: Index::default(),
            last: (0, 0),
            replay_from: Place::default(),
            since_snapshot: 0,
            loose: true,
            stopped: self.openings.is_empty(),
            left_out: !self.kept.is_empty(),
            given_up,
            damages: self.damages,
        };
        replayed.damages.extend(damages);
        replayed
    }
}

/// Going through segments, record by record.
struct Reading<'a> {
    disk: &'a dyn Disk,
    aside: &'a Aside<'a>,
    index: Index,
    damages: Vec<Damage>,
    next_id: MessageId,
    /// Where the last segment read ends.
    end: u32,
    /// What lies behind that is of no use.
    loose: bool,
    left_out: bool,
    /// The last record read says that its writer stopped there.
    stopped: bool,
    since: u64,
    /// Up to which message the snapshot that was begun with is whole; `None` before its first part.
    covered: Option<MessageId>,
}

impl<'a> Reading<'a> {
    fn new(disk: &'a dyn Disk, aside: &'a Aside<'a>) -> Self {
        Self {
            disk,
            aside,
            index: Index::default(),
            damages: Vec::new(),
            next_id: MessageId(1),
            end: START,
            loose: true,
            left_out: false,
            stopped: false,
            since: 0,
            covered: None,
        }
    }

    /// Reads a segment from `from` to its end, if that is known.
    fn segment(&mut self, number: u32, from: u32, end: Option<u32>) -> Result<(), SpoolError> {
        let path = segment::path(number);
        let octets = read(self.disk, &path, end).map_err(|source| SpoolError::Read {
            path: path.clone(),
            source,
        })?;
        if let Some(end) = end
            && octets.len() < end as usize
        {
            self.damages.push(Damage {
                path,
                reason: format!("it ends at octet {} instead of {end}", octets.len()),
            });
        }
        let mut at = from as usize;
        let mut stop = None;
        let written = match end {
            Some(_) => octets.len(),
            None => tail::written(&octets),
        };
        // Whatever is not zero: no header is anywhere else.
        let log = &octets[..written];
        while at < octets.len() {
            let place = Place {
                segment: number,
                offset: at as u32,
            };
            let header = Header::parse(&octets[at..], place);
            if let Some(header) = header
                && let Some(payload) = header.payload(&octets[at..])
            {
                let stored = Stored {
                    place,
                    octets: header.octets() as u32,
                };
                if header.kind == Kind::Stopped {
                    stop = Some(at);
                } else if !self.record(header, stored, payload) {
                    let end = octets.len().min(at + header.octets());
                    self.damage(place, &octets[at..end], "a record means nothing");
                }
                at += header.octets();
                continue;
            }
            if end.is_none() && at >= written {
                break;
            }
            // With a header that is whole the damage has an end.
            let search = at + header.map_or(1, |header| header.octets());
            if end.is_none() && !was_durable(log, number, at) {
                let found = tail::of_records(&octets, number, at, header, written);
                self.tail(place, &log[at..], found);
                break;
            }
            let next = next_header(log, number, search).map(|(next, _)| next);
            let damaged_to = next.unwrap_or(written);
            self.damage(place, &octets[at..damaged_to], "records are damaged");
            at = damaged_to;
        }
        // A stop is only of use to the start that finds it.
        self.stopped = stop.is_some_and(|stop| stop + HEADER_OCTETS == at);
        if let Some(stop) = stop.filter(|_| self.stopped) {
            at = stop;
        }
        self.end = at.min(octets.len()) as u32;
        self.since += (self.end - from.min(self.end)) as u64;
        Ok(())
    }

    /// Takes in a record; `false` if it means nothing.
    fn record(&mut self, header: Header, stored: Stored, payload: &[u8]) -> bool {
        if header.kind != Kind::Snapshot {
            if header.kind == Kind::Message
                && let Some(head) = super::payload::MessageHead::parse(payload)
            {
                self.next_id = self.next_id.max(MessageId(head.id.0.saturating_add(1)));
            }
            let kind = (header.kind, header.moved);
            return self.index.apply(kind, stored, payload).is_ok();
        }
        let Some(part) = snapshot::parse(payload) else {
            return false;
        };
        // Once one snapshot was whole, the index is; a later one can be that, too.
        let next = part.from == MessageId(0) || Some(part.from) == self.covered;
        if next && self.covered != Some(END) {
            self.covered = Some(part.to);
        }
        self.index.restore(part.from, part.to, part.messages);
        true
    }

    /// What the log ends with.
    fn tail(&mut self, place: Place, octets: &[u8], found: Tail) {
        match found {
            Tail::Blank | Tail::Torn { records: false } => {}
            // Nothing of it was promised; but somebody who misses something may want to look.
            Tail::Torn { records: true } => {
                self.left_out = true;
                self.loose = self.aside.octets(place, octets).is_ok();
            }
            Tail::Damaged => {
                let reason =
                    "the last writes are damaged, and nothing tells whether they were promised";
                self.loose = self.damage(place, octets, reason);
            }
        }
    }

    /// Whether the octets are kept.
    fn damage(&mut self, place: Place, octets: &[u8], reason: &str) -> bool {
        self.left_out = true;
        let kept = self.aside.octets(place, octets);
        let (count, from) = (octets.len(), place.offset);
        let where_to = match &kept {
            Ok(path) => format!("kept in {}", path.display()),
            Err(error) => format!("they cannot be kept in {}: {error}", segment::DAMAGED),
        };
        let damage = Damage {
            path: segment::path(place.segment),
            reason: format!(
                "{reason}: {count} octets from {from} on; skipped, and {where_to}; look there for what is missed"
            ),
        };
        // All may be read twice.
        if self.damages.len() < DAMAGES_MAX && !self.damages.contains(&damage) {
            self.damages.push(damage);
        }
        kept.is_ok()
    }
}

/// Reads a segment up to `end`, or whole.
fn read(disk: &dyn Disk, path: &Path, end: Option<u32>) -> io::Result<bytes::Bytes> {
    let file = disk.open(path, false)?;
    let whole = file.stat()?.octets;
    let octets = end.map_or(whole, |end| whole.min(end.into()));
    read_exactly(&*file, 0, octets)
}

/// Whether a record after `at` tells that what is there was durable when it was written.
fn was_durable(octets: &[u8], number: u32, at: usize) -> bool {
    let mut from = at + 1;
    while let Some((next, header)) = next_header(octets, number, from) {
        if header.synced as usize > at {
            return true;
        }
        from = next + header.octets();
    }
    false
}
