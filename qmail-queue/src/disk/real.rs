//! The disk of the system.
//!
//! Directories are opened once and kept, so that an operation is one system call on one name and a sync of a directory needs
//! no open. A directory that is replaced while the spool runs goes on being used in its old place.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};

use super::cost::{Costs, Way};
use super::each::{Object, SyncEach};
use super::{Disk, DiskFile, Stat};

/// Directories that are kept open; more are opened at each use. The split-directory spool has 97.
const DIRECTORIES_MAX: usize = 256;

/// Files of a directory on the system's disk.
///
/// A batch is synced either by one `syncfs` (on ext4 and btrfs, from Linux 5.8 on, which reports errors by it) or by an `fsync`
/// on each file and directory, several at a time, whichever is cheaper just now; a single file or directory is always synced by itself. After the
/// first error the disk goes on with `fsync` for good: it reports a lost write to whoever has the file open, while a `syncfs`
/// tells only the first who asks. It does so too once a directory turns out to be on another file system than the root, as
/// one that is mounted there or linked to.
pub struct RealDisk {
    root: Arc<OwnedFd>,
    /// The file system that the root is on.
    device: u64,
    directories: RwLock<HashMap<PathBuf, Arc<OwnedFd>>>,
    whole: Mutex<Whole>,
    each: SyncEach,
}

/// How the file system as a whole is synced. Behind a lock, because an error that one `syncfs` takes is not told to another
/// that runs beside it.
#[derive(Debug)]
struct Whole {
    /// `false` if `syncfs` cannot be relied on, from the start or since something that speaks against it.
    reliable: bool,
    costs: Costs,
}

impl RealDisk {
    /// Opens the directory that all paths are relative to.
    ///
    /// # Errors
    ///
    /// It does not exist, is not a directory, or may not be read.
    pub fn open(root: impl AsRef<Path>) -> io::Result<Self> {
        let root = rustix::fs::open(root.as_ref(), DIRECTORY_FLAGS, Mode::empty())?;
        Ok(Self {
            device: device(&root)?,
            whole: Mutex::new(Whole {
                reliable: syncfs_is_reliable(&root),
                costs: Costs::new(),
            }),
            root: Arc::new(root),
            directories: RwLock::default(),
            each: SyncEach::default(),
        })
    }

    // What is guarded is whole at every moment.
    fn whole(&self) -> MutexGuard<'_, Whole> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor of a directory.
    fn directory(&self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        if path.as_os_str().is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let known = self
            .directories
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = known.get(path) {
            return Ok(Arc::clone(directory));
        }
        drop(known);
        let opened = rustix::fs::openat(&*self.root, path, DIRECTORY_FLAGS, Mode::empty())?;
        let opened = Arc::new(opened);
        if device(&opened)? != self.device {
            // A mount, or a link to another disk. Whatever lies there is reached by way of here before it is synced.
            self.whole().reliable = false;
        }
        let mut known = self
            .directories
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() < DIRECTORIES_MAX {
            known.insert(path.to_owned(), Arc::clone(&opened));
        }
        Ok(opened)
    }

