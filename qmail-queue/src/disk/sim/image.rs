//! The two images of a simulated disk, and what is pending between them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Choices, split};
use crate::Stat;

/// Everything on the disk.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) now: SystemTime,
    inodes: BTreeMap<u64, Inode>,
    directories: BTreeMap<PathBuf, Directory>,
}

#[derive(Clone, Debug, Default)]
struct Directory {
    names: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    /// What each name has meant since the last sync, oldest first.
    pending: BTreeMap<OsString, Vec<Option<u64>>>,
}

#[derive(Clone, Debug)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    time: SystemTime,
    durable_time: SystemTime,
    /// Open handles: while there is one the number is not free.
    handles: usize,
}

/// A change of a file's content.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, octets: Arc<[u8]> },
    Truncate { octets: usize },
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, octets } => write(content, *offset, octets),
            Self::Truncate { octets } => content.resize(*octets, 0),
        }
    }

    /// Does what a crash may leave of it.
    fn apply_some(&self, content: &mut Vec<u8>, choices: &mut Choices) {
        // An octet cannot be torn.
        let possible = match self {
            Self::Write { octets, .. } if octets.len() > 1 => 4,
            _ => 2,
        };
        match (choices.choose(possible), self) {
            (0, _) => {}
            (2, Self::Write { offset, octets }) => {
                write(content, *offset, &octets[..octets.len() / 2]);
            }
            // The size was written, the data were not.
            (3, Self::Write { offset, octets }) => {
                write(content, *offset, &vec![0; octets.len()]);
            }
            _ => self.apply(content),
        }
    }
}

fn write(content: &mut Vec<u8>, offset: usize, octets: &[u8]) {
    let end = offset + octets.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(octets);
}

impl Image {
    pub(super) fn new(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            now: SystemTime::UNIX_EPOCH,
            inodes: BTreeMap::new(),
            directories: directories
                .into_iter()
                .map(|path| (path, Directory::default()))
                .collect(),
        }
    }

    fn directory(&mut self, path: &Path) -> io::Result<&mut Directory> {
        self.directories.get_mut(path).ok_or_else(missing)
    }

    fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(missing)
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        let (parent, name) = split(path)?;
        let directory = self.directories.get(parent).ok_or_else(missing)?;
        directory.names.get(&name).copied().ok_or_else(missing)
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<u64> {
        let inode = self.find(path)?;
        self.inode(inode)?.handles += 1;
        Ok(inode)
    }

    pub(super) fn close(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.handles -= 1;
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (parent, name) = split(path)?;
        self.directory(parent)?;
        self.forget_unused();
        // The lowest that is free: numbers are used again as soon as they may be.
        let free = (1..).zip(self.inodes.keys());
        let number = free
            .take_while(|(number, used)| number == *used)
            .last()
            .map_or(1, |(number, _)| number + 1);
        let inode = Inode {
            content: Vec::new(),
            durable: Vec::new(),
            pending: Vec::new(),
            time: self.now,
            durable_time: self.now,
            handles: 1,
        };
        self.inodes.insert(number, inode);
        self.directory(parent)?.set(name, Some(number));
        Ok(number)
    }

    /// Forgets files that no name can bring back and nobody has open.
    fn forget_unused(&mut self) {
        let directories = &self.directories;
        self.inodes.retain(|number, inode| {
            inode.handles > 0
                || directories.values().any(|directory| {
                    let pending = directory.pending.values().flatten().flatten();
                    directory.names.values().any(|named| named == number)
                        || directory.durable.values().any(|named| named == number)
                        || pending.into_iter().any(|named| named == number)
                })
        });
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let inode = self.find(from)?;
        let (parent, name) = split(to)?;
        let directory = self.directory(parent)?;
        if !replace && directory.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        directory.set(name, Some(inode));
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        let (parent, name) = split(path)?;
        self.directory(parent)?.set(name, None);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let directory = self.directories.get(path).ok_or_else(missing)?;
        Ok(directory.names.keys().map(PathBuf::from).collect())
    }

    pub(super) fn stat(&self, number: u64) -> io::Result<Stat> {
        let inode = self.inodes.get(&number).ok_or_else(missing)?;
        Ok(Stat {
            inode: number,
            octets: inode.content.len() as u64,
            modified: inode.time,
            accessed: inode.time,
            is_file: true,
        })
    }

    pub(super) fn content(&self, inode: u64) -> io::Result<&[u8]> {
        let inode = self.inodes.get(&inode).ok_or_else(missing)?;
        Ok(&inode.content)
    }

    pub(super) fn change(&mut self, inode: u64, change: Change) -> io::Result<()> {
        let now = self.now;
        let inode = self.inode(inode)?;
        change.apply(&mut inode.content);
        inode.time = now;
        inode.pending.push(change);
        Ok(())
    }

    pub(super) fn set_times(&mut self, inode: u64, time: SystemTime) -> io::Result<()> {
        self.inode(inode)?.time = time;
        Ok(())
    }

    pub(super) fn sync_file(&mut self, inode: u64) -> io::Result<()> {
        let inode = self.inode(inode)?;
        for change in std::mem::take(&mut inode.pending) {
            change.apply(&mut inode.durable);
        }
        inode.durable_time = inode.time;
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.directory(path)?;
        directory.pending.clear();
        directory.durable.clone_from(&directory.names);
        Ok(())
    }

    /// A failed sync: what was written stays to be read, and never becomes durable.
    pub(super) fn doom(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.pending.clear();
        }
    }

    pub(super) fn after_crash(&self, choices: &mut Choices) -> Self {
        let directories: BTreeMap<PathBuf, Directory> = self
            .directories
            .iter()
            .map(|(path, directory)| (path.clone(), directory.after_crash(choices)))
            .collect();
        let mut image = Self {
            now: self.now,
            inodes: BTreeMap::new(),
            directories,
        };
        // Only files that still have a name: what becomes of others is of no interest, and would be enumerated in vain.
        for (&number, inode) in &self.inodes {
            let named = image
                .directories
                .values()
                .any(|directory| directory.names.values().any(|&named| named == number));
            if named {
                image.inodes.insert(number, inode.after_crash(choices));
            }
        }
        image
    }
}

impl Directory {
    fn set(&mut self, name: OsString, inode: Option<u64>) {
        match inode {
            Some(inode) => self.names.insert(name.clone(), inode),
            None => self.names.remove(&name),
        };
        self.pending.entry(name).or_default().push(inode);
    }

    fn after_crash(&self, choices: &mut Choices) -> Self {
        let mut names = self.durable.clone();
        for (name, meanings) in &self.pending {
            let kept = choices.choose(meanings.len() + 1);
            match kept.checked_sub(1).map(|last| meanings[last]) {
                None => {}
                Some(Some(inode)) => drop(names.insert(name.clone(), inode)),
                Some(None) => drop(names.remove(name)),
            }
        }
        Self {
            durable: names.clone(),
            names,
            pending: BTreeMap::new(),
        }
    }
}

impl Inode {
    fn after_crash(&self, choices: &mut Choices) -> Self {
        let mut content = self.durable.clone();
        for change in &self.pending {
            change.apply_some(&mut content, choices);
        }
        let time = if self.time == self.durable_time || choices.choose(2) == 0 {
            self.durable_time
        } else {
            self.time
        };
        Self {
            durable: content.clone(),
            content,
            pending: Vec::new(),
            time,
            durable_time: time,
            handles: 0,
        }
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}
