//! Who may read which mail: passwords and maildrops for POP3, over the same users that mail is delivered to.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Account, Address, Credentials, LoginError, PasswordChecker};
use qmail_deliver::{User, UserDirectory};
use tokio::sync::Semaphore;

use crate::passwords::PasswordFile;
use crate::serve::Settings;

/// Default Maildir in the home of a user.
pub(crate) const MAILDIR: &str = "Maildir";

/// Checks names and passwords.
///
/// A login name is a local part, or an address whose domain is local; its case does not matter, as for mail.
pub(crate) struct Accounts {
    users: Arc<dyn UserDirectory>,
    settings: Arc<Settings>,
    passwords: Option<Arc<PasswordFile>>,
    /// Each check takes a processor for a while, and memory: no more at once than there are processors.
    checks: Semaphore,
}

impl Accounts {
    /// Without `passwords`, any password of a user is taken.
    pub(crate) fn new(
        users: Arc<dyn UserDirectory>,
        settings: Arc<Settings>,
        passwords: Option<Arc<PasswordFile>>,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            users,
            settings,
            passwords,
            checks: Semaphore::new(processors),
        }
    }
}

#[async_trait]
impl PasswordChecker for Accounts {
    async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError> {
        let Credentials::Plain { name, secret } = credentials else {
            // A digest cannot be checked against a hash.
            return Err(LoginError::Refused);
        };
        let name = self.local_part(name).ok_or(LoginError::Refused)?;
        if let Some(passwords) = &self.passwords {
            let _permit = self.checks.acquire().await.map_err(unavailable)?;
            let (passwords, name, secret) = (Arc::clone(passwords), name.clone(), secret.clone());
            let right =
                tokio::task::spawn_blocking(move || passwords.verify(&name, secret.reveal()))
                    .await
                    .map_err(unavailable)?
                    .map_err(|error| unavailable(format_args!("users/passwords: {error}")))?;
            if !right {
                return Err(LoginError::Refused);
            }
        }
        let user = self.user(&name).await?.ok_or(LoginError::Refused)?;
        let mut account = Account::new(name);
        account.home = Some(maildir(&user));
        Ok(account)
    }
}

impl Accounts {
    /// The local part that a login name stands for, in lower case.
    fn local_part(&self, name: &Bytes) -> Option<Bytes> {
        let name = name.to_ascii_lowercase();
        let address = Address::new(name).ok()?;
        match address.split() {
            (local, Some(domain)) => self
                .settings
                .tables()
                .locals
                .contains(domain)
                .then(|| Bytes::copy_from_slice(local)),
            (local, None) => Some(Bytes::copy_from_slice(local)),
        }
    }

    async fn user(&self, name: &[u8]) -> Result<Option<User>, LoginError> {
        let mut address = name.to_vec();
        address.extend_from_slice(b"@localhost");
        let Ok(address) = Address::new(address) else {
            return Ok(None);
        };
        self.users.find(&address).await.map_err(unavailable)
    }
}

/// Where the mail of a user is.
fn maildir(user: &User) -> PathBuf {
    user.home
        .join(user.maildir.as_deref().unwrap_or(MAILDIR.as_ref()))
}

fn unavailable(reason: impl std::fmt::Display) -> LoginError {
    LoginError::Unavailable {
        reason: reason.to_string(),
    }
}
