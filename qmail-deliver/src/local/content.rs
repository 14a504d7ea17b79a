//! A message that is a file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Body, CHUNK_OCTETS_MAX, Content};

/// A [`Content`] that is an open, seekable file, as qmail-local(8) has one on descriptor 0.
///
/// There is one position for all readings of it: they must follow one another. Reads block the calling thread: this is for
/// programs that deliver one message.
#[derive(Clone, Debug)]
pub struct FileContent(Arc<File>);

impl FileContent {
    /// The whole of the file, wherever its position is.
    pub fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    /// The same open file, at its first octet.
    pub(super) fn rewound(&self) -> io::Result<File> {
        (&*self.0).rewind()?;
        self.0.try_clone()
    }
}

#[async_trait]
impl Content for FileContent {
    async fn open(&self) -> io::Result<Box<dyn Body>> {
        (&*self.0).rewind()?;
        Ok(Box::new(FileBody(self.0.clone())))
    }

    fn octets(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

struct FileBody(Arc<File>);

#[async_trait]
impl Body for FileBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut chunk = Vec::with_capacity(CHUNK_OCTETS_MAX);
        (&*self.0)
            .take(CHUNK_OCTETS_MAX as u64)
            .read_to_end(&mut chunk)?;
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }
}
