//! The files of a Maildir, as programs that empty it see them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A message of a Maildir.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// When it was written, in seconds since 1970.
    pub(crate) modified: u64,
    /// Relative to the Maildir: `new/NAME` or `cur/NAME`.
    pub(crate) path: PathBuf,
}

/// What is older is left of a delivery that failed.
const SCRATCH_AGE: Duration = Duration::from_secs(36 * 60 * 60);

/// Removes files in `tmp/` that nobody has touched for 36 hours. What cannot be removed stays.
pub(crate) fn clean(maildir: &Path) {
    let Some(oldest) = SystemTime::now().checked_sub(SCRATCH_AGE) else {
        return;
    };
    let Ok(entries) = fs::read_dir(maildir.join("tmp")) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let accessed = entry.metadata().and_then(|metadata| metadata.accessed());
        if !is_hidden(&name) && accessed.is_ok_and(|accessed| accessed < oldest) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// All messages in `new/` and `cur/`, oldest first. Those of the present second may still be joined by others, and wait.
pub(crate) fn list(maildir: &Path) -> io::Result<Vec<Entry>> {
    let now = UNIX_EPOCH.elapsed().map_err(io::Error::other)?.as_secs();
    let mut found = Vec::new();
    for part in ["new", "cur"] {
        for entry in fs::read_dir(maildir.join(part))? {
            let name = entry?.file_name();
            if is_hidden(&name) {
                continue;
            }
            let path = Path::new(part).join(&name);
            // It may have been moved since.
            let Ok(metadata) = fs::metadata(maildir.join(&path)) else {
                continue;
            };
            let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
            if metadata.is_file() && modified < now {
                found.push(Entry { modified, path });
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_hidden(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
