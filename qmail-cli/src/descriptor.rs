//! Driving a protocol machine over descriptors 0 and 1, for programs that a listener has started.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::time::Instant;

use qmail_core::Machine;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// Octets read at a time.
const READ_OCTETS: usize = 32 * 1024;

/// Whether a descriptor was closed when this program was started.
///
/// So that no file of ours takes its place, the start of every Rust program opens `/dev/null` there, for reading and writing: a
/// caller who means `/dev/null` gives it for the one or the other.
pub(crate) fn is_closed(descriptor: impl AsFd) -> bool {
    let is_null = || {
        let (own, null) = (
            rustix::fs::fstat(&descriptor)?,
            rustix::fs::stat("/dev/null")?,
        );
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        let both = flags & OFlags::RWMODE == OFlags::RDWR;
        Ok::<_, rustix::io::Errno>(both && own.st_rdev == null.st_rdev && own.st_ino == null.st_ino)
    };
    is_null().unwrap_or(true)
}

/// Runs a conversation to its end. `settle` gets every event, and answers it through the machine.
///
/// A wait for the peer, in either direction, is bounded by the machine's deadline.
///
/// # Errors
///
/// A read or a write failed, or the peer took nothing until the deadline.
pub(crate) fn converse<M: Machine>(
    machine: M,
    settle: impl FnMut(&mut M, M::Event),
) -> io::Result<()> {
    // Standard input without its buffer: what a child inherits must not be read ahead of need.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    converse_over(input, output, machine, settle)
}

/// The same over any two descriptors.
pub(crate) fn converse_over<M: Machine>(
    mut input: File,
    mut output: File,
    mut machine: M,
    mut settle: impl FnMut(&mut M, M::Event),
) -> io::Result<()> {
    let mut buffer = vec![0; READ_OCTETS];
    let (mut start, mut end) = (0, 0);
    let mut transmit = Vec::new();
    loop {
        while let Some(event) = machine.poll_event() {
            settle(&mut machine, event);
        }
        if machine.poll_transmit(&mut transmit) {
            write(&mut machine, &mut output, &transmit)?;
            transmit.clear();
            continue;
        }
        if machine.is_closed() {
            return Ok(());
        }
        if start < end {
            start += machine.receive(Instant::now(), &buffer[start..end]);
            continue;
        }
        if !wait(&machine, &input, PollFlags::IN)? {
            machine.handle_deadline(Instant::now());
            continue;
        }
        match input.read(&mut buffer) {
            Ok(0) => machine.handle_eof(Instant::now()),
            Ok(octets) => (start, end) = (0, octets),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write<M: Machine>(machine: &mut M, output: &mut File, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        if !wait(machine, &*output, PollFlags::OUT)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match output.write(octets) {
            Ok(written) => octets = &octets[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until a descriptor is ready; `false` if the deadline came first.
fn wait<M: Machine>(machine: &M, descriptor: impl AsFd, flags: PollFlags) -> io::Result<bool> {
    wait_until(&descriptor, flags, machine.deadline())
}

/// Waits until a descriptor is ready; `false` if the deadline came first. Without a deadline it waits for ever.
pub(crate) fn wait_until(
    descriptor: impl AsFd,
    flags: PollFlags,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(&descriptor, flags)], timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
