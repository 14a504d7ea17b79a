//! What is to be done for a recipient, decided without doing anything.

use std::path::{Path, PathBuf};

use crate::User;

/// What is to be done for a recipient.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// These, in order, up to the first that fails.
    Carry(Vec<Instruction>),
    /// The user has no use for this address.
    NoMailbox,
}

/// One step of a plan: one line of an instruction file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Deliver into a Maildir; the path is complete.
    Maildir(PathBuf),
}

/// A user's own address has the default; an extension address has nothing unless the user gave it something.
pub(super) fn plan(user: &User, default_maildir: &Path) -> Plan {
    let maildir = match &user.maildir {
        Some(maildir) => maildir,
        None if user.dash.is_empty() => default_maildir,
        None => return Plan::NoMailbox,
    };
    Plan::Carry(vec![Instruction::Maildir(user.home.join(maildir))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_address_needs_a_place_of_its_own() {
        let default = Path::new("Maildir");
        let joe = User::new("joe", "/home/joe");
        let lists = User {
            dash: "-".into(),
            extension: "lists".into(),
            ..joe.clone()
        };
        let wildcard = User {
            extension: "anything".into(),
            ..joe.clone()
        };
        let own = User {
            maildir: Some("/var/mail/lists".into()),
            ..lists.clone()
        };
        let into = |path: &str| Plan::Carry(vec![Instruction::Maildir(path.into())]);
        assert_eq!(plan(&joe, default), into("/home/joe/Maildir"));
        assert_eq!(plan(&lists, default), Plan::NoMailbox);
        assert_eq!(plan(&wildcard, default), into("/home/joe/Maildir"));
        assert_eq!(plan(&own, default), into("/var/mail/lists"));
    }
}
