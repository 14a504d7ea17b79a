//! The connection of the serial mail clients: descriptors 6 and 7, as tcpclient(1) leaves them (UCSPI).

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::inherited;

/// How long the other side may be silent; time runs anew with every octet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) read: Duration,
    pub(crate) write: Duration,
}

/// Reading, with a limit on silence.
pub(crate) struct PeerReader {
    file: File,
    timeout: Duration,
}

/// Writing, with a limit on silence.
pub(crate) struct PeerWriter {
    file: File,
    timeout: Duration,
}

/// The two halves of the connection.
pub(crate) fn connection(timeouts: Timeouts) -> io::Result<(PeerReader, PeerWriter)> {
    Ok((
        PeerReader {
            file: inherited::copy(6)?,
            timeout: timeouts.read,
        },
        PeerWriter {
            file: inherited::copy(7)?,
            timeout: timeouts.write,
        },
    ))
}

impl Read for PeerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait(&self.file, PollFlags::IN, self.timeout)?;
        self.file.read(buffer)
    }
}

impl Write for PeerWriter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        wait(&self.file, PollFlags::OUT, self.timeout)?;
        self.file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wait(file: &File, ready: PollFlags, timeout: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(file, ready)], Some(&timeout))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
