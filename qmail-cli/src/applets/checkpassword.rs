//! `checkpassword`: checks the name and password on descriptor 3, becomes that user, and runs a program.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::unistd;
use qmail_core::{Address, Escaped};
use qmail_deliver::{AssignedUsers, SystemUsers, User, UserDirectory as _};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, geteuid, getpid, pidfd_getfd, pidfd_open};

use crate::applet::{Applet, Call, Kind};
use crate::checkpassword::{DESCRIPTOR, RECORD_OCTETS_MAX};
use crate::home::Home;
use crate::passwords::PasswordFile;
use crate::{exit, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["checkpassword"],
    kind: Kind::Classic,
    summary: "check a password, become its user, and run a program",
    run,
};

/// Below a checkpassword program, `qmail serve` runs this to learn whose home that is.
pub(crate) const ACCOUNT: Applet = Applet {
    names: &[ACCOUNT_COMMAND],
    kind: Kind::Internal,
    summary: "say USER and HOME",
    run: tell_account,
};

pub(crate) const ACCOUNT_COMMAND: &str = "checkpassword-account";

/// SHELL of a user whose account is not the system's.
const SHELL: &str = "/bin/sh";

/// Why the program is not run.
enum Refusal {
    /// A wrong password, or no such user: 1.
    Wrong,
    /// No program, no descriptor 3, no record: 2.
    Misuse(&'static str),
    /// It cannot be said for now: 111.
    Trouble(String),
}

fn run(call: &Call) -> ExitCode {
    match check(call) {
        // It has become the program otherwise.
        Err(Refusal::Wrong) => ExitCode::FAILURE,
        Err(Refusal::Misuse(words)) => exit::fatal(call.name, &words, 2),
        Err(Refusal::Trouble(words)) => exit::fatal(call.name, &words, exit::TEMPORARY),
        Ok(never) => match never {},
    }
}

fn check(call: &Call) -> Result<std::convert::Infallible, Refusal> {
    let [program, arguments @ ..] = call.arguments.as_slice() else {
        return Err(Refusal::Misuse(
            "usage: checkpassword program [argument ...]",
        ));
    };
    let record = read_record()?;
    let (name, secret) = name_and_secret(&record).ok_or(Refusal::Misuse(
        "descriptor 3 has no name, password and timestamp, each with a NUL behind it",
    ))?;
    // The domain that a client may have added is not looked at: who runs this has one.
    let name = name.split(|&octet| octet == b'@').next().unwrap_or(name);
    let name = name.to_ascii_lowercase();
    let home = Home::choose(None, None);
    let trouble = |error: &dyn std::fmt::Display| Refusal::Trouble(error.to_string());
    let right = PasswordFile::new(home.passwords())
        .verify(&name, secret)
        .map_err(|error| {
            Refusal::Trouble(format!(
                "cannot read {}: {error}",
                home.passwords().display()
            ))
        })?;
    if !right {
        return Err(Refusal::Wrong);
    }
    let user = find(&home, &name)?.ok_or(Refusal::Wrong)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&user.home)
        .env("USER", std::ffi::OsStr::from_bytes(&user.name))
        .env("HOME", &user.home)
        .env("SHELL", shell(&user));
    become_user(&mut command, &user)?;
    let error = command.exec();
    Err(trouble(&format_args!(
        "cannot run {} in {}: {error}",
        program.display(),
        user.home.display()
    )))
}

/// Descriptor 3 to its end; it is closed then, so that no program that follows finds a password there.
fn read_record() -> Result<Vec<u8>, Refusal> {
    let missing = |_: io::Error| Refusal::Misuse("there is nothing to read on descriptor 3");
    let mut record = Vec::new();
    let file = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, DESCRIPTOR, PidfdGetfdFlags::empty()))
        .map_err(|error| missing(error.into()))?;
    File::from(file)
        .take(RECORD_OCTETS_MAX as u64 + 1)
        .read_to_end(&mut record)
        .map_err(missing)?;
    let _ = unistd::close(DESCRIPTOR);
    if record.len() > RECORD_OCTETS_MAX {
        return Err(Refusal::Misuse("more than 512 octets on descriptor 3"));
    }
    Ok(record)
}

/// Of a record that is whole: the timestamp, too, ends in NUL. What is behind that is passed over.
fn name_and_secret(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = record.split(|&octet| octet == 0);
    let (name, secret, _timestamp) = (fields.next()?, fields.next()?, fields.next()?);
    fields.next()?;
    Some((name, secret))
}

/// Who that is: as the users of mail were assigned, else an account of the system. Never root.
fn find(home: &Home, name: &[u8]) -> Result<Option<User>, Refusal> {
    let trouble = |error| Refusal::Trouble(format!("cannot look up the user: {error}"));
    let Ok(address) = Address::new(name.to_vec()) else {
        return Ok(None);
    };
    let assigned = stdio::run(AssignedUsers::new(home.path()).find(&address))
        .map_err(|error| Refusal::Trouble(error.to_string()))?
        .map_err(trouble)?;
    let user = match (assigned, str::from_utf8(name)) {
        (Some(user), _) => Some(user),
        (None, Ok(name)) => SystemUsers::account(name).map_err(trouble)?,
        (None, Err(_)) => None,
    };
    Ok(user.filter(|user| user.uid != 0))
}

/// Root's other groups are dropped, too. Who is not root can only stay who it is.
fn become_user(command: &mut Command, user: &User) -> Result<(), Refusal> {
    if geteuid().is_root() {
        command.gid(user.gid).uid(user.uid);
        return Ok(());
    }
    if geteuid().as_raw() == user.uid {
        return Ok(());
    }
    Err(Refusal::Trouble(format!(
        "cannot become {}: only root can become another user",
        Escaped(&user.name)
    )))
}

fn shell(user: &User) -> PathBuf {
    str::from_utf8(&user.name)
        .ok()
        .and_then(|name| unistd::User::from_name(name).ok().flatten())
        .map_or_else(|| SHELL.into(), |account| account.shell)
}

fn tell_account(_call: &Call) -> ExitCode {
    let mut told = Vec::new();
    for variable in ["USER", "HOME"] {
        told.extend(std::env::var_os(variable).unwrap_or_default().into_vec());
        told.push(0);
    }
    let mut out = io::stdout().lock();
    match out.write_all(&told).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::TEMPORARY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_off_is_none() {
        let record = b"joe\0se cret\0<1@x>\0more\0";
        let whole = record.len() - b"more\0".len();
        for cut in 0..=record.len() {
            let wanted = (cut >= whole).then_some((&b"joe"[..], &b"se cret"[..]));
            assert_eq!(name_and_secret(&record[..cut]), wanted, "{cut}");
        }
        assert_eq!(name_and_secret(b"\0\0\0"), Some((&b""[..], &b""[..])));
    }
}
