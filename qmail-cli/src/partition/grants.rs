//! What each party may do once it has what it needs.

use std::path::{Path, PathBuf};

use super::Party;
use crate::home::{AccountNames, ControlError, Home};
use crate::sandbox::{Connect, Grants};

/// Ports that a network daemon asks at: the domain name system, ident.
const ASKED_PORTS: &[u16] = &[53, 113];

/// Files by which names are found, in the system's way.
const NAME_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// Files by which accounts are found: in the system's way, which may want a library for it.
const ACCOUNT_FILES: [&str; 8] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/local/lib",
];

/// What it may do; `None` for the launcher, which runs the programs of users.
pub(super) fn of(party: Party, home: &Home) -> Option<Grants> {
    let queue = |names: &[&str]| -> Vec<PathBuf> {
        names.iter().map(|name| home.queue().join(name)).collect()
    };
    Some(match party {
        Party::Network => Grants {
            read: NAME_FILES.map(PathBuf::from).to_vec(),
            connect: Connect::Ports(ASKED_PORTS),
            asks: true,
            ..Grants::default()
        },
        Party::Keys => Grants::default(),
        Party::Passwords => Grants {
            read: vec![home.users()],
            asks: true,
            ..Grants::default()
        },
        Party::Writer => Grants {
            list: vec![home.queue()],
            write: queue(&["pid", "mess", "intd", "todo", "lock"]),
            ..Grants::default()
        },
        Party::Manager => Grants {
            list: vec![home.queue()],
            read: [queue(&["todo"]), vec![home.control()]].concat(),
            write: queue(&["info", "local", "remote", "bounce", "hold", "lock"]),
            asks: true,
            ..Grants::default()
        },
        Party::Opener => Grants {
            read: queue(&["mess"]),
            copies: true,
            ..Grants::default()
        },
        Party::Lookup => Grants {
            read: [
                vec![home.users()],
                ACCOUNT_FILES.map(PathBuf::from).to_vec(),
            ]
            .concat(),
            ..Grants::default()
        },
        Party::Remote => Grants {
            connect: Connect::Everywhere,
            ..Grants::default()
        },
        Party::Log => Grants {
            write: vec![home.path().join("log")],
            ..Grants::default()
        },
        Party::Launcher => return None,
    })
}

/// What a process may do that shows a maildrop to its owner.
pub(super) fn of_maildrop(maildir: &Path) -> Grants {
    Grants {
        write: vec![maildir.to_owned()],
        ..Grants::default()
    }
}

/// All parties with their accounts and grants, for `qmail start --check`.
///
/// # Errors
///
/// What control/accounts says is no good.
pub(crate) fn describe(home: &Home) -> Result<String, ControlError> {
    let names = AccountNames::read(&home.control())?;
    let mut text = String::new();
    for party in Party::ALL {
        let account = party.account().map_or("root", |role| names.of(role));
        text.push_str(&format!("{} as {account}\n", party.name()));
        match of(party, home) {
            Some(grants) => text.push_str(&grants.to_string()),
            None => text.push_str(
                "  starts processes as the users whom mail is for, never as root; opens no file, parses requests only\n",
            ),
        }
    }
    Ok(text)
}
