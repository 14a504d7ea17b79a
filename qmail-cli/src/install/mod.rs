//! Installing in place of a classic system: accounts, directories, modes, programs.
//!
//! What is to be done is found out first, as a list of [`Step`]s, by comparing what there is with the classic tree; then it is shown
//! or done. What an administrator or a mail system has put there is never overwritten: control files, aliases, users and
//! the queue stay as they are, only owners and modes are mended; programs of another mail system in `bin/` are put aside, so that
//! they can be put back.

mod accounts;
mod apply;
mod check;
mod programs;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};

use accounts::Ids;
pub(crate) use apply::apply;
pub(crate) use programs::{ASIDE, give_back};
pub(crate) use tree::{ALIASES, Item, Owner};

use crate::home::ControlError;

/// What to install, and where.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where the file system to install into is: `/`, or a scratch root.
    pub(crate) root: PathBuf,
    /// The home, as it is called in that file system.
    pub(crate) home: PathBuf,
    /// The program to install: this one.
    pub(crate) program: PathBuf,
    /// Whether programs of another system in `bin/` are put aside.
    pub(crate) replace: bool,
    /// Whether the program in `bin/` is a link to this one, rather than a copy: a package keeps its own file up to date.
    pub(crate) link: bool,
    /// Whether qmail-queue becomes a setuid program, as it was.
    pub(crate) setuid_queue: bool,
}

impl Target {
    /// Where a path of the target's file system is found from here.
    pub(crate) fn outside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(relative) => self.root.join(relative),
            Err(_) => self.root.join(path),
        }
    }

    /// What a path that is found from here is called in the target's file system.
    fn inside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.root) {
            Ok(relative) => Path::new("/").join(relative),
            Err(_) => path.to_owned(),
        }
    }

    /// The home as found from here.
    pub(crate) fn home(&self) -> PathBuf {
        self.outside(&self.home)
    }
}

/// Something to be done. `Display` says it in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    AddGroup(String),
    AddUser {
        name: String,
        group: String,
        home: PathBuf,
    },
    Make {
        path: PathBuf,
        item: Item,
    },
    SetOwner {
        path: PathBuf,
        owner: Owner,
    },
    SetMode {
        path: PathBuf,
        from: u32,
        to: u32,
    },
    /// Moves a program of another system aside, or its manual.
    PutAside {
        path: PathBuf,
        to: PathBuf,
    },
    /// Copies this program.
    Copy {
        path: PathBuf,
        owner: Owner,
        mode: u32,
    },
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    Manual {
        directory: PathBuf,
    },
    /// Removes something of ours.
    Remove {
        path: PathBuf,
    },
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddGroup(name) => write!(f, "add the group {name}"),
            Self::AddUser { name, group, .. } => {
                write!(f, "add the user {name} in the group {group}")
            }
            Self::Make { path, item } => {
                let Owner { user, group } = item.owner;
                let (what, mode) = (item.kind.name(), item.mode);
                write!(
                    f,
                    "make the {what} {}, {user}:{group} {mode:04o}",
                    path.display()
                )
            }
            Self::SetOwner { path, owner } => {
                let Owner { user, group } = owner;
                write!(f, "give {} to {user}:{group}", path.display())
            }
            Self::SetMode { path, from, to } => write!(
                f,
                "change the mode of {} from {from:04o} to {to:04o}",
                path.display()
            ),
            Self::PutAside { path, to } => {
                write!(f, "put {} aside as {}", path.display(), to.display())
            }
            Self::Copy { path, mode, .. } => {
                write!(f, "install this program as {}, {mode:04o}", path.display())
            }
            Self::Link { path, target } => {
                write!(f, "link {} to {}", path.display(), target.display())
            }
            Self::Manual { directory } => {
                write!(f, "write the manual into {}", directory.display())
            }
            Self::Remove { path } => write!(f, "remove {}", path.display()),
        }
    }
}

/// Why installing cannot go on. `Display` is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("{} is no {wanted}: move it away and run this again", path.display())]
    InTheWay { path: PathBuf, wanted: &'static str },
    #[error("{} belongs to another mail system: --replace puts it aside", path.display())]
    Foreign { path: PathBuf },
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot {step}: {source}; mend that and run this again")]
    Failed {
        step: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Accounts(#[from] ControlError),
    #[error("cannot look up {name}: {source}")]
    Lookup {
        name: &'static str,
        source: std::io::Error,
    },
}

/// Everything that is to be done, in order.
///
/// # Errors
///
/// Something in the way, or something that cannot be looked at.
pub(crate) fn plan(target: &Target) -> Result<Vec<Step>, InstallError> {
    let ids = Ids::of(target)?;
    let mut steps = accounts::steps(target, &ids);
    steps.extend(check::check(target, &ids)?);
    steps.extend(programs::steps(target, &ids)?);
    Ok(steps)
}

/// What is to be mended of the tree alone: owners, modes, what is missing.
///
/// # Errors
///
/// As [`plan`].
pub(crate) fn tree_steps(target: &Target) -> Result<Vec<Step>, InstallError> {
    check::check(target, &Ids::of(target)?)
}
