//! `qmail-newu`: makes `users/cdb` of `users/assign`.

use std::process::ExitCode;

use qmail_core::users::write_cdb;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::home::Home;
use crate::injection::read_file;
use crate::replace::replace;

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-newu"],
    kind: Kind::Classic,
    summary: "make users/cdb of users/assign",
    run,
};

fn run(call: &Call) -> ExitCode {
    let users = Home::choose(None, None).users();
    let fatal = |words: &dyn std::fmt::Display| exit::fatal(call.name, words, exit::TEMPORARY);
    let assign = match read_file(&users.join("assign")) {
        Ok(Some(assign)) => assign,
        Ok(None) => return fatal(&"unable to open users/assign: it does not exist"),
        Err(error) => return fatal(&format_args!("unable to open users/assign: {error}")),
    };
    let made = replace(&users.join("cdb"), &users.join("cdb.tmp"), |file| {
        write_cdb(&assign, file)
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = std::fs::remove_file(users.join("cdb.tmp"));
            fatal(&error)
        }
    }
}
