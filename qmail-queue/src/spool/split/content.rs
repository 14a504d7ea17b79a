//! Reading a message's text.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Body, CHUNK_OCTETS_MAX, Content, MemoryContent};

use crate::spool::SpoolError;
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
            octets,
            workers: workers.clone(),
        }))
    };
    opened().map_err(|source| SpoolError::Read { path, source })
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
        read_exactly(&*file, octets).map(Some)
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

fn read_exactly(file: &dyn DiskFile, octets: u64) -> io::Result<Bytes> {
    let mut text = Vec::new();
    while (text.len() as u64) < octets {
        let at = text.len() as u64;
        text.extend_from_slice(&read_chunk(file, at, octets - at)?);
    }
    Ok(text.into())
}

/// Reads up to [`CHUNK_OCTETS_MAX`] of the `left` octets that must follow.
fn read_chunk(file: &dyn DiskFile, at: u64, left: u64) -> io::Result<Bytes> {
    let wanted = usize::try_from(left).map_or(CHUNK_OCTETS_MAX, |left| left.min(CHUNK_OCTETS_MAX));
    let mut room = vec![0; wanted];
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut room[filled..], at + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(room.into())
}

struct FileContent {
    file: Arc<dyn DiskFile>,
    octets: u64,
    workers: Workers,
}

#[async_trait]
impl Content for FileContent {
    async fn open(&self) -> io::Result<Box<dyn Body>> {
        Ok(Box::new(FileBody {
            file: Arc::clone(&self.file),
            at: 0,
            octets: self.octets,
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
    octets: u64,
    workers: Workers,
}

#[async_trait]
impl Body for FileBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.at == self.octets {
            return Ok(None);
        }
        let file = Arc::clone(&self.file);
        let (at, left) = (self.at, self.octets - self.at);
        let chunk = self
            .workers
            .run(move || read_chunk(&*file, at, left))
            .await?;
        self.at += chunk.len() as u64;
        Ok(Some(chunk))
    }
}
