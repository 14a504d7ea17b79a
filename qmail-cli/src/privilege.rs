//! Who this process is, and the accounts that the classic programs run as or look for.

use qmail_deliver::{SystemUsers, User, UserError};
use rustix::process::{getegid, geteuid, getgid, getuid};

use crate::home::Home;

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

    /// One of the classic users, such as `qmailq`, if there is such a user. In a home of one's own there need not be.
    pub(crate) fn classic(home: &Home, name: &str) -> Result<Option<Self>, AccountError> {
        match SystemUsers::account(name) {
            Ok(Some(User { uid, gid, .. })) => Ok(Some(Self { uid, gid })),
            Ok(None) if home.is_own() => Ok(None),
            Ok(None) => Err(AccountError::Missing(name.to_owned())),
            Err(error) => Err(AccountError::Unreadable(name.to_owned(), error)),
        }
    }
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
