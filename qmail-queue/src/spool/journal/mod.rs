//! The journal spool: one log for all messages, and one sync for all who wait.
//!
//! | file | holds |
//! |---|---|
//! | `0000000001.log` ... | segments of records, each about 64 MiB long from the start |
//! | `text/ID` | the text of a message that is larger than 256 KiB |
//! | `damaged/SEGMENT-OFFSET` | octets that were damaged, kept for a look |
//! | `lock` | nothing: who holds its lock uses the journal |
//!
//! Names and places are all that the journal needs: it may be copied anywhere while nobody uses it. docs/journal-format.md has
//! the format, octet by octet.

mod aside;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
mod draft;
mod index;
mod open;
mod payload;
mod read;
mod record;
mod replay;
mod segment;
mod snapshot;
mod tail;
#[cfg(test)]
mod tests;
mod tidy;
mod writer;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::channel::oneshot;
use qmail_core::{Content, ReversePath};

use self::draft::JournalDraft;
use self::index::{Index, Message, RoutedMessage};
use self::open::Use;
use self::payload::RoutedHead;
use self::read::{Failures, missing};
use self::record::{Frame, HEADER_OCTETS, Kind, Stored};
use self::replay::Damage;
use self::segment::text_path;
use self::writer::{Job, Writer};
use super::gather::{Gather, Served};
use super::hold::Holds;
use super::{
    Channel, Entry, Found, Incoming, MessageId, Position, Recipient, Routed, Settled, Spool,
    SpoolDraft, SpoolError,
};
use crate::split::format::{self, ReadError};
use crate::{Disk, DiskFile, Workers};

/// Files of segments that are kept open for reading.
const FILES_MAX: usize = 64;

/// Mode of the names of messages that are held.
const HOLD_MODE: u32 = 0o600;

/// Longest note of failures.
const NOTE_OCTETS_MAX: usize = record::PAYLOAD_OCTETS_MAX - 8;

/// Messages that a listing takes from the index at a time.
const LISTED_AT_ONCE: usize = 1024;

/// A log of all messages as a [`Spool`]. Cheap to clone; clones share one journal.
///
/// Only one process may use a journal at a time. An index in memory takes less than 400 octets a message, and besides an eighth of
/// an octet for each recipient beyond 64 of a channel, and at most 48 for each failure that was noted and not yet told in a
/// bounce. On the disk a journal takes less than twice what its messages do, and
/// three segments.
///
/// ```no_run
/// # async fn add() -> Result<(), Box<dyn std::error::Error>> {
/// use qmail_queue::{JournalSpool, Workers};
/// JournalSpool::create("/var/mail-home/queue/journal")?;
/// let spool = JournalSpool::open("/var/mail-home/queue/journal", Workers::threads(4)?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct JournalSpool {
    inner: Arc<Inner>,
}

/// The sizes of a journal. They may be others at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Size of a segment in octets: 64 MiB; at most [`JournalConfig::SEGMENT_OCTETS_MAX`]. A record that is larger has a segment
    /// of its own; where the disk has no room for a whole one, less is tried, down to a 4096th.
    pub segment_octets: u64,
    /// Longest text in octets that is kept in the log: 256 KiB; at most [`JournalConfig::TEXT_OCTETS_MAX`]. A draft takes as much
    /// memory; a longer text has a file of its own.
    pub text_octets_max: usize,
}

impl JournalConfig {
    /// A start holds a segment in memory, and a place in it has 32 bits: 1 GiB.
    pub const SEGMENT_OCTETS_MAX: u64 = 1 << 30;

    /// A record has room for this text beside the largest envelope: 1 MiB.
    pub const TEXT_OCTETS_MAX: usize = 1 << 20;

    /// Whether the format allows these sizes.
    fn check(&self) -> Result<(), SpoolError> {
        let sizes = [
            (
                "the size of a segment",
                self.segment_octets,
                Self::SEGMENT_OCTETS_MAX,
            ),
            (
                "the longest text in the log",
                self.text_octets_max as u64,
                Self::TEXT_OCTETS_MAX as u64,
            ),
        ];
        for (what, octets, octets_max) in sizes {
            if octets > octets_max {
                return Err(SpoolError::Config {
                    what,
                    octets,
                    octets_max,
                });
            }
        }
        Ok(())
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            segment_octets: 64 << 20,
            text_octets_max: 256 << 10,
        }
    }
}

