//! The passwords party: has the names and hashes of users/passwords, and says whether a login is right.
//!
//! | request | answer |
//! |---|---|
//! | `p`, name, NUL, password | `y`, name of the account; `n` no; `u`, reason: it cannot be told |
//! | `m`, name, NUL, password, and a descriptor | as `p`; if yes, that user's process shows the maildrop to the descriptor |
//! | `v`, name | what SCRAM-SHA-256 is checked against: `v`, name of the account, NUL, record of RFC 5803; `n`, `u` |
//! | `s` | `s` if anybody has such a record, else `-` |
//!
//! A connection carries one request. A name that is unknown is not told from a wrong password, by time or by words.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qmail_core::route::Tables;
use qmail_core::sasl::{NAME_OCTETS_MAX, SECRET_OCTETS_MAX};
use qmail_core::{Account, Credentials, LoginError, PasswordChecker};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::time::timeout;

use super::Party;
use super::channel::{self, Channel, Incoming};
use super::complaints::Complaints;
use super::listener::serve_connections;
use super::party::lock_down;
use super::sockets;
use crate::exit;
use crate::home::{Home, SendControls};
use crate::passwords::PasswordFile;
use crate::serve::{Accounts, Passwords};

/// Most connections at a time; others wait.
const CONNECTIONS_MAX: usize = 256;

/// How long a request may take to come, and an answer to be taken.
const WAIT: Duration = Duration::from_secs(10);

/// Longest request in octets.
pub(super) const REQUEST_OCTETS_MAX: usize = 2 + NAME_OCTETS_MAX + SECRET_OCTETS_MAX;

pub(super) fn run(home: &Home) -> ExitCode {
    let served = prepare(home).and_then(|(tables, file)| {
        lock_down(Party::Passwords, home).map_err(|error| error.to_string())?;
        // It starts threads, which are to be locked down, too.
        let accounts = accounts(tables, file).map_err(|error| error.to_string())?;
        let (accounts, complaints) = (Arc::new(accounts), Arc::new(Complaints::of("passwords")));
        let maildrops = sockets::maildrops(home);
        serve_connections(CONNECTIONS_MAX, |connection| {
            let party = Accounting {
                accounts: Arc::clone(&accounts),
                maildrops: maildrops.clone(),
            };
            converse(connection, party, Arc::clone(&complaints))
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("passwords", &words, exit::TEMPORARY),
    }
}

/// Reads which domains are local, and whether the passwords can be read.
fn prepare(home: &Home) -> Result<(Arc<Tables>, PasswordFile), String> {
    let controls = SendControls::read(home).map_err(|error| error.to_string())?;
    let file = PasswordFile::new(home.passwords());
    file.names().map_err(|error| {
        let path = home.passwords();
        format!(
            "cannot read {}: {error}; give it to this party's account (chown)",
            path.display()
        )
    })?;
    Ok((controls.queue.tables, file))
}

fn accounts(tables: Arc<Tables>, file: PasswordFile) -> io::Result<Accounts> {
    let mut decoys = [0; 32];
    SysRng
        .try_fill_bytes(&mut decoys)
        .map_err(io::Error::other)?;
    let passwords = Passwords::File(Arc::new(file));
    Accounts::new(None, move || Arc::clone(&tables), passwords, decoys)
}

/// What is needed to answer a request.
struct Accounting {
    accounts: Arc<Accounts>,
    /// Where the launcher shows maildrops.
    maildrops: PathBuf,
}

async fn converse(connection: Channel, party: Accounting, complaints: Arc<Complaints>) {
    let mut room = [0; REQUEST_OCTETS_MAX];
    let answer = match timeout(WAIT, connection.receive(&mut room)).await {
        Ok(Ok(Incoming::Message(octets, passed))) => party.answer(&room[..octets], passed).await,
        Ok(Ok(Incoming::Refused(why))) => Err(why),
        Ok(Ok(Incoming::End) | Err(_)) | Err(_) => return,
    };
    room.fill(0);
    match answer {
        Ok(answer) => {
            let _ = timeout(WAIT, connection.send(&answer, None)).await;
        }
        // It is closed without an answer.
        Err(why) => complaints.refused("network", why),
    }
}

impl Accounting {
    async fn answer(
        &self,
        request: &[u8],
        passed: Option<OwnedFd>,
    ) -> Result<Vec<u8>, &'static str> {
        match (request, passed) {
            ([b'm', login @ ..], Some(looker)) => {
                let found = check(&*self.accounts, login).await?;
                Ok(match found {
                    Ok(account) => match self.show(&account, &looker).await {
                        Ok(()) => told(Ok(account)),
                        Err(error) => [b"u", error.to_string().as_bytes()].concat(),
                    },
                    refused => told(refused),
                })
            }
            ([b'm', ..], None) => Err("no descriptor"),
            (_, Some(_)) => Err("a descriptor"),
            (request, None) => answer(&*self.accounts, request).await,
        }
    }

    /// Has the launcher start a process of this account, which shows its maildrop to whoever has the descriptor.
    async fn show(&self, account: &Account, looker: &OwnedFd) -> io::Result<()> {
        let launcher = Channel::new(channel::connect(&self.maildrops)?)?;
        let showing = launcher.send(&account.name, Some(looker.as_fd()));
        timeout(WAIT, showing).await?
    }
}

/// Whose name and password these are; or why they are none.
async fn check(
    checker: &dyn PasswordChecker,
    login: &[u8],
) -> Result<Result<Account, LoginError>, &'static str> {
    let mut fields = login.split(|&octet| octet == 0);
    let (Some(name), Some(secret), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err("no name and password");
    };
    if name.len() > NAME_OCTETS_MAX || secret.len() > SECRET_OCTETS_MAX {
        return Err("a name or password that is too long");
    }
    let credentials = Credentials::Plain {
        name: Bytes::copy_from_slice(name),
        secret: secret.into(),
    };
    Ok(checker.check(&credentials).await)
}

/// The answer to a login.
fn told(found: Result<Account, LoginError>) -> Vec<u8> {
    match found {
        Ok(account) => [b"y", &account.name[..]].concat(),
        Err(LoginError::Unavailable { reason }) => [b"u", reason.as_bytes()].concat(),
        Err(_) => b"n".to_vec(),
    }
}

/// The answer to a request, or why it is none.
pub(super) async fn answer(
    checker: &dyn PasswordChecker,
    request: &[u8],
) -> Result<Vec<u8>, &'static str> {
    match request {
        [b's'] => Ok(match checker.can_scram() {
            true => b"s".to_vec(),
            false => b"-".to_vec(),
        }),
        [b'p', login @ ..] => Ok(told(check(checker, login).await?)),
        [b'v', name @ ..] if name.len() <= NAME_OCTETS_MAX && !name.contains(&0) => {
            match checker.verifier(&Bytes::copy_from_slice(name)).await {
                Ok((account, verifier)) => {
                    let verifier = verifier.to_string();
                    Ok([b"v", &account.name[..], b"\0", verifier.as_bytes()].concat())
                }
                Err(error) => Ok(told(Err(error))),
            }
        }
        _ => Err("no request"),
    }
}

