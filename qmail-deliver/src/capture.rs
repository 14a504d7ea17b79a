//! What a child process prints, up to a limit.

use std::future::pending;
use std::io;
use std::process::ExitStatus;

use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// Standard output and standard error of a program, in one pipe. The first of it is kept; the rest is read and dropped, so that
/// the program is not held up.
#[derive(Debug, Default)]
pub struct Capture {
    pipe: Option<Receiver>,
    octets_max: usize,
    kept: Vec<u8>,
}

impl Capture {
    /// Nothing is captured: the program has the outputs of this process.
    pub fn none() -> Self {
        Self::default()
    }

    /// Has a command that is not started yet print here. Of what it prints `octets_max` octets are kept.
    ///
    /// The command keeps the other end of the pipe: drop it once the program is started.
    ///
    /// # Errors
    ///
    /// The system has no room for a pipe.
    pub fn of(command: &mut Command, octets_max: usize) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        Ok(Self {
            pipe: Some(Receiver::from_owned_fd(reader.into())?),
            octets_max,
            kept: Vec::new(),
        })
    }

    /// Reads until the program has ended. May be dropped and called again.
    ///
    /// What it has left in the background may go on printing, and has no reader.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub async fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let status = loop {
            tokio::select! {
                biased;
                status = child.wait() => break status?,
                () = self.read() => {}
            }
        };
        for _ in 0..PIPE_READS_MAX {
            if !matches!(self.take(), Some(1..)) {
                break;
            }
        }
        Ok(status)
    }

    /// What was kept, and whether there was more.
    pub fn into_kept(mut self) -> (Vec<u8>, bool) {
        let more = self.kept.len() > self.octets_max;
        self.kept.truncate(self.octets_max);
        (self.kept, more)
    }

    /// Returns when something was read, or the pipe was closed; never without a pipe.
    async fn read(&mut self) {
        match &self.pipe {
            Some(pipe) => {
                if pipe.readable().await.is_err() || self.take() == Some(0) {
                    self.pipe = None;
                }
            }
            None => pending().await,
        }
    }

    /// Reads once. `None`: there is nothing now.
    fn take(&mut self) -> Option<usize> {
        let pipe = self.pipe.as_ref()?;
        let mut buffer = [0; 8 * 1024];
        match pipe.try_read(&mut buffer) {
            Ok(octets) => {
                // One more than is kept tells that there was more.
                let room = (self.octets_max + 1).saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&buffer[..octets.min(room)]);
                Some(octets)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(0),
        }
    }
}

/// More reads than a pipe has room for: a program left in the background cannot keep us reading.
const PIPE_READS_MAX: u32 = 32;
