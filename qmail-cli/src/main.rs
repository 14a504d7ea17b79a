//! The multi-call program `qmail`: all of it is in the library, so that a test can be the program too.

use std::process::ExitCode;

fn main() -> ExitCode {
    qmail_cli::main()
}