#[cfg(test)]
mod tests {
    use qmail_core::sasl::Verifier;

    use super::super::channel::pair;
    use super::*;

    /// Knows ann, whose password is `secret`.
    struct Ann;

    #[async_trait::async_trait]
    impl PasswordChecker for Ann {
        async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError> {
            match &credentials.name()[..] {
                b"ann" if credentials.fit(b"secret") => Ok(Account::new("ann")),
                b"later" => Err(LoginError::Unavailable {
                    reason: "disk".to_owned(),
                }),
                _ => Err(LoginError::Refused),
            }
        }

        async fn verifier(&self, name: &Bytes) -> Result<(Account, Verifier), LoginError> {
            Ok((Account::new(name.clone()), Verifier::decoy(name, b"key")))
        }
    }

    #[tokio::test]
    async fn requests_are_answered_and_what_is_none_is_refused() {
        let long = [b"p", &[b'x'; NAME_OCTETS_MAX + 1][..], b"\0y"].concat();
        for (request, answered) in [
            (&b"pann\0secret"[..], Some(&b"yann"[..])),
            (b"pann\0wrong", Some(b"n")),
            (b"peve\0secret", Some(b"n")),
            (b"plater\0x", Some(b"udisk")),
            (b"s", Some(b"-")),
            (b"pann", None),
            (b"pann\0secret\0", None),
            // Two in one.
            (b"pann\0secretpann\0secret\0", None),
            (b"ss", None),
            (b"", None),
            (b"x", None),
            (b"va\0b", None),
            (&long, None),
        ] {
            let answer = answer(&Ann, request).await;
            assert_eq!(answer.as_deref().ok(), answered, "{request:?}");
        }
        let told = answer(&Ann, b"vann").await.unwrap();
        assert!(told.starts_with(b"vann\0SCRAM-SHA-256$"));
    }

    #[test]
    fn the_longest_name_and_password_fit() {
        let longest = [
            &b"m"[..],
            &[b'n'; NAME_OCTETS_MAX],
            b"\0",
            &[b's'; SECRET_OCTETS_MAX],
        ];
        assert_eq!(longest.concat().len(), REQUEST_OCTETS_MAX);
        let (near, far) = pair().unwrap();
        channel::send(&near, &longest.concat(), None).unwrap();
        let received = channel::receive(&far, &mut [0; REQUEST_OCTETS_MAX]).unwrap();
        assert!(matches!(
            received,
            Incoming::Message(REQUEST_OCTETS_MAX, None)
        ));
    }
}
