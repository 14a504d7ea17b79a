//! Who an address belongs to that is not assigned: what qmail-getpw says.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use qmail_core::{Address, Outcome, ProgramEnd};
use qmail_deliver::{Capture, SystemUsers, User, UserDirectory as _};
use rustix::process::geteuid;
use tokio::process::Command;

use crate::home::Home;
use crate::privilege::{Account, AccountError};

/// The accounts of the system, or a program of the administrator's in the place of qmail-getpw.
pub(crate) enum Getpw {
    /// `bin/qmail-getpw` is this binary, or missing: no process is needed to know what it would say.
    Own(SystemUsers),
    /// It is something else, and is run as the user qmailp.
    Program {
        path: PathBuf,
        account: Option<Account>,
    },
}

/// Most octets that a program may say.
const OUTPUT_OCTETS_MAX: usize = 16 * 1024;

impl Getpw {
    pub(crate) fn of(home: &Home) -> Result<Self, AccountError> {
        let path = home.path().join("bin/qmail-getpw");
        if !path.exists() || is_this_binary(&path).unwrap_or(false) {
            return Ok(Self::Own(SystemUsers::default()));
        }
        let account = match geteuid().is_root() {
            true => Some(Account::acting(home, "qmailp")?),
            false => None,
        };
        Ok(Self::Program { path, account })
    }

    /// # Errors
    ///
    /// What is reported instead of a delivery.
    pub(crate) async fn find(&self, recipient: &Address) -> Result<User, Outcome> {
        match self {
            Self::Own(users) => match users.find(recipient).await {
                Ok(Some(user)) => Ok(user),
                Ok(None) => Err(outcome(BUG)),
                Err(error) => Err(error.outcome()),
            },
            Self::Program { path, account } => {
                let mut command = Command::new(path);
                command
                    .arg(OsStr::from_bytes(recipient.local_part()))
                    .stdin(Stdio::null());
                if let Some(account) = account {
                    command.gid(account.gid).uid(account.uid);
                }
                let said = ask(command).await.map_err(|_| outcome(NOT_RUN))?;
                user(&said?).ok_or_else(|| outcome(BUG))
            }
        }
    }
}

fn is_this_binary(path: &Path) -> io::Result<bool> {
    let (that, this) = (fs::metadata(path)?, fs::metadata(std::env::current_exe()?)?);
    Ok((that.dev(), that.ino()) == (this.dev(), this.ino()))
}

/// What a program says on standard output, or the outcome that its exit code stands for.
async fn ask(mut command: Command) -> io::Result<Result<Vec<u8>, Outcome>> {
    let mut capture = Capture::of(&mut command, OUTPUT_OCTETS_MAX)?;
    // What it complains about is not part of the answer.
    command.stderr(Stdio::inherit());
    let mut child = command.spawn()?;
    drop(command);
    let status = capture.wait(&mut child).await?;
    let (said, _) = capture.into_kept();
    Ok(match status.code() {
        Some(0) => Ok(said),
        Some(code) => Err(outcome(code as u8)),
        None => Err(Outcome::Deferred("qmail-getpw crashed.\n".into())),
    })
}

/// user NUL uid NUL gid NUL home NUL dash NUL extension NUL.
fn user(said: &[u8]) -> Option<User> {
    let mut fields = said.split(|&octet| octet == 0).map(<[u8]>::to_vec);
    let name = fields.next()?;
    let mut number = || std::str::from_utf8(&fields.next()?).ok()?.parse().ok();
    let (uid, gid) = (number()?, number()?);
    let home = std::ffi::OsString::from_vec(fields.next()?);
    let mut user = User::new(name, home);
    (user.uid, user.gid) = (uid, gid);
    user.dash = Bytes::from(fields.next()?);
    user.extension = Bytes::from(fields.next()?);
    Some(user)
}

/// Exit codes that stand for a trouble of qmail-lspawn.
const BUG: u8 = 112;
const NOT_RUN: u8 = 121;

fn outcome(code: u8) -> Outcome {
    ProgramEnd::Exited(code).local_outcome(b"")
}
