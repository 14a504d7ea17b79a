//! `qmail-qread` lists the messages of the queue and their recipients; `qmail-qstat` counts them.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use qmail_queue::{Found, Listed, Listing, RealDisk, Workers, count_names, write_qread};

use crate::applet::{Applet, Call, Kind};
use crate::home::{Home, SpoolKind};
use crate::queue_desk::open_spool;
use crate::{exit, stdio};

pub(crate) const QREAD: Applet = Applet {
    names: &["qmail-qread"],
    kind: Kind::Classic,
    summary: "list the messages of the queue and their recipients",
    run: read,
};

pub(crate) const QSTAT: Applet = Applet {
    names: &["qmail-qstat"],
    kind: Kind::Classic,
    summary: "count the messages of the queue",
    run: stat,
};

/// Text that is written at once.
const WRITE_OCTETS: usize = 64 * 1024;

fn read(_call: &Call) -> ExitCode {
    match stdio::run(list(&Home::choose(None, None))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) | Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Ok(Err(error)) | Err(error) => fatal(&error),
    }
}

async fn list(home: &Home) -> io::Result<()> {
    let spool = open_spool(home, Workers::inline())?;
    let listing = Listing::read(&*spool).await.map_err(io::Error::other)?;
    let mut output = io::stdout().lock();
    let mut text = Vec::new();
    for found in &listing.messages {
        let &Found::Routed { id, birth, .. } = found else {
            continue;
        };
        match Listed::routed(&*spool, id, birth).await {
            Ok(message) => write_qread(&message, &mut text),
            Err(error) => {
                let reason = reason(&error);
                text.extend_from_slice(
                    format!("warning: trouble with #{id}: {reason}\n").as_bytes(),
                );
            }
        }
        if text.len() >= WRITE_OCTETS {
            output.write_all(&text)?;
            text.clear();
        }
    }
    output.write_all(&text)?;
    output.flush()
}

fn stat(_call: &Call) -> ExitCode {
    let queue = Home::choose(None, None).queue();
    if SpoolKind::of(&queue) == Some(SpoolKind::Journal) {
        let words = "this queue is a journal, which has no directories to count; `qmail queue count` counts it";
        return exit::fatal("qmail-qstat", &words, exit::TEMPORARY);
    }
    match RealDisk::open(&queue).and_then(|disk| count_names(&disk)) {
        Ok(names) => {
            exit::print(&format!(
                "messages in queue: {}\nmessages in queue but not yet preprocessed: {}\n",
                names.texts, names.incoming
            ));
            ExitCode::SUCCESS
        }
        Err(error) => exit::fatal(
            "qmail-qstat",
            &format_args!(
                "unable to read {}: {error}; is QMAIL_HOME right?",
                queue.display()
            ),
            exit::TEMPORARY,
        ),
    }
}

/// Where the list would be, by tradition.
fn fatal(error: &dyn Error) -> ExitCode {
    exit::print(&format!(
        "fatal: unable to read the queue: {}\n",
        one_line(error)
    ));
    ExitCode::from(exit::TEMPORARY)
}

/// An error with its causes.
fn one_line(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The cause of an error alone.
fn reason(error: &dyn Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |cause| cause.to_string())
}
