//! The classic tree: what lies in a home, whose it is, and who may do what with it.

use std::path::PathBuf;

use qmail_queue::split::layout::{self, Directory};

/// Who something belongs to, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: &'static str,
    pub(crate) group: &'static str,
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    /// A file that is made with so many zero octets.
    File {
        octets: usize,
    },
    Fifo,
}

impl Kind {
    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File { .. } => "file",
            Self::Fifo => "FIFO",
        }
    }
}

/// One thing of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) owner: Owner,
    pub(crate) mode: u32,
}

/// The tree, each thing after the directory it lies in. Paths are relative to the home.
pub(crate) fn tree() -> Vec<(PathBuf, Item)> {
    let mut tree: Vec<_> = TOP
        .into_iter()
        .map(|(path, user, group, mode)| (PathBuf::from(path), directory(user, group, mode)))
        .collect();
    let queue = PathBuf::from("queue");
    for directory in Directory::all() {
        tree.push((queue.join(directory.path()), part(directory)));
    }
    let file = |user, mode, octets| Item {
        kind: Kind::File { octets },
        owner: owner(user, "qmail"),
        mode,
    };
    let trigger = Item {
        kind: Kind::Fifo,
        owner: owner("qmails", "qmail"),
        mode: 0o622,
    };
    tree.push((
        queue.join(layout::TCPTO),
        file("qmailr", 0o644, TCPTO_OCTETS),
    ));
    tree.push((queue.join(layout::SEND_MUTEX), file("qmails", 0o600, 0)));
    tree.push((queue.join(layout::TRIGGER), trigger));
    tree
}

/// The aliases that every host must have (RFC 2142).
pub(crate) const ALIASES: [&str; 3] = ["mailer-daemon", "postmaster", "root"];

/// Their files, empty: default delivery. Made where they are missing; what is there is the administrator's.
pub(crate) fn aliases() -> impl Iterator<Item = (PathBuf, Item)> {
    let item = Item {
        kind: Kind::File { octets: 0 },
        owner: owner("alias", "qmail"),
        mode: 0o644,
    };
    ALIASES
        .into_iter()
        .map(move |name| (PathBuf::from(format!("alias/.qmail-{name}")), item))
}

/// Size of a table of downed hosts without entries.
const TCPTO_OCTETS: usize = 1024;

/// Directories that hold no messages.
const TOP: [(&str, &str, &str, u32); 13] = [
    ("", "root", "qmail", 0o755),
    ("alias", "alias", "qmail", 0o2755),
    ("bin", "root", "qmail", 0o755),
    ("control", "root", "qmail", 0o755),
    ("man", "root", "qmail", 0o755),
    ("users", "root", "qmail", 0o755),
    ("queue", "qmailq", "qmail", 0o750),
    ("queue/lock", "qmailq", "qmail", 0o750),
    ("queue/mess", "qmailq", "qmail", 0o750),
    ("queue/info", "qmails", "qmail", 0o700),
    ("queue/local", "qmails", "qmail", 0o700),
    ("queue/remote", "qmails", "qmail", 0o700),
    ("queue/hold", "qmails", "qmail", 0o700),
];

fn part(directory: Directory) -> Item {
    let user = match directory {
        Directory::Pid | Directory::Intd | Directory::Todo | Directory::Mess(_) => "qmailq",
        _ => "qmails",
    };
    self::directory(user, "qmail", directory.mode())
}

fn directory(user: &'static str, group: &'static str, mode: u32) -> Item {
    Item {
        kind: Kind::Directory,
        owner: owner(user, group),
        mode,
    }
}

fn owner(user: &'static str, group: &'static str) -> Owner {
    Owner { user, group }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_thing_comes_once_and_after_its_directory() {
        let mut seen = HashSet::new();
        for (path, item) in tree() {
            if let Some(parent) = path.parent() {
                assert!(seen.contains(parent), "{}", path.display());
            }
            assert!(item.mode & 0o002 == 0 || item.kind == Kind::Fifo);
            assert!(seen.insert(path));
        }
    }
}
