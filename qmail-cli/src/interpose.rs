//! Filters that stand between a client and a program, one for each direction, each a process of its own.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags, poll};

use crate::descriptor::is_closed;
use crate::exit;

/// What happens to octets on their way.
pub(crate) trait Filter {
    /// Some octets, in whatever pieces they come. Appends to `sink` what goes on.
    fn take(&mut self, octets: &[u8], sink: &mut Vec<u8>);

    /// No more come.
    fn end(&mut self, _sink: &mut Vec<u8>) {}
}

/// Which way octets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the program.
    In,
    /// Back.
    Out,
}

/// Most octets that are read at a time.
const CHUNK_OCTETS: usize = 16 * 1024;

/// Starts this binary as `filter` with what `arguments` gives, once for each direction, and connects `program`, which is still to
/// be run, to the two.
///
/// # Errors
///
/// There are no pipes or no processes.
pub(crate) fn connect(
    program: &mut Command,
    filter: &str,
    arguments: impl Fn(Direction) -> Vec<String>,
) -> io::Result<()> {
    let (to_program, from_client) = io::pipe()?;
    let (to_client, from_program) = io::pipe()?;
    let own = std::env::current_exe()?;
    let filter = |direction| {
        let mut command = Command::new(&own);
        command.arg(filter).args(arguments(direction));
        command
    };
    filter(Direction::In)
        .stdin(Stdio::inherit())
        .stdout(from_client)
        .spawn()?;
    filter(Direction::Out)
        .stdin(to_client)
        .stdout(Stdio::inherit())
        .spawn()?;
    program.stdin(to_program).stdout(from_program);
    Ok(())
}

/// What it means that nobody reads the output any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReaderGone {
    /// The end of a connection, which is for either side to choose.
    End,
    /// A loss of output.
    Loss,
}

/// Is a filter, from descriptor 0 to 1. 111 if one of them fails, or output is lost.
pub(crate) fn filter(mut filter: impl Filter, reader_gone: ReaderGone) -> ExitCode {
    let closed = || is_closed(io::stdin()) || is_closed(io::stdout());
    if reader_gone == ReaderGone::Loss && closed() {
        return ExitCode::from(exit::TEMPORARY);
    }
    match pass_on(&mut filter) {
        Ok(End::Input) => ExitCode::SUCCESS,
        Ok(End::Reader) if reader_gone == ReaderGone::End => ExitCode::SUCCESS,
        Ok(End::Reader) | Err(_) => ExitCode::from(exit::TEMPORARY),
    }
}

/// Which side ended.
enum End {
    Input,
    Reader,
}

/// Copies until either side ends. A reader that goes away is noticed at once, or the connection would stay open until its
/// client says something.
fn pass_on(filter: &mut impl Filter) -> io::Result<End> {
    let mut chunk = vec![0; CHUNK_OCTETS];
    let mut changed = Vec::with_capacity(CHUNK_OCTETS * 2);
    loop {
        let (input, output) = (io::stdin(), io::stdout());
        let mut waiting = [
            PollFd::new(&input, PollFlags::IN),
            // Errors are told unasked.
            PollFd::new(&output, PollFlags::empty()),
        ];
        match poll(&mut waiting, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let broken = PollFlags::ERR | PollFlags::NVAL;
        if waiting[1].revents().intersects(broken) {
            return Ok(End::Reader);
        }
        if waiting[0].revents().is_empty() {
            continue;
        }
        let octets = input.lock().read(&mut chunk)?;
        changed.clear();
        if octets == 0 {
            filter.end(&mut changed);
        } else {
            filter.take(&chunk[..octets], &mut changed);
        }
        let mut out = output.lock();
        out.write_all(&changed)?;
        out.flush()?;
        if octets == 0 {
            return Ok(End::Input);
        }
    }
}
