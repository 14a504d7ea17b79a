//! Option syntax of the new programs. The classic programs parse their own, as their manual pages have it.

use std::process::ExitCode;

use clap::Parser;

use crate::applet::Call;
use crate::exit;

/// Parses with clap. On `--help` or a mistake the text is printed, and the exit code to end with is returned.
pub(crate) fn parse<T: Parser>(call: &Call) -> Result<T, ExitCode> {
    // Usage shows the name that the command has, `qmail serve`, not the one that it was called by.
    let command = T::command().no_binary_name(true);
    let parsed = command.try_get_matches_from(&call.arguments);
    let parsed = parsed.and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        let _ = error.print();
        if error.use_stderr() {
            ExitCode::from(exit::PERMANENT)
        } else {
            ExitCode::SUCCESS
        }
    })
}