    /// The directory of a path, and the name in it.
    fn split<'a>(&self, path: &'a Path) -> io::Result<(Arc<OwnedFd>, &'a Path)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok((self.directory(parent)?, Path::new(name)))
    }

    fn sync_batch(&self, objects: Vec<Object>) -> io::Result<()> {
        if objects.len() <= 1 {
            return self.each.sync(objects);
        }
        let count = u32::try_from(objects.len()).unwrap_or(u32::MAX);
        let mut whole = self.whole();
        let way = if whole.reliable {
            whole.costs.choose(count)
        } else {
            Way::Each
        };
        let start = now();
        let result = match way {
            Way::Whole => syncfs(&self.root),
            Way::Each => {
                // Others need not wait for this.
                drop(whole);
                let result = self.each.sync(objects);
                whole = self.whole();
                result
            }
        };
        match result {
            Ok(()) => whole.costs.learn(way, count, now() - start),
            Err(_) => whole.reliable = false,
        }
        result
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        let (directory, name) = self.split(path)?;
        let wanted = Mode::from_raw_mode(mode);
        let fd = rustix::fs::openat(
            &*directory,
            name,
            FILE_FLAGS | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            wanted,
        )?;
        let stat = rustix::fs::fstat(&fd)?;
        // The umask belongs to the whole process and is not ours to change.
        if Mode::from_raw_mode(stat.st_mode) != wanted
            && let Err(error) = rustix::fs::fchmod(&fd, wanted)
        {
            let _ = rustix::fs::unlinkat(&*directory, name, AtFlags::empty());
            return Err(error.into());
        }
        Ok(Box::new(RealFile {
            file: Arc::new(fd.into()),
            created: true,
        }))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn DiskFile>> {
        let (directory, name) = self.split(path)?;
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        // A FIFO that somebody put here must not make the open wait.
        let flags = FILE_FLAGS | OFlags::NONBLOCK | access;
        let fd = rustix::fs::openat(&*directory, name, flags, Mode::empty())?;
        Ok(Box::new(RealFile {
            file: Arc::new(fd.into()),
            created: false,
        }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((old, from), (new, to)) = (self.split(from)?, self.split(to)?);
        Ok(rustix::fs::linkat(
            &*old,
            from,
            &*new,
            to,
            AtFlags::empty(),
        )?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((old, from), (new, to)) = (self.split(from)?, self.split(to)?);
        Ok(rustix::fs::renameat(&*old, from, &*new, to)?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            use rustix::io::Errno;
            let ((old, from), (new, to)) = (self.split(from)?, self.split(to)?);
            match renameat_with(&*old, from, &*new, to, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                // A file system that does not know the flag.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.link(from, to)?;
        self.unlink(from)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.split(path)?;
        Ok(rustix::fs::unlinkat(&*directory, name, AtFlags::empty())?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let directory = self.directory(path)?;
        // Opens it anew: a kept descriptor has one position for all who list.
        rustix::fs::Dir::read_from(&*directory)?
            .filter_map(|entry| match entry {
                Ok(entry) => {
                    let name = entry.file_name().to_bytes();
                    let real = name != b"." && name != b"..";
                    real.then(|| Ok(PathBuf::from(std::ffi::OsStr::from_bytes(name))))
                }
                Err(error) => Some(Err(error.into())),
            })
            .collect()
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let (directory, name) = self.split(path)?;
        let stat = rustix::fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(known_of(&stat))
    }

    fn set_times(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        let (directory, name) = self.split(path)?;
        let times = timestamps(time);
        Ok(rustix::fs::utimensat(
            &*directory,
            name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn sync(&self, files: &[&dyn DiskFile], directories: &[&Path]) -> io::Result<()> {
        let files = files.iter().map(|file| {
            let own = file.as_any().downcast_ref::<RealFile>();
            own.map(RealFile::object)
                .ok_or_else(|| io::Error::other("a file of another disk"))
        });
        let directories = directories
            .iter()
            .map(|path| self.directory(path).map(Object::Directory));
        self.sync_batch(files.chain(directories).collect::<io::Result<_>>()?)
    }
}

struct RealFile {
    file: Arc<File>,
    /// Made through this handle, as against opened.
    created: bool,
}

impl RealFile {
    fn object(&self) -> Object {
        let file = Arc::clone(&self.file);
        if self.created {
            Object::File(file)
        } else {
            Object::Content(file)
        }
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(octets, offset)
    }

    fn truncate(&self, octets: u64) -> io::Result<()> {
        self.file.set_len(octets)
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::io::Errno;
            match rustix::fs::fallocate(&*self.file, rustix::fs::FallocateFlags::empty(), 0, octets)
            {
                Ok(()) => return Ok(()),
                // A file system that cannot promise room.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.file.set_len(octets)
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(room, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(known_of(&rustix::fs::fstat(&*self.file)?))
    }

    fn set_times(&self, time: SystemTime) -> io::Result<()> {
        Ok(rustix::fs::futimens(&*self.file, &timestamps(time))?)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const FILE_FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

#[allow(
    clippy::unnecessary_cast,
    reason = "the types differ between platforms"
)]
fn known_of(stat: &rustix::fs::Stat) -> Stat {
    Stat {
        inode: stat.st_ino as u64,
        octets: u64::try_from(stat.st_size).unwrap_or(0),
        modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        accessed: time(stat.st_atime as i64, stat.st_atime_nsec as u64),
        is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
    }
}

/// The file system that something is on.
#[allow(
    clippy::unnecessary_cast,
    reason = "the types differ between platforms"
)]
fn device(fd: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_dev as u64)
}

/// Times before 1970 are shown as 1970: nothing in a queue is that old.
fn time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(nanoseconds)
}

fn timestamps(time: SystemTime) -> Timestamps {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let time = Timespec {
        tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: since.subsec_nanos().into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what syncs cost decides how the next is done"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(target_os = "linux")]
fn syncfs(root: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(root)?)
}

#[cfg(not(target_os = "linux"))]
fn syncfs(_root: &OwnedFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether one `syncfs` makes everything durable and tells of errors: a file system known for it, on Linux 5.8 or later.
/// Others write data in place without a flush of the disk's own cache (XFS), or do not pass the call on (FUSE, NFS).
#[cfg(target_os = "linux")]
fn syncfs_is_reliable(root: &OwnedFd) -> bool {
    const EXT4: u64 = 0xef53;
    const BTRFS: u64 = 0x9123_683e;
    const TMPFS: u64 = 0x0102_1994;
    let Ok(statfs) = rustix::fs::fstatfs(root) else {
        return false;
    };
    matches!(statfs.f_type as u64, EXT4 | BTRFS | TMPFS)
        && linux_release().is_some_and(|release| release >= (5, 8))
}

#[cfg(not(target_os = "linux"))]
fn syncfs_is_reliable(_root: &OwnedFd) -> bool {
    false
}

/// The first two numbers of the kernel's release.
#[cfg(target_os = "linux")]
fn linux_release() -> Option<(u32, u32)> {
    let uname = rustix::system::uname();
    parse_release(uname.release().to_bytes())
}

#[cfg(target_os = "linux")]
fn parse_release(release: &[u8]) -> Option<(u32, u32)> {
    let mut numbers = release
        .split(|octet| !octet.is_ascii_digit())
        .map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn names(disk: &RealDisk, path: &str) -> Vec<PathBuf> {
        let mut names = disk.list(Path::new(path)).unwrap();
        names.sort();
        names
    }

    #[test]
    fn files_are_made_named_and_found() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        let (a, b, c) = (Path::new("d/a"), Path::new("d/b"), Path::new("c"));

        let file = disk.create(a, 0o622).unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.write_at(b"J", 0).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.set_times(time).unwrap();
        disk.sync(&[&*file], &[Path::new("d")]).unwrap();
        disk.sync(&[], &[Path::new("d"), Path::new("")]).unwrap();

        let metadata = std::fs::metadata(root.path().join("d/a")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o622);
        let stat = disk.stat(a).unwrap();
        assert_eq!(stat.inode, metadata.ino());
        assert_eq!((stat.octets, stat.is_file), (5, true));
        assert_eq!((stat.modified, stat.accessed), (time, time));
        assert_eq!(file.stat().unwrap(), stat);
        assert!(!disk.stat(Path::new("d")).unwrap().is_file);

        let exists = io::ErrorKind::AlreadyExists;
        assert_eq!(disk.create(a, 0o600).err().unwrap().kind(), exists);
        disk.link(a, b).unwrap();
        assert_eq!(disk.link(a, b).unwrap_err().kind(), exists);
        assert_eq!(disk.rename_new(a, b).unwrap_err().kind(), exists);
        disk.rename_new(a, c).unwrap();
        disk.unlink(b).unwrap();
        let missing = io::ErrorKind::NotFound;
        assert_eq!(disk.unlink(b).unwrap_err().kind(), missing);
        assert_eq!(names(&disk, ""), [Path::new("c"), Path::new("d")]);
        assert!(names(&disk, "d").is_empty());

        let mut room = [0; 8];
        let opened = disk.open(c, true).unwrap();
        assert_eq!(opened.read_at(&mut room, 1).unwrap(), 4);
        assert_eq!(&room[..4], b"ello");
        assert_eq!(opened.read_at(&mut room, 5).unwrap(), 0);
        opened.write_at(b"!", 4).unwrap();
        opened.truncate(2).unwrap();
        disk.sync(&[&*opened], &[]).unwrap();
        disk.set_times(c, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(disk.stat(c).unwrap().modified, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn links_out_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("s")).unwrap();
        assert!(disk.open(Path::new("s"), false).is_err());
        assert!(!disk.stat(Path::new("s")).unwrap().is_file);
        assert!(RealDisk::open(root.path().join("none")).is_err());
        assert!(disk.stat(Path::new("..")).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_part_on_another_file_system_is_synced_itself() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("here")).unwrap();
        let Some(elsewhere) = elsewhere(root.path()) else {
            return;
        };
        let disk = RealDisk::open(root.path()).unwrap();
        disk.whole().reliable = true;
        disk.create(Path::new("here/a"), 0o600).unwrap();
        assert!(disk.whole().reliable);
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("there")).unwrap();
        let file = disk.create(Path::new("there/a"), 0o600).unwrap();
        assert!(!disk.whole().reliable);
        disk.sync(&[&*file], &[Path::new("there"), Path::new("here")])
            .unwrap();
    }

    /// A directory on another file system, if this host has one that can be written to.
    #[cfg(target_os = "linux")]
    fn elsewhere(root: &Path) -> Option<tempfile::TempDir> {
        let here = std::fs::metadata(root).unwrap().dev();
        ["/dev/shm", "/var/tmp"].into_iter().find_map(|path| {
            let other = tempfile::tempdir_in(path).ok()?;
            (std::fs::metadata(other.path()).ok()?.dev() != here).then_some(other)
        })
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn kernel_releases_are_read() {
        for (text, release) in [
            ("6.18.44-fc-v445", Some((6, 18))),
            ("5.8.0", Some((5, 8))),
            ("4.19", Some((4, 19))),
            ("", None),
            ("6", None),
            ("x.y", None),
        ] {
            assert_eq!(parse_release(text.as_bytes()), release, "{text}");
        }
    }
}
