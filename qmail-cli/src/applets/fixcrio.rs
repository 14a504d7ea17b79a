//! `fixcrio`: puts the CR before each LF that a client or a program forgot.
//!
//! Two filters, one for each direction, are this binary again as `crlf-filter`. The process itself becomes the program, so
//! that its exit code is the program's.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags, poll};

use crate::applet::{Applet, Call, Kind};
use crate::exit;

pub(crate) const FIXCRIO: Applet = Applet {
    names: &["fixcrio"],
    kind: Kind::Classic,
    summary: "run a program with CR LF line ends in both directions",
    run,
};

pub(crate) const FILTER: Applet = Applet {
    names: &["crlf-filter"],
    kind: Kind::Internal,
    summary: "one direction of fixcrio",
    run: filter,
};

const CHUNK_OCTETS: usize = 16 * 1024;

fn run(call: &Call) -> ExitCode {
    let [program, arguments @ ..] = call.arguments.as_slice() else {
        return exit::fatal(
            "fixcrio",
            &"usage: fixcrio program [arg ...]",
            exit::PERMANENT,
        );
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let (what, error) = match connect(&mut command) {
        Ok(()) => {
            let error = command.exec();
            (format!("run {}", program.display()), error)
        }
        Err(error) => ("start the filters".to_owned(), error),
    };
    exit::fatal(
        "fixcrio",
        &format_args!("unable to {what}: {error}"),
        exit::TEMPORARY,
    )
}

/// Starts the filters, and connects the program to them.
fn connect(program: &mut Command) -> io::Result<()> {
    let (to_program, from_client) = io::pipe()?;
    let (to_client, from_program) = io::pipe()?;
    let filter = || -> io::Result<Command> {
        let mut filter = Command::new(std::env::current_exe()?);
        filter.arg(FILTER.names[0]);
        Ok(filter)
    };
    filter()?
        .stdin(Stdio::inherit())
        .stdout(from_client)
        .spawn()?;
    filter()?
        .stdin(to_client)
        .stdout(Stdio::inherit())
        .spawn()?;
    program.stdin(to_program).stdout(from_program);
    Ok(())
}

fn filter(_call: &Call) -> ExitCode {
    match pass_on() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::TEMPORARY),
    }
}

/// Copies until either side ends. A reader that goes away is noticed at once, or the connection would stay open until its
/// client says something.
fn pass_on() -> io::Result<()> {
    let mut fixer = Fixer::default();
    let mut chunk = vec![0; CHUNK_OCTETS];
    let mut fixed = Vec::with_capacity(CHUNK_OCTETS * 2);
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
            return Ok(());
        }
        if waiting[0].revents().is_empty() {
            continue;
        }
        let octets = io::stdin().lock().read(&mut chunk)?;
        if octets == 0 {
            return Ok(());
        }
        fixed.clear();
        fixer.fix(&chunk[..octets], &mut fixed);
        let mut out = io::stdout().lock();
        out.write_all(&fixed)?;
        out.flush()?;
    }
}

/// Puts a CR before each LF that has none; what came before counts.
#[derive(Default)]
struct Fixer {
    after_cr: bool,
}

impl Fixer {
    fn fix(&mut self, octets: &[u8], sink: &mut Vec<u8>) {
        for &octet in octets {
            if octet == b'\n' && !self.after_cr {
                sink.push(b'\r');
            }
            sink.push(octet);
            self.after_cr = octet == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lf_gets_one_cr_however_it_is_cut() {
        let (input, want) = (b"a\nb\r\nc\rd\n\r\n\n", b"a\r\nb\r\nc\rd\r\n\r\n\r\n");
        for cut in 0..=input.len() {
            let (mut fixer, mut fixed) = (Fixer::default(), Vec::new());
            fixer.fix(&input[..cut], &mut fixed);
            fixer.fix(&input[cut..], &mut fixed);
            assert_eq!(fixed, want);
        }
    }
}
