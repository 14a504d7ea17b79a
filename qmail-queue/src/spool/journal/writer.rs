//! The one who writes: all records that wait become one write and one sync.
//!
//! | step | durable after it |
//! |---|---|
//! | the records that wait are put one after the other, into one write | nothing yet |
//! | the segment is synced (a new one with the directory that names it) | all of them |
//! | the index is told, then the callers | |
//!
//! A record never spans two segments. When one is full the next begins, which says where that one ends; its file was made
//! ahead, with room on the disk for all of it, so that a full disk refuses new messages while there is still room to write down
//! what becomes of the old ones.
//!
//! After an error of a write or a sync nobody knows what of the batch is durable. All its callers are told of the error, and the
//! next segment is begun at once: it says that the failed one ends where the batch began.
//!
//! Whoever stops cleanly writes that down behind all that is durable, and makes it durable, too. So the next start knows that
//! what is not whole there was changed, and not torn.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;

use super::Inner;
use super::draft::TextFile;
use super::record::{Frame, Kind, Place, Stored};
use super::replay::Replayed;
use super::segment::{Opening, START, path};
use super::snapshot;
use super::tidy::Tidy;
use crate::DiskFile;
use crate::spool::gather::{Served, copy_error, now};
use crate::spool::{MessageId, SpoolError};

/// Most octets of one write, if it has more than one record: what a batch takes in memory, and how long it keeps others
/// waiting.
const BATCH_OCTETS_MAX: usize = 8 << 20;

/// How many zeros are written ahead of the records, at a time. A file system notes of room that was promised, but never written,
/// what of it has been written since: so each sync would write that down as well. This way one in hundreds does.
const ZEROS: u64 = 256 << 10;

/// Mail is nobody's business but its owner's.
const SEGMENT_MODE: u32 = 0o600;

/// Where a disk is too full for a whole segment, ever smaller parts of one are tried.
const SMALLER: [u64; 5] = [1, 8, 64, 512, 4096];

/// Names that are tried for a new segment.
const TRIES: usize = 9;

/// A record that somebody waits for.
pub(super) struct Job {
    pub(super) frame: Frame,
    /// `false` if it is enough that it was written.
    pub(super) durable: bool,
    waiter: Waiter,
}

/// Who waits for a record.
struct Waiter {
    /// The file that the record names; it is removed if the record is refused.
    text: Option<TextFile>,
    answer: oneshot::Sender<Result<(), SpoolError>>,
}

impl Job {
    pub(super) fn new(frame: Frame) -> (Self, oneshot::Receiver<Result<(), SpoolError>>) {
        let (answer, result) = oneshot::channel();
        let job = Self {
            frame,
            durable: true,
            waiter: Waiter { text: None, answer },
        };
        (job, result)
    }

    /// It is not to be written.
    pub(super) fn refuse(self, error: SpoolError) {
        self.waiter.refuse(error);
    }

    /// The text that the record names.
    pub(super) fn with_text(mut self, text: Option<TextFile>) -> Self {
        self.waiter.text = text;
        self
    }
}

impl Waiter {
    /// Nothing was written.
    fn refuse(self, error: SpoolError) {
        drop(self.text);
        let _ = self.answer.send(Err(error));
    }

    /// With an error: what was written may count or not, and a file that it names stays until a start knows.
    fn answer(self, result: Result<(), SpoolError>) {
        if let Some(text) = self.text {
            text.keep();
        }
        let _ = self.answer.send(result);
    }
}

/// What only the one who writes knows.
pub(super) struct Writer {
    current: Option<Current>,
    spare: Option<Spare>,
    next_number: u32,
    /// The last segment before the current one that counts, and its durable end.
    previous: (u32, u32),
    pub(super) tidy: Tidy,
    batch: Batch,
}

/// The segment that is written to.
struct Current {
    number: u32,
    file: Arc<dyn DiskFile>,
    octets: u64,
    /// Where the batch goes.
    end: u32,
    /// Up to where everything is durable.
    synced: u32,
    /// Up to where something was written, be it zeros.
    filled: u64,
    /// How it begins, while nothing of it is durable.
    opening: Option<Opening>,
}

/// The file of the segment after that.
struct Spare {
    number: u32,
    file: Box<dyn DiskFile>,
    octets: u64,
}

