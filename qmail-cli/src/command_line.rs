//! Option syntax of the new programs. The classic programs parse their own, as their manual pages have it.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::applet::Call;
use crate::exit;

/// Parses with clap. On `--help` or a mistake the text is printed, and the exit code to end with is returned.
pub(crate) fn parse<T: Parser>(call: &Call) -> Result<T, ExitCode> {
    let argv = std::iter::once(OsString::from(call.name)).chain(call.arguments.iter().cloned());
    T::try_parse_from(argv).map_err(|error| {
        let _ = error.print();
        if error.use_stderr() {
            ExitCode::from(exit::PERMANENT)
        } else {
            ExitCode::SUCCESS
        }
    })
}
