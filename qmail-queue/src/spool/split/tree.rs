//! The queue directory as a whole: making it, and the lock that says who runs it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{self, Directory};
use crate::convert;
use crate::spool::directory;
use crate::spool::hold::HOLD;

/// Directories that hold others, or what is no message file, with their modes.
const PARENTS: [(&str, u32); 6] = [
    (HOLD, 0o700),
    ("mess", 0o750),
    ("info", 0o700),
    ("local", 0o700),
    ("remote", 0o700),
    ("lock", 0o750),
];

/// Makes what is missing of a queue directory, owned by the caller, and makes it durable. What exists is left as it is.
pub(super) fn create(root: &Path) -> io::Result<()> {
    let queue = directory::make_root(root, 0o750)?;
    for (name, mode) in PARENTS {
        directory::make(&queue, Path::new(name), mode)?;
    }
    for directory in Directory::all() {
        directory::make(&queue, &directory.path(), directory.mode())?;
    }
    make_lock_files(&queue)?;
    make_fifo(&queue, layout::TRIGGER, 0o622)?;
    for (name, _) in PARENTS {
        directory::sync(&queue, Path::new(name))?;
    }
    Ok(rustix::fs::fsync(queue)?)
}

/// Makes what is missing of a queue directory whose messages are kept elsewhere: `lock`, with what [`SendMutex`] locks and the
/// table of hosts that time out. Durable on return.
///
/// # Errors
///
/// What the system says.
pub fn create_locks(root: impl AsRef<Path>) -> io::Result<()> {
    let queue = directory::make_root(root.as_ref(), 0o750)?;
    let lock = Path::new("lock");
    directory::make(&queue, lock, 0o750)?;
    make_lock_files(&queue)?;
    directory::sync(&queue, lock)?;
    Ok(rustix::fs::fsync(queue)?)
}

fn make_lock_files(queue: &OwnedFd) -> io::Result<()> {
    make_file(queue, layout::SEND_MUTEX, 0o600, &[])?;
    make_file(queue, layout::TCPTO, 0o644, &[0; layout::TCPTO_OCTETS])
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
    /// Locked as well: a file can be taken away, and another one is then locked by somebody else.
    _directory: OwnedFd,
}

impl SendMutex {
    /// Takes the exclusive lock of `lock/sendmutex` that every qmail-send takes, without waiting. Then finishes, or undoes, a
    /// [`Change`](crate::Change) of the queue that was broken off: only now it is certain which form the queue has.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if another process runs this queue; else why the file cannot be opened, or what is to be put in
    /// order cannot be.
    pub fn lock(root: impl AsRef<Path>) -> io::Result<Self> {
        let path = root.as_ref().join(layout::SEND_MUTEX);
        let parent = path.parent().unwrap_or(root.as_ref());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
        for locked in [&file, &directory] {
            rustix::fs::flock(locked, FlockOperation::NonBlockingLockExclusive)?;
        }
        convert::settle(root.as_ref())?;
        Ok(Self {
            _file: file,
            _directory: directory,
        })
    }
}
