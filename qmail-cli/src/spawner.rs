//! What qmail-lspawn and qmail-rspawn have in common: requests on descriptor 0, a program for each, reports on descriptor 1.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{ExitCode, Stdio};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use qmail_core::{Outcome, ProgramEnd};
use qmail_deliver::Capture;
use qmail_queue::helpers::spawn::{DELIVERIES_MAX, Refusal, Request, RequestReader, write_report};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::geteuid;
use tokio::process::Command;

use crate::home::Home;
use crate::input::Input;
use crate::privilege::{Account, AccountError};
use crate::{exit, inherited, stdio};

/// Octets of requests that are read at a time.
const READ_OCTETS: usize = 4096;

/// What tells the two spawners apart.
pub(crate) trait Spawner {
    /// Octets of a program's output that count.
    const OUTPUT_OCTETS_MAX: usize;

    /// What is reported if the program cannot be run: something to be mended here, so that mail waits for it.
    const NOT_RUN: &'static str;

    /// The program for a request, whose recipient is `local@host`; or what becomes of it without one.
    fn command(
        &self,
        request: &Request,
        local: &[u8],
        host: &[u8],
    ) -> impl Future<Output = Result<Command, Outcome>>;

    /// What the end of the program means, given what it printed and whether it printed more.
    fn outcome(&self, end: ProgramEnd, output: Vec<u8>, more: bool) -> Outcome;
}

/// Runs a program for what is asked for, to the end of the requests. `name` is what this program is called.
pub(crate) fn run(name: &str, home: &Home, spawner: &impl Spawner) -> ExitCode {
    let owner = match owner_of_messages(home) {
        Ok(owner) => owner,
        Err(error) => return exit::fatal(name, &error, exit::TEMPORARY),
    };
    let messages = home.queue().join("mess");
    if let Err(error) = std::env::set_current_dir(&messages) {
        let words = format_args!("unable to switch to {}: {error}", messages.display());
        return exit::fatal(name, &words, exit::TEMPORARY);
    }
    match stdio::run(serve(spawner, owner)).and_then(|served| served) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal(name, &error, exit::TEMPORARY),
    }
}

/// qmailq. In a home of one's own, without root's rights, it is whoever owns the queue: the one who tries it out, or a qmailq that
/// this spawner has become another user beside.
fn owner_of_messages(home: &Home) -> Result<u32, AccountError> {
    if home.is_own()
        && !geteuid().is_root()
        && let Ok(messages) = std::fs::metadata(home.queue().join("mess"))
    {
        return Ok(messages.uid());
    }
    Account::acting(home, "qmailq").map(|owner| owner.uid)
}

/// # Errors
///
/// A report cannot be written.
async fn serve(spawner: &impl Spawner, owner: u32) -> io::Result<()> {
    inherited::forget_ignored_signals()?;
    report(&[DELIVERIES_MAX])?;
    let mut input = Input::new(io::stdin(), READ_OCTETS)?;
    let mut reader = RequestReader::default();
    let mut ended = false;
    let mut running = FuturesUnordered::new();
    let mut in_use = [false; DELIVERIES_MAX as usize];
    loop {
        tokio::select! {
            biased;
            Some((delivery, outcome)) = running.next() => {
                in_use[usize::from(delivery)] = false;
                report_outcome(delivery, &outcome)?;
            }
            piece = input.next(), if !ended => {
                // What cannot be read has ended.
                let piece = piece.unwrap_or_default();
                let mut octets = &piece[..];
                ended = octets.is_empty();
                while let Some(request) = reader.receive(&mut octets) {
                    let delivery = request.delivery;
                    match in_use.get_mut(usize::from(delivery)) {
                        None => report_outcome(delivery, &Refusal::NumberTooBig.outcome())?,
                        Some(true) => report_outcome(delivery, &Refusal::NumberInUse.outcome())?,
                        Some(free) => {
                            *free = true;
                            running.push(async move {
                                let outcome = run_program(spawner, owner, &request).await;
                                (delivery, outcome.unwrap_or_else(|outcome| outcome))
                            });
                        }
                    }
                }
            }
            else => return Ok(()),
        }
    }
}

fn report_outcome(delivery: u8, outcome: &Outcome) -> io::Result<()> {
    let mut octets = Vec::new();
    write_report(delivery, outcome, &mut octets);
    report(&octets)
}

fn report(octets: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(octets)?;
    output.flush()
}

/// # Errors
///
/// What becomes of a request for which no program was run to its end.
async fn run_program<S: Spawner>(
    spawner: &S,
    owner: u32,
    request: &Request,
) -> Result<Outcome, Outcome> {
    let (local, host) = request.check().map_err(Refusal::outcome)?;
    let message = open(&request.message, owner).map_err(Refusal::outcome)?;
    let mut command = spawner.command(request, local, host).await?;
    command.stdin(Stdio::from(message));
    let mut capture =
        Capture::of(&mut command, S::OUTPUT_OCTETS_MAX).map_err(|_| Refusal::NoPipe.outcome())?;
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => Refusal::NoFork.outcome(),
        _ => Outcome::Deferred(S::NOT_RUN.into()),
    })?;
    // It has our copy of the other end of the pipe.
    drop(command);
    let status = capture.wait(&mut child).await;
    let end = match status.ok().and_then(|status| status.code()) {
        // An exit code has eight bits.
        Some(code) => ProgramEnd::Exited(code as u8),
        None => ProgramEnd::Crashed,
    };
    let (output, more) = capture.into_kept();
    Ok(spawner.outcome(end, output, more))
}

/// Opens a message in the current directory.
fn open(name: &[u8], owner: u32) -> Result<File, Refusal> {
    // A FIFO that somebody put there must not make the open wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let message = rustix::fs::open(OsStr::from_bytes(name), flags, Mode::empty())
        .map_err(|_| Refusal::CannotOpen)?;
    let stat = rustix::fs::fstat(&message).map_err(|_| Refusal::CannotStat)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::WrongType);
    }
    if stat.st_uid != owner {
        return Err(Refusal::WrongOwner);
    }
    Ok(message.into())
}
