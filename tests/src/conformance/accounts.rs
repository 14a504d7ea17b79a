//! The users that a qmail system has, for cases that need them: shown to the programs of one case by files of their own in the
//! place of `/etc/passwd` and `/etc/group`, whether the machine has such users or not.

use std::fs;
use std::io;
use std::path::Path;

/// Uid and gid of a user that a case can be shown, or of another of this machine.
pub(crate) fn find(name: &str) -> Option<(u32, u32)> {
    let known = USERS.iter().find(|user| user.name == name);
    known
        .map(|user| (user.uid, user.gid))
        .or_else(|| of_the_machine(name))
}

/// Uid and gid of a user in `/etc/passwd`.
pub(crate) fn of_the_machine(name: &str) -> Option<(u32, u32)> {
    let passwd = fs::read("/etc/passwd").ok()?;
    passwd.split(|&octet| octet == b'\n').find_map(|line| {
        let fields: Vec<_> = line.split(|&octet| octet == b':').collect();
        let number = |at: usize| std::str::from_utf8(fields.get(at)?).ok()?.parse().ok();
        (fields.first() == Some(&name.as_bytes())).then_some((number(2)?, number(3)?))
    })
}

/// Writes what the machine has, with [`USERS`] instead of its own of these names. Their home is the home of the mail system; the
/// alias user's is in it.
pub(crate) fn write(passwd: &Path, group: &Path, home: &Path) -> io::Result<()> {
    let mut users = without("/etc/passwd", |name| {
        USERS.iter().any(|user| user.name == name)
    })?;
    let mut groups = without("/etc/group", |name| ["qmail", "nofiles"].contains(&name))?;
    let home = home.display();
    for User { name, uid, gid } in USERS {
        let directory = if *name == "alias" { "/alias" } else { "" };
        users.push_str(&format!(
            "{name}:x:{uid}:{gid}::{home}{directory}:/bin/false\n"
        ));
    }
    groups.push_str(&format!("qmail:x:{QMAIL}:\nnofiles:x:{NOFILES}:\n"));
    fs::write(passwd, users)?;
    fs::write(group, groups)
}

/// The lines of a file but those of these names.
fn without(file: &str, is_one: impl Fn(&str) -> bool) -> io::Result<String> {
    let text = fs::read_to_string(file)?;
    let others = text
        .lines()
        .filter(|line| !is_one(line.split(':').next().unwrap_or_default()));
    Ok(others.map(|line| format!("{line}\n")).collect())
}

struct User {
    name: &'static str,
    uid: u32,
    gid: u32,
}

const NOFILES: u32 = 7790;
const QMAIL: u32 = 7791;

/// Numbers that no case has a use for.
const USERS: &[User] = &[
    User {
        name: "alias",
        uid: 7792,
        gid: NOFILES,
    },
    User {
        name: "qmaild",
        uid: 7793,
        gid: NOFILES,
    },
    User {
        name: "qmaill",
        uid: 7794,
        gid: NOFILES,
    },
    User {
        name: "qmailp",
        uid: 7795,
        gid: NOFILES,
    },
    User {
        name: "qmailq",
        uid: 7796,
        gid: QMAIL,
    },
    User {
        name: "qmailr",
        uid: 7797,
        gid: QMAIL,
    },
    User {
        name: "qmails",
        uid: 7798,
        gid: QMAIL,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_root_the_classic_users_and_no_stranger() {
        assert_eq!(find("root"), Some((0, 0)));
        assert!(find("qmailq").is_some());
        assert_eq!(find("no-such-user-here"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn what_is_written_has_all_users_once() {
        let directory = tempfile::tempdir().unwrap();
        let (passwd, group) = (directory.path().join("p"), directory.path().join("g"));
        write(&passwd, &group, Path::new("/q")).unwrap();
        let users = fs::read_to_string(passwd).unwrap();
        for user in USERS {
            let lines = users
                .lines()
                .filter(|line| line.starts_with(&format!("{}:", user.name)));
            assert_eq!(lines.count(), 1, "{}", user.name);
        }
        assert!(fs::read_to_string(group).unwrap().contains("\nqmail:x:"));
    }
}
