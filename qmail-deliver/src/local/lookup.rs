//! The files of a mailbox's owner: is the home fit for deliveries, and which instruction file serves?

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use qmail_core::dot_qmail::{Mailbox, Owner};
use qmail_core::{Outcome, Report};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::plan::Plan;
use super::{Strictness, deferred, failed};
use crate::errno::is_temporary;

/// Largest instruction file in octets that is read; a larger one defers the message. A list of two million addresses fits.
pub const INSTRUCTIONS_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// What the files say about a mailbox.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) plan: Plan,
    /// The value of `DEFAULT`, if it has one.
    pub(super) default: Option<Vec<u8>>,
    pub(super) owner: Owner,
}

/// What is known about a home directory that mail may be delivered to.
#[derive(Clone, Copy, Debug)]
pub(super) struct HomeState {
    /// Its owner is at work on the files in it.
    pub(super) sticky: bool,
    pub(super) group_may_write: bool,
}

pub(super) fn home_of(mailbox: &Mailbox) -> PathBuf {
    PathBuf::from(OsString::from_vec(mailbox.home.to_vec()))
}

/// Fails for a home that is not there, or that strangers may write to: whoever can write to it could run programs as its owner.
pub(super) fn check_home(strictness: Strictness, home: &Path) -> Result<HomeState, Outcome> {
    match std::fs::metadata(home.join(".")).map(|metadata| metadata.mode()) {
        Ok(mode) if mode & strictness.refused_modes != 0 => {
            Err(deferred("Uh-oh: home directory is writable. (#4.7.0)\n"))
        }
        Ok(mode) => Ok(HomeState {
            sticky: mode & STICKY != 0,
            group_may_write: mode & GROUP_WRITES != 0,
        }),
        Err(error) => Err(told(
            "Unable to switch to ",
            home.as_os_str().as_bytes(),
            &error,
            "(#4.3.0)",
        )),
    }
}

/// Finds the instruction file, and what owner files there are.
pub(super) fn find(
    strictness: Strictness,
    mailbox: &Mailbox,
    default_delivery: &Bytes,
) -> Result<Found, Outcome> {
    let home = home_of(mailbox);
    let mut found = None;
    for candidate in mailbox.candidates() {
        if let Some((file, forward_only)) = read(strictness, &home, &candidate.name)? {
            found = Some((file, forward_only, candidate.default));
            break;
        }
    }
    let (file, forward_only, default) = match found {
        // An empty file means the default, which its x bit does not forbid.
        Some((file, _, default)) if file.is_empty() => (default_delivery.clone(), false, default),
        Some(found) => found,
        None if mailbox.dash.is_empty() => (default_delivery.clone(), false, None),
        None => return Err(failed("Sorry, no mailbox here by that name. (#5.1.1)\n")),
    };
    // Instructions end in a line end: empty ones are an empty first line, which is an error, and not a list of nobody.
    let file = if file.is_empty() {
        Bytes::from_static(b"\n")
    } else {
        file
    };
    Ok(Found {
        plan: Plan::read(&file, forward_only),
        default,
        owner: owner(&home, mailbox)?,
    })
}

/// The text of an instruction file, and whether it may only forward; `None` if it is not one.
fn read(
    strictness: Strictness,
    home: &Path,
    name: &[u8],
) -> Result<Option<(Bytes, bool)>, Outcome> {
    let trouble = |error: &io::Error| told("Unable to open ", name, error, "(#4.3.0)");
    // Without NONBLOCK a FIFO of that name would hold up the delivery.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = home.join(OsStr::from_bytes(name));
    let file = match openat(CWD, &path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(errno) => {
            let error = io::Error::from(errno);
            return if is_temporary(&error) || matches!(errno, Errno::PERM | Errno::ACCESS) {
                Err(trouble(&error))
            } else {
                Ok(None)
            };
        }
    };
    let metadata = file.metadata().map_err(|error| trouble(&error))?;
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.mode() & strictness.refused_modes != 0 {
        return Err(deferred("Uh-oh: .qmail file is writable. (#4.7.0)\n"));
    }
    let mut text = Vec::new();
    let limited = file
        .take(INSTRUCTIONS_OCTETS_MAX + 1)
        .read_to_end(&mut text);
    limited.map_err(|error| trouble(&error))?;
    if text.len() as u64 > INSTRUCTIONS_OCTETS_MAX {
        return Err(trouble(&io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some((text.into(), metadata.mode() & OWNER_EXECUTES != 0)))
}

fn owner(home: &Path, mailbox: &Mailbox) -> Result<Owner, Outcome> {
    let [owner, per_recipient] = mailbox.owner_files();
    Ok(if !exists(home, &owner)? {
        Owner::Nobody
    } else if exists(home, &per_recipient)? {
        Owner::PerRecipient
    } else {
        Owner::Owner
    })
}

fn exists(home: &Path, name: &[u8]) -> Result<bool, Outcome> {
    match std::fs::metadata(home.join(OsStr::from_bytes(name))) {
        Ok(_) => Ok(true),
        Err(error) if is_temporary(&error) => {
            Err(told("Unable to open ", name, &error, "(#4.3.0)"))
        }
        Err(_) => Ok(false),
    }
}

/// A deferral: what, which, why, and its status.
pub(super) fn told(what: &str, name: &[u8], error: &io::Error, status: &str) -> Outcome {
    let reason = format!(": {error}. {status}\n");
    Outcome::Deferred(Report::new(
        [what.as_bytes(), name, reason.as_bytes()].concat(),
    ))
}

/// Mode bits.
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;
const OWNER_EXECUTES: u32 = 0o100;
