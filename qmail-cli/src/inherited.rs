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

/// Has no program that this one starts inherit descriptors beyond the standard three: whoever started this program may have
/// left anything open, and programs of deliveries are other people's.
///
/// Descriptors that are opened later are not inherited anyway.
pub(crate) fn keep_from_children() {
    close_fds::set_fds_cloexec(3, &[]);
}
