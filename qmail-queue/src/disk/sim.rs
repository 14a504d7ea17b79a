//! A disk that a test plays: it forgets what was not synced, tears writes, fails and crashes on demand.
//!
//! It keeps two images. The volatile one is what programs see while they run. The durable one holds what syncs have made
//! sure of; what was done since is pending. [`SimDisk::after_crash`] makes the disk that a machine finds when it starts again:
//! the durable image with any legal part of what was pending, picked by [`Choices`].
//!
//! What is legal is as bad as POSIX lets it be: each name in each directory by itself (a rename is a new name and a lost one),
//! each write by itself, whole, half or as zeros. One thing is not: the changes of one name, and their order, are kept.

mod choices;
mod image;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

pub use choices::Choices;

use super::{Disk, DiskFile, Stat};
use image::{Change, Image};

/// What is to go wrong. Operations are the calls that change something, counted from 1: `create`, `link`, `rename`,
/// `rename_new`, `unlink`, `write_at`, `truncate`, `allocate`, `set_times`, `sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// This operation and all later ones do nothing and fail.
    CrashBefore(u64),
    /// This operation is done but fails; all later ones do nothing and fail.
    CrashAfter(u64),
    /// This operation fails. A write has then written half; the content that a sync was to make durable never will be, as with
    /// systems that take what they could not write for clean.
    Fail(u64, io::ErrorKind),
    /// This file or directory, counted from 1 over all syncs, is passed over silently: a test that does not notice is no test.
    IgnoreSync(u64),
}

/// A disk in memory. Clones share one disk.
///
/// ```
/// use std::path::{Path, PathBuf};
/// use qmail_queue::{Choices, Disk, SimDisk};
/// let disk = SimDisk::new([PathBuf::from("d")]);
/// let file = disk.create(Path::new("d/a"), 0o600)?;
/// file.write_at(b"text", 0)?;
/// disk.sync(&[&*file], &[])?;
/// // Its content is durable; its name is not, and the first choice is to lose what can be lost.
/// assert!(disk.after_crash(&mut Choices::every()).list(Path::new("d"))?.is_empty());
/// disk.sync(&[], &[Path::new("d")])?;
/// assert_eq!(disk.after_crash(&mut Choices::every()).list(Path::new("d"))?, [Path::new("a")]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    image: Image,
    troubles: Vec<Trouble>,
    operations: u64,
    sync_targets: u64,
    dead: bool,
}

impl SimDisk {
    /// An empty disk with these directories, which stay for good.
    pub fn new(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::with_image(Image::new(directories))
    }

