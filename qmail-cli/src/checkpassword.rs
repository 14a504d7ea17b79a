//! The checkpassword interface, from the side of who asks: a program gets a name and a password on descriptor 3, and becomes
//! another program if they are right.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use command_fds::{CommandFdExt as _, FdMapping};
use qmail_core::{Account, Credentials, LoginError};
use tokio::time::timeout;

use crate::applets::checkpassword::ACCOUNT_COMMAND;

/// The descriptor that a checkpassword program reads.
pub(crate) const DESCRIPTOR: i32 = 3;

/// Most octets that it reads.
pub(crate) const RECORD_OCTETS_MAX: usize = 512;

/// How long it may think, under `qmail serve`.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60);

/// Where in the home of its users their mail is.
const MAILDIR: &str = "Maildir";

/// Name, password or digest, timestamp: each ends with NUL. `None` for what the interface has no room for.
pub(crate) fn record(credentials: &Credentials, timestamp: &[u8]) -> Option<Vec<u8>> {
    let secret = match credentials {
        Credentials::Plain { secret, .. } => secret.reveal(),
        Credentials::Apop { digest, .. } => digest,
        _ => return None,
    };
    let mut record = Vec::new();
    for field in [credentials.name(), secret, timestamp] {
        record.extend_from_slice(field);
        record.push(0);
    }
    (record.len() <= RECORD_OCTETS_MAX).then_some(record)
}

/// Why a program could not be given a record.
pub(crate) enum GiveError {
    /// There is no pipe.
    Open,
    /// The pipe took nothing.
    Write,
}

/// Has `program` find the record on its descriptor 3.
pub(crate) fn give(record: &[u8], program: &mut Command) -> Result<(), GiveError> {
    let (reader, mut writer) = io::pipe().map_err(|_| GiveError::Open)?;
    // A record is shorter than the room in a pipe: this cannot wait for a reader that is not there yet.
    writer.write_all(record).map_err(|_| GiveError::Write)?;
    drop(writer);
    let mapping = FdMapping {
        parent_fd: reader.into(),
        child_fd: DESCRIPTOR,
    };
    program
        .fd_mappings(vec![mapping])
        .map_err(|_| GiveError::Open)?;
    Ok(())
}

/// Any checkpassword program: control/checkpassword.
#[derive(Clone, Debug)]
pub(crate) struct Checker {
    /// The program and its arguments; what they end with is the program that it becomes.
    words: Vec<String>,
}

impl Checker {
    /// From the line of the control file: words with spaces between them. `None` if there are none.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_ascii_whitespace().map(str::to_owned).collect();
        (!words.is_empty()).then_some(Self { words })
    }

    /// Runs it once. If it says yes, it has become this binary, which tells whose home it is in.
    pub(crate) async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError> {
        let record = record(credentials, b"").ok_or(LoginError::Refused)?;
        let own = std::env::current_exe().map_err(unavailable)?;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).arg(own).arg(ACCOUNT_COMMAND);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        give(&record, &mut command).map_err(|_| unavailable("no pipe"))?;
        let mut command = tokio::process::Command::from(command);
        let run = command.kill_on_drop(true).output();
        let output = timeout(CHECK_TIME_MAX, run)
            .await
            .map_err(|_| unavailable(format_args!("{} does not end", self.words[0])))?
            .map_err(|error| unavailable(format_args!("{}: {error}", self.words[0])))?;
        match output.status.code() {
            Some(0) => account(&output.stdout)
                .ok_or_else(|| unavailable(format_args!("{} set no HOME", self.words[0]))),
            Some(1) => Err(LoginError::Refused),
            _ => Err(unavailable(format_args!(
                "{} ended with {}",
                self.words[0], output.status
            ))),
        }
    }
}

/// What this binary has written below the program: USER NUL HOME NUL.
fn account(output: &[u8]) -> Option<Account> {
    let mut fields = output.split(|&octet| octet == 0);
    let (name, home) = (fields.next()?, fields.next()?);
    if name.is_empty() || home.is_empty() {
        return None;
    }
    let mut account = Account::new(Bytes::copy_from_slice(name));
    account.home = Some(Path::new(OsStr::from_bytes(home)).join(MAILDIR));
    Some(account)
}

fn unavailable(reason: impl std::fmt::Display) -> LoginError {
    LoginError::Unavailable {
        reason: format!("checkpassword: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(secret: &str) -> Credentials {
        Credentials::Plain {
            name: "joe".into(),
            secret: secret.as_bytes().into(),
        }
    }

    #[test]
    fn a_record_has_three_fields_and_a_limit() {
        assert_eq!(
            record(&plain("se cret"), b"<1@x>").as_deref(),
            Some(&b"joe\0se cret\0<1@x>\0"[..])
        );
        let longest = "x".repeat(RECORD_OCTETS_MAX - 6);
        assert!(record(&plain(&longest), b"").is_some());
        assert!(record(&plain(&format!("{longest}x")), b"").is_none());
    }

    #[tokio::test]
    async fn the_exit_code_is_the_answer() {
        let scratch = tempfile::tempdir().unwrap();
        let script = scratch.path().join("check");
        std::fs::write(
            &script,
            "read -r line <&3; case $line in joe*right*) printf 'joe\\0/home/joe\\0';; *slow*) kill $$;; *) exit $1;; esac\n",
        )
        .unwrap();
        let checker =
            |code: u8| Checker::parse(&format!("sh {} {code}", script.display())).unwrap();
        let account = checker(1).check(&plain("right")).await.unwrap();
        assert_eq!(account.name, "joe");
        assert_eq!(account.home, Some("/home/joe/Maildir".into()));
        let refused = checker(1).check(&plain("wrong")).await;
        assert!(matches!(refused, Err(LoginError::Refused)));
        for code in [0, 2, 111] {
            let trouble = checker(code).check(&plain("wrong")).await;
            assert!(
                matches!(trouble, Err(LoginError::Unavailable { .. })),
                "{code}"
            );
        }
        let killed = checker(1).check(&plain("slow")).await;
        assert!(matches!(killed, Err(LoginError::Unavailable { .. })));
        let missing = Checker::parse("/nonexistent/checkpassword").unwrap();
        let missing = missing.check(&plain("right")).await;
        assert!(matches!(missing, Err(LoginError::Unavailable { .. })));
        assert!(Checker::parse(" ").is_none());
    }
}
