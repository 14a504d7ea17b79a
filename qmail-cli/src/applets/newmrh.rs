//! `qmail-newmrh`: makes control/morercpthosts.cdb of control/morercpthosts.

use std::fmt;
use std::fs;
use std::io;
use std::process::ExitCode;

use qmail_core::control;

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::{cdb_file, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-newmrh"],
    kind: Kind::Classic,
    summary: "make morercpthosts.cdb of morercpthosts",
    run,
};

/// Below the home, as the texts have them.
const SOURCE: &str = "control/morercpthosts";
const TARGET: &str = "control/morercpthosts.cdb";
const TEMPORARY: &str = "control/morercpthosts.tmp";

fn run(_call: &Call) -> ExitCode {
    let home = Home::choose(None, None);
    let fatal = |words: fmt::Arguments<'_>| exit::fatal("qmail-newmrh", &words, exit::TEMPORARY);
    if let Err(error) = home.path().join(".").metadata() {
        let path = home.path().display();
        return fatal(format_args!("unable to chdir to {path}: {error}"));
    }
    let hosts = match fs::read(home.path().join(SOURCE)) {
        Ok(hosts) => hosts,
        Err(error) => return fatal(format_args!("unable to read {SOURCE}: {error}")),
    };
    let target = home.path().join(TARGET);
    let temporary = home.path().join(TEMPORARY);
    let made: io::Result<()> = cdb_file::replace(&target, &temporary, |cdb| {
        for line in control::list(&hosts) {
            cdb.add(&line.octets.to_ascii_lowercase(), b"")?;
        }
        Ok(())
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fatal(format_args!(
            "unable to make {TARGET} by way of {TEMPORARY}: {error}"
        )),
    }
}