/// What tasks on workers share.
struct Inner {
    disk: Arc<dyn Disk>,
    workers: Workers,
    config: JournalConfig,
    gather: Gather<Job>,
    writer: Mutex<Writer>,
    index: Mutex<Index>,
    /// Open files of segments, by number.
    files: Mutex<BTreeMap<u32, Arc<dyn DiskFile>>>,
    /// The segment that is written to: what is in it was in memory a moment ago.
    current: AtomicU32,
    next_id: AtomicU64,
    damages: Mutex<Vec<Damage>>,
    how: Use,
    holds: Holds,
    /// What the last writer said of what a start has found.
    was_closed: bool,
    /// The start has left out records that may have named a text.
    left_out: bool,
}

impl Inner {
    // What is guarded is whole at every moment, but for the writer: what a panic in it leaves is not gone on with.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<dyn DiskFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damages(&self) -> MutexGuard<'_, Vec<Damage>> {
        self.damages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no message has had.
    fn new_id(&self) -> MessageId {
        MessageId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// The next number.
    fn next_id(&self) -> MessageId {
        MessageId(self.next_id.load(Ordering::Relaxed))
    }

    /// Leaves a record for the next batch.
    fn submit(self: &Arc<Self>, job: Job) {
        if matches!(self.how, Use::Look) {
            let path = PathBuf::from(".");
            return job.refuse(SpoolError::InUse { path });
        }
        if self.gather.put(job) {
            let inner = Arc::clone(self);
            self.workers.start(move || inner.write());
        }
    }

    fn write(&self) {
        self.gather.run(|batch| match self.writer.lock() {
            Ok(mut writer) => writer.serve(self, batch),
            // Its callers see that their answers are gone.
            Err(_) => Served::nothing(),
        });
    }

    /// The file of a segment, for reading.
    fn file(&self, number: u32) -> Result<Arc<dyn DiskFile>, SpoolError> {
        if let Some(file) = self.files().get(&number) {
            return Ok(Arc::clone(file));
        }
        let path = segment::path(number);
        match self.disk.open(&path, false) {
            Ok(file) => {
                let file: Arc<dyn DiskFile> = file.into();
                self.keep_file(number, Arc::clone(&file));
                Ok(file)
            }
            Err(source) => Err(SpoolError::Read { path, source }),
        }
    }

    fn keep_file(&self, number: u32, file: Arc<dyn DiskFile>) {
        let mut files = self.files();
        if files.len() >= FILES_MAX {
            files.pop_first();
        }
        files.insert(number, file);
    }

    /// A segment is written to from now on.
    fn begin_segment(&self, number: u32, file: Arc<dyn DiskFile>) {
        self.keep_file(number, file);
        self.current.store(number, Ordering::Relaxed);
    }

    /// Removes a segment's file. What cannot be removed now is removed by the next start.
    fn remove_segment(&self, number: u32) {
        self.files().remove(&number);
        let _ = self.disk.unlink(&segment::path(number));
        self.index().forget_segment(number);
    }

    /// Removes texts that no message has any more.
    fn remove_texts(&self, ids: Vec<MessageId>) {
        for id in ids {
            let disk = Arc::clone(&self.disk);
            self.workers
                .start(move || drop(disk.unlink(&text_path(id))));
        }
    }

    fn found_damage(&self, path: PathBuf, error: &SpoolError) {
        let reason = error.to_string();
        self.damages().push(Damage { path, reason });
    }

    /// Writes down that nothing is under way.
    fn close(&self) -> Result<(), SpoolError> {
        match self.writer.lock() {
            Ok(mut writer) => writer.close(self),
            // Nobody knows what it was at.
            Err(_) => Ok(()),
        }
    }

    /// What is known of a message.
    fn message(&self, id: MessageId) -> Result<Message, SpoolError> {
        self.index().get(id).cloned().ok_or_else(|| missing(id))
    }

    fn routed(&self, id: MessageId) -> Result<RoutedMessage, SpoolError> {
        self.message(id)?.routed.ok_or_else(|| missing(id))
    }

    /// Reads something of a message; again, if it was copied forward meanwhile.
    fn read<R>(
        &self,
        id: MessageId,
        read: impl Fn(&Self, &Message) -> Result<R, SpoolError>,
    ) -> Result<R, SpoolError> {
        let mut message = self.message(id)?;
        loop {
            let error = match read(self, &message) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let now = self.message(id)?;
            if now.record == message.record
                && now.routed.as_ref().map(|routed| routed.record)
                    == message.routed.as_ref().map(|routed| routed.record)
            {
                return Err(error);
            }
            message = now;
        }
    }
}

impl Drop for Inner {
    /// The last one who used the journal is gone. What fails now only makes the next start less sure of what it reads.
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl JournalSpool {
    /// Whether the last one who wrote to the journal had closed it, by [`Spool::close`] or by dropping the last clone. Then
    /// this start has told of every octet that is not as it was promised. Otherwise the machine or the program had been
    /// stopped, and what is missing of the last writes was taken for torn, and not promised.
    pub fn was_closed(&self) -> bool {
        self.inner.was_closed
    }

    /// Number of accepted messages that are not removed.
    pub fn count(&self) -> usize {
        self.inner.index().len()
    }

    /// Starts a message whose text is complete: no Received field is put before it.
    pub(crate) fn adopt(&self, entry: Entry) -> Box<dyn SpoolDraft> {
        Box::new(JournalDraft::new(Arc::clone(&self.inner), entry, b""))
    }

    /// Runs a task that blocks.
    fn run<R: Send + 'static>(
        &self,
        task: impl FnOnce(&Inner) -> R + Send + 'static,
    ) -> impl Future<Output = R> + Send + 'static {
        let inner = Arc::clone(&self.inner);
        self.inner.workers.run(move || task(&inner))
    }

