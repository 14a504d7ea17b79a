//! Replacing a file in one step: readers have the old one or the new one, never a part.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What went wrong, and with which file; the old file is untouched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplaceError<E> {
    #[error("unable to {what} {}: {source}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// What fills the file has failed.
    #[error("{0}")]
    Content(E),
}

/// Has `fill` write a new file, under the name `scratch`, and puts it in the place of `path` once it is durable.
///
/// The new file can be read by everybody, whatever the umask. `scratch` has to be in the same file system; what is left of an
/// earlier run under that name is overwritten.
pub(crate) fn replace<E>(
    path: &Path,
    scratch: &Path,
    fill: impl FnOnce(File) -> Result<File, E>,
) -> Result<(), ReplaceError<E>> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ReplaceError::File { what, path, source }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(scratch)
        .map_err(failed("create", scratch))?;
    let file = fill(file).map_err(ReplaceError::Content)?;
    file.set_permissions(Permissions::from_mode(0o644))
        .and_then(|()| file.sync_all())
        .map_err(failed("write", scratch))?;
    std::fs::rename(scratch, path).map_err(failed("move the new file to", path))?;
    // The name is durable now, or will be soon: nothing depends on it.
    if let Some(directory) = path.parent() {
        let here = Path::new(".");
        let directory = if directory.as_os_str().is_empty() {
            here
        } else {
            directory
        };
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
    Ok(())
}
