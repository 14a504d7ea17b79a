//! `qmail-rspawn`: starts remote deliveries for qmail-send.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use qmail_core::{Outcome, ProgramEnd};
use qmail_queue::helpers::spawn::Request;
use tokio::process::Command;

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::spawner::{self, Spawner};
use crate::timeout_table::{self, TimeoutFile, TimeoutTable};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-rspawn"],
    kind: Kind::Classic,
    summary: "start remote deliveries for qmail-send",
    run,
};

struct Remote {
    program: OsString,
}

fn run(call: &Call) -> ExitCode {
    let home = Home::choose(None, None);
    // Hosts that were down may be up again. Without a table none is remembered.
    if let Ok(file) = TimeoutFile::open(&timeout_table::path(&home)) {
        let _ = file.write(&TimeoutTable::empty());
    }
    let program = std::env::var_os("QMAILREMOTE").filter(|program| !program.is_empty());
    let remote = Remote {
        program: program.unwrap_or_else(|| "qmail-remote".into()),
    };
    spawner::run(call.name, &home, &remote)
}

impl Spawner for Remote {
    /// Far more than a whole conversation: what is cut off has no result, and would be tried again.
    const OUTPUT_OCTETS_MAX: usize = 256 * 1024;

    const NOT_RUN: &'static str = "Unable to run qmail-remote.\n";

    async fn command(&self, request: &Request, _: &[u8], host: &[u8]) -> Result<Command, Outcome> {
        let mut command = Command::new(&self.program);
        command.args([host, &request.sender, &request.recipient].map(OsStr::from_bytes));
        Ok(command)
    }

    fn outcome(&self, end: ProgramEnd, output: Vec<u8>, _: bool) -> Outcome {
        end.remote_outcome(&output)
    }
}