    /// Writes a record about a message, and waits until it is durable.
    async fn log(&self, frame: Frame) -> Result<(), SpoolError> {
        let (job, answer) = Job::new(frame);
        self.inner.submit(job);
        answered(answer).await
    }

    /// Whether a message's record was written a moment ago, so that reading it does not wait for a disk.
    fn is_recent(&self, stored: Stored) -> bool {
        stored.place.segment == self.inner.current.load(Ordering::Relaxed)
    }
}

async fn answered(answer: oneshot::Receiver<Result<(), SpoolError>>) -> Result<(), SpoolError> {
    answer.await.unwrap_or_else(|_| {
        Err(SpoolError::Write {
            path: PathBuf::from("journal"),
            source: io::Error::other("the task was broken off"),
        })
    })
}

#[async_trait]
impl Spool for JournalSpool {
    async fn begin(&self, entry: Entry) -> Result<Box<dyn SpoolDraft>, SpoolError> {
        let inner = Arc::clone(&self.inner);
        Ok(Box::new(JournalDraft::new(inner, entry, &entry.received())))
    }

    async fn scan(&self, found: &mut (dyn FnMut(Found) + Send)) -> Result<(), SpoolError> {
        let damages = self.inner.damages().clone();
        damages
            .into_iter()
            .map(|Damage { path, reason }| Found::Damaged { path, reason })
            .for_each(&mut *found);
        let mut from = MessageId(0);
        loop {
            // Not under the lock: `found` may use the spool.
            let page: Vec<Found> = {
                let index = self.inner.index();
                let page = index.from(from).take(LISTED_AT_ONCE);
                page.map(|(id, message)| as_found(id, message)).collect()
            };
            let Some(Found::Incoming(last) | Found::Routed { id: last, .. }) = page.last() else {
                return Ok(());
            };
            from = MessageId(last.0 + 1);
            page.into_iter().for_each(&mut *found);
        }
    }

    async fn incoming_ids(&self) -> Result<Vec<MessageId>, SpoolError> {
        let index = self.inner.index();
        let incoming = index.from(MessageId(0));
        let incoming = incoming.filter(|(_, message)| message.routed.is_none());
        Ok(incoming.map(|(id, _)| id).collect())
    }

    async fn incoming(&self, id: MessageId) -> Result<Incoming, SpoolError> {
        let incoming = move |inner: &Inner, message: &Message| {
            if message.routed.is_some() {
                return Err(missing(id));
            }
            let stored = message.record;
            let payload = read::payload(inner, stored)?;
            let envelope = payload::envelope(&payload).ok_or_else(|| read::damaged(stored))?;
            let todo = format::parse_todo(envelope).map_err(|error| meaningless(stored, error))?;
            Ok(Incoming {
                envelope: todo.envelope,
                uid: todo.uid,
                pid: todo.pid,
                octets: message.text_octets,
            })
        };
        self.run(move |inner| inner.read(id, incoming)).await
    }

    async fn route(&self, id: MessageId, routed: Routed) -> Result<(), SpoolError> {
        if self.inner.message(id)?.routed.is_some() {
            return Err(missing(id));
        }
        let frame = payload::routed(id, &routed).ok_or_else(|| too_large(id))?;
        self.log(frame).await
    }

