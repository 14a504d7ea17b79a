//! What this machine has: root, a mount namespace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::accounts;
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
/// Beside the case's own `needs` that is the right to mount, where the case has a name server or users of its own: a container's
/// root may lack it.
pub(crate) fn lacking(case: &Case) -> Option<String> {
    let lacks = |need: &&String| match need.strip_prefix("user:") {
        Some(name) => accounts::find(name).is_none(),
        None => *need != "root" || !is_root(),
    };
    if let Some(need) = case.needs.iter().find(lacks) {
        return Some(need.clone());
    }
    let mounts = case.dns.is_some() || wants_users(case);
    (mounts && !can_mount()).then(|| "root with a mount namespace".to_owned())
}

/// Whether the case is to be shown users of its own.
pub(crate) fn wants_users(case: &Case) -> bool {
    case.needs.iter().any(|need| need.starts_with("user:"))
}

/// Whether a file of `/etc` can be replaced for one process.
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
