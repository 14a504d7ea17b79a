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
    let path = timeout_table::path(&Home::choose(None, None));
    let table = match TimeoutFile::open(&path).and_then(|file| file.read()) {
        Ok(table) => table,
        Err(error) => {
            // Where the list would be, by tradition.
            exit::print(&format!(
                "fatal: unable to read {}: {error}\n",
                path.display()
            ));
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
    let path = timeout_table::path(&Home::choose(None, None));
    let cleared: io::Result<()> =
        TimeoutFile::open(&path).and_then(|file| file.write(&TimeoutTable::empty()));
    match cleared {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal(
            "qmail-tcpok",
            &format_args!("unable to clear {}: {error}", path.display()),
            exit::TEMPORARY,
        ),
    }
}
