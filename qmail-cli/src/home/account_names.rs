//! control/accounts: how the accounts of the parties are called, where they are not called as they always were.

use std::collections::BTreeMap;
use std::path::Path;

use qmail_core::{Escaped, control};

use super::directory::{ControlError, Directory};

/// Accounts that a control file can name otherwise. The last two are what a classic system has no party for.
const ROLES: [&str; 11] = [
    "alias", "nofiles", "qmail", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails", KEYS,
    PASSWORDS,
];

/// Who has the private key of the certificate.
pub(crate) const KEYS: &str = "keys";

/// Who has the passwords.
pub(crate) const PASSWORDS: &str = "passwords";

/// Users and groups by what they are for.
#[derive(Debug, Default)]
pub(crate) struct AccountNames(BTreeMap<&'static str, String>);

impl AccountNames {
    /// Reads `accounts` of a control directory: a line `qmaild=mailnet` for each that is called otherwise. Users and groups are
    /// named by their classic names; `keys` and `passwords`, the parties that have these, are qmailp if nothing is said.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line says something else.
    pub(crate) fn read(control: &Path) -> Result<Self, ControlError> {
        let directory = Directory::new(control);
        let file = directory.file(FILE)?.unwrap_or_default();
        let mut names = BTreeMap::new();
        for line in control::list(&file) {
            let named = std::str::from_utf8(line.octets).ok().and_then(|line| {
                let (role, name) = line.split_once('=')?;
                let role = ROLES.into_iter().find(|known| *known == role.trim())?;
                is_name(name.trim()).then(|| (role, name.trim().to_owned()))
            });
            let (role, name) = named.ok_or_else(|| ControlError::Bad {
                path: directory.path(FILE),
                value: Escaped(line.octets).to_string(),
                remedy: "write what a classic account is called, such as qmaild=mailnet, or keys=NAME, passwords=NAME",
            })?;
            names.insert(role, name);
        }
        Ok(Self(names))
    }

    /// How the account of this role is called.
    pub(crate) fn of<'a>(&'a self, role: &'a str) -> &'a str {
        match (self.0.get(role), role) {
            (Some(name), _) => name,
            (None, KEYS | PASSWORDS) => self.of_classic("qmailp"),
            (None, role) => role,
        }
    }

    fn of_classic<'a>(&'a self, role: &'a str) -> &'a str {
        self.0.get(role).map_or(role, String::as_str)
    }
}

/// What useradd(8) takes, and no command line takes for an option.
fn is_name(name: &str) -> bool {
    let good = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    (1..=NAME_OCTETS_MAX).contains(&name.len())
        && name.bytes().all(good)
        && !name.starts_with(['-', '.'])
        && name != "root"
}

const FILE: &str = "accounts";

const NAME_OCTETS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AccountNames, String> {
        let control = tempfile::tempdir().unwrap();
        std::fs::write(control.path().join(FILE), text).unwrap();
        AccountNames::read(control.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn accounts_are_called_as_ever_unless_the_file_says_otherwise() {
        let control = tempfile::tempdir().unwrap();
        let ever = AccountNames::read(control.path()).unwrap();
        assert_eq!(
            ["qmaild", "qmail", KEYS].map(|role| ever.of(role)),
            ["qmaild", "qmail", "qmailp"]
        );
        let names = read("# ours\nqmaild=mailnet\n qmailp = mailuser\nkeys=mailkeys\n").unwrap();
        for (role, name) in [
            ("qmaild", "mailnet"),
            ("qmails", "qmails"),
            ("qmailp", "mailuser"),
            (KEYS, "mailkeys"),
            (PASSWORDS, "mailuser"),
        ] {
            assert_eq!(names.of(role), name);
        }
    }

    #[test]
    fn a_line_that_names_nothing_is_told() {
        for line in [
            "qmaild",
            "qmailx=a",
            "qmaild=",
            "qmaild=-x",
            "qmaild=a b",
            "qmaild=root",
            "=a",
        ] {
            let error = read(line).unwrap_err();
            assert!(
                error.contains("accounts") && error.contains("qmaild=mailnet"),
                "{error}"
            );
        }
    }
}
