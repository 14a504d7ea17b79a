//! The connection of the serial mail clients: descriptors 6 and 7, as tcpclient(1) leaves them (UCSPI).

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

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

/// Both halves, in clear or in TLS.
pub(crate) enum Wire {
    Clear(Halves),
    Encrypted(Box<StreamOwned<ClientConnection, Halves>>),
    /// A handshake failed.
    Broken,
}

/// Both halves as one.
pub(crate) struct Halves {
    reader: PeerReader,
    writer: PeerWriter,
}

impl Wire {
    pub(crate) fn new(timeouts: Timeouts) -> io::Result<Self> {
        let (reader, writer) = connection(timeouts)?;
        Ok(Self::Clear(Halves { reader, writer }))
    }

    /// Makes a handshake. If it fails the connection is of no use any more.
    pub(crate) fn encrypt(
        &mut self,
        config: Arc<ClientConfig>,
        server: ServerName<'static>,
    ) -> io::Result<()> {
        let Self::Clear(mut halves) = std::mem::replace(self, Self::Broken) else {
            return Err(io::ErrorKind::AlreadyExists.into());
        };
        let mut client = ClientConnection::new(config, server).map_err(io::Error::other)?;
        while client.is_handshaking() {
            client.complete_io(&mut halves)?;
        }
        *self = Self::Encrypted(Box::new(StreamOwned::new(client, halves)));
        Ok(())
    }
}

impl Read for Halves {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Write for Halves {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.writer.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(halves) => halves.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(halves) => halves.write(octets),
            Self::Encrypted(stream) => stream.write(octets),
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(halves) => halves.flush(),
            Self::Encrypted(stream) => stream.flush(),
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
