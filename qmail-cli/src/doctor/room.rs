//! Whether there is room on the disk of the queue.

use rustix::fs::statvfs;

use super::{Findings, World};

/// Below this much room mail is refused soon.
const OCTETS_ERROR: u64 = 64 * 1024 * 1024;
const OCTETS_WARNING: u64 = 1024 * 1024 * 1024;

/// The same for files.
const FILES_ERROR: u64 = 1_000;
const FILES_WARNING: u64 = 20_000;

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let queue = world.home.queue();
    let path = if queue.is_dir() {
        queue
    } else {
        world.home.path().to_owned()
    };
    let Ok(room) = statvfs(&path) else {
        return;
    };
    let octets = room.f_bavail.saturating_mul(room.f_frsize);
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
    // Some file systems have no fixed number of files and say 0 of 0.
    if room.f_files == 0 {
        return;
    }
    let words = format!(
        "room for {} files is left on the disk of {}",
        room.f_favail,
        path.display()
    );
    if room.f_favail < FILES_ERROR {
        findings.error(words, remedy);
    } else if room.f_favail < FILES_WARNING {
        findings.warning(words, remedy);
    }
}
