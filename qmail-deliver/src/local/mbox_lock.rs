//! The locks of mbox files.
//!
//! The lock of the classic programs is flock(2). Others on the same host know nothing of that one: most take fcntl(2) locks, many
//! make a file `NAME.lock` as well. So both kinds are taken, the second as a lock of the open file, which other deliveries of the
//! same process neither share nor give up by closing theirs; and somebody's `NAME.lock` is waited for. None is made: a directory of
//! mailboxes may be closed to whoever delivers, and what a crash leaves of one would hold up everybody.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Locks an mbox that is open for writing, without waiting. `false`: somebody else has it now, or another file has got the name
/// `path` since this one was opened; open it again in a moment.
///
/// The lock lasts until the file is closed. A `NAME.lock` is taken for left over when it is [`DOT_LOCK_AGE_MAX`] old by `now`.
///
/// # Errors
///
/// It cannot be locked at all: nothing may be written then.
pub fn try_lock_mbox(file: &File, path: &Path, now: SystemTime) -> io::Result<bool> {
    if has_dot_lock(path, now) {
        return Ok(false);
    }
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    if !lock_records(file)? {
        return Ok(false);
    }
    // A mail reader may have put another file in its place while we had it open.
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn has_dot_lock(path: &Path, now: SystemTime) -> bool {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let made = std::fs::symlink_metadata(lock).and_then(|lock| lock.modified());
    made.is_ok_and(|made| {
        let age = now.duration_since(made).unwrap_or_default();
        age < DOT_LOCK_AGE_MAX
    })
}

/// The lock that fcntl(2) gives, of the whole file.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn lock_records(file: &File) -> io::Result<bool> {
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => Ok(false),
        // Kernels before 3.15 have no such locks; the other lock is held.
        Err(Errno::EINVAL) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Where such a lock would belong to the process, deliveries of one server would undo each other's.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn lock_records(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// So old is a `NAME.lock` that whoever made it must be gone: who rewrites a mailbox touches its lock more often.
pub const DOT_LOCK_AGE_MAX: Duration = Duration::from_secs(5 * 60);
