//! Who may read which mail: passwords and maildrops for POP3, over the same users that mail is delivered to.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::route::Tables;
use qmail_core::sasl::Verifier;
use qmail_core::{Account, Address, Credentials, LoginError, PasswordChecker};
use qmail_deliver::{User, UserDirectory};
use qmail_queue::Workers;
use tokio::sync::Semaphore;

use crate::checkpassword::Checker;
use crate::passwords::PasswordFile;

/// Default Maildir in the home of a user.
pub(crate) const MAILDIR: &str = "Maildir";

/// Checks names and passwords.
///
/// A login name is a local part, or an address whose domain is local; its case does not matter, as for mail.
pub(crate) struct Accounts {
    /// Whose mail is where; absent in a process that tells no more than who has logged in.
    users: Option<Arc<dyn UserDirectory>>,
    /// Which domains are local.
    tables: Box<dyn Fn() -> Arc<Tables> + Send + Sync>,
    passwords: Passwords,
    /// What the verifiers of names that do not exist are made of.
    decoys: [u8; 32],
    /// Each check takes a processor for a while, and memory: no more at once than there are processors, and [`CHECKS_MAX`].
    checks: Semaphore,
    /// Threads for checks against the file. A check takes some megabytes, which the allocator keeps for the thread that wanted
    /// them: on any of the runtime's threads for blocking work, all of these would come to hold as much.
    checkers: Workers,
}

/// Most checks at once.
const CHECKS_MAX: usize = 8;

/// Where passwords are checked.
pub(crate) enum Passwords {
    /// Any password of a user is taken.
    Any,
    /// users/passwords.
    File(Arc<PasswordFile>),
    /// A program that also says where the mail is: control/checkpassword.
    Program(Checker),
}

impl Accounts {
    /// `decoys` is a random key.
    ///
    /// # Errors
    ///
    /// The system has no room for a thread.
    pub(crate) fn new(
        users: Option<Arc<dyn UserDirectory>>,
        tables: impl Fn() -> Arc<Tables> + Send + Sync + 'static,
        passwords: Passwords,
        decoys: [u8; 32],
    ) -> io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let checks = processors.min(CHECKS_MAX);
        let checkers = match passwords {
            Passwords::File(_) => Workers::threads(checks)?,
            Passwords::Any | Passwords::Program(_) => Workers::inline(),
        };
        Ok(Self {
            users,
            tables: Box::new(tables),
            passwords,
            decoys,
            checks: Semaphore::new(checks),
            checkers,
        })
    }
}

#[async_trait]
impl PasswordChecker for Accounts {
    async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError> {
        let Credentials::Plain { name, secret } = credentials else {
            // A digest cannot be checked against a hash.
            return Err(LoginError::Refused);
        };
        let file = match &self.passwords {
            Passwords::Program(program) => {
                let _permit = self.checks.acquire().await.map_err(unavailable)?;
                return program.check(credentials).await;
            }
            Passwords::Any => None,
            Passwords::File(file) => Some(file),
        };
        let name = self.local_part(name).ok_or(LoginError::Refused)?;
        if let Some(file) = file {
            let _permit = self.checks.acquire().await.map_err(unavailable)?;
            let (file, name, secret) = (Arc::clone(file), name.clone(), secret.clone());
            let checked = self
                .checkers
                .run(move || file.verify(&name, secret.reveal()));
            let right = checked.await.map_err(|error| unreadable(&error))?;
            if !right {
                return Err(LoginError::Refused);
            }
        }
        self.account(name).await
    }

    /// Whether anybody can log in so now: it is of no use to offer it otherwise.
    fn can_scram(&self) -> bool {
        match &self.passwords {
            Passwords::File(file) => file.has_verifiers().unwrap_or(false),
            Passwords::Any | Passwords::Program(_) => false,
        }
    }

    async fn verifier(&self, name: &Bytes) -> Result<(Account, Verifier), LoginError> {
        let Passwords::File(file) = &self.passwords else {
            return Err(LoginError::Refused);
        };
        let local_part = self.local_part(name);
        let found = match &local_part {
            Some(local_part) => file
                .verifier(local_part)
                .map_err(|error| unreadable(&error))?,
            None => None,
        };
        match (found, local_part) {
            (Some(verifier), Some(local_part)) => Ok((self.account(local_part).await?, verifier)),
            // Nobody can tell it from one who has a password.
            _ => Ok((
                Account::new(name.clone()),
                Verifier::decoy(name, &self.decoys),
            )),
        }
    }
}

impl Accounts {
    /// The local part that a login name stands for, in lower case.
    fn local_part(&self, name: &Bytes) -> Option<Bytes> {
        let name = name.to_ascii_lowercase();
        let address = Address::new(name).ok()?;
        match address.split() {
            (local, Some(domain)) => (self.tables)()
                .locals
                .contains(domain)
                .then(|| Bytes::copy_from_slice(local)),
            (local, None) => Some(Bytes::copy_from_slice(local)),
        }
    }

    /// Whose mail a local part is.
    async fn account(&self, name: Bytes) -> Result<Account, LoginError> {
        let Some(users) = &self.users else {
            return Ok(Account::new(name));
        };
        let user = find(&**users, &name).await?.ok_or(LoginError::Refused)?;
        let mut account = Account::new(name);
        account.home = Some(maildir(&user));
        Ok(account)
    }
}

async fn find(users: &dyn UserDirectory, name: &[u8]) -> Result<Option<User>, LoginError> {
    let mut address = name.to_vec();
    address.extend_from_slice(b"@localhost");
    let Ok(address) = Address::new(address) else {
        return Ok(None);
    };
    users.find(&address).await.map_err(unavailable)
}

/// Where the mail of a user is.
fn maildir(user: &User) -> PathBuf {
    user.home
        .join(user.maildir.as_deref().unwrap_or(MAILDIR.as_ref()))
}

fn unreadable(error: &io::Error) -> LoginError {
    unavailable(format_args!("users/passwords: {error}"))
}

fn unavailable(reason: impl std::fmt::Display) -> LoginError {
    LoginError::Unavailable {
        reason: reason.to_string(),
    }
}
