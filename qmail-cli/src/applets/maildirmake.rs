//! `maildirmake`: makes an empty Maildir.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;

use qmail_deliver::Maildirs;

use crate::applet::{Applet, Call, Kind};
use crate::exit;

pub(crate) const APPLET: Applet = Applet {
    names: &["maildirmake"],
    kind: Kind::Classic,
    summary: "make an empty Maildir",
    run,
};

fn run(call: &Call) -> ExitCode {
    let Some(directory) = call.arguments.first().map(Path::new) else {
        return exit::fatal(call.name, &"usage: maildirmake name", exit::PERMANENT);
    };
    // One that is there already is an error here, so that nobody mistakes it for a new one.
    let made = DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .and_then(|()| Maildirs::create(directory));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal(
            call.name,
            &format_args!("unable to mkdir {}: {error}", directory.display()),
            exit::TEMPORARY,
        ),
    }
}
