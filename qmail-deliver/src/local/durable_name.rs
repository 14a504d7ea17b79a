//! Names of mailbox files, durable before anybody is told that the mail is there.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes the name of an open file durable: syncs the directory that holds it. Where that directory may not be read, and so not be
/// synced by itself, Linux syncs the whole file system instead.
///
/// # Errors
///
/// The sync failed, or there is no way to sync: the name may be gone after a power cut.
#[expect(clippy::disallowed_methods, reason = "this is the seam to mbox files")]
pub fn sync_name(file: &File, directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => sync_all_of(file, error),
        opened => opened?.sync_all(),
    }
}

#[cfg(target_os = "linux")]
fn sync_all_of(file: &File, _closed: io::Error) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_all_of(_file: &File, closed: io::Error) -> io::Result<()> {
    Err(closed)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests have files of their own")]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let scratch = tempfile::tempdir().expect("a directory");
        let file = File::create(scratch.path().join("mbox")).expect("a file");
        sync_name(&file, scratch.path()).expect("a sync");
        let missing = sync_name(&file, &scratch.path().join("missing"));
        assert_eq!(
            missing.map_err(|error| error.kind()),
            Err(io::ErrorKind::NotFound)
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn without_its_directory_the_whole_file_system_is_synced() {
        let closed = io::ErrorKind::PermissionDenied;
        let file = tempfile::tempfile().expect("a file");
        sync_all_of(&file, closed.into()).expect("a sync");
    }
}
