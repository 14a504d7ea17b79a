//! A message on its way from `tmp/` to `new/`. Everything here blocks.

use std::fs::{DirBuilder, File};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::MaildirError;
use super::name::Names;
use super::syncs::DirectorySyncs;

/// A file of a Maildir that is not delivered yet. Dropping it removes the file.
pub(super) struct Draft {
    file: File,
    maildir: OwnedFd,
    path: PathBuf,
    names: Arc<Names>,
    /// Where the file is now, below `maildir`; `None` once it is delivered.
    place: Option<String>,
}

impl Draft {
    /// Creates `tmp/NAME`, which must not exist: neither another's message nor a symbolic link is ever written to.
    pub(super) fn create(path: PathBuf, names: Arc<Names>) -> Result<Self, MaildirError> {
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // With the dot it fails where chdir would fail.
        let maildir = openat(CWD, path.join("."), directory, Mode::empty())
            .map_err(|errno| MaildirError::Chdir(errno.into()))?;
        let exclusive =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut tries = 1;
        loop {
            let place = format!("tmp/{}", names.next());
            match openat(&maildir, &place, exclusive, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    return Ok(Self {
                        file: file.into(),
                        maildir,
                        path,
                        names,
                        place: Some(place),
                    });
                }
                Err(Errno::EXIST) if tries < NAME_TRIES => tries += 1,
                Err(errno) => return Err(MaildirError::Temporary(errno.into())),
            }
        }
    }

    /// Appends all chunks.
    pub(super) fn write(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
        let mut rest = &mut slices[..];
        // An empty slice in front is never written, so it must not be waited for.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the text durable, moves the file into `new/`, makes the name durable. Returns the path of the file.
    pub(super) fn commit(mut self, syncs: &DirectorySyncs) -> io::Result<PathBuf> {
        // The sync reports every failed write there was, so closing the file has nothing left to report.
        self.file.sync_all()?;
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let new = File::from(openat(&self.maildir, "new", directory, Mode::empty())?);
        let place = self.enter_new()?;
        // A failure removes the message again: it is tried once more, and should not be there twice.
        self.place = Some(place.clone());
        syncs.sync(&new)?;
        self.place = None;
        Ok(self.path.join(place))
    }

    /// Gives the file a name in `new/`, replacing nothing.
    fn enter_new(&self) -> io::Result<String> {
        let from = self
            .place
            .as_deref()
            .expect("a draft has a place until it is delivered");
        let mut tries = 1;
        let mut place = from.replacen("tmp/", "new/", 1);
        loop {
            match move_exclusively(&self.maildir, from, &place) {
                Ok(()) => return Ok(place),
                Err(Errno::EXIST) if tries < NAME_TRIES => tries += 1,
                Err(errno) => return Err(errno.into()),
            }
            place = format!("new/{}", self.names.next());
        }
    }
}

#[cfg(test)]
impl Draft {
    pub(super) fn place_for_tests(&self) -> String {
        self.place.clone().expect("not delivered yet")
    }

    /// From now on every write finds the disk full.
    #[expect(clippy::disallowed_methods, reason = "a device that is always full")]
    pub(super) fn fill_disk_for_tests(&mut self) {
        self.file = File::options().write(true).open("/dev/full").unwrap();
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            // If that fails too, readers remove what is old in tmp/.
            let _ = unlinkat(&self.maildir, place, AtFlags::empty());
        }
    }
}

/// Moves a name within a directory. One call where the system can refuse to replace; else a link and an unlink; and where
/// links are refused, a plain rename, which is safe because names are unique.
fn move_exclusively(directory: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    match rename_exclusively(directory, from, to) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return result,
    }
    match linkat(directory, from, directory, to, AtFlags::empty()) {
        Ok(()) => {
            // The message is delivered, whatever becomes of its other name.
            let _ = unlinkat(directory, from, AtFlags::empty());
            Ok(())
        }
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK) => {
            renameat(directory, from, directory, to)
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_exclusively(directory: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    use rustix::fs::{RenameFlags, renameat_with};
    renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_exclusively(_: &OwnedFd, _: &str, _: &str) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Makes the directory and its three parts, with mode 0700, and makes them durable.
pub(super) fn create_maildir(maildir: &Path) -> io::Result<()> {
    for part in ["", "tmp", "new", "cur"] {
        match DirBuilder::new().mode(0o700).create(maildir.join(part)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
    }
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for synced in [maildir, maildir.parent().unwrap_or(maildir)] {
        // A relative path of one part has an empty parent.
        let synced = if synced.as_os_str().is_empty() {
            Path::new(".")
        } else {
            synced
        };
        File::from(openat(CWD, synced, directory, Mode::empty())?).sync_all()?;
    }
    Ok(())
}

/// A name that is taken is tried again with another, so often in all.
const NAME_TRIES: u32 = 3;
