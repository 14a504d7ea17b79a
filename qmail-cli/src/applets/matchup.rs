//! `matchup`: joins the lines of a log about one message and one delivery (qmailanalog).

use std::io::{self, Write as _};
use std::process::ExitCode;

use qmail_queue::analog::Matchup;

use crate::applet::{Applet, Call, Kind};
use crate::{exit, inherited, log_input};

pub(crate) const APPLET: Applet = Applet {
    names: &["matchup"],
    kind: Kind::Classic,
    summary: "join the log lines of each message and delivery",
    run,
};

/// Where what is still open goes, to be read before the next part of the log.
const PENDING: i32 = 5;

fn run(call: &Call) -> ExitCode {
    let mut matchup = Matchup::default();
    let rest = match log_input::filter(|line, sink| matchup.line(line, sink)) {
        Ok(rest) => rest,
        Err(error) => return log_input::end(call.name, Err(error)),
    };
    if matchup.forgotten() > 0 {
        exit::warn(
            call.name,
            &format_args!(
                "too much was open at once: {} messages and deliveries were left out; match up shorter parts of the log",
                matchup.forgotten()
            ),
        );
    }
    let mut pending = Vec::new();
    matchup.write_pending(&mut pending);
    pending.extend_from_slice(rest.rest());
    match write_pending(&pending) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal(
            call.name,
            &format_args!(
                "unable to write what is still open to descriptor {PENDING}: {error}; run it as `matchup 5>pending`"
            ),
            exit::TEMPORARY,
        ),
    }
}

fn write_pending(pending: &[u8]) -> io::Result<()> {
    if pending.is_empty() {
        return Ok(());
    }
    inherited::copy(PENDING)?.write_all(pending)
}
