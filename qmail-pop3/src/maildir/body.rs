//! The text of a message from its file.

use std::fs::File;
use std::io::{self, Read};

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Body, CHUNK_OCTETS_MAX};

use super::blocking;
use super::scan::Scan;

/// One reading of a message.
pub(super) struct FileBody {
    /// The first chunk comes with the opening, so that a short message takes one visit to the disk.
    first: Option<Bytes>,
    rest: Option<Rest>,
}

/// What is not read yet: 1 octet at least.
struct Rest {
    file: File,
    octets: u64,
}

/// Opens a message, and says whether it had to be searched for.
pub(super) fn open(scan: &Scan, message: usize, may_search: bool) -> io::Result<(FileBody, bool)> {
    let (place, name) = scan.name(message).ok_or(io::ErrorKind::NotFound)?;
    let (opened, searched) = match scan.folders.read(place, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_search => {
            let (place, name) = scan.folders.find_renamed(name)?;
            (scan.folders.read(place, &name)?, true)
        }
        opened => (opened?, false),
    };
    let (file, octets) = opened;
    let (first, rest) = match octets {
        0 => (None, None),
        _ => {
            let file = file.into();
            let (first, rest) = read(Rest { file, octets })?;
            (Some(first), rest)
        }
    };
    Ok((FileBody { first, rest }, searched))
}

/// The next chunk, and what is left.
fn read(mut rest: Rest) -> io::Result<(Bytes, Option<Rest>)> {
    let octets = rest.octets.min(CHUNK_OCTETS_MAX as u64);
    let mut chunk = vec![0; octets as usize];
    // A file that has become shorter is an error: what was sent is not the whole message.
    rest.file.read_exact(&mut chunk)?;
    rest.octets -= octets;
    Ok((chunk.into(), (rest.octets > 0).then_some(rest)))
}

#[async_trait]
impl Body for FileBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(rest) = self.rest.take() else {
            return Ok(None);
        };
        let (chunk, rest) = blocking(move || read(rest)).await??;
        self.rest = rest;
        Ok(Some(chunk))
    }
}
