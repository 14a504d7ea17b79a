//! `qmail-getpw`: says which account an address belongs to, by the accounts of the system.

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use qmail_deliver::{SystemUsers, User, UserError};

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::injection::octets;

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-getpw"],
    kind: Kind::Classic,
    summary: "say which account of the system an address belongs to",
    run,
};

/// Exit codes that qmail-lspawn knows.
const NFS_TROUBLE: u8 = 115;
const NO_ALIAS: u8 = 116;
const SYSTEM_TROUBLE: u8 = 118;

fn run(call: &Call) -> ExitCode {
    let Some(local) = call.arguments.first().map(|local| octets(local)) else {
        return exit::fatal(call.name, &"usage: qmail-getpw local", exit::PERMANENT);
    };
    let code = match SystemUsers::default().find_local(local) {
        Ok(user) => match print(&user) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(_) => SYSTEM_TROUBLE,
        },
        Err(UserError::NoAlias) => NO_ALIAS,
        Err(UserError::Home { .. }) => NFS_TROUBLE,
        Err(_) => SYSTEM_TROUBLE,
    };
    ExitCode::from(code)
}

fn print(user: &User) -> io::Result<()> {
    let mut record = Vec::new();
    for field in [
        &user.name[..],
        user.uid.to_string().as_bytes(),
        user.gid.to_string().as_bytes(),
        user.home.as_os_str().as_bytes(),
        &user.dash,
        &user.extension,
    ] {
        record.extend_from_slice(field);
        record.push(0);
    }
    let mut out = io::stdout().lock();
    out.write_all(&record)?;
    out.flush()
}
