//! What the small programs for instruction files have in common: the variables of qmail-command(8), the message on descriptor
//! 0, running another program, sending the message on.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use qmail_core::{Escaped, QueueFailure};
use qmail_deliver::is_temporary;

use crate::exit;
use crate::home::Home;
use crate::queue_program::QueueProgram;

/// A variable that must be set; what to exit with if it is not.
pub(crate) fn variable(program: &str, name: &str) -> Result<Vec<u8>, ExitCode> {
    let value = std::env::var_os(name).map(OsString::into_vec);
    value.ok_or_else(|| exit::fatal(program, &format_args!("{name} not set"), exit::PERMANENT))
}

/// The end of a program that was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(u8),
    Crashed,
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            // An exit code has eight bits.
            Some(code) => Self::Exited(code as u8),
            None => Self::Crashed,
        }
    }
}

/// What stands for the exit code of a program that could not be run.
pub(crate) fn not_run(error: &io::Error) -> u8 {
    if is_temporary(error) {
        exit::TEMPORARY
    } else {
        exit::PERMANENT
    }
}

/// Runs a program on the message, and waits for it. One that cannot be run counts as if it had exited with 100, or with 111
/// if that may pass; the reason is told.
pub(crate) fn run(name: &str, program: &OsStr, arguments: &[OsString]) -> Ended {
    match Command::new(program).args(arguments).status() {
        Ok(status) => status.into(),
        Err(error) => {
            let code = not_run(&error);
            let words = format!("unable to run {}: {error}", program.display());
            let _ = exit::fatal(name, &words, code);
            Ended::Exited(code)
        }
    }
}

/// The message, at its first octet.
pub(crate) fn rewound() -> io::Result<File> {
    let mut message = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    message.rewind()?;
    Ok(message)
}

/// Why a message was not sent on.
#[derive(Debug)]
pub(crate) enum ForwardError {
    /// A recipient is empty, or has a line feed in it: no mail system would make sense of it.
    BadAddress(Vec<u8>),
    Read(io::Error),
    Queue(QueueFailure),
}

impl ForwardError {
    /// Tells why, and gives the exit code.
    pub(crate) fn fatal(&self, program: &str) -> ExitCode {
        match self {
            Self::BadAddress(address) => exit::fatal(
                program,
                &format_args!("`{}` is no address", Escaped(address)),
                exit::PERMANENT,
            ),
            Self::Read(error) => exit::fatal(
                program,
                &format_args!("unable to read message: {error}"),
                exit::TEMPORARY,
            ),
            Self::Queue(failure) => exit::fatal_octets(
                program,
                &failure.text,
                if failure.is_temporary() {
                    exit::TEMPORARY
                } else {
                    exit::PERMANENT
                },
            ),
        }
    }
}

/// Queues `head` followed by what is left on descriptor 0. Returns the process id of the queue program.
pub(crate) fn forward<'a>(
    head: &[u8],
    sender: &[u8],
    recipients: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
) -> Result<u32, ForwardError> {
    let recipients = recipients.into_iter();
    let bad = |address: &&[u8]| address.is_empty() || address.contains(&b'\n');
    if let Some(address) = recipients.clone().find(bad) {
        return Err(ForwardError::BadAddress(address.to_vec()));
    }
    let home = Home::choose(None, None);
    let mut queue = QueueProgram::start_in(home.path()).map_err(ForwardError::Queue)?;
    queue.write(head);
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; CHUNK_OCTETS];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(octets) => queue.write(&buffer[..octets]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                queue.abort();
                return Err(ForwardError::Read(error));
            }
        }
    }
    queue
        .finish(sender, recipients)
        .map_err(ForwardError::Queue)
}

/// Runs a command with `head` and then what is left on descriptor 0 as its input, however much of it the command reads.
pub(crate) fn feed(command: &mut Command, head: &[u8]) -> Result<Ended, FeedError> {
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(FeedError::Run)?;
    let mut copied = Ok(());
    if let Some(mut pipe) = child.stdin.take() {
        // A program that reads no further is not our trouble: its exit code counts.
        let mut reads = pipe.write_all(head).is_ok();
        let mut input = io::stdin().lock();
        let mut buffer = vec![0; CHUNK_OCTETS];
        while reads {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(octets) => reads = pipe.write_all(&buffer[..octets]).is_ok(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Half a message must not look like a whole one.
                    let _ = child.kill();
                    copied = Err(FeedError::Read(error));
                    break;
                }
            }
        }
    }
    let ended = child.wait().map_err(FeedError::Read)?;
    copied.map(|()| ended.into())
}

/// Why a program was not fed.
#[derive(Debug)]
pub(crate) enum FeedError {
    Run(io::Error),
    Read(io::Error),
}

const CHUNK_OCTETS: usize = 64 * 1024;
