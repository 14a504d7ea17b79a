//! `qmail-newmrh`: makes control/morercpthosts.cdb of control/morercpthosts.

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

fn run(_call: &Call) -> ExitCode {
    let home = Home::choose(None, None);
    let source = home.control().join("morercpthosts");
    let hosts = match fs::read(&source) {
        Ok(hosts) => hosts,
        Err(error) => {
            return exit::fatal(
                "qmail-newmrh",
                &format_args!("unable to read {}: {error}", source.display()),
                exit::TEMPORARY,
            );
        }
    };
    let target = home.control().join("morercpthosts.cdb");
    let temporary = home.control().join("morercpthosts.tmp");
    let made: io::Result<()> = cdb_file::replace(&target, &temporary, |cdb| {
        for line in control::list(&hosts) {
            cdb.add(&line.octets.to_ascii_lowercase(), b"")?;
        }
        Ok(())
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal(
            "qmail-newmrh",
            &format_args!(
                "unable to make {} by way of {}: {error}",
                target.display(),
                temporary.display()
            ),
            exit::TEMPORARY,
        ),
    }
}