/// What is written next.
#[derive(Default)]
struct Batch {
    octets: Vec<u8>,
    items: Vec<Item>,
    durable: bool,
}

struct Item {
    frame: Frame,
    stored: Stored,
    /// `None` for the writer's own.
    waiter: Option<Waiter>,
}

impl Writer {
    pub(super) fn new(replayed: &Replayed) -> Self {
        Self {
            current: None,
            spare: None,
            next_number: replayed.next_number,
            previous: replayed.last,
            tidy: Tidy::new(replayed),
            batch: Batch::default(),
        }
    }

    /// Writes what waits, after a piece of the writer's own work.
    pub(super) fn serve(&mut self, inner: &Inner, jobs: Vec<Job>) -> Served<Job> {
        let mut took = Duration::ZERO;
        let own = self.tidy.frames(inner);
        self.batch.durable |= !own.is_empty();
        for frame in own {
            if !self.add(inner, frame, None, &mut took) {
                // There is no room for more order.
                self.tidy.give_up();
                break;
            }
        }
        for job in jobs {
            // A caller that has gone away has not been told yes: it is spared the duplicate.
            if job.frame.kind == Kind::Message && job.waiter.answer.is_canceled() {
                continue;
            }
            if self.add(inner, job.frame, Some(job.waiter), &mut took) {
                self.batch.durable |= job.durable;
            }
        }
        self.flush(inner, &mut took);
        if self.tidy.wants_next(inner) && self.begin_next(inner, 0).is_ok() {
            self.flush(inner, &mut took);
        }
        Served {
            further: Vec::new(),
            took,
            again: self.tidy.has_work(),
        }
    }

    /// Puts a record into the batch; `false` if it was refused.
    fn add(
        &mut self,
        inner: &Inner,
        frame: Frame,
        waiter: Option<Waiter>,
        took: &mut Duration,
    ) -> bool {
        let place = match self.place(inner, &frame, took) {
            Ok(place) => place,
            Err(error) => {
                if let Some(waiter) = waiter {
                    waiter.refuse(error);
                }
                return false;
            }
        };
        let synced = self.current.as_ref().map_or(0, |current| current.synced);
        frame.write(place, synced, &mut self.batch.octets);
        self.tidy.placed(frame.kind, place, frame.octets());
        let stored = Stored {
            place,
            octets: frame.octets() as u32,
        };
        self.batch.items.push(Item {
            frame,
            stored,
            waiter,
        });
        true
    }

    /// Where a record goes.
    fn place(
        &mut self,
        inner: &Inner,
        frame: &Frame,
        took: &mut Duration,
    ) -> Result<Place, SpoolError> {
        let size = frame.octets();
        if !self.batch.items.is_empty() && self.batch.octets.len() + size > BATCH_OCTETS_MAX {
            self.flush(inner, took);
        }
        if self.room() < size as u64 {
            self.flush(inner, took);
            self.begin_next(inner, size as u64)?;
        }
        // Of what is left when the disk is full, new messages get nothing.
        if frame.kind == Kind::Message && !frame.moved && self.is_low(size as u64) {
            self.make_spare(inner, 0)?;
        }
        match &self.current {
            Some(current) => Ok(Place {
                segment: current.number,
                offset: current.end + self.batch.octets.len() as u32,
            }),
            None => Err(self.broken()),
        }
    }

