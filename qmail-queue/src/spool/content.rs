//! Reading a message's text.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Body, CHUNK_OCTETS_MAX, Content, MemoryContent};

use super::SpoolError;
use crate::{Disk, DiskFile, Workers};

/// Opens a file's text: a small one is read at once, a larger one as it is wanted. It can be read to its end even if its name
/// is removed meanwhile. Blocks.
pub(super) fn open(
    disk: &dyn Disk,
    workers: &Workers,
    path: PathBuf,
) -> Result<Arc<dyn Content>, SpoolError> {
    let opened = || -> io::Result<Arc<dyn Content>> {
        let file = disk.open(&path, false)?;
        let octets = file.stat()?.octets;
        if octets <= CHUNK_OCTETS_MAX as u64 {
            let text = read_chunk(&*file, 0, octets)?;
            return Ok(Arc::new(MemoryContent(text)));
        }
        Ok(Arc::new(FileContent {
            file: Arc::from(file),
            start: 0,
            octets,
            sum: None,
            workers: workers.clone(),
        }))
    };
    opened().map_err(|source| SpoolError::Read { path, source })
}

/// A text that this process may not read. Blocks.
pub(super) fn closed(disk: &dyn Disk, path: PathBuf) -> Result<Arc<dyn Content>, SpoolError> {
    match disk.stat(&path) {
        Ok(stat) => Ok(closed_of(stat.octets)),
        Err(source) => Err(SpoolError::Read { path, source }),
    }
}

/// The same for one whose size is known.
pub(super) fn closed_of(octets: u64) -> Arc<dyn Content> {
    Arc::new(ClosedContent(octets))
}

/// So many octets that another process has.
struct ClosedContent(u64);

#[async_trait]
impl Content for ClosedContent {
    async fn open(&self) -> io::Result<Box<dyn Body>> {
        let words = "the text of a message is not for the manager of the queue";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
    }

    fn octets(&self) -> u64 {
        self.0
    }
}

/// Reads a whole file of at most `octets_max`. Blocks.
pub(super) fn read_whole(
    disk: &dyn Disk,
    path: &Path,
    octets_max: u64,
) -> Result<Bytes, SpoolError> {
    let read = || -> io::Result<Option<Bytes>> {
        let file = disk.open(path, false)?;
        let octets = file.stat()?.octets;
        if octets > octets_max {
            return Ok(None);
        }
        read_exactly(&*file, 0, octets).map(Some)
    };
    match read() {
        Ok(Some(octets)) => Ok(octets),
        Ok(None) => Err(SpoolError::Damaged {
            path: path.to_owned(),
            reason: format!("it is larger than {octets_max} octets"),
        }),
        Err(source) => Err(SpoolError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads so many octets, which must be there. Blocks.
pub(super) fn read_exactly(file: &dyn DiskFile, start: u64, octets: u64) -> io::Result<Bytes> {
    // Not all at once: the number may be a lie.
    let mut text = Vec::new();
    let mut left = octets;
    while left > 0 {
        let at = text.len();
        let piece = left.min(PIECE_OCTETS);
        text.resize(at + piece as usize, 0);
        fill(file, &mut text[at..], start + at as u64)?;
        left -= piece;
    }
    Ok(text.into())
}

/// A long text is read in pieces of this size.
const PIECE_OCTETS: u64 = 1 << 20;

fn fill(file: &dyn DiskFile, room: &mut [u8], at: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < room.len() {
        match file.read_at(&mut room[filled..], at + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(())
}

/// Reads up to [`CHUNK_OCTETS_MAX`] of the `left` octets that must follow.
fn read_chunk(file: &dyn DiskFile, at: u64, left: u64) -> io::Result<Bytes> {
    let wanted = usize::try_from(left).map_or(CHUNK_OCTETS_MAX, |left| left.min(CHUNK_OCTETS_MAX));
    let mut room = vec![0; wanted];
    fill(file, &mut room, at)?;
    Ok(room.into())
}

/// A part of a file.
pub(super) struct FileContent {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) start: u64,
    pub(super) octets: u64,
    /// CRC-32C of it, if that is known: a text that has another is not given to its end.
    pub(super) sum: Option<u32>,
    pub(super) workers: Workers,
}

#[async_trait]
impl Content for FileContent {
    async fn open(&self) -> io::Result<Box<dyn Body>> {
        Ok(Box::new(FileBody {
            file: Arc::clone(&self.file),
            at: self.start,
            end: self.start + self.octets,
            sum: self.sum,
            sum_so_far: 0,
            workers: self.workers.clone(),
        }))
    }

    fn octets(&self) -> u64 {
        self.octets
    }
}

struct FileBody {
    file: Arc<dyn DiskFile>,
    at: u64,
    end: u64,
    sum: Option<u32>,
    sum_so_far: u32,
    workers: Workers,
}

#[async_trait]
impl Body for FileBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.at == self.end {
            return Ok(None);
        }
        let file = Arc::clone(&self.file);
        let (at, left) = (self.at, self.end - self.at);
        let chunk = self
            .workers
            .run(move || read_chunk(&*file, at, left))
            .await?;
        if let Some(sum) = self.sum {
            self.sum_so_far = crc32c::crc32c_append(self.sum_so_far, &chunk);
            if chunk.len() as u64 == left && self.sum_so_far != sum {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the text of a message is damaged",
                ));
            }
        }
        self.at += chunk.len() as u64;
        Ok(Some(chunk))
    }
}
