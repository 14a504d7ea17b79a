//! Descriptors beyond the standard three that whoever started this program left open for it.

use std::fs::File;
use std::io;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// A copy of an open descriptor of this process. The original stays open.
///
/// Descriptors that were inherited can be used safely only by copies that the kernel makes; it does so for a process's own
/// since Linux 5.6.
///
/// # Errors
///
/// `EBADF` if it is not open.
pub(crate) fn copy(descriptor: i32) -> io::Result<File> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(&own, descriptor, PidfdGetfdFlags::empty())?.into())
}
