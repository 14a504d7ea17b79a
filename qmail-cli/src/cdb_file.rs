//! Constant databases on disk: a new one takes the place of the old one at once and whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use bytes::Bytes;
use qmail_core::cdb::{Cdb, CdbError, OnDisk, ReadAt, ReadError, Writer};

/// Largest cdb in octets that is read: its format ends there, too.
const FILE_OCTETS_MAX: u64 = 4 << 30;

/// Writes `temporary` (mode 0644, whatever the umask: servers read it as other users), makes it durable, and renames it to `path`.
///
/// # Errors
///
/// Nothing has changed at `path`.
pub(crate) fn replace<E: From<io::Error>>(
    path: &Path,
    temporary: &Path,
    fill: impl FnOnce(&mut Writer<File>) -> Result<(), E>,
) -> Result<(), E> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(temporary)?;
    let mut writer = Writer::new(file)?;
    fill(&mut writer)?;
    let file = writer.finish()?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, path)?;
    Ok(())
}

/// Reads a cdb; `None` if there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Cdb<Bytes>>> {
    let octets = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?.len(),
    };
    if octets > FILE_OCTETS_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let file = fs::read(path)?;
    Cdb::new(Bytes::from(file))
        .map(Some)
        .map_err(|error: CdbError| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Opens a cdb to look up a few keys where it lies.
pub(crate) fn open(path: &Path) -> Result<OnDisk<OpenFile>, ReadError> {
    let file = File::open(path)?;
    let octets = file.metadata()?.len();
    Ok(OnDisk::new(OpenFile(file), octets)?)
}

/// A file that is read at positions.
pub(crate) struct OpenFile(File);

impl ReadAt for OpenFile {
    fn read_exact_at(&self, octets: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(octets, at)
    }
}
