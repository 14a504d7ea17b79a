//! The programs in `bin/`: this one, and a link to it for each classic name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::check::compare;
use super::tree::{Item, Kind, Owner};
use super::{Ids, InstallError, Step, Target};
use crate::applet::applet_names;
use crate::applets::manual;

/// Where programs of another mail system are put aside, beside `bin`.
pub(crate) const ASIDE: &str = "bin.before";

/// Where its manual is put aside.
const MANUAL_ASIDE: &str = "man.before";

/// This program, in `bin`.
const PROGRAM: &str = "qmail";

/// The one program that may be setuid.
const QUEUE: &str = "qmail-queue";

const ROOT: Owner = Owner {
    user: "root",
    group: "qmail",
};

const PROGRAM_MODE: u32 = 0o755;

/// Whose the queue is, whoever calls.
const QUEUE_OWNER: Owner = Owner {
    user: "qmailq",
    group: "qmail",
};

const QUEUE_MODE: u32 = 0o4711;

/// The directory of the manual.
const MANUAL: Item = Item {
    kind: Kind::Directory,
    owner: ROOT,
    mode: 0o755,
};

/// What is missing in `bin/` and `man/`.
pub(super) fn steps(target: &Target, ids: &Ids) -> Result<Vec<Step>, InstallError> {
    let bin = target.home().join("bin");
    let mut steps = Vec::new();
    let mut foreign = false;
    program(target, ids, &mut steps)?;
    for name in applet_names() {
        let path = bin.join(name);
        let setuid = name == QUEUE && target.setuid_queue;
        match state(&path, setuid, ids)? {
            State::Ours if setuid => {
                compare(path, program_item(QUEUE_OWNER, QUEUE_MODE), ids, &mut steps)?;
                continue;
            }
            State::Ours => continue,
            State::Missing => {}
            State::OurOther => {}
            State::Foreign if target.replace => {
                foreign = true;
                steps.push(Step::PutAside {
                    to: target.home().join(ASIDE).join(name),
                    path: path.clone(),
                });
            }
            State::Foreign => return Err(InstallError::Foreign { path }),
        }
        steps.push(if setuid {
            Step::Copy {
                path,
                owner: QUEUE_OWNER,
                mode: QUEUE_MODE,
            }
        } else {
            Step::Link {
                path,
                target: PathBuf::from(PROGRAM),
            }
        });
    }
    let directory = target.home().join("man");
    let aside = target.home().join(MANUAL_ASIDE);
    if foreign && directory.is_dir() && !aside.exists() {
        steps.push(Step::PutAside {
            path: directory.clone(),
            to: aside,
        });
        steps.push(Step::Make {
            path: directory.clone(),
            item: MANUAL,
        });
        steps.push(Step::Manual { directory });
    } else if !manual::is_written(&directory) {
        steps.push(Step::Manual { directory });
    }
    Ok(steps)
}

/// What is to be done for `bin/qmail` itself.
fn program(target: &Target, ids: &Ids, steps: &mut Vec<Step>) -> Result<(), InstallError> {
    let path = target.home().join("bin").join(PROGRAM);
    if target.link {
        let link = target.inside(&target.program);
        if fs::read_link(&path).ok().as_ref() != Some(&link) {
            steps.push(Step::Link { path, target: link });
        }
        return Ok(());
    }
    if path.is_symlink() || !same_file(&target.program, &path) {
        steps.push(Step::Copy {
            path,
            owner: ROOT,
            mode: PROGRAM_MODE,
        });
        return Ok(());
    }
    compare(path, program_item(ROOT, PROGRAM_MODE), ids, steps)
}

fn program_item(owner: Owner, mode: u32) -> Item {
    Item {
        kind: Kind::File { octets: 0 },
        owner,
        mode,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Missing,
    /// As it shall be.
    Ours,
    /// Ours, but the other way: a link where a setuid copy shall be, or the other way round.
    OurOther,
    /// Somebody else's.
    Foreign,
}

fn state(path: &Path, setuid: bool, ids: &Ids) -> Result<State, InstallError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
        Err(source) => {
            let path = path.to_owned();
            return Err(InstallError::Read { path, source });
        }
    };
    let link = fs::read_link(path).is_ok_and(|target| target == Path::new(PROGRAM));
    let copy = found.is_file() && {
        use std::os::unix::fs::MetadataExt as _;
        let mine = ids.users.get("qmailq") == Some(&found.uid());
        mine && found.mode() & 0o4000 != 0 && same_content(path, &path.with_file_name(PROGRAM))
    };
    Ok(match (link, copy) {
        (true, _) if !setuid => State::Ours,
        (_, true) if setuid => State::Ours,
        (false, false) => State::Foreign,
        _ => State::OurOther,
    })
}

/// What puts the programs and the manual of before back in place of ours, and takes away those of ours that had none before them.
///
/// # Errors
///
/// A directory that cannot be read.
pub(crate) fn give_back(target: &Target) -> Result<Vec<Step>, InstallError> {
    let aside = target.home().join(ASIDE);
    let bin = target.home().join("bin");
    let entries = match fs::read_dir(&aside) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(InstallError::Read {
                path: aside,
                source,
            });
        }
    };
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.sort();
    let ours = applet_names().into_iter().chain([PROGRAM]);
    let mut steps: Vec<_> = ours
        .filter(|&name| !names.iter().any(|before| before == name))
        .map(|name| bin.join(name))
        .filter(|path| path.is_symlink() || path.is_file())
        .map(|path| Step::Remove { path })
        .collect();
    steps.extend(names.into_iter().map(|name| Step::PutAside {
        path: aside.join(&name),
        to: bin.join(&name),
    }));
    let (manual, before) = (target.home().join("man"), target.home().join(MANUAL_ASIDE));
    if before.is_dir() {
        steps.push(Step::Remove {
            path: manual.clone(),
        });
        steps.push(Step::PutAside {
            path: before,
            to: manual,
        });
    }
    Ok(steps)
}

/// Whether two paths hold the same octets. What cannot be read is not the same.
fn same_content(a: &Path, b: &Path) -> bool {
    match (fs::read(a), fs::read(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b || same_content(&a, &b),
        _ => false,
    }
}
