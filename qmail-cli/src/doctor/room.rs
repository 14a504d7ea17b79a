//! Whether there is room on the disk of the queue.

use std::path::Path;

use rustix::fs::statvfs;

use super::{Findings, World};

/// Below this much room mail is refused soon.
const OCTETS_ERROR: u64 = 64 * 1024 * 1024;
const OCTETS_WARNING: u64 = 1024 * 1024 * 1024;

/// The same for files.
const FILES_ERROR: u64 = 1_000;
const FILES_WARNING: u64 = 20_000;

/// What is left on a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) octets: u64,
    /// `None` if there is no fixed number of files.
    pub(crate) files: Option<u64>,
}

impl Room {
    /// What is left where a path lies; `None` if that cannot be said.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let room = statvfs(path).ok()?;
        Some(Self {
            octets: room.f_bavail.saturating_mul(room.f_frsize),
            // Some file systems say 0 of 0.
            files: (room.f_files > 0).then_some(room.f_favail),
        })
    }
}

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let queue = world.home.queue();
    let path = if queue.is_dir() {
        queue
    } else {
        world.home.path().to_owned()
    };
    let Some(Room { octets, files }) = (world.room)(&path) else {
        return;
    };
    let remedy = "make room, or move the queue to a larger disk";
    let words = format!(
        "{} MiB are left on the disk of {}",
        octets >> 20,
        path.display()
    );
    if octets < OCTETS_ERROR {
        findings.error(words, remedy);
    } else if octets < OCTETS_WARNING {
        findings.warning(words, remedy);
    }
    let Some(files) = files else {
        return;
    };
    let words = format!(
        "room for {files} files is left on the disk of {}",
        path.display()
    );
    if files < FILES_ERROR {
        findings.error(words, remedy);
    } else if files < FILES_WARNING {
        findings.warning(words, remedy);
    }
}
