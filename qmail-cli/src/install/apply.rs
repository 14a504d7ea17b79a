//! Carrying out the steps.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use super::tree::{Item, Kind, Owner};
use super::{Ids, InstallError, Step, Target};
use crate::applets::manual;

/// Carries out steps in order, and tells each that is done.
///
/// # Errors
///
/// The first that fails. The steps before it are done; running it all again goes on from there.
pub(crate) fn apply(
    target: &Target,
    steps: &[Step],
    mut done: impl FnMut(&Step),
) -> Result<(), InstallError> {
    let mut ids = Ids::of(target)?;
    for step in steps {
        let result = carry_out(target, step, &ids);
        result.map_err(|source| InstallError::Failed {
            step: step.to_string(),
            source,
        })?;
        if matches!(step, Step::AddGroup(_) | Step::AddUser { .. }) {
            ids = Ids::of(target)?;
        }
        done(step);
    }
    Ok(())
}

fn carry_out(target: &Target, step: &Step, ids: &Ids) -> io::Result<()> {
    match step {
        Step::AddGroup(name) => run(target, "groupadd", &["--system".into(), name.into()]),
        Step::AddUser { name, group, home } => {
            let mut arguments: Vec<OsString> = ["--system", "--no-create-home", "--gid", &**group]
                .map(OsString::from)
                .to_vec();
            arguments.extend(["--home-dir".into(), home.into()]);
            arguments.extend(["--shell", "/usr/sbin/nologin", &**name].map(OsString::from));
            run(target, "useradd", &arguments)
        }
        Step::Make { path, item } => make(path, item, ids),
        Step::SetOwner { path, owner } => set_owner(path, *owner, ids),
        Step::SetMode { path, to, .. } => set_mode(path, *to),
        Step::PutAside { path, to } => put_aside(path, to),
        Step::Copy { path, owner, mode } => copy(&target.program, path, *owner, *mode, ids),
        Step::Link { path, target } => {
            let new = path.with_extension("new");
            let _ = fs::remove_file(&new);
            symlink(target, &new)?;
            fs::rename(&new, path)
        }
        Step::Manual { directory } => {
            manual::write_all(directory).map_err(|(_, error)| error)?;
            Ok(())
        }
        Step::Remove { path } if fs::symlink_metadata(path)?.is_dir() => fs::remove_dir_all(path),
        Step::Remove { path } => fs::remove_file(path),
    }
}

/// Runs a program of the system's account tools.
fn run(target: &Target, program: &str, arguments: &[OsString]) -> io::Result<()> {
    let mut command = Command::new(program);
    if target.root != Path::new("/") {
        command.arg("--prefix").arg(&target.root);
    }
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}", words.trim())))
}

fn make(path: &Path, item: &Item, ids: &Ids) -> io::Result<()> {
    match item.kind {
        Kind::Directory => fs::create_dir_all(path)?,
        Kind::File { octets } => {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(&vec![0; octets])?;
            file.sync_all()?;
        }
        Kind::Fifo => make_fifo(path)?,
    }
    set_owner(path, item.owner, ids)?;
    set_mode(path, item.mode)
}

#[cfg(not(target_vendor = "apple"))]
fn make_fifo(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, mkfifoat};
    Ok(mkfifoat(CWD, path, Mode::from_raw_mode(0o600))?)
}

/// There is no call for it that needs no unsafe code.
#[cfg(target_vendor = "apple")]
fn make_fifo(_path: &Path) -> io::Result<()> {
    Err(io::Error::other("this system cannot make one: use mkfifo"))
}

/// The mode is set anew by who calls this: giving a file away takes its setuid bit.
fn set_owner(path: &Path, owner: Owner, ids: &Ids) -> io::Result<()> {
    let number = |of: &std::collections::HashMap<&str, u32>, name: &str| {
        of.get(name)
            .copied()
            .ok_or_else(|| io::Error::other(format!("there is no {name}")))
    };
    let (uid, gid) = (
        number(&ids.users, owner.user)?,
        number(&ids.groups, owner.group)?,
    );
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Renames, over a link of ours but over nothing else.
fn put_aside(path: &Path, to: &Path) -> io::Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::symlink_metadata(to) {
        Ok(found) if !found.is_symlink() && !is_setuid(&found) => {
            return Err(io::Error::other(format!(
                "{} is there already",
                to.display()
            )));
        }
        _ => {}
    }
    fs::rename(path, to)
}

fn is_setuid(found: &fs::Metadata) -> bool {
    found.permissions().mode() & 0o4000 != 0
}

/// Copies beside the place, then renames: whoever starts the program meanwhile gets the old one or the new one.
fn copy(program: &Path, path: &Path, owner: Owner, mode: u32, ids: &Ids) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    fs::copy(program, &new)?;
    set_owner(&new, owner, ids)?;
    set_mode(&new, mode)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, path)
}
