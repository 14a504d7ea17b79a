//! Taking a message: `pid`, `mess`, `intd`, `todo`.
//!
//! | step | durable after it |
//! |---|---|
//! | create `pid/X`, write text, move to `mess/B/ID` (ID is its inode) | nothing yet |
//! | create `intd/ID`, write envelope | nothing yet |
//! | sync both files and `mess/B` | text, its name, envelope |
//! | link `intd/ID` to `todo/ID` | |
//! | sync `todo` | the message: **accepted** |
//!
//! The link waits for the first sync, so that what is named in `todo` is always whole. A small message is held in memory until
//! it is committed, and all steps before the first sync are one task; text beyond [`SPILL_OCTETS`] goes to `pid/X` as it
//! comes. In place of new files, spare ones are written over if there are any.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use qmail_core::Envelope;

use super::Inner;
use super::commit::Job;
use super::format;
use super::layout::{Directory, MESSAGE_MODE};
use super::spares;
use crate::spool::{Committed, Entry, MessageId, SpoolDraft, SpoolError};
use crate::{Disk, DiskFile};

/// Text of a draft that is held in memory.
const SPILL_OCTETS: usize = 64 * 1024;

/// A text beyond this is synced before it joins a group commit, whose other messages are not to wait for it.
const ALONE_OCTETS: u64 = 1 << 20;

/// Names that are tried for a newborn file, and newborn files that are tried for a message.
const TRIES: usize = 9;

/// A message being written.
pub(super) struct SplitDraft {
    inner: Arc<Inner>,
    entry: Entry,
    /// Text that is not in the file yet.
    buffer: Vec<u8>,
    newborn: Option<Newborn>,
    /// A write failed: some of the text is missing.
    broken: bool,
}

impl SplitDraft {
    /// One whose text begins with what the buffer holds.
    pub(super) fn new(inner: Arc<Inner>, entry: Entry, buffer: Vec<u8>) -> Self {
        Self {
            inner,
            entry,
            buffer,
            newborn: None,
            broken: false,
        }
    }

    /// Moves the buffer to the file.
    async fn spill(&mut self) -> Result<(), SpoolError> {
        if self.broken {
            return Err(broken_off());
        }
        // Also if this future is dropped in between.
        self.broken = true;
        let inner = Arc::clone(&self.inner);
        let mut buffer = std::mem::take(&mut self.buffer);
        let newborn = self.newborn.take();
        let entry = self.entry;
        let (newborn, buffer) = self
            .inner
            .workers
            .run(move || {
                let mut newborn = match newborn {
                    Some(newborn) => newborn,
                    None => Newborn::create(&inner, &entry)?,
                };
                newborn.append(&buffer)?;
                buffer.clear();
                Ok::<_, SpoolError>((newborn, buffer))
            })
            .await?;
        (self.newborn, self.buffer) = (Some(newborn), buffer);
        self.broken = false;
        Ok(())
    }
}

#[async_trait]
impl SpoolDraft for SplitDraft {
    async fn write(&mut self, mut chunk: Bytes) -> Result<(), SpoolError> {
        loop {
            let room = SPILL_OCTETS - self.buffer.len();
            if chunk.len() <= room {
                self.buffer.extend_from_slice(&chunk);
                return Ok(());
            }
            self.buffer.extend_from_slice(&chunk.split_to(room));
            self.spill().await?;
        }
    }

    async fn commit(mut self: Box<Self>, envelope: &Envelope) -> Result<Committed, SpoolError> {
        if self.broken {
            return Err(broken_off());
        }
        let mut todo = Vec::with_capacity(128);
        let Entry { uid, pid, .. } = self.entry;
        format::write_envelope_head(uid, pid, &envelope.sender, &mut todo);
        for recipient in &envelope.recipients {
            format::write_recipient(recipient, &mut todo);
        }
        let (answer, result) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        let entry = self.entry;
        let buffer = std::mem::take(&mut self.buffer);
        let newborn = self.newborn.take();
        self.inner.workers.start(move || {
            match Placed::new(&inner, &entry, newborn, &buffer, &todo) {
                Ok(placed) => inner.committer.submit(placed.into_job(answer)),
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        });
        result.await.unwrap_or_else(|_| Err(broken_off()))
    }
}

impl Drop for SplitDraft {
    fn drop(&mut self) {
        if let Some(newborn) = self.newborn.take() {
            // Removing a file blocks.
            self.inner.workers.start(move || drop(newborn));
        }
    }
}

/// A file in `pid`.
struct Newborn {
    name: NewbornName,
    file: Box<dyn DiskFile>,
    octets: u64,
    /// A spare, which may be longer than what is written over it.
    spare: bool,
}

/// The name of a file in `pid`, removed when this is dropped.
struct NewbornName {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    moved: bool,
}

impl Newborn {
    /// A spare, if there is one that can be had.
    fn reuse(inner: &Inner, entry: &Entry) -> Option<Self> {
        while let Some(id) = inner.spares.take() {
            let name = NewbornName {
                disk: Arc::clone(&inner.disk),
                path: spares::path(id),
                moved: false,
            };
            let opened = inner.disk.open(&name.path, true);
            // As young as a new file, for who sweeps up what is old.
            let young = opened.and_then(|file| file.set_times(entry.now).map(|()| file));
            if let Ok(file) = young {
                return Some(Self {
                    name,
                    file,
                    octets: 0,
                    spare: true,
                });
            }
        }
        None
    }

