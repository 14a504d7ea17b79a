//! Keeping what is damaged, in the directory `damaged`, for somebody to look at. Nothing there is ever read again, replaced or
//! removed by a spool.

use std::io;
use std::path::{Path, PathBuf};

use super::record::Place;
use super::segment::{self, DAMAGED};
use crate::Disk;
use crate::spool::content::read_exactly;

/// Names that are tried for one thing: a number of a segment may come again after that segment was moved here.
const NAMES_MAX: u32 = 9;

/// Mail is nobody's business but its owner's.
const MODE: u32 = 0o600;

/// Where octets are kept, or only would be.
pub(super) struct Aside<'a> {
    pub(super) disk: &'a dyn Disk,
    /// For a look, which writes nothing.
    pub(super) look: bool,
}

impl Aside<'_> {
    /// Keeps octets of a place; durable on return. Gives the name of their file.
    pub(super) fn octets(&self, place: Place, octets: &[u8]) -> io::Result<PathBuf> {
        let mut number = 0;
        loop {
            let path = name(place, number);
            if self.look || self.holds(&path, octets) {
                return Ok(path);
            }
            match self.disk.create(&path, MODE) {
                Ok(file) => {
                    let kept = file.write_at(octets, 0);
                    kept.and_then(|()| self.disk.sync(&[&*file], &[Path::new(DAMAGED)]))
                        .inspect_err(|_| drop(self.disk.unlink(&path)))?;
                    return Ok(path);
                }
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES_MAX =>
                {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves the file of a segment away. Gives its new name.
    pub(super) fn segment(&self, segment: u32) -> io::Result<PathBuf> {
        let name = |number| name(Place { segment, offset: 0 }, number);
        self.file(&segment::path(segment), name)
    }

    /// Moves a text away that no message has, but one that is damaged may have had. Gives its new name.
    pub(super) fn text(&self, text: &Path) -> io::Result<PathBuf> {
        let id = text.file_name().unwrap_or_default().to_string_lossy();
        self.file(text, |number| {
            numbered(format!("{}-{id}", segment::TEXTS), number)
        })
    }

    fn file(&self, from: &Path, name: impl Fn(u32) -> PathBuf) -> io::Result<PathBuf> {
        let mut number = 0;
        loop {
            let path = name(number);
            if self.look {
                return Ok(path);
            }
            match self.disk.link(from, &path) {
                Ok(()) => {
                    // Never without a name, whatever a crash leaves.
                    self.disk.sync(&[], &[Path::new(DAMAGED)])?;
                    self.disk.unlink(from)?;
                    return Ok(path);
                }
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES_MAX =>
                {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a start before this one has kept the same.
    fn holds(&self, path: &Path, octets: &[u8]) -> bool {
        let Ok(file) = self.disk.open(path, false) else {
            return false;
        };
        let length = octets.len() as u64;
        file.stat().is_ok_and(|stat| stat.octets == length)
            && read_exactly(&*file, 0, length).is_ok_and(|kept| kept == octets)
    }
}

fn name(place: Place, number: u32) -> PathBuf {
    numbered(format!("{:010}-{}", place.segment, place.offset), number)
}

fn numbered(name: String, number: u32) -> PathBuf {
    Path::new(DAMAGED).join(match number {
        0 => name,
        number => format!("{name}.{number}"),
    })
}
