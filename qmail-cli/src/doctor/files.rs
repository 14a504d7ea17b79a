//! Files that were made of others and are older than these; owners and modes; aliases that must be there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Findings, World};
use crate::install::{self, Target};

/// What is made of what, below the home, and by which program.
const MADE: [(&str, &str, &str); 2] = [
    (
        "control/morercpthosts.cdb",
        "control/morercpthosts",
        "qmail-newmrh",
    ),
    ("users/cdb", "users/assign", "qmail-newu"),
];

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let home = world.home.path();
    for (made, source, program) in MADE {
        match (changed(&home.join(made)), changed(&home.join(source))) {
            (Some(made_at), Some(source_at)) if made_at < source_at => findings.error(
                format!("{made} is older than {source}: the changes do not count yet"),
                format!("run {program}"),
            ),
            (Some(_), None) => findings.warning(
                format!("there is {made}, but no {source}"),
                format!("remove it, or write {source} and run {program}"),
            ),
            _ => {}
        }
    }
    exposed(world, findings);
    homes(world, findings);
    classic(world, findings);
}

/// Homes of users/assign that others may write to: whoever can decides what is done with their mail.
fn homes(world: &World<'_>, findings: &mut Findings) {
    let Ok(assign) = fs::read(world.home.users().join("assign")) else {
        return;
    };
    let homes: BTreeSet<_> = assign
        .split(|&octet| octet == b'\n')
        .filter_map(|line| line.split(|&octet| octet == b':').nth(4))
        .take(HOMES_MAX)
        .map(|home| Path::new(OsStr::from_bytes(home)))
        .collect();
    for home in homes {
        let mode = fs::metadata(home).map_or(0, |found| found.mode());
        if mode & 0o002 != 0 {
            findings.error(
                format!("everybody may write {}: its mail waits", home.display()),
                format!("chmod o-w {}", home.display()),
            );
        } else if mode & 0o020 != 0 {
            findings.warning(
                format!(
                    "the group of {} may write there, and so decide what is done with its mail",
                    home.display()
                ),
                format!(
                    "chmod g-w {}, or write 022 into control/patrn",
                    home.display()
                ),
            );
        }
    }
}

/// Most lines of users/assign whose homes are looked at.
const HOMES_MAX: usize = 100_000;

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// What others could change, or secrets that others could read.
fn exposed(world: &World<'_>, findings: &mut Findings) {
    for directory in ["", "control", "users", "alias", "bin"] {
        let path = world.home.path().join(directory);
        let Ok(found) = fs::metadata(&path) else {
            continue;
        };
        if found.mode() & 0o002 != 0 {
            findings.error(
                format!("everybody may write {}", path.display()),
                format!("chmod o-w {}", path.display()),
            );
        }
    }
    let passwords = world.home.passwords();
    if fs::metadata(&passwords).is_ok_and(|found| found.mode() & 0o007 != 0) {
        findings.error(
            format!("everybody may read {}", passwords.display()),
            format!("chmod o= {}", passwords.display()),
        );
    }
}

/// What a classic installation must have. A home of `qmail serve` has no `bin`.
fn classic(world: &World<'_>, findings: &mut Findings) {
    let home = world.home.path();
    if !home.join("bin").is_dir() {
        return;
    }
    for name in install::ALIASES {
        let file = home.join("alias").join(format!(".qmail-{name}"));
        if !file.exists() {
            findings.warning(
                format!(
                    "there is no {}: mail for {name} bounces unless a user has that name",
                    file.display()
                ),
                format!(
                    "write an address into it, or run `qmail install --home {}`",
                    home.display()
                ),
            );
        }
    }
    let target = Target {
        root: PathBuf::from("/"),
        home: home.to_owned(),
        program: PathBuf::new(),
        replace: false,
        link: false,
        setuid_queue: false,
    };
    match install::tree_steps(&target) {
        Ok(steps) => {
            for step in steps {
                findings.error(
                    format!("the tree is not as it should be: one would have to {step}"),
                    format!("run `qmail install --home {}` as root", home.display()),
                );
            }
        }
        Err(error) => findings.error(error.to_string(), "look at it as root"),
    }
}
