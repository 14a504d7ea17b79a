//! Logins without the passwords: the passwords party says whether they are right.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::sasl::Verifier;
use qmail_core::{Account, Credentials, LoginError, PasswordChecker};
use tokio::time::timeout;

use super::channel::{self, Channel, Incoming};

/// How long an answer may take: hashing is slow on purpose, and others may have come first.
const WAIT: Duration = Duration::from_secs(60);

/// Longest answer in octets.
const ANSWER_OCTETS_MAX: usize = 4096;

/// The other side of the socket.
#[derive(Clone)]
pub(super) struct PasswordsParty {
    socket: PathBuf,
    can_scram: bool,
}

impl PasswordsParty {
    /// Asks once what can be asked for.
    ///
    /// # Errors
    ///
    /// The party does not answer.
    pub(super) fn new(socket: PathBuf) -> io::Result<Self> {
        let connection = channel::connect(&socket)?;
        channel::bound_waits(&connection, WAIT)?;
        channel::send(&connection, b"s", None)?;
        let mut room = [0; 1];
        let can_scram = match channel::receive(&connection, &mut room)? {
            Incoming::Message(..) => room == *b"s",
            Incoming::Refused(_) | Incoming::End => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Self { socket, can_scram })
    }

    /// Checks a login, and has a process of that user show its maildrop to `looker`.
    pub(super) async fn open(
        &self,
        credentials: &Credentials,
        looker: BorrowedFd<'_>,
    ) -> Result<Account, LoginError> {
        self.log_in(b"m", credentials, Some(looker)).await
    }

    async fn log_in(
        &self,
        letter: &[u8],
        credentials: &Credentials,
        passed: Option<BorrowedFd<'_>>,
    ) -> Result<Account, LoginError> {
        let Credentials::Plain { name, secret } = credentials else {
            // A digest cannot be checked against a hash.
            return Err(LoginError::Refused);
        };
        let request = [letter, &name[..], b"\0", secret.reveal()].concat();
        match self.ask(&request, passed).await?.split_first() {
            Some((b'y', name)) => Ok(Account::new(Bytes::copy_from_slice(name))),
            answer => Err(refusal(answer)),
        }
    }

    async fn ask(
        &self,
        request: &[u8],
        passed: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<u8>, LoginError> {
        let asked = async {
            // The listening socket is there as long as the supervisor is: this does not wait.
            let connection = Channel::new(channel::connect(&self.socket)?)?;
            connection.send(request, passed).await?;
            let mut room = vec![0; ANSWER_OCTETS_MAX];
            match connection.receive(&mut room).await? {
                Incoming::Message(octets, None) => {
                    room.truncate(octets);
                    Ok(room)
                }
                Incoming::End => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Incoming::Message(..) | Incoming::Refused(_) => {
                    Err(io::ErrorKind::InvalidData.into())
                }
            }
        };
        match timeout(WAIT, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => Err(unavailable(&"no answer")),
        }
    }
}

#[async_trait]
impl PasswordChecker for PasswordsParty {
    async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError> {
        self.log_in(b"p", credentials, None).await
    }

    fn can_scram(&self) -> bool {
        self.can_scram
    }

    async fn verifier(&self, name: &Bytes) -> Result<(Account, Verifier), LoginError> {
        let answer = self.ask(&[b"v", &name[..]].concat(), None).await?;
        let Some((b'v', found)) = answer.split_first() else {
            return Err(refusal(answer.split_first()));
        };
        let end = memchr::memrchr(0, found).ok_or_else(|| unavailable(&MANGLED))?;
        let verifier = std::str::from_utf8(&found[end + 1..]).ok();
        let verifier = verifier.and_then(|text| text.parse().ok());
        let verifier = verifier.ok_or_else(|| unavailable(&MANGLED))?;
        Ok((
            Account::new(Bytes::copy_from_slice(&found[..end])),
            verifier,
        ))
    }
}

const MANGLED: &str = "an answer that is none";

fn refusal(answer: Option<(&u8, &[u8])>) -> LoginError {
    match answer {
        Some((b'n', [])) => LoginError::Refused,
        Some((b'u', reason)) => unavailable(&qmail_core::Escaped(reason)),
        _ => unavailable(&MANGLED),
    }
}

fn unavailable(reason: &dyn std::fmt::Display) -> LoginError {
    LoginError::Unavailable {
        reason: format!("the passwords party: {reason}"),
    }
}
