//! The users and groups of a classic installation.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

use super::{InstallError, Step, Target};
use crate::home::{AccountNames, KEYS, PASSWORDS};

/// A user that a part of the system runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    user: &'static str,
    group: &'static str,
}

/// The groups.
const GROUPS: [&str; 2] = ["nofiles", "qmail"];

/// The users: deliveries for addresses of no user, network daemons, the log, looking up users, writing the queue, remote
/// deliveries, managing the queue. Each is another one, so that none can touch what is another's.
const ACCOUNTS: [Account; 7] = [
    account("alias", "nofiles"),
    account("qmaild", "nofiles"),
    account("qmaill", "nofiles"),
    account("qmailp", "nofiles"),
    account("qmailq", "qmail"),
    account("qmailr", "qmail"),
    account("qmails", "qmail"),
];

const fn account(user: &'static str, group: &'static str) -> Account {
    Account { user, group }
}

/// Who owns what nobody else does. It always exists.
const ROOT: &str = "root";

/// The numbers of users and groups, as far as they exist.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// How each is called (control/accounts); everything else goes by the classic names.
    names: AccountNames,
    pub(crate) users: HashMap<&'static str, u32>,
    pub(crate) groups: HashMap<&'static str, u32>,
}

impl Ids {
    /// Those of the system, or of the scratch root.
    pub(crate) fn of(target: &Target) -> Result<Self, InstallError> {
        let mut ids = Self {
            names: AccountNames::read(&target.home().join("control"))?,
            ..Self::default()
        };
        let system = target.root == Path::new("/");
        let users = ACCOUNTS.iter().map(|account| account.user);
        for name in users.chain([ROOT, KEYS, PASSWORDS]) {
            let called = ids.names.of(name);
            let uid = if system {
                system_user(called)
            } else {
                listed(&target.root.join("etc/passwd"), called)
            };
            let uid = uid.map_err(|source| InstallError::Lookup { name, source })?;
            let uid = uid.or((name == ROOT).then_some(0));
            ids.users.extend(uid.map(|uid| (name, uid)));
        }
        for name in GROUPS {
            let called = ids.names.of(name);
            let gid = if system {
                system_group(called)
            } else {
                listed(&target.root.join("etc/group"), called)
            };
            let gid = gid.map_err(|source| InstallError::Lookup { name, source })?;
            ids.groups.extend(gid.map(|gid| (name, gid)));
        }
        Ok(ids)
    }
}

/// What is missing.
pub(super) fn steps(target: &Target, ids: &Ids) -> Vec<Step> {
    let called = |name| ids.names.of(name).to_owned();
    let groups = GROUPS
        .into_iter()
        .filter(|name| !ids.groups.contains_key(name))
        .map(|name| Step::AddGroup(called(name)));
    // Who has the key and who has the passwords need no account of their own.
    let own = [KEYS, PASSWORDS].map(|name| account(name, "nofiles"));
    let own = own
        .into_iter()
        .filter(|account| ids.names.of(account.user) != ids.names.of("qmailp"));
    let users = ACCOUNTS
        .into_iter()
        .chain(own)
        .filter(|account| !ids.users.contains_key(account.user))
        .map(|account| Step::AddUser {
            name: called(account.user),
            group: called(account.group),
            home: home_of(target, account.user),
        });
    groups.chain(users).collect()
}

/// The home directory that a user is given.
fn home_of(target: &Target, user: &str) -> PathBuf {
    match user {
        "alias" => target.home.join("alias"),
        _ => target.home.clone(),
    }
}

fn system_user(name: &str) -> io::Result<Option<u32>> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

fn system_group(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// The number of a name in a file of the form of passwd(5) or group(5). No file is no name.
fn listed(file: &Path, name: &str) -> io::Result<Option<u32>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    }))
}
