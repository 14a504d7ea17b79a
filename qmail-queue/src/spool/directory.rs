//! Making the directories of a spool.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

pub(super) const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Makes the directory of a spool if it is missing, durably, and opens it. Its parent must exist.
pub(crate) fn make_root(root: &Path, mode: u32) -> io::Result<OwnedFd> {
    if make(CWD, root, mode)? {
        let parent = match root.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            // A relative path of one part.
            _ => Path::new("."),
        };
        sync(CWD, parent)?;
    }
    Ok(rustix::fs::openat(CWD, root, FLAGS, Mode::empty())?)
}

/// Makes a directory with exactly this mode; `false` if it was there.
pub(super) fn make(at: impl AsFd, path: &Path, mode: u32) -> io::Result<bool> {
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::mkdirat(&at, path, mode) {
        // The umask took bits away.
        Ok(()) => {
            rustix::fs::chmodat(&at, path, mode, AtFlags::empty())?;
            Ok(true)
        }
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync(at: impl AsFd, path: &Path) -> io::Result<()> {
    let directory = rustix::fs::openat(at, path, FLAGS, Mode::empty())?;
    Ok(rustix::fs::fsync(directory)?)
}
