//! Whether the parts of a classic installation can read what they need: each of them is a user of its own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Findings, World};

/// What not every part may read: the key, and routes, which may hold passwords.
const SECRET: [&str; 2] = ["servercert.pem", "smtproutes"];

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    // A home of `qmail serve` has no `bin`, and one user.
    if !world.home.path().join("bin").is_dir() {
        return;
    }
    let entries = fs::read_dir(world.home.control());
    let mut files: Vec<_> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !SECRET.iter().any(|secret| path.ends_with(secret)))
        .collect();
    files.push(world.home.users().join("cdb"));
    files.sort();
    for path in files.iter().filter(|path| is_closed(path)) {
        findings.error(
            format!(
                "not everybody may read {}: the parts of the system, each a user of its own, cannot",
                path.display()
            ),
            format!("chmod a+r {}", path.display()),
        );
    }
}

fn is_closed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o004 == 0)
}
