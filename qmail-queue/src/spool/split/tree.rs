//! The queue directory as a whole: making it, and the lock that says who runs it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{self, Directory};

/// Directories that hold others, or what is no message file, with their modes.
const PARENTS: [(&str, u32); 6] = [
    (layout::HOLD, 0o700),
    ("mess", 0o750),
    ("info", 0o700),
    ("local", 0o700),
    ("remote", 0o700),
    ("lock", 0o750),
];

/// Makes what is missing of a queue directory, owned by the caller, and makes it durable. What exists is left as it is.
pub(super) fn create(root: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    if make_directory(here, root, 0o750)? {
        let parent = match root.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            // A relative path of one part.
            _ => Path::new("."),
        };
        let parent = rustix::fs::openat(here, parent, DIRECTORY_FLAGS, Mode::empty())?;
        rustix::fs::fsync(parent)?;
    }
    let queue = rustix::fs::openat(here, root, DIRECTORY_FLAGS, Mode::empty())?;
    for (name, mode) in PARENTS {
        make_directory(&queue, Path::new(name), mode)?;
    }
    for directory in Directory::all() {
        make_directory(&queue, &directory.path(), directory.mode())?;
    }
    make_file(&queue, layout::SEND_MUTEX, 0o600, &[])?;
    make_file(&queue, layout::TCPTO, 0o644, &[0; layout::TCPTO_OCTETS])?;
    make_fifo(&queue, layout::TRIGGER, 0o622)?;
    for (name, _) in PARENTS {
        let parent = rustix::fs::openat(&queue, name, DIRECTORY_FLAGS, Mode::empty())?;
        rustix::fs::fsync(parent)?;
    }
    Ok(rustix::fs::fsync(queue)?)
}

/// `false` if it was there.
fn make_directory(at: impl std::os::fd::AsFd, path: &Path, mode: u32) -> io::Result<bool> {
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

fn make_file(queue: &OwnedFd, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(queue, path, flags, mode) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    rustix::fs::fchmod(&file, mode)?;
    io::Write::write_all(&mut &file, content)?;
    file.sync_all()
}

#[cfg(not(target_vendor = "apple"))]
fn make_fifo(queue: &OwnedFd, path: &str, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::mkfifoat(queue, path, mode) {
        Ok(()) => Ok(rustix::fs::chmodat(queue, path, mode, AtFlags::empty())?),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// There is no call for it that needs no unsafe code: classic programs then cannot wake this queue, and it scans instead.
#[cfg(target_vendor = "apple")]
fn make_fifo(_queue: &OwnedFd, _path: &str, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// The right to run a queue, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct SendMutex {
    _file: OwnedFd,
}

impl SendMutex {
    /// Takes the exclusive lock of `lock/sendmutex` that every qmail-send takes, without waiting.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if another process runs this queue; else why the file cannot be opened.
    pub fn lock(root: impl AsRef<Path>) -> io::Result<Self> {
        let path = root.as_ref().join(layout::SEND_MUTEX);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { _file: file })
    }
}

const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