    fn create(inner: &Inner, entry: &Entry) -> Result<Self, SpoolError> {
        if let Some(spare) = Self::reuse(inner, entry) {
            return Ok(spare);
        }
        let seconds = entry
            .now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut tries = TRIES;
        loop {
            let name = format!("{}.{seconds}.{}", entry.pid, inner.next_birth());
            let path = Directory::Pid.path().join(name);
            match inner.disk.create(&path, MESSAGE_MODE) {
                Ok(file) => {
                    let name = NewbornName {
                        disk: Arc::clone(&inner.disk),
                        path,
                        moved: false,
                    };
                    return Ok(Self {
                        name,
                        file,
                        octets: 0,
                        spare: false,
                    });
                }
                // Another process had our number, not long ago.
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists && tries > 1 => {
                    tries -= 1;
                }
                Err(source) => return Err(SpoolError::Create { path, source }),
            }
        }
    }

    fn append(&mut self, octets: &[u8]) -> Result<(), SpoolError> {
        self.file
            .write_at(octets, self.octets)
            .map_err(|source| SpoolError::Write {
                path: self.name.path.clone(),
                source,
            })?;
        self.octets += octets.len() as u64;
        Ok(())
    }

    /// Ends the file after what was appended.
    fn cut(&self) -> Result<(), SpoolError> {
        if !self.spare {
            return Ok(());
        }
        let cut = self.file.truncate(self.octets);
        cut.map_err(|source| SpoolError::Write {
            path: self.name.path.clone(),
            source,
        })
    }

    /// Moves the file to its place in `mess`, if that is free.
    fn place(&mut self) -> Result<MessageId, SpoolError> {
        let name = &mut self.name;
        let stat = self.file.stat().map_err(|source| SpoolError::Create {
            path: name.path.clone(),
            source,
        })?;
        let id = MessageId(stat.inode);
        let path = Directory::mess(id).file(id);
        match name.disk.rename_new(&name.path, &path) {
            Ok(()) => {
                name.moved = true;
                name.path = path;
                Ok(id)
            }
            Err(source) => Err(SpoolError::Create { path, source }),
        }
    }

