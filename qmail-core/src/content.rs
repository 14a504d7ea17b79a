//! Message text on its way: read in bounded chunks, never held whole.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

/// Longest chunk in octets that a [`Body`] hands out.
pub const CHUNK_OCTETS_MAX: usize = 64 * 1024;

/// The text of a message, as often as it is wanted. Lines end in LF.
#[async_trait]
pub trait Content: Send + Sync {
    /// Starts reading from the first octet.
    ///
    /// # Errors
    ///
    /// What the store says: the message may be gone.
    async fn open(&self) -> io::Result<Box<dyn Body>>;

    /// Size in octets.
    fn octets(&self) -> u64;
}

/// One reading of a [`Content`].
#[async_trait]
pub trait Body: Send {
    /// The next chunk, 1 to [`CHUNK_OCTETS_MAX`] octets; `None` after the last.
    ///
    /// # Errors
    ///
    /// A failed read. The text so far must not be taken for the whole.
    async fn next(&mut self) -> io::Result<Option<Bytes>>;
}

/// A [`Content`] in memory: for bounces, tests and small embeddings.
#[derive(Clone, Debug, Default)]
pub struct MemoryContent(pub Bytes);

#[async_trait]
impl Content for MemoryContent {
    async fn open(&self) -> io::Result<Box<dyn Body>> {
        Ok(Box::new(MemoryBody(self.0.clone())))
    }

    fn octets(&self) -> u64 {
        self.0.len() as u64
    }
}

struct MemoryBody(Bytes);

#[async_trait]
impl Body for MemoryBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let length = self.0.len().min(CHUNK_OCTETS_MAX);
        Ok(Some(self.0.split_to(length)))
    }
}
