//! Whether the accounts of the parties are there, and are as many as there are parties that do not trust each other.

use std::collections::BTreeMap;

use super::{Findings, World};
use crate::home::{AccountNames, KEYS, PASSWORDS};
use crate::privilege::{Account, AccountError, classic_group};

/// The users of the parties. The last two may be qmailp.
const USERS: [&str; 9] = [
    "alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails", KEYS, PASSWORDS,
];

const GROUPS: [&str; 2] = ["nofiles", "qmail"];

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    // A home of `qmail serve` has no `bin`, and one user.
    if !world.home.path().join("bin").is_dir() {
        return;
    }
    let names = match AccountNames::read(&world.home.control()) {
        Ok(names) => names,
        Err(error) => {
            return findings.error(
                error.to_string(),
                "until then `qmail start` does not start, and `qmail install` makes no account",
            );
        }
    };
    let mut parties = BTreeMap::<u32, Vec<&str>>::new();
    for role in USERS {
        let name = names.of(role);
        if [KEYS, PASSWORDS].contains(&role) && name == names.of("qmailp") {
            continue;
        }
        match Account::classic(world.home, role) {
            Ok(Some(Account { uid: 0, .. })) => findings.error(
                format!("the user {name}, which is to be {role}, is root by another name"),
                format!("name a user without rights in control/accounts, as {role}=NAME"),
            ),
            Ok(Some(account)) => parties.entry(account.uid).or_default().push(role),
            Ok(None) if name == role => {}
            Ok(None) | Err(AccountError::Missing(_)) => missing("user", role, name, findings),
            Err(error) => findings.warning(error.to_string(), "look at the table of users"),
        }
    }
    for role in GROUPS {
        let name = names.of(role);
        match classic_group(world.home, role) {
            Ok(Some(_)) => {}
            Ok(None) if name == role => {}
            Ok(None) | Err(AccountError::MissingGroup(_)) => {
                missing("group", role, name, findings);
            }
            Err(error) => findings.warning(error.to_string(), "look at the table of groups"),
        }
    }
    for roles in parties.into_values() {
        // What is qmailp's otherwise, too, may be one user's.
        let one = |role: &&str| [KEYS, PASSWORDS, "qmailp"].contains(role);
        if roles.len() > 1 && !roles.iter().all(one) {
            findings.error(
                format!(
                    "one user is {}: who breaks into one of these parties has the others, too",
                    roles.join(" and ")
                ),
                "name a user of its own for each in control/accounts",
            );
        }
    }
}

fn missing(what: &str, role: &str, name: &str, findings: &mut Findings) {
    findings.error(
        format!("there is no {what} {name}, which is to be {role}"),
        "run `qmail install` as root, which makes it, or name another in control/accounts",
    );
}
