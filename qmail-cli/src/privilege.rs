//! Who this process is, and the accounts that the classic programs run as or look for.

use std::ffi::CString;
use std::io;

use nix::unistd::Group;
use qmail_deliver::{SystemUsers, User, UserError};
use rustix::process::{getegid, geteuid, getgid, getuid};

use crate::home::{AccountNames, ControlError, Home};

/// Whether this process has rights that its caller lacks: it is installed setuid or setgid. Then the environment is not to be
/// trusted.
pub(crate) fn is_setuid() -> bool {
    getuid() != geteuid() || getgid() != getegid()
}

/// A user with its main group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// An account that there must be is missing, or cannot be looked for. `Display` is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("there is no user {0}: add it, or set QMAIL_HOME to a home of your own")]
    Missing(String),
    #[error("unable to look up the user {0}: {1}")]
    Unreadable(String, UserError),
    #[error("there is no group {0}: add it, or set QMAIL_HOME to a home of your own")]
    MissingGroup(String),
    #[error("unable to look up the groups {0}: {1}")]
    Groups(String, io::Error),
    #[error(transparent)]
    Names(#[from] ControlError),
}

impl Account {
    /// Whom a part of the mail system acts as: the classic user of this name. In a home of one's own, where there is no such user,
    /// or where this process is not root and cannot become another, it is the current one.
    pub(crate) fn acting(home: &Home, name: &str) -> Result<Self, AccountError> {
        let current = Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        };
        if home.is_own() && !geteuid().is_root() {
            return Ok(current);
        }
        Ok(Self::classic(home, name)?.unwrap_or(current))
    }

    /// One of the classic users, such as `qmailq`, or what control/accounts calls it, if there is such a user. In a home of one's own there need not be.
    pub(crate) fn classic(home: &Home, name: &str) -> Result<Option<Self>, AccountError> {
        let names = AccountNames::read(&home.control())?;
        let name = names.of(name);
        match SystemUsers::account(name) {
            Ok(Some(User { uid, gid, .. })) => Ok(Some(Self { uid, gid })),
            Ok(None) if home.is_own() => Ok(None),
            Ok(None) => Err(AccountError::Missing(name.to_owned())),
            Err(error) => Err(AccountError::Unreadable(name.to_owned(), error)),
        }
    }
}

/// One of the classic groups, `qmail` or `nofiles`, if there is such a group. In a home of one's own there need not be.
pub(crate) fn classic_group(home: &Home, name: &str) -> Result<Option<u32>, AccountError> {
    let names = AccountNames::read(&home.control())?;
    let name = names.of(name);
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        Ok(None) if home.is_own() => Ok(None),
        Ok(None) => Err(AccountError::MissingGroup(name.to_owned())),
        Err(error) => Err(AccountError::Groups(name.to_owned(), error.into())),
    }
}

/// All groups of a user, the main one among them.
pub(crate) fn groups_of(user: &str, main: u32) -> Result<impl Iterator<Item = u32>, AccountError> {
    let unreadable = |error| AccountError::Groups(format!("of {user}"), error);
    let name = CString::new(user).map_err(|error| unreadable(error.into()))?;
    let groups = nix::unistd::getgrouplist(&name, main.into());
    let groups = groups.map_err(|error| unreadable(error.into()))?;
    Ok(groups.into_iter().map(|group| group.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_a_home_of_ones_own_may_a_user_be_missing() {
        let own = Home::choose(Some("/tmp/home".into()), None);
        let nobody_has = "qmail-no-such-user";
        assert_eq!(Account::classic(&own, nobody_has).unwrap(), None);
        let theirs = Home::installed();
        let error = Account::classic(&theirs, nobody_has).unwrap_err();
        assert!(error.to_string().contains(nobody_has), "{error}");
        let root = Account::classic(&theirs, "root").unwrap();
        assert_eq!(root.map(|account| account.uid), Some(0));
    }
}
