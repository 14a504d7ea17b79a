//! What each party may do once it has what it needs.

use std::path::PathBuf;

use super::Party;
use crate::home::Home;
use crate::sandbox::{Connect, Grants};

/// Ports that a network daemon asks at: the domain name system, ident.
const ASKED_PORTS: &[u16] = &[53, 113];

/// Files by which names are found, in the system's way.
const NAME_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// What it may do; `None` for the launcher, which runs the programs of users.
pub(super) fn of(party: Party, home: &Home) -> Option<Grants> {
    let queue = |names: &[&str]| -> Vec<PathBuf> {
        names.iter().map(|name| home.queue().join(name)).collect()
    };
    let names = || NAME_FILES.map(PathBuf::from).to_vec();
    Some(match party {
        Party::Network => Grants {
            read: names(),
            connect: Connect::Ports(ASKED_PORTS),
            ..Grants::default()
        },
        Party::Writer => Grants {
            list: vec![home.queue()],
            write: [
                queue(&["pid", "mess", "intd", "todo", "lock"]),
                vec![home.path().join("run")],
            ]
            .concat(),
            ..Grants::default()
        },
        Party::Manager => Grants {
            list: vec![home.queue()],
            read: [queue(&["todo"]), vec![home.control()]].concat(),
            write: queue(&["info", "local", "remote", "bounce", "hold", "lock"]),
            ..Grants::default()
        },
        Party::Cleaner => Grants {
            list: vec![home.queue()],
            write: queue(&["pid", "mess", "intd", "todo"]),
            ..Grants::default()
        },
        Party::Remote => Grants {
            read: [queue(&["mess"]), names()].concat(),
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

/// All parties with their accounts and grants, for `qmail start --check`.
pub(crate) fn describe(home: &Home) -> String {
    let mut text = String::new();
    for party in Party::ALL {
        let account = party.account().unwrap_or("root");
        text.push_str(&format!("{} as {account}\n", party.name()));
        match of(party, home) {
            Some(grants) => text.push_str(&grants.to_string()),
            None => text.push_str(
                "  becomes the recipient of each delivery, never root, and runs qmail-local; parses requests only\n",
            ),
        }
    }
    text
}
