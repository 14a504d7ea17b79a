//! What this machine has: root, users, a mount namespace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::case::Case;
use super::programs;

/// The user and group that cases run as where the runner is root.
pub(crate) const NOBODY: u32 = 65534;

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the case has a program written in Python and this machine has no Python.
pub(crate) fn lacks_python(case: &Case) -> bool {
    let before = case.before.iter().filter_map(|words| words.first());
    let mut programs = before
        .map(|program| program.0.as_slice())
        .chain([case.program.as_bytes()]);
    programs.any(|name| name == b"python3" && programs::of_the_system(name).is_none())
}

/// The first thing that the case needs and this machine does not have.
///
/// Beside the case's own `needs` that is the right to mount, where the case has a name server of its own: a container's root
/// may lack it.
pub(crate) fn lacking(case: &Case) -> Option<String> {
    let lacks = |need: &&String| match need.strip_prefix("user:") {
        Some(name) => user(name).is_none(),
        None => *need != "root" || !is_root(),
    };
    if let Some(need) = case.needs.iter().find(lacks) {
        return Some(need.clone());
    }
    (case.dns.is_some() && !can_mount()).then(|| "root with a mount namespace".to_owned())
}

/// Uid and gid of a user in `/etc/passwd`.
pub(crate) fn user(name: &str) -> Option<(u32, u32)> {
    let passwd = std::fs::read("/etc/passwd").ok()?;
    passwd.split(|&octet| octet == b'\n').find_map(|line| {
        let fields: Vec<_> = line.split(|&octet| octet == b':').collect();
        let number = |at: usize| std::str::from_utf8(fields.get(at)?).ok()?.parse().ok();
        (fields.first() == Some(&name.as_bytes())).then_some((number(2)?, number(3)?))
    })
}

/// Whether `/etc/resolv.conf` can be replaced for one process.
fn can_mount() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        is_root()
            && Path::new("/etc/resolv.conf").exists()
            && Command::new("unshare")
                .args([
                    "-m",
                    "sh",
                    "-c",
                    "mount --bind /etc/resolv.conf /etc/resolv.conf",
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_root_and_no_stranger() {
        assert_eq!(user("root"), Some((0, 0)));
        assert_eq!(user("no-such-user-here"), None);
        assert_eq!(user(""), None);
    }
}
