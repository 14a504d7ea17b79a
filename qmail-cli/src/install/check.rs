//! Comparing what there is with the classic tree.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use super::tree::{Item, Kind, aliases, tree};
use super::{Ids, InstallError, Step, Target};

/// All differences between the home and the classic tree, in the order of the tree.
///
/// # Errors
///
/// Something cannot be looked at, or something else stands in its place, which is for people to look at.
pub(crate) fn check(target: &Target, ids: &Ids) -> Result<Vec<Step>, InstallError> {
    let home = target.home();
    let mut steps = Vec::new();
    for (path, item) in tree() {
        // Joining nothing would add a slash.
        let path = if path.as_os_str().is_empty() {
            home.clone()
        } else {
            home.join(path)
        };
        compare(path, item, ids, &mut steps)?;
    }
    for (path, item) in aliases() {
        let path = home.join(path);
        if fs::symlink_metadata(&path).is_err() {
            steps.push(Step::Make { path, item });
        }
    }
    Ok(steps)
}

/// Compares one thing with what it should be.
pub(super) fn compare(
    path: PathBuf,
    item: Item,
    ids: &Ids,
    steps: &mut Vec<Step>,
) -> Result<(), InstallError> {
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            steps.push(Step::Make { path, item });
            return Ok(());
        }
        Err(source) => return Err(InstallError::Read { path, source }),
    };
    let kind = found.file_type();
    let fits = match item.kind {
        // The home, or a part of it, may lie elsewhere.
        Kind::Directory => path.is_dir(),
        Kind::File { .. } => kind.is_file(),
        Kind::Fifo => kind.is_fifo(),
    };
    if !fits {
        let wanted = item.kind.name();
        return Err(InstallError::InTheWay { path, wanted });
    }
    let found = fs::metadata(&path).map_err(|source| InstallError::Read {
        path: path.clone(),
        source,
    })?;
    let wanted = (
        ids.users.get(item.owner.user).copied(),
        ids.groups.get(item.owner.group).copied(),
    );
    if wanted != (Some(found.uid()), Some(found.gid())) {
        steps.push(Step::SetOwner {
            path: path.clone(),
            owner: item.owner,
        });
    }
    let from = found.mode() & 0o7777;
    if from != item.mode {
        let to = item.mode;
        steps.push(Step::SetMode { path, from, to });
    }
    Ok(())
}
