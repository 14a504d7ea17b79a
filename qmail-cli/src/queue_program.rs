//! Handing a message to qmail-queue, or to the program that `QMAILQUEUE` names (qmail-queue(8)).
//!
//! The program reads the message on descriptor 0, the envelope on descriptor 1, and may write a refusal of its own on
//! descriptor 6. It queues nothing unless the envelope is complete, so stopping half-way is safe.

use std::io::{self, BufWriter, Read as _, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt as _, FdMapping};
use qmail_core::{QueueExit, QueueFailure};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::classic;

/// The descriptor that custom errors are read from.
const CUSTOM_ERROR: i32 = 6;

/// The variable by which a queue manager without a user of its own says that a message is a bounce. The program of an installed
/// system goes by the user alone.
pub(crate) const FOR_BOUNCE: &str = "QMAIL_BOUNCE";

/// A running queue program that takes a message.
///
/// Dropping it before [`finish`](Self::finish) leaves the envelope incomplete: nothing is queued.
pub(crate) struct QueueProgram {
    child: Child,
    message: Option<BufWriter<io::PipeWriter>>,
    envelope: Option<io::PipeWriter>,
    custom_error: io::PipeReader,
    /// Writing failed: the program has gone, and will say why when it is asked.
    broken: bool,
}

impl QueueProgram {
    /// Starts `QMAILQUEUE`, or `bin/qmail-queue`, in the current directory, which must be the home. For programs that start
    /// no other at the same time.
    pub(crate) fn start() -> Result<Self, QueueFailure> {
        Self::start_command(command_of(Path::new("")), Self::spawn_quickly)
    }

    /// Starts `QMAILQUEUE`, or `bin/qmail-queue` of this home, or this binary as that if there is none, whatever the current
    /// directory is.
    pub(crate) fn start_in(home: &Path) -> Result<Self, QueueFailure> {
        Self::start_command(command_of(home), Self::spawn)
    }

    /// The same for a bounce, which [`FOR_BOUNCE`] says.
    pub(crate) fn start_for_bounce(home: &Path) -> Result<Self, QueueFailure> {
        let command = command_of(home).map(|mut command| {
            command.env(FOR_BOUNCE, "1");
            command
        });
        Self::start_command(command, Self::spawn)
    }

    fn start_command(
        command: io::Result<Command>,
        spawn: fn(Command, CustomError) -> io::Result<Self>,
    ) -> Result<Self, QueueFailure> {
        command
            .and_then(|command| spawn(command, CustomError::new()?))
            .map_err(|error| match error.kind() {
                io::ErrorKind::OutOfMemory => QueueFailure::MEMORY,
                _ => QueueExit::Code(120)
                    .verdict()
                    .expect_err("120 is a failure"),
            })
    }

    /// Starts the program without a copy of this process first, which is dear where the process lasts a millisecond: what the
    /// program is to inherit as descriptor 6 is at that number here already. Somebody who starts another program at the same
    /// time would give it the same descriptor.
    fn spawn_quickly(command: Command, custom_error: CustomError) -> io::Result<Self> {
        let six = fcntl_dupfd_cloexec(&custom_error.writer, CUSTOM_ERROR)?;
        if six.as_raw_fd() != CUSTOM_ERROR {
            // The number is taken, by what somebody gave to us.
            return Self::spawn(command, custom_error);
        }
        fcntl_setfd(&six, FdFlags::empty())?;
        Self::spawn_child(command, custom_error.reader)
    }

    fn spawn(mut command: Command, custom_error: CustomError) -> io::Result<Self> {
        let mapping = FdMapping {
            parent_fd: custom_error.writer.into(),
            child_fd: CUSTOM_ERROR,
        };
        command
            .fd_mappings(vec![mapping])
            .map_err(io::Error::other)?;
        Self::spawn_child(command, custom_error.reader)
    }

    fn spawn_child(mut command: Command, custom_error: io::PipeReader) -> io::Result<Self> {
        let (message_reader, message) = io::pipe()?;
        let (envelope_reader, envelope) = io::pipe()?;
        command
            .stdin(Stdio::from(message_reader))
            .stdout(Stdio::from(envelope_reader));
        let child = command.spawn()?;
        // `command` holds our copies of what the child reads and writes; without them we see its end.
        drop(command);
        Ok(Self {
            child,
            message: Some(BufWriter::with_capacity(64 * 1024, message)),
            envelope: Some(envelope),
            custom_error,
            broken: false,
        })
    }

    /// Writes text of the message. A program that has gone is noticed at the end.
    pub(crate) fn write(&mut self, octets: &[u8]) {
        if let Some(message) = &mut self.message {
            self.broken |= message.write_all(octets).is_err();
        }
    }

    /// Ends the message, writes the envelope, and waits for the verdict. Gives the process id of the queue program, for
    /// `qp N`.
    pub(crate) fn finish<'a>(
        mut self,
        sender: &[u8],
        recipients: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<u32, QueueFailure> {
        self.broken |= self
            .message
            .take()
            .is_none_or(|mut message| message.flush().is_err());
        // The message pipe is closed now, which is how the program knows that the envelope is next.
        if let Some(envelope) = self.envelope.take()
            && !self.broken
        {
            self.broken |= write_envelope(envelope, sender, recipients).is_err();
        }
        let pid = self.child.id();
        let mut custom = Vec::new();
        let limit = QueueExit::CUSTOM_OCTETS_MAX as u64;
        // Reads until the program has ended, or has closed the descriptor, or has said enough.
        let _ = self.custom_error.take(limit).read_to_end(&mut custom);
        let status = self.child.wait().map_err(|_| QueueFailure::READ)?;
        let exit = match (status.code(), status.signal()) {
            (Some(82), _) => QueueExit::Custom(&custom),
            (Some(code), _) => QueueExit::Code(code),
            (None, _) => QueueExit::Killed,
        };
        exit.verdict()?;
        if self.broken {
            return Err(QueueFailure::READ);
        }
        Ok(pid)
    }

    /// Throws the message away: the program sees an envelope without end.
    pub(crate) fn abort(mut self) {
        drop(self.message.take());
        drop(self.envelope.take());
        let _ = self.child.wait();
    }
}

/// The two ends of what the program says in its own words.
struct CustomError {
    reader: io::PipeReader,
    writer: io::PipeWriter,
}

impl CustomError {
    fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { reader, writer })
    }
}

fn command_of(home: &Path) -> io::Result<Command> {
    match std::env::var_os("QMAILQUEUE").filter(|name| !name.is_empty()) {
        Some(program) => Ok(Command::new(program)),
        None => classic::command_in(home, "qmail-queue"),
    }
}

fn write_envelope<'a>(
    envelope: io::PipeWriter,
    sender: &[u8],
    recipients: impl IntoIterator<Item = &'a [u8]>,
) -> io::Result<()> {
    let mut envelope = BufWriter::new(envelope);
    envelope.write_all(b"F")?;
    envelope.write_all(sender)?;
    envelope.write_all(b"\0")?;
    for recipient in recipients {
        envelope.write_all(b"T")?;
        envelope.write_all(recipient)?;
        envelope.write_all(b"\0")?;
    }
    envelope.write_all(b"\0")?;
    envelope.flush()
}
