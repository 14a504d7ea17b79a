//! Reading a descriptor that somebody else opened: a pipe, a file, a terminal.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::thread;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc;

/// Reads once; returns how much, 0 at the end.
///
/// Waits if there is nothing, even where the one who opened the descriptor has said that it is not to wait.
///
/// # Errors
///
/// What the system says.
pub(crate) fn read(mut file: &File, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Woken for nothing, it reads again.
                let _ = poll(&mut [PollFd::new(file, PollFlags::IN)], None);
            }
            result => return result,
        }
    }
}

/// A descriptor that is read while other things go on, by a thread of its own. Others share it, so it is left as they have set
/// it: it may well be one that waits.
pub(crate) struct Input(mpsc::Receiver<io::Result<Bytes>>);

impl Input {
    /// Starts to read, `octets_max` at a time; no more than two pieces ahead of who takes them.
    ///
    /// # Errors
    ///
    /// The system has no room for a descriptor or a thread.
    pub(crate) fn new(descriptor: impl AsFd, octets_max: usize) -> io::Result<Self> {
        let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
        let (sender, receiver) = mpsc::channel(1);
        thread::Builder::new().spawn(move || {
            loop {
                let mut octets = vec![0; octets_max];
                let piece = read(&file, &mut octets).map(|count| {
                    octets.truncate(count);
                    Bytes::from(octets)
                });
                let last = !matches!(&piece, Ok(octets) if !octets.is_empty());
                if sender.blocking_send(piece).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    /// Some octets; none at the end. May be dropped before it is done: nothing is lost then.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        self.0.recv().await.unwrap_or_else(|| Ok(Bytes::new()))
    }
}