    async fn sender(&self, id: MessageId) -> Result<ReversePath, SpoolError> {
        let sender = move |inner: &Inner, message: &Message| {
            let routed = message.routed.as_ref().ok_or_else(|| missing(id))?;
            let (file, head) = routed_head(inner, routed)?;
            let stored = routed.record;
            let start = (HEADER_OCTETS + payload::ROUTED_HEAD_OCTETS) as u64;
            let octets = read::read(&*file, stored, start, head.sender_octets.into())?;
            format::parse_info(octets).map_err(|error| meaningless(stored, error))
        };
        self.run(move |inner| inner.read(id, sender)).await
    }

    async fn recipients(
        &self,
        id: MessageId,
        channel: Channel,
        from: Position,
        max: usize,
    ) -> Result<Vec<Recipient>, SpoolError> {
        let page =
            move |inner: &Inner, message: &Message| recipients(inner, message, channel, from, max);
        self.run(move |inner| inner.read(id, page)).await
    }

    async fn mark_done(
        &self,
        id: MessageId,
        channel: Channel,
        positions: &[Position],
    ) -> Result<(), SpoolError> {
        let routed = self.inner.routed(id)?;
        let Some(line) = &routed.lines[channel as usize] else {
            return Ok(());
        };
        if positions.len() > line.count as usize {
            return Err(too_large(id));
        }
        let mut frame = payload::about_channel(Kind::Done, id, channel);
        for position in positions {
            let number = (position.0 >> 32) as u32;
            if number >= line.count {
                return Err(SpoolError::Damaged {
                    path: segment::path(routed.record.place.segment),
                    reason: format!("message {id} has no recipient {number}"),
                });
            }
            frame.payload_mut().extend_from_slice(&number.to_le_bytes());
        }
        self.log(frame).await
    }

    async fn close_channel(&self, id: MessageId, channel: Channel) -> Result<(), SpoolError> {
        if self.inner.routed(id)?.lines[channel as usize].is_none() {
            return Ok(());
        }
        let frame = payload::about_channel(Kind::Closed, id, channel);
        self.log(frame).await
    }

    async fn note_failure(&self, id: MessageId, note: &[u8]) -> Result<(), SpoolError> {
        self.inner.routed(id)?;
        if note.len() > NOTE_OCTETS_MAX {
            return Err(too_large(id));
        }
        let mut frame = Frame::about(Kind::Note, id);
        frame.payload_mut().extend_from_slice(note);
        self.log(frame).await
    }

    async fn failures(&self, id: MessageId) -> Result<Option<Arc<dyn Content>>, SpoolError> {
        let failures = |inner: &Inner, message: &Message| {
            let Some(routed) = &message.routed else {
                return Ok(None);
            };
            let mut all = Failures::new(inner.workers.clone());
            if routed.failures_octets > 0 {
                let (_, head) = routed_head(inner, routed)?;
                all.push(inner, routed.record, head.failures_at())?;
            }
            for &note in &routed.notes {
                all.push(inner, note, 8)?;
            }
            Ok((all.octets() > 0).then(|| Arc::new(all) as Arc<dyn Content>))
        };
        // Most messages have none.
        let routed = self.inner.message(id)?.routed;
        if routed.is_none_or(|routed| routed.failures_octets == 0 && routed.notes.is_empty()) {
            return Ok(None);
        }
        self.run(move |inner| inner.read(id, failures)).await
    }

    async fn clear_failures(&self, id: MessageId) -> Result<(), SpoolError> {
        let routed = self.inner.index().get(id).and_then(|message| {
            let routed = message.routed.as_ref()?;
            (routed.failures_octets > 0 || !routed.notes.is_empty()).then_some(())
        });
        match routed {
            Some(()) => self.log(Frame::about(Kind::Forgotten, id)).await,
            None => Ok(()),
        }
    }

    async fn put_off(
        &self,
        id: MessageId,
        channel: Channel,
        due: SystemTime,
    ) -> Result<(), SpoolError> {
        if self.inner.message(id)?.line(channel).is_none() {
            return Ok(());
        }
        let due = due
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut frame = payload::about_channel(Kind::PutOff, id, channel);
        frame.payload_mut().extend_from_slice(&due.to_le_bytes());
        let (mut job, answer) = Job::new(frame);
        job.durable = false;
        self.inner.submit(job);
        answered(answer).await
    }

    async fn content(&self, id: MessageId) -> Result<Arc<dyn Content>, SpoolError> {
        let content = move |inner: &Inner, message: &Message| read::text(inner, id, message);
        let message = self.inner.message(id)?;
        if self.is_recent(message.record) && !message.in_file {
            return self.inner.read(id, content);
        }
        self.run(move |inner| inner.read(id, content)).await
    }

