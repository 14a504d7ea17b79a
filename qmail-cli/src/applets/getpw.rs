//! `qmail-getpw`: says which account an address belongs to, by the accounts of the system.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use nix::unistd::User;
use qmail_deliver::is_temporary;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::injection::octets;
use crate::privilege;

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-getpw"],
    kind: Kind::Classic,
    summary: "say which account of the system an address belongs to",
    run,
};

/// What stands between an account name and the rest of an address.
const BREAK: u8 = b'-';

/// Who gets what is nobody else's.
const ALIAS: &str = "alias";

/// Account names are shorter; longer ones are not asked for.
const NAME_OCTETS_MAX: usize = 31;

/// Exit codes that qmail-lspawn knows.
const NFS_TROUBLE: u8 = 115;
const NO_ALIAS: u8 = 116;
const SYSTEM_TROUBLE: u8 = 118;

fn run(call: &Call) -> ExitCode {
    let Some(local) = call.arguments.first().map(|local| octets(local)) else {
        return exit::fatal(call.name, &"usage: qmail-getpw local", exit::PERMANENT);
    };
    match find(local) {
        Ok((user, dash, extension)) => {
            let mut record = Vec::new();
            for field in [
                user.name.as_bytes(),
                user.uid.to_string().as_bytes(),
                user.gid.to_string().as_bytes(),
                user.dir.as_os_str().as_bytes(),
                dash,
                extension,
            ] {
                record.extend_from_slice(field);
                record.push(0);
            }
            let mut out = io::stdout().lock();
            match out.write_all(&record).and_then(|()| out.flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(SYSTEM_TROUBLE),
            }
        }
        Err(code) => ExitCode::from(code),
    }
}

/// The account whose name is the longest part of the address that ends before a break character; else the alias user.
fn find(local: &[u8]) -> Result<(User, &[u8], &[u8]), u8> {
    for (name, rest) in splits(local) {
        if let Some(user) = account(name)?
            && owns_its_home(&user)?
        {
            return Ok(match rest.split_first() {
                None => (user, b"", b""),
                Some((_, extension)) => (user, b"-", extension),
            });
        }
    }
    let alias = account(ALIAS.as_bytes())?.ok_or(NO_ALIAS)?;
    Ok((alias, b"-", local))
}

/// The ways to split an address into an account name and a rest, longest name first.
fn splits(local: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let ends = (0..=local.len().min(NAME_OCTETS_MAX)).rev();
    ends.filter(|&end| local.get(end).is_none_or(|&octet| octet == BREAK))
        .map(|end| local.split_at(end))
}

fn account(name: &[u8]) -> Result<Option<User>, u8> {
    // A name that is no UTF-8 is no account's.
    let Ok(name) = String::from_utf8(name.to_ascii_lowercase()) else {
        return Ok(None);
    };
    if name.is_empty() || name.contains('\0') {
        return Ok(None);
    }
    privilege::user(&name).map_err(|_| SYSTEM_TROUBLE)
}

/// Not root, and the home is there and its own: an account without a home has no mailbox.
fn owns_its_home(user: &User) -> Result<bool, u8> {
    if user.uid.is_root() {
        return Ok(false);
    }
    match std::fs::metadata(OsStr::new(&user.dir)) {
        Ok(home) => Ok(home.uid() == user.uid.as_raw()),
        Err(error) if is_temporary(&error) => Err(NFS_TROUBLE),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_a_break() {
        let shown = |local: &str| {
            let splits = splits(local.as_bytes());
            let names = splits
                .map(|(name, rest)| format!("{}|{}", name.escape_ascii(), rest.escape_ascii()));
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("joe"), "joe|");
        assert_eq!(shown("joe-a-b"), "joe-a-b| joe-a|-b joe|-a-b");
        assert_eq!(shown("-a"), "-a| |-a");
        assert_eq!(
            shown(&format!("{}-x", "a".repeat(31))),
            format!("{}|-x", "a".repeat(31))
        );
        assert_eq!(shown(&"a".repeat(32)), "");
    }
}
