//! Descriptors that whoever started this program left open for it, beyond the standard three.
//!
//! They can be used safely only by copies: nothing else in this process has those.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use filedescriptor::FileDescriptor;
use tokio::signal::unix::SignalKind;

/// A copy of an open descriptor of this process, closed when a program is run. The original stays open.
///
/// # Errors
///
/// It is not open.
pub(crate) fn copy(descriptor: RawFd) -> io::Result<File> {
    let copy = FileDescriptor::dup(&descriptor).map_err(io::Error::other)?;
    copy.as_file().map_err(io::Error::other)
}

/// Takes over the descriptors of these numbers: they come back under other ones, in their order, and are closed when a program
/// is run. Of the standard ones 1 and 2 become copies of 0, the others are closed.
///
/// To be called first of all, as long as nothing else of the process is open.
///
/// # Errors
///
/// One of them is not open.
pub(crate) fn take(numbers: RangeInclusive<RawFd>) -> io::Result<Vec<OwnedFd>> {
    let taken = renumber(&numbers.collect::<Vec<_>>())?;
    let zero = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(&zero)?;
    rustix::stdio::dup2_stderr(&zero)?;
    Ok(taken)
}

/// Takes over the descriptors of these numbers as [`take`] does, but leaves the standard ones alone, and closes whatever else is
/// open.
///
/// To be called first of all, as [`take`].
///
/// # Errors
///
/// One of them is not open.
pub(crate) fn take_beyond_standard(numbers: &[RawFd]) -> io::Result<Vec<OwnedFd>> {
    close(|number| !numbers.contains(&number));
    renumber(numbers)
}

fn renumber(numbers: &[RawFd]) -> io::Result<Vec<OwnedFd>> {
    let copies: Vec<File> = numbers
        .iter()
        .map(|&number| copy(number))
        .collect::<io::Result<_>>()?;
    // A copy gets the lowest number that is free: a low one was free when another was to be copied.
    let highest = numbers.iter().max();
    if copies.iter().any(|copy| Some(&copy.as_raw_fd()) <= highest) {
        return Err(io::ErrorKind::NotFound.into());
    }
    for &number in numbers.iter().filter(|&&number| number > STANDARD_MAX) {
        nix::unistd::close(number)?;
    }
    Ok(copies.into_iter().map(OwnedFd::from).collect())
}

/// Closes whatever is open beyond the standard descriptors. To be called first of all.
pub(crate) fn close_others() {
    close(|_| true);
}

/// Closes what is open beyond the standard descriptors and `unwanted`.
fn close(unwanted: impl Fn(RawFd) -> bool) {
    let listed = std::fs::read_dir("/proc/self/fd").map(|directory| {
        let names = directory.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).collect()
    });
    let open: Vec<RawFd> = listed.unwrap_or_else(|_| (0..CLOSED_BELOW).collect());
    for number in open
        .into_iter()
        .filter(|&number| number > STANDARD_MAX && unwanted(number))
    {
        // The listing's own is closed by now, and of a range most are not open.
        let _ = nix::unistd::close(number);
    }
}

/// Has the programs that are run from now on start with every signal at its default, whatever this process was started to
/// ignore. For this process nothing changes but that it can wait for its children, which it could not while it ignored their
/// ends; other signals that it ignored do nothing now. Within a runtime only.
///
/// # Errors
///
/// The runtime can take no signals.
pub(crate) fn forget_ignored_signals() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    for number in ENDING_SIGNALS {
        if ignored.unwrap_or_default() & 1 << (number - 1) != 0 {
            // Whoever runs a program takes handlers away, and would leave it an ignored signal ignored.
            let _ = tokio::signal::unix::signal(SignalKind::from_raw(number))?;
        }
    }
    Ok(())
}

/// HUP, INT, QUIT, USR1, USR2, ALRM, TERM and CHLD. PIPE is reset for every program anyway.
const ENDING_SIGNALS: [i32; 8] = [1, 2, 3, 10, 12, 14, 15, 17];

/// Up to this number the descriptors have names.
const STANDARD_MAX: RawFd = 2;

/// Where the open descriptors are not listed, those below this number are closed.
const CLOSED_BELOW: RawFd = 64;
