//! `qmail-qread` lists the messages of the queue and their recipients; `qmail-qstat` counts them.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use qmail_queue::{
    Disk, Found, JournalSpool, Listed, Listing, Names, RealDisk, Spool, Workers, count_names,
    write_qread,
};

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
    let spool = view(home)?;
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
    let home = Home::choose(None, None);
    match count(&home) {
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
                "unable to read {}: {}; is QMAIL_HOME right?",
                home.queue().display(),
                one_line(&error)
            ),
            exit::TEMPORARY,
        ),
    }
}

fn count(home: &Home) -> io::Result<Names> {
    let queue = home.queue();
    if SpoolKind::of(&queue) != Some(SpoolKind::Journal) {
        return count_names(&RealDisk::open(&queue)?);
    }
    let journal = view(home)?;
    let listing = stdio::run(async move { Listing::read(&*journal).await })?;
    let messages = listing.map_err(io::Error::other)?.messages;
    let incoming = |found: &&Found| matches!(found, Found::Incoming(_));
    Ok(Names {
        texts: messages.len() as u64,
        incoming: messages.iter().filter(incoming).count() as u64,
    })
}

/// The queue of a home, to be looked at while another process may run it.
fn view(home: &Home) -> io::Result<Arc<dyn Spool>> {
    if SpoolKind::of(&home.queue()) != Some(SpoolKind::Journal) {
        return open_spool(home, Workers::inline());
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(home.journal())?);
    let journal = JournalSpool::view(&disk, &Workers::inline());
    Ok(Arc::new(journal.map_err(io::Error::other)?))
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
