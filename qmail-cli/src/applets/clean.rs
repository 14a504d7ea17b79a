//! `qmail-clean`: removes files of the queue for a queue manager that may not.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use futures::executor::block_on;
use qmail_queue::helpers::clean::{Answer, RequestReader};
use qmail_queue::{RealDisk, SplitSpool, Workers};

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::{exit, input};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-clean"],
    kind: Kind::Classic,
    summary: "remove files of the queue, as qmail-send asks on descriptor 0",
    run,
};

/// So many requests lie between two sweeps of newborn files.
const REQUESTS_A_SWEEP: u32 = 31;

fn run(call: &Call) -> ExitCode {
    let queue = Home::choose(None, None).queue();
    let disk = match RealDisk::open(&queue) {
        Ok(disk) => disk,
        Err(error) => {
            let words = format_args!("unable to open {}: {error}", queue.display());
            return exit::fatal(call.name, &words, exit::TEMPORARY);
        }
    };
    let spool = SplitSpool::over(Arc::new(disk), Workers::inline());
    // Both trouble with requests and their end mean that nobody asks any more.
    match serve(&spool) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::PERMANENT),
    }
}

/// Answers requests to their end.
///
/// # Errors
///
/// An answer cannot be given.
fn serve(spool: &SplitSpool) -> io::Result<()> {
    let requests = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = io::stdout().lock();
    let mut reader = RequestReader::default();
    let mut room = [0; 4096];
    let mut answered = 0;
    sweep(spool);
    loop {
        let mut octets = match input::read(&requests, &mut room) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => &room[..count],
        };
        while let Some(request) = reader.receive(&mut octets) {
            let answer = match request.map(|request| block_on(spool.clean(request))) {
                Some(Ok(())) => Answer::Done,
                Some(Err(_)) => Answer::Trouble,
                None => Answer::Refused,
            };
            output.write_all(&[answer.octet()])?;
            output.flush()?;
            answered += 1;
            if answered == REQUESTS_A_SWEEP {
                answered = 0;
                sweep(spool);
            }
        }
    }
}

/// Whatever cannot be removed now is looked at again.
fn sweep(spool: &SplitSpool) {
    let _ = block_on(spool.sweep_newborn(SystemTime::now()));
}
