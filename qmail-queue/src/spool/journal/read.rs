//! Reading what the records hold. All of it blocks, and all of it is checked: what is damaged is told, never given out.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Body, CHUNK_OCTETS_MAX, Content, MemoryContent};

use super::Inner;
use super::index::Message;
use super::payload::{MESSAGE_HEAD_OCTETS, MessageHead};
use super::record::{HEADER_OCTETS, Header, Stored};
use super::segment::{path, text_path};
use crate::spool::content::{FileContent, read_exactly};
use crate::spool::{MessageId, SpoolError};
use crate::{DiskFile, Workers};

/// The payload of a record, with its file.
pub(super) fn payload(inner: &Inner, stored: Stored) -> Result<Bytes, SpoolError> {
    let file = inner.file(stored.place.segment)?;
    payload_from(&*file, stored)
}

fn payload_from(file: &dyn DiskFile, stored: Stored) -> Result<Bytes, SpoolError> {
    let octets = read(file, stored, 0, stored.octets.into())?;
    let header = Header::parse(&octets, stored.place).ok_or_else(|| damaged(stored))?;
    let length = header
        .payload(&octets)
        .ok_or_else(|| damaged(stored))?
        .len();
    Ok(octets.slice(HEADER_OCTETS..HEADER_OCTETS + length))
}

/// Octets of a record.
pub(super) fn read(
    file: &dyn DiskFile,
    stored: Stored,
    from: u64,
    octets: u64,
) -> Result<Bytes, SpoolError> {
    let start = u64::from(stored.place.offset) + from;
    read_exactly(file, start, octets).map_err(|source| SpoolError::Read {
        path: path(stored.place.segment),
        source,
    })
}

pub(super) fn damaged(stored: Stored) -> SpoolError {
    SpoolError::Damaged {
        path: path(stored.place.segment),
        reason: format!("the record at octet {} is not whole", stored.place.offset),
    }
}

/// The text of a message.
pub(super) fn text(
    inner: &Inner,
    id: MessageId,
    message: &Message,
) -> Result<Arc<dyn Content>, SpoolError> {
    let stored = message.record;
    let file = inner.file(stored.place.segment)?;
    let text_at = (HEADER_OCTETS + MESSAGE_HEAD_OCTETS) as u64;
    let small = !message.in_file && message.text_octets <= CHUNK_OCTETS_MAX as u64;
    let wanted = if small { message.text_octets } else { 0 };
    let octets = read(&*file, stored, 0, text_at + wanted)?;
    let whole = Header::parse(&octets, stored.place);
    let head = whole.and_then(|_| MessageHead::parse(&octets[HEADER_OCTETS..]));
    let head = head
        .filter(|head| head.id == id && head.text_octets == message.text_octets)
        .ok_or_else(|| damaged(stored))?;
    if small {
        let text = octets.slice(text_at as usize..);
        if crc32c::crc32c(&text) != head.text_sum {
            return Err(damaged(stored));
        }
        return Ok(Arc::new(MemoryContent(text)));
    }
    let (file, start) = if message.in_file {
        (open_text(inner, id, message.text_octets)?, 0)
    } else {
        (file, u64::from(stored.place.offset) + text_at)
    };
    Ok(Arc::new(FileContent {
        file,
        start,
        octets: message.text_octets,
        sum: Some(head.text_sum),
        workers: inner.workers.clone(),
    }))
}

fn open_text(inner: &Inner, id: MessageId, octets: u64) -> Result<Arc<dyn DiskFile>, SpoolError> {
    let path = text_path(id);
    let opened = inner.disk.open(&path, false);
    let opened = opened.and_then(|file| Ok((file.stat()?.octets, file)));
    match opened {
        Ok((found, file)) if found == octets => Ok(file.into()),
        Ok((found, _)) => Err(SpoolError::Damaged {
            path,
            reason: format!("it has {found} octets instead of {octets}"),
        }),
        Err(source) => Err(SpoolError::Read { path, source }),
    }
}

/// The failures of a message: those that its routing found, and the notes since. They can be read to the end even if the
/// segments are given up meanwhile.
pub(super) struct Failures {
    pieces: Vec<Piece>,
    octets: u64,
    workers: Workers,
}

/// The end of a record's payload.
#[derive(Clone)]
struct Piece {
    file: Arc<dyn DiskFile>,
    stored: Stored,
    /// Where in the payload it begins.
    from: usize,
}

impl Failures {
    pub(super) fn new(workers: Workers) -> Self {
        Self {
            pieces: Vec::new(),
            octets: 0,
            workers,
        }
    }

    /// Appends the payload of a record, from `from` on.
    pub(super) fn push(
        &mut self,
        inner: &Inner,
        stored: Stored,
        from: u64,
    ) -> Result<(), SpoolError> {
        let file = inner.file(stored.place.segment)?;
        let octets = read(&*file, stored, 0, HEADER_OCTETS as u64)?;
        let header = Header::parse(&octets, stored.place).ok_or_else(|| damaged(stored))?;
        let from = usize::try_from(from).map_err(|_| damaged(stored))?;
        let octets = header.payload_octets.checked_sub(from);
        self.octets += octets.ok_or_else(|| damaged(stored))? as u64;
        self.pieces.push(Piece { file, stored, from });
        Ok(())
    }

    /// All of it.
    pub(super) fn read_all(&self) -> Result<Vec<u8>, SpoolError> {
        let mut text = Vec::new();
        for piece in &self.pieces {
            text.extend_from_slice(&piece.read()?);
        }
        Ok(text)
    }
}

impl Piece {
    fn read(&self) -> Result<Bytes, SpoolError> {
        Ok(payload_from(&*self.file, self.stored)?.slice(self.from..))
    }
}

#[async_trait]
impl Content for Failures {
    async fn open(&self) -> io::Result<Box<dyn Body>> {
        Ok(Box::new(FailuresBody {
            pieces: self.pieces.clone().into_iter(),
            rest: Bytes::new(),
            workers: self.workers.clone(),
        }))
    }

    fn octets(&self) -> u64 {
        self.octets
    }
}

struct FailuresBody {
    pieces: std::vec::IntoIter<Piece>,
    rest: Bytes,
    workers: Workers,
}

#[async_trait]
impl Body for FailuresBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.rest.is_empty() {
            let Some(piece) = self.pieces.next() else {
                return Ok(None);
            };
            let read = self.workers.run(move || piece.read()).await;
            self.rest = read.map_err(io::Error::other)?;
        }
        let length = self.rest.len().min(CHUNK_OCTETS_MAX);
        Ok(Some(self.rest.split_to(length)))
    }
}

/// There is no such message, or it is not in the state that was asked of it.
pub(super) fn missing(id: MessageId) -> SpoolError {
    SpoolError::Read {
        path: PathBuf::from(format!("message {id}")),
        source: io::ErrorKind::NotFound.into(),
    }
}