    fn with_image(image: Image) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                image,
                troubles: Vec::new(),
                operations: 0,
                sync_targets: 0,
                dead: false,
            })),
        }
    }

    /// Adds something that is to go wrong.
    pub fn plan(&self, trouble: Trouble) {
        self.state().troubles.push(trouble);
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Files and directories that were to be synced so far.
    pub fn sync_targets(&self) -> u64 {
        self.state().sync_targets
    }

    /// Whether a planned crash has come.
    pub fn is_crashed(&self) -> bool {
        self.state().dead
    }

    /// Sets the time that new and written files get. It starts at 1970.
    pub fn set_now(&self, now: SystemTime) {
        self.state().image.now = now;
    }

    /// The disk as it is found after a crash at this moment. This one is not changed.
    pub fn after_crash(&self, choices: &mut Choices) -> Self {
        Self::with_image(self.state().image.after_crash(choices))
    }

    // Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.dead { Err(gone()) } else { Ok(state) }
    }

    /// Counts an operation and does it, or what is to go wrong instead.
    fn operate<R>(
        &self,
        act: impl FnOnce(&mut State) -> io::Result<R>,
        fail: impl FnOnce(&mut State),
    ) -> io::Result<R> {
        let mut state = self.alive()?;
        state.operations += 1;
        let number = state.operations;
        let trouble = state.troubles.iter().copied().find(|trouble| {
            matches!(trouble, Trouble::CrashBefore(at) | Trouble::CrashAfter(at) | Trouble::Fail(at, _)
                if *at == number)
        });
        match trouble {
            Some(Trouble::CrashBefore(_)) => {
                state.dead = true;
                Err(gone())
            }
            Some(Trouble::CrashAfter(_)) => {
                let _ = act(&mut state);
                state.dead = true;
                Err(gone())
            }
            Some(Trouble::Fail(_, kind)) => {
                fail(&mut state);
                Err(kind.into())
            }
            Some(Trouble::IgnoreSync(_)) | None => act(&mut state),
        }
    }

    fn handle(&self, inode: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile {
            disk: self.clone(),
            inode,
        })
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path, _mode: u32) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.operate(|state| state.image.create(path), |_| ())?;
        Ok(self.handle(inode))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.alive()?.image.open(path)?;
        Ok(self.handle(inode))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|state| state.image.link(from, to, false), |_| ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let act = |state: &mut State| {
            state.image.link(from, to, true)?;
            state.image.unlink(from)
        };
        self.operate(act, |_| ())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let act = |state: &mut State| {
            state.image.link(from, to, false)?;
            state.image.unlink(from)
        };
        self.operate(act, |_| ())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.operate(|state| state.image.unlink(path), |_| ())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.alive()?.image.list(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.alive()?;
        state.image.stat(state.image.find(path)?)
    }

    fn set_times(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        let act = |state: &mut State| {
            let inode = state.image.find(path)?;
            state.image.set_times(inode, time)
        };
        self.operate(act, |_| ())
    }

    fn sync(&self, files: &[&dyn DiskFile], directories: &[&Path]) -> io::Result<()> {
        let inodes: Vec<u64> = files
            .iter()
            .map(|file| {
                let own = file.as_any().downcast_ref::<SimFile>();
                own.map(|file| file.inode)
                    .ok_or_else(|| io::Error::other("a file of another disk"))
            })
            .collect::<io::Result<_>>()?;
        let act = |state: &mut State| {
            for &inode in &inodes {
                if state.counts() {
                    state.image.sync_file(inode)?;
                }
            }
            for path in directories {
                if state.counts() {
                    state.image.sync_directory(path)?;
                }
            }
            Ok(())
        };
        let fail = |state: &mut State| {
            for &inode in &inodes {
                state.image.doom(inode);
            }
        };
        self.operate(act, fail)
    }
}

impl State {
    /// Counts a sync target; `false` if it is to be passed over.
    fn counts(&mut self) -> bool {
        self.sync_targets += 1;
        !self
            .troubles
            .contains(&Trouble::IgnoreSync(self.sync_targets))
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl DiskFile for SimFile {
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let write = |octets: &[u8]| Change::Write {
            offset: usize::try_from(offset).unwrap_or(usize::MAX / 2),
            octets: octets.into(),
        };
        let act = |state: &mut State| state.image.change(self.inode, write(octets));
        let fail = |state: &mut State| {
            let _ = state
                .image
                .change(self.inode, write(&octets[..octets.len() / 2]));
        };
        self.disk.operate(act, fail)
    }

    fn truncate(&self, octets: u64) -> io::Result<()> {
        let octets = usize::try_from(octets).unwrap_or(usize::MAX / 2);
        let act = |state: &mut State| state.image.change(self.inode, Change::Truncate { octets });
        self.disk.operate(act, |_| ())
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        self.truncate(octets)
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.alive()?;
        let content = state.image.content(self.inode)?;
        let start = usize::try_from(offset).map_or(content.len(), |at| at.min(content.len()));
        let count = room.len().min(content.len() - start);
        room[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn stat(&self) -> io::Result<Stat> {
        self.disk.alive()?.image.stat(self.inode)
    }

    fn set_times(&self, time: SystemTime) -> io::Result<()> {
        let act = |state: &mut State| state.image.set_times(self.inode, time);
        self.disk.operate(act, |_| ())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.state().image.close(self.inode);
    }
}

fn gone() -> io::Error {
    io::Error::other("the machine has crashed")
}

/// Directory and name of a path.
fn split(path: &Path) -> io::Result<(&Path, OsString)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name.to_owned())),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
