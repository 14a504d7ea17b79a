//! Users by the accounts of the system, as qmail-getpw(8) finds them.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use async_trait::async_trait;
use bytes::Bytes;
use nix::errno::Errno;
use nix::unistd::User as Account;
use qmail_core::Address;
use tokio::task::spawn_blocking;

use super::{User, UserDirectory, UserError};
use crate::is_temporary;

/// The accounts of the system: `fred` and `fred-anything` belong to fred, all else to the alias user (qmail-getpw(8)).
///
/// Of the parts of an address that end at its end or before a break, the longest that is an account's name counts, whatever its
/// case: an account whose name has an upper-case letter gets no mail. So does none that is root, or does not own its home.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct SystemUsers {
    alias: &'static str,
    separator: u8,
}

/// Account names are shorter; longer ones are not asked for.
const NAME_OCTETS_MAX: usize = 31;

impl Default for SystemUsers {
    /// The alias user is `alias`, the break is `-`.
    fn default() -> Self {
        Self {
            alias: "alias",
            separator: b'-',
        }
    }
}

impl SystemUsers {
    /// Who a local part belongs to. Blocks: accounts may be somewhere in the network.
    ///
    /// # Errors
    ///
    /// The accounts cannot be asked now, or there is no alias user.
    pub fn find_local(&self, local_part: &[u8]) -> Result<User, UserError> {
        for (name, rest) in self.splits(local_part) {
            // A name that is no UTF-8 is no account's.
            if let Ok(name) = str::from_utf8(&name.to_ascii_lowercase())
                && let Some(account) = account(name)?
                && owns_its_home(&account)?
            {
                let (dash, extension) = match rest {
                    [] => (&b""[..], rest),
                    [_, extension @ ..] => (&b"-"[..], extension),
                };
                return Ok(user(account, dash, extension));
            }
        }
        let alias = account(self.alias)?.ok_or(UserError::NoAlias)?;
        Ok(user(alias, b"-", local_part))
    }

    /// An account by its name, as it is written. Blocks.
    ///
    /// # Errors
    ///
    /// The accounts cannot be asked now.
    pub fn account(name: &str) -> Result<Option<User>, UserError> {
        Ok(account(name)?.map(|account| user(account, b"", b"")))
    }

    /// The ways to split an address into an account name and a rest, longest name first.
    fn splits<'a>(&self, local_part: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let separator = self.separator;
        let ends = (0..=local_part.len().min(NAME_OCTETS_MAX)).rev();
        ends.filter(move |&end| local_part.get(end).is_none_or(|&octet| octet == separator))
            .map(|end| local_part.split_at(end))
    }
}

#[async_trait]
impl UserDirectory for SystemUsers {
    async fn find(&self, recipient: &Address) -> Result<Option<User>, UserError> {
        let (this, local_part) = (self.clone(), recipient.local_part().to_vec());
        let found = spawn_blocking(move || this.find_local(&local_part)).await;
        let found = found.map_err(|error| UserError::Unavailable(error.to_string()))?;
        found.map(Some)
    }
}

fn user(account: Account, dash: &'static [u8], extension: &[u8]) -> User {
    User {
        name: account.name.into(),
        uid: account.uid.as_raw(),
        gid: account.gid.as_raw(),
        home: account.dir,
        dash: Bytes::from_static(dash),
        extension: Bytes::copy_from_slice(extension),
        maildir: None,
    }
}

fn account(name: &str) -> Result<Option<Account>, UserError> {
    if name.is_empty() || name.contains('\0') {
        return Ok(None);
    }
    match Account::from_name(name) {
        Ok(account) => Ok(account),
        // What some systems say of names that are not there.
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        Err(error) => Err(UserError::Unavailable(io::Error::from(error).to_string())),
    }
}

/// Not root, and the home is there and its own: an account without a home has no mailbox.
fn owns_its_home(account: &Account) -> Result<bool, UserError> {
    if account.uid.is_root() {
        return Ok(false);
    }
    match std::fs::metadata(&account.dir) {
        Ok(home) => Ok(home.uid() == account.uid.as_raw()),
        Err(source) if is_temporary(&source) => Err(UserError::Home {
            path: account.dir.clone(),
            source,
        }),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_a_break() {
        let shown = |local: &str| {
            let users = SystemUsers::default();
            let names = users
                .splits(local.as_bytes())
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

    #[test]
    fn root_gets_no_mail() {
        let users = SystemUsers {
            alias: "no-such-account-here",
            ..SystemUsers::default()
        };
        for address in ["root", "ROOT-x", "no.such.account", "", "\0", "\u{e9}"] {
            let found = users.find_local(address.as_bytes());
            assert!(matches!(found, Err(UserError::NoAlias)), "{address}");
        }
    }
}
