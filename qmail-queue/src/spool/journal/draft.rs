//! Taking a message. Its record is built as the text comes; a text that gets too long for a record moves to a file of its own.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::Envelope;

use super::Inner;
use super::payload::{MESSAGE_HEAD_OCTETS, MessageHead};
use super::record::{Frame, HEADER_OCTETS, Kind, PAYLOAD_OCTETS_MAX};
use super::segment::{TEXTS, text_path};
use super::writer::Job;
use crate::split::format;
use crate::spool::gather::Coming;
use crate::spool::{Committed, Entry, MessageId, SpoolDraft, SpoolError};
use crate::{Disk, DiskFile};

/// What is written to a text's own file at a time.
const SPILL_OCTETS: usize = 64 * 1024;

/// What precedes the text in a record.
const TEXT_AT: usize = HEADER_OCTETS + MESSAGE_HEAD_OCTETS;

const TEXT_MODE: u32 = 0o600;

/// A message being written.
pub(super) struct JournalDraft {
    inner: Arc<Inner>,
    entry: Entry,
    /// Room for what precedes the text, and text that is in no file.
    octets: Vec<u8>,
    file: Option<TextFile>,
    /// A write failed: some of the text is missing.
    broken: bool,
    /// The next batch may wait for this message; `None` once it has been put.
    coming: Option<Coming>,
}

impl JournalDraft {
    /// One whose text begins with this.
    pub(super) fn new(inner: Arc<Inner>, entry: Entry, text: &[u8]) -> Self {
        let mut octets = Vec::with_capacity(1024);
        octets.resize(TEXT_AT, 0);
        octets.extend_from_slice(text);
        Self {
            coming: Some(inner.gather.coming()),
            inner,
            entry,
            octets,
            file: None,
            broken: false,
        }
    }

    /// Moves the text so far to its file.
    async fn spill(&mut self) -> Result<(), SpoolError> {
        if self.broken {
            return Err(broken_off());
        }
        // Also if this future is dropped in between.
        self.broken = true;
        let inner = Arc::clone(&self.inner);
        let mut octets = std::mem::take(&mut self.octets);
        let file = self.file.take();
        let spilled = self.inner.workers.run(move || {
            let mut file = match file {
                Some(file) => file,
                None => TextFile::create(&inner)?,
            };
            file.append(&octets[TEXT_AT..])?;
            octets.truncate(TEXT_AT);
            Ok::<_, SpoolError>((file, octets))
        });
        let (file, octets) = spilled.await?;
        (self.file, self.octets) = (Some(file), octets);
        self.broken = false;
        Ok(())
    }

    /// Makes what is in a file of its own durable.
    async fn sync_text(&mut self) -> Result<(), SpoolError> {
        if self.file.is_none() {
            return Ok(());
        }
        if self.octets.len() > TEXT_AT {
            self.spill().await?;
        }
        let Some(file) = self.file.take() else {
            return Err(broken_off());
        };
        let synced = self.inner.workers.run(move || file.sync().map(|()| file));
        self.file = Some(synced.await?);
        Ok(())
    }
}

#[async_trait]
impl SpoolDraft for JournalDraft {
    async fn write(&mut self, mut chunk: Bytes) -> Result<(), SpoolError> {
        loop {
            let most = match self.file {
                None => self.inner.config.text_octets_max,
                Some(_) => SPILL_OCTETS,
            };
            let room = (TEXT_AT + most).saturating_sub(self.octets.len());
            if chunk.len() <= room {
                self.octets.extend_from_slice(&chunk);
                return Ok(());
            }
            self.octets.extend_from_slice(&chunk.split_to(room));
            self.spill().await?;
        }
    }

    async fn commit(mut self: Box<Self>, envelope: &Envelope) -> Result<Committed, SpoolError> {
        if self.broken {
            return Err(broken_off());
        }
        self.sync_text().await?;
        let mut octets = std::mem::take(&mut self.octets);
        let text = &octets[TEXT_AT..];
        let head = match &self.file {
            Some(file) => MessageHead {
                id: file.id,
                text_octets: file.octets,
                text_sum: file.sum,
                in_file: true,
            },
            None => MessageHead {
                id: self.inner.new_id(),
                text_octets: text.len() as u64,
                text_sum: crc32c::crc32c(text),
                in_file: false,
            },
        };
        octets[HEADER_OCTETS..TEXT_AT].copy_from_slice(&head.to_octets());
        let Entry { uid, pid, .. } = self.entry;
        format::write_envelope_head(uid, pid, &envelope.sender, &mut octets);
        for recipient in &envelope.recipients {
            format::write_recipient(recipient, &mut octets);
            if octets.len() > PAYLOAD_OCTETS_MAX {
                return Err(too_large());
            }
        }
        let (job, answer) = Job::new(Frame::from_octets(Kind::Message, octets));
        self.inner.submit(job.with_text(self.file.take()));
        self.coming = None;
        super::answered(answer).await?;
        Ok(Committed {
            id: head.id,
            octets: head.text_octets,
        })
    }
}

impl Drop for JournalDraft {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Removing a file blocks.
            self.inner.workers.start(move || drop(file));
        }
    }
}

/// A text in a file of its own, which is removed when this is dropped.
pub(super) struct TextFile {
    disk: Arc<dyn Disk>,
    id: MessageId,
    file: Box<dyn DiskFile>,
    octets: u64,
    sum: u32,
    keep: bool,
}

impl TextFile {
    fn create(inner: &Inner) -> Result<Self, SpoolError> {
        let id = inner.new_id();
        let path = text_path(id);
        match inner.disk.create(&path, TEXT_MODE) {
            Ok(file) => Ok(Self {
                disk: Arc::clone(&inner.disk),
                id,
                file,
                octets: 0,
                sum: 0,
                keep: false,
            }),
            Err(source) => Err(SpoolError::Create { path, source }),
        }
    }

    fn append(&mut self, octets: &[u8]) -> Result<(), SpoolError> {
        match self.file.write_at(octets, self.octets) {
            Ok(()) => {
                self.octets += octets.len() as u64;
                self.sum = crc32c::crc32c_append(self.sum, octets);
                Ok(())
            }
            Err(source) => Err(SpoolError::Write {
                path: text_path(self.id),
                source,
            }),
        }
    }

    fn sync(&self) -> Result<(), SpoolError> {
        let synced = self.disk.sync(&[&*self.file], &[TEXTS.as_ref()]);
        synced.map_err(|source| SpoolError::Write {
            path: text_path(self.id),
            source,
        })
    }

    /// A record names it, or may.
    pub(super) fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is removed by the next start.
            let _ = self.disk.unlink(&text_path(self.id));
        }
    }
}

fn broken_off() -> SpoolError {
    SpoolError::Write {
        path: TEXTS.into(),
        source: std::io::Error::other("writing the text was broken off"),
    }
}

fn too_large() -> SpoolError {
    SpoolError::Write {
        path: "envelope".into(),
        source: std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("it is larger than {PAYLOAD_OCTETS_MAX} octets"),
        ),
    }
}