    async fn remove(&self, settled: Settled) -> Result<(), SpoolError> {
        let id = settled.id();
        if self.inner.index().get(id).is_none() {
            return Ok(());
        }
        self.log(Frame::about(Kind::Settled, id)).await?;
        if self.inner.holds.knows(id) {
            self.run(move |inner| inner.holds.forget(&*inner.disk, id))
                .await;
        }
        Ok(())
    }

    // Numbers are never given twice, so a name says which message is meant, and one that is left does no harm.
    async fn set_held(&self, id: MessageId, held: bool) -> Result<(), SpoolError> {
        self.run(move |inner| {
            let disk = &*inner.disk;
            if held {
                inner.routed(id)?;
                let make = |name: &Path| disk.create(name, HOLD_MODE).map(drop);
                inner.holds.hold(disk, id, make)
            } else {
                inner.holds.release(disk, id)
            }
        })
        .await
    }

    async fn held(&self) -> Result<HashSet<MessageId>, SpoolError> {
        self.run(|inner| {
            let is_current = |id| Ok(inner.index().get(id).is_some());
            inner.holds.list(&*inner.disk, is_current)
        })
        .await
    }

    async fn close(&self) -> Result<(), SpoolError> {
        self.run(Inner::close).await
    }

    async fn clean_up(&self, now: SystemTime) -> Result<(), SpoolError> {
        self.run(move |inner| open::sweep_texts(inner, Some(now), inner.left_out))
            .await
    }
}

/// Something about a message does not fit into a record.
fn too_large(id: MessageId) -> SpoolError {
    SpoolError::Write {
        path: PathBuf::from(format!("message {id}")),
        source: io::ErrorKind::FileTooLarge.into(),
    }
}

fn as_found(id: MessageId, message: &Message) -> Found {
    let Some(routed) = &message.routed else {
        return Found::Incoming(id);
    };
    let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let due = |line: &Option<index::Line>| line.as_ref().map(|line| time(line.due));
    let [local, remote] = &routed.lines;
    Found::Routed {
        id,
        birth: time(routed.birth),
        local: due(local),
        remote: due(remote),
    }
}

/// The head of a routed message, and the file that it is in.
fn routed_head(
    inner: &Inner,
    routed: &RoutedMessage,
) -> Result<(Arc<dyn DiskFile>, RoutedHead), SpoolError> {
    let stored = routed.record;
    let file = inner.file(stored.place.segment)?;
    let octets = HEADER_OCTETS + payload::ROUTED_HEAD_OCTETS;
    let octets = read::read(&*file, stored, 0, octets as u64)?;
    let whole = record::Header::parse(&octets, stored.place);
    let head = whole.and_then(|_| RoutedHead::parse(&octets[HEADER_OCTETS..]));
    Ok((file, head.ok_or_else(|| read::damaged(stored))?))
}

/// A position is the number of the recipient in its channel, and below it the octet where its record begins.
fn recipients(
    inner: &Inner,
    message: &Message,
    channel: Channel,
    from: Position,
    max: usize,
) -> Result<Vec<Recipient>, SpoolError> {
    let Some(routed) = &message.routed else {
        return Ok(Vec::new());
    };
    let Some(line) = &routed.lines[channel as usize] else {
        return Ok(Vec::new());
    };
    let stored = routed.record;
    let (file, head) = routed_head(inner, routed)?;
    let start = u64::from(stored.place.offset) + HEADER_OCTETS as u64 + head.recipients_at(channel);
    let end = start + u64::from(head.octets[channel as usize]);
    let (mut number, mut at) = (from.0 >> 32, from.0 & u64::from(u32::MAX));
    let records = format::read_recipients(&*file, start + at, end, max);
    let records = records.map_err(|error| match error {
        ReadError::Io(source) => SpoolError::Read {
            path: segment::path(stored.place.segment),
            source,
        },
        ReadError::Format(error) => meaningless(stored, error),
    })?;
    let position = |number: u64, at: u64| Position(number << 32 | at);
    let with_place = |record: format::RecipientRecord| {
        let here = position(number, at);
        let done = line.done.is_set(number as u32);
        (number, at) = (number + 1, at + record.octets as u64);
        Recipient {
            position: here,
            next: position(number, at),
            address: record.address,
            done,
        }
    };
    Ok(records.into_iter().map(with_place).collect())
}

fn meaningless(stored: Stored, error: format::FormatError) -> SpoolError {
    SpoolError::Damaged {
        path: segment::path(stored.place.segment),
        reason: format!("the record at octet {}: {error}", stored.place.offset),
    }
}
