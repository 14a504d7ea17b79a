//! The file operations that a spool is made of, so that a test can play the disk.
//!
//! They block. A spool runs them on its [`Workers`](crate::Workers): threads in a program, the caller itself in a simulation.

mod cost;
mod each;
mod real;
#[cfg(any(test, feature = "sim"))]
mod sim;

pub use real::RealDisk;
#[cfg(any(test, feature = "sim"))]
pub use sim::{Choices, SimDisk, Trouble};

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A disk. Paths are relative to the spool's own directory, and are made by the spool: nothing an outsider sends is ever part
/// of one.
///
/// What was written, created, linked, renamed or removed is durable only after a sync: of the file for its content, of the
/// directory for its names.
pub trait Disk: Send + Sync + 'static {
    /// Creates a file that does not exist, for reading and writing, with exactly this mode.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if it does.
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file; for writing too if `write`. A sync of what is then written need not make the file's times durable.
    ///
    /// # Errors
    ///
    /// `NotFound` and the like.
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name; replaces nothing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the new name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Moves a name, replacing what bore the new one.
    ///
    /// # Errors
    ///
    /// `NotFound` and the like.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Moves a name to one that is free; replaces nothing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the new name is taken; then nothing is changed.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    ///
    /// `NotFound` and the like.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, in no order, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// `NotFound` and the like.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// What is known of a name; of a symbolic link itself, not of what it points to.
    ///
    /// # Errors
    ///
    /// `NotFound` and the like.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// Sets the times of last access and modification.
    ///
    /// # Errors
    ///
    /// `NotFound` and the like.
    fn set_times(&self, path: &Path, time: SystemTime) -> io::Result<()>;

    /// Makes durable the content of all these files and the names in all these directories.
    ///
    /// One call for a whole batch, so that a disk can do it in one go. The first error is returned; after an error nothing in the
    /// batch may be taken for durable.
    ///
    /// # Errors
    ///
    /// What the disk says. It is never to be asked again in the hope of a better answer.
    fn sync(&self, files: &[&dyn DiskFile], directories: &[&Path]) -> io::Result<()>;
}

/// An open file of a [`Disk`].
pub trait DiskFile: Send + Sync {
    /// Writes all of `octets` at `offset`.
    ///
    /// # Errors
    ///
    /// What the disk says: it is full, it is broken.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off after so many octets.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn truncate(&self, octets: u64) -> io::Result<()>;

    /// Makes the file so long, with room on the disk for all of it: what was not written reads as zeros, and writing there does
    /// not fail later for want of room, where the file system can promise that.
    ///
    /// # Errors
    ///
    /// What the disk says; the file may then have any length.
    fn allocate(&self, octets: u64) -> io::Result<()>;

    /// Reads into `room` from `offset`; returns how much, 0 at the end.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize>;

    /// What is known of the file.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn stat(&self) -> io::Result<Stat>;

    /// Sets the times of last access and modification; durable with the content if the file was created through this handle.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn set_times(&self, time: SystemTime) -> io::Result<()>;

    /// For a [`Disk`] to know its own again.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Inode number: the split-directory spool numbers its messages by it.
    pub inode: u64,
    /// Size.
    pub octets: u64,
    /// Last modification.
    pub modified: SystemTime,
    /// Last access.
    pub accessed: SystemTime,
    /// Whether it is a regular file.
    pub is_file: bool,
}
