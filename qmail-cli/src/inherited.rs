//! Descriptors that a parent has left open for us.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use filedescriptor::FileDescriptor;

/// Descriptors that every process has.
const STANDARD: RangeInclusive<RawFd> = 0..=2;

/// Takes over the descriptors of these numbers: they come back under other ones, in their order, and are closed when a program
/// is run. Of the standard ones 1 and 2 become copies of 0, the others are closed.
///
/// To be called first of all, as long as nothing else of the process is open.
///
/// # Errors
///
/// One of them is not open.
pub(crate) fn take(numbers: RangeInclusive<RawFd>) -> io::Result<Vec<OwnedFd>> {
    let copies: Vec<FileDescriptor> = numbers
        .clone()
        .map(|number| FileDescriptor::dup(&number).map_err(io::Error::other))
        .collect::<io::Result<_>>()?;
    // A copy gets the lowest number that is free.
    if copies.iter().any(|copy| copy.as_raw_fd() <= *numbers.end()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let taken = copies
        .iter()
        .map(|copy| copy.as_file().map(OwnedFd::from).map_err(io::Error::other))
        .collect::<io::Result<_>>()?;
    for number in numbers.filter(|number| !STANDARD.contains(number)) {
        nix::unistd::close(number)?;
    }
    let zero = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(&zero)?;
    rustix::stdio::dup2_stderr(&zero)?;
    Ok(taken)
}

/// Closes whatever is open beyond the standard descriptors. To be called first of all.
pub(crate) fn close_others() {
    for number in 3..CLOSED_BELOW {
        // Most are not open.
        let _ = nix::unistd::close(number);
    }
}

/// Nobody leaves a descriptor of this number or a higher one open by accident.
const CLOSED_BELOW: RawFd = 64;
