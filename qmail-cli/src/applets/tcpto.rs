//! `qmail-tcpto` shows the hosts that did not answer lately; `qmail-tcpok` has them all tried again.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::home::Home;
use crate::timeout_table::{self, TimeoutFile, TimeoutTable};
use crate::ucspi::unix_seconds;

pub(crate) const TCPTO: Applet = Applet {
    names: &["qmail-tcpto"],
    kind: Kind::Classic,
    summary: "show the hosts that connecting to timed out",
    run: show,
};

pub(crate) const TCPOK: Applet = Applet {
    names: &["qmail-tcpok"],
    kind: Kind::Classic,
    summary: "forget the hosts that connecting to timed out",
    run: clear,
};

fn show(_call: &Call) -> ExitCode {
    let read = open().and_then(|file| file.read().map_err(|error| unable("read tcpto", &error)));
    let table = match read {
        Ok(table) => table,
        Err(words) => {
            // Where the list would be, by tradition.
            exit::print(&format!("fatal: {words}\n"));
            return ExitCode::from(exit::TEMPORARY);
        }
    };
    let now = unix_seconds();
    let mut text = String::new();
    for host in table.hosts() {
        let _ = writeln!(
            text,
            "{} timed out {} seconds ago; # recent timeouts: {}",
            host.address,
            now.saturating_sub(u64::from(host.last)),
            host.count
        );
    }
    exit::print(&text);
    ExitCode::SUCCESS
}

fn clear(_call: &Call) -> ExitCode {
    let cleared = open().and_then(|file| {
        let written = file.write(&TimeoutTable::empty());
        written.map_err(|error| unable("write tcpto", &error))
    });
    match cleared {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("qmail-tcpok", &words, exit::TEMPORARY),
    }
}

/// The table of this home, locked; or which step failed, in the words of qmail-tcpto.
fn open() -> Result<TimeoutFile, String> {
    let path = timeout_table::path(&Home::choose(None, None));
    let directory = path.parent().unwrap_or(&path);
    if let Err(error) = directory.join(".").metadata() {
        return Err(unable("chdir", &error));
    }
    let file = TimeoutFile::open_unlocked(&path).map_err(|error| unable("open tcpto", &error))?;
    TimeoutFile::lock(file).map_err(|error| unable("lock tcpto", &error))
}

fn unable(step: &str, error: &io::Error) -> String {
    format!("unable to {step}: {error}")
}