    /// A newborn file in `mess`. A number may be taken although its inode is free, by a queue that was copied here: the next
    /// file is made while the last one still has the number.
    fn create_placed(inner: &Inner, entry: &Entry) -> Result<(Self, MessageId), SpoolError> {
        let mut refused = Vec::new();
        loop {
            let mut newborn = Self::create(inner, entry)?;
            match newborn.place() {
                Ok(id) => return Ok((newborn, id)),
                Err(SpoolError::Create { source, .. })
                    if source.kind() == io::ErrorKind::AlreadyExists
                        && refused.len() + 1 < TRIES =>
                {
                    refused.push(newborn);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for NewbornName {
    fn drop(&mut self) {
        if !self.moved {
            // What cannot be removed now is removed when it is old.
            let _ = self.disk.unlink(&self.path);
        }
    }
}

/// A message in `mess`, and soon in `intd` and `todo`; removed from there when it is dropped.
struct Placed {
    disk: Arc<dyn Disk>,
    id: MessageId,
    /// Size of the text.
    octets: u64,
    /// Text and envelope, until they are given to a sync.
    files: Vec<Box<dyn DiskFile>>,
    /// It has its name in `todo`, or may get it back by a crash.
    linked: bool,
    keep: bool,
}

impl Placed {
    fn new(
        inner: &Inner,
        entry: &Entry,
        newborn: Option<Newborn>,
        rest: &[u8],
        todo: &[u8],
    ) -> Result<Self, SpoolError> {
        let (mut newborn, id) = match newborn {
            Some(mut newborn) => {
                let id = newborn.place()?;
                (newborn, id)
            }
            None => Newborn::create_placed(inner, entry)?,
        };
        let mut placed = Self {
            disk: Arc::clone(&inner.disk),
            id,
            octets: 0,
            files: Vec::with_capacity(2),
            linked: false,
            keep: false,
        };
        newborn.append(rest)?;
        newborn.cut()?;
        placed.octets = newborn.octets;
        if placed.octets > ALONE_OCTETS {
            let synced = inner.disk.sync(&[&*newborn.file], &[]);
            synced.map_err(|source| SpoolError::Write {
                path: newborn.name.path.clone(),
                source,
            })?;
        }
        placed.files.push(newborn.file);
        placed.write_envelope(todo, newborn.spare)?;
        Ok(placed)
    }

    fn write_envelope(&mut self, todo: &[u8], spare: bool) -> Result<(), SpoolError> {
        let path = Directory::Intd.file(self.id);
        let written_over = match spare.then(|| self.disk.open(&path, true)) {
            Some(Ok(file)) => Some(file),
            Some(Err(_)) | None => None,
        };
        let (file, written) = match written_over {
            Some(file) => {
                let written = file.write_at(todo, 0);
                let cut = written.and_then(|()| file.truncate(todo.len() as u64));
                (file, cut)
            }
            // A name of this number is a leftover: we have the file whose inode it is.
            None => {
                let file = super::create_afresh(&*self.disk, &path, MESSAGE_MODE)?.0;
                let written = file.write_at(todo, 0);
                (file, written)
            }
        };
        match written {
            Ok(()) => {
                self.files.push(file);
                Ok(())
            }
            Err(source) => Err(SpoolError::Write { path, source }),
        }
    }

    /// The two syncs of the module's table, then the answer.
    fn into_job(mut self, answer: oneshot::Sender<Result<Committed, SpoolError>>) -> Job {
        Job {
            files: std::mem::take(&mut self.files),
            directories: vec![Directory::mess(self.id)],
            then: Box::new(move |synced| {
                // A caller that has gone away has not been told yes: it is spared the duplicate.
                if answer.is_canceled() {
                    return None;
                }
                match self.link(synced) {
                    Ok(()) => Some(self.into_last_job(answer)),
                    Err(error) => {
                        // The files are gone when the caller hears of it.
                        drop(self);
                        let _ = answer.send(Err(error));
                        None
                    }
                }
            }),
        }
    }

    fn link(&mut self, synced: io::Result<()>) -> Result<(), SpoolError> {
        synced.map_err(|source| SpoolError::Write {
            path: Directory::mess(self.id).file(self.id),
            source,
        })?;
        let path = Directory::Todo.file(self.id);
        match self.disk.link(&Directory::Intd.file(self.id), &path) {
            Ok(()) => {
                self.linked = true;
                Ok(())
            }
            Err(source) => Err(SpoolError::Create { path, source }),
        }
    }

    fn into_last_job(mut self, answer: oneshot::Sender<Result<Committed, SpoolError>>) -> Job {
        Job {
            files: Vec::new(),
            directories: vec![Directory::Todo],
            then: Box::new(move |synced| match synced {
                Ok(()) => {
                    self.keep = true;
                    let _ = answer.send(Ok(Committed {
                        id: self.id,
                        octets: self.octets,
                    }));
                    None
                }
                Err(source) => Some(self.into_unlinking_job(source, answer)),
            }),
        }
    }

    /// The name in `todo` may be durable or not. The text must stay until it is certain that the name is not.
    fn into_unlinking_job(
        mut self,
        failed: io::Error,
        answer: oneshot::Sender<Result<Committed, SpoolError>>,
    ) -> Job {
        let path = Directory::Todo.file(self.id);
        let unlinked = self.disk.unlink(&path);
        Job {
            files: Vec::new(),
            directories: vec![Directory::Todo],
            then: Box::new(move |synced| {
                self.linked = unlinked.is_err() || synced.is_err();
                drop(self);
                let _ = answer.send(Err(SpoolError::Write {
                    path,
                    source: failed,
                }));
                None
            }),
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if self.linked {
            // What is named in `todo` must be whole, and the name may come back after a crash: only it is removed. The rest is
            // swept up when it is old.
            let _ = self.disk.unlink(&Directory::Todo.file(self.id));
            return;
        }
        // The text last: alone it is swept up when it is old, as is what cannot be removed now.
        let _ = self.disk.unlink(&Directory::Intd.file(self.id));
        let _ = self.disk.unlink(&Directory::mess(self.id).file(self.id));
    }
}

fn broken_off() -> SpoolError {
    SpoolError::Write {
        path: Directory::Pid.path(),
        source: io::Error::other("the message was broken off"),
    }
}