    /// What is left of the current segment.
    fn room(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| {
            let end = u64::from(current.end) + self.batch.octets.len() as u64;
            current.octets.saturating_sub(end)
        })
    }

    /// Whether the last quarter of the segment is reached.
    fn is_low(&self, size: u64) -> bool {
        let octets = self.current.as_ref().map_or(0, |current| current.octets);
        self.room() < octets / 4 + size
    }

    fn broken(&self) -> SpoolError {
        SpoolError::Write {
            path: path(self.next_number),
            source: io::Error::other("no segment can be written to"),
        }
    }

    /// Ends the current segment, and begins one that has room for a record of this size. The batch is empty before, and has
    /// the beginning of the segment afterwards.
    fn begin_next(&mut self, inner: &Inner, size: u64) -> Result<(), SpoolError> {
        let needed = size + u64::from(START);
        if self
            .spare
            .as_ref()
            .is_some_and(|spare| spare.octets < needed)
            && let Some(spare) = self.spare.take()
        {
            inner.remove_segment(spare.number);
        }
        self.make_spare(inner, needed)?;
        let Some(spare) = self.spare.take() else {
            return Err(self.broken());
        };
        if let Some(mut ended) = self.current.take() {
            if ended.end > ended.synced && inner.disk.sync(&[&*ended.file], &[]).is_ok() {
                ended.synced = ended.end;
            }
            self.previous = (ended.number, ended.synced);
            self.tidy
                .ended(inner, ended.number, ended.end, ended.octets);
        }
        let opening = Opening {
            number: spare.number,
            previous: self.previous.0,
            previous_end: self.previous.1,
            replay_from: self.tidy.replay_from_next(spare.number),
            next_id: inner.next_id(),
        };
        self.batch.octets.extend_from_slice(&opening.to_octets());
        self.current = Some(Current {
            number: spare.number,
            file: spare.file.into(),
            octets: spare.octets,
            end: 0,
            synced: 0,
            filled: 0,
            opening: Some(opening),
        });
        Ok(())
    }

    /// Makes the file of the next segment, if there is none, as large as segments are but for at least `needed`.
    fn make_spare(&mut self, inner: &Inner, needed: u64) -> Result<(), SpoolError> {
        if self.spare.is_some() {
            return Ok(());
        }
        let (number, file) = self.create_segment(inner)?;
        let least = needed.max(u64::from(START) * 2);
        let mut result = Ok(0);
        for part in SMALLER {
            let octets = (inner.config.segment_octets / part).max(least);
            result = file.allocate(octets).map(|()| octets);
            if !matches!(&result, Err(error) if is_full(error)) {
                break;
            }
        }
        match result {
            Ok(octets) => {
                inner.index().set_octets(number, octets);
                self.spare = Some(Spare {
                    number,
                    file,
                    octets,
                });
                Ok(())
            }
            Err(source) => {
                inner.remove_segment(number);
                let path = path(number);
                Err(SpoolError::Write { path, source })
            }
        }
    }

    fn create_segment(&mut self, inner: &Inner) -> Result<(u32, Box<dyn DiskFile>), SpoolError> {
        let mut tries = TRIES;
        loop {
            let number = self.next_number;
            match inner.disk.create(&path(number), SEGMENT_MODE) {
                Ok(file) => {
                    self.next_number += 1;
                    return Ok((number, file));
                }
                // One that could not be removed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries > 1 => {
                    self.next_number += 1;
                    tries -= 1;
                }
                Err(source) => {
                    let path = path(number);
                    return Err(SpoolError::Write { path, source });
                }
            }
        }
    }

    /// Writes and syncs the batch, tells the index and the callers.
    fn flush(&mut self, inner: &Inner, took: &mut Duration) {
        if self.batch.octets.is_empty() {
            self.batch.durable = false;
            return;
        }
        let start = now();
        let result = self.write_batch(inner);
        *took += now() - start;
        let items = std::mem::take(&mut self.batch.items);
        match result {
            Ok(()) => self.apply(inner, items),
            Err((path, error)) => {
                self.tidy.give_up();
                self.abandon(inner);
                for waiter in items.into_iter().filter_map(|item| item.waiter) {
                    let (path, source) = (path.clone(), copy_error(&error));
                    waiter.answer(Err(SpoolError::Write { path, source }));
                }
            }
        }
    }

    fn write_batch(&mut self, inner: &Inner) -> Result<(), (std::path::PathBuf, io::Error)> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let mut octets = std::mem::take(&mut self.batch.octets);
        let length = octets.len() as u32;
        let durable = std::mem::take(&mut self.batch.durable) || current.opening.is_some();
        let root = [Path::new("")];
        let directories = if current.opening.is_some() {
            &root[..]
        } else {
            &[]
        };
        let end = u64::from(current.end) + u64::from(length);
        if end > current.filled {
            current.filled = (end + ZEROS).min(current.octets);
            octets.resize((current.filled - u64::from(current.end)) as usize, 0);
        }
        let mut written = current.file.write_at(&octets, current.end.into());
        if durable {
            written = written.and_then(|()| inner.disk.sync(&[&*current.file], directories));
        }
        // Its room serves the next batch.
        if octets.capacity() <= BATCH_OCTETS_MAX {
            self.batch.octets = octets;
            self.batch.octets.clear();
        }
        written.map_err(|error| (path(current.number), error))?;
        current.end += length;
        if durable {
            current.synced = current.end;
        }
        if let Some(opening) = current.opening.take() {
            // A file that was made is synced with its times; one that was opened need not be.
            if let Ok(file) = inner.disk.open(&path(current.number), true) {
                current.file = file.into();
            }
            inner.begin_segment(current.number, Arc::clone(&current.file));
            self.tidy.begun(inner, opening);
        }
        Ok(())
    }

    /// What was written is so.
    fn apply(&mut self, inner: &Inner, items: Vec<Item>) {
        let (mut emptied, mut removed) = (false, false);
        let mut orphans: Vec<MessageId> = Vec::new();
        let mut index = inner.index();
        for item in &items {
            let kind = (item.frame.kind, item.frame.moved);
            // What we have made ourselves means something.
            let applied = index.apply(kind, item.stored, item.frame.payload());
            let applied = applied.unwrap_or_default();
            emptied |= applied.emptied;
            removed |= kind.0 == Kind::Settled;
            orphans.extend(applied.orphan);
            if kind.0 == Kind::Snapshot && snapshot::is_last(item.frame.payload()) {
                self.tidy.snapshot_taken();
            }
        }
        drop(index);
        for waiter in items.into_iter().filter_map(|item| item.waiter) {
            waiter.answer(Ok(()));
        }
        inner.remove_texts(orphans);
        if removed {
            self.tidy.removed(inner);
        }
        if emptied {
            let current = self.current.as_ref().map(|current| current.number);
            self.tidy.sweep(inner, current);
        }
    }

    /// Writes down that all of it is durable, and ends the segment. It may be gone on with: in the next one.
    pub(super) fn close(&mut self, inner: &Inner) -> Result<(), SpoolError> {
        let result = match &self.current {
            Some(_) => self.write_stop(inner),
            None => Ok(()),
        };
        self.batch = Batch::default();
        if let Some(stopped) = self.current.take()
            && stopped.opening.is_none()
        {
            self.previous = (stopped.number, stopped.synced);
            self.tidy
                .ended(inner, stopped.number, stopped.synced, stopped.octets);
        }
        if let Some(spare) = self.spare.take() {
            inner.remove_segment(spare.number);
        }
        result
    }

    fn write_stop(&mut self, inner: &Inner) -> Result<(), SpoolError> {
        let frame = Frame::new(Kind::Stopped);
        if self.room() < frame.octets() as u64 {
            self.begin_next(inner, frame.octets() as u64)?;
            let mut took = Duration::ZERO;
            self.flush(inner, &mut took);
        }
        let broken = self.broken();
        let Some(current) = &mut self.current else {
            return Err(broken);
        };
        let (number, end) = (current.number, current.end);
        let failed = |source| SpoolError::Write {
            path: path(number),
            source,
        };
        // It says that all before it is durable: only when that is so may it come to the disk.
        if current.synced < end {
            let synced = inner.disk.sync(&[&*current.file], &[]);
            synced.map_err(failed)?;
            current.synced = end;
        }
        let place = Place {
            segment: number,
            offset: end,
        };
        let mut octets = Vec::new();
        frame.write(place, end, &mut octets);
        let written = current.file.write_at(&octets, end.into());
        let synced = written.and_then(|()| inner.disk.sync(&[&*current.file], &[]));
        synced.map_err(failed)
    }

    /// Nobody knows what of the last write counts. The next segment says that it does not.
    fn abandon(&mut self, inner: &Inner) {
        self.batch = Batch::default();
        let Some(failed) = self.current.take() else {
            return;
        };
        if failed.opening.is_some() {
            inner.remove_segment(failed.number);
            return;
        }
        self.previous = (failed.number, failed.synced);
        if self.begin_next(inner, 0).is_err() {
            return;
        }
        if self.write_batch(inner).is_err()
            && let Some(failed) = self.current.take()
        {
            self.batch = Batch::default();
            inner.remove_segment(failed.number);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
