//! The directories of a Maildir, and the names in them.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use md5::{Digest, Md5};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, renameat, statat, unlinkat,
};

use super::cache::{Fact, Facts};
use crate::{Listing, MaildropError};

/// Which directory a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    // In this order the sort below prefers `cur`.
    Cur,
    New,
}

/// The open directories of one Maildir.
#[derive(Debug)]
pub(super) struct Folders {
    new: OwnedFd,
    cur: OwnedFd,
    tmp: Option<OwnedFd>,
}

impl Folders {
    pub(super) fn open(path: &Path) -> Result<Self, MaildropError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let maildir = openat(CWD, path, flags, Mode::empty())
            .map_err(|error| MaildropError::Missing(error.into()))?;
        // A link below the Maildir could lead to somebody else's mail, where one user id serves many.
        let inner = |name| {
            openat(&maildir, name, flags | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|error| MaildropError::Unreadable(error.into()))
        };
        Ok(Self {
            new: inner("new")?,
            cur: inner("cur")?,
            tmp: inner("tmp").ok(),
        })
    }

    fn at(&self, place: Place) -> &OwnedFd {
        match place {
            Place::New => &self.new,
            Place::Cur => &self.cur,
        }
    }

    /// Removes what crashed deliveries left behind. A delivery gives up after 24 hours (maildir(5)).
    pub(super) fn clean_tmp(&self, now_seconds: i64) {
        let Some(tmp) = &self.tmp else {
            return;
        };
        // Nothing here can fail in a way that concerns the client.
        let _ = each_name(tmp, |name, kind| {
            if !may_be_message(name, kind) {
                return;
            }
            if let Ok(stat) = statat(tmp, name, AtFlags::SYMLINK_NOFOLLOW) {
                let touched = stat_seconds(stat.st_atime).max(stat_seconds(stat.st_mtime));
                if touched < now_seconds.saturating_sub(TMP_SECONDS_MAX) {
                    let _ = unlinkat(tmp, name, AtFlags::empty());
                }
            }
        });
    }

    /// Opens a message for reading, and gives its size.
    pub(super) fn read(&self, place: Place, name: &[u8]) -> io::Result<(OwnedFd, u64)> {
        // Not to wait for ever, should it have become a named pipe.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(self.at(place), name, flags, Mode::empty())?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((file, u64::try_from(stat.st_size).unwrap_or_default()))
    }

    pub(super) fn unlink(&self, place: Place, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(self.at(place), name, AtFlags::empty())?)
    }

    /// From `new/NAME` to `cur/NAME:2,`, never over something that is there.
    pub(super) fn move_to_cur(&self, name: &[u8]) -> io::Result<()> {
        let mut seen = name.to_vec();
        if !name.contains(&b':') {
            seen.extend_from_slice(b":2,");
        }
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            use rustix::io::Errno;
            match renameat_with(
                &self.new,
                name,
                &self.cur,
                &seen[..],
                RenameFlags::NOREPLACE,
            ) {
                // Not every file system can do it.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                result => return Ok(result?),
            }
        }
        if statat(&self.cur, &seen[..], AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(renameat(&self.new, name, &self.cur, &seen[..])?)
    }

    /// Looks for the messages by the unique part of their names, and unlinks them.
    pub(super) fn unlink_renamed(&self, names: &[&[u8]]) -> io::Result<()> {
        let bases: HashSet<&[u8]> = names.iter().map(|name| base(name)).collect();
        let mut failure = Ok(());
        for place in [Place::New, Place::Cur] {
            let mut found = Vec::new();
            each_name(self.at(place), |name, kind| {
                if may_be_message(name, kind) && bases.contains(base(name.to_bytes())) {
                    found.push(name.to_bytes().to_vec());
                }
            })?;
            for name in found {
                match self.unlink(place, &name) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => failure = Err(error),
                    _ => {}
                }
            }
        }
        failure
    }

    /// Looks for a message by the unique part of its name.
    pub(super) fn find_renamed(&self, name: &[u8]) -> io::Result<(Place, Vec<u8>)> {
        let mut found = None;
        // First where it comes from: what is renamed in between is then seen where it goes.
        for place in [Place::New, Place::Cur] {
            each_name(self.at(place), |other, kind| {
                if may_be_message(other, kind) && base(other.to_bytes()) == base(name) {
                    found = Some((place, other.to_bytes().to_vec()));
                }
            })?;
        }
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A Maildir as it was listed: which file each message is.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) folders: Folders,
    names: Vec<u8>,
    messages: Vec<Message>,
    /// The file system was asked of some message.
    news: bool,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    /// Its name in `names`: 4,000,000 names of 255 octets fit in 32 bits.
    start: u32,
    name_octets: u8,
    /// Up to the first `:`.
    base_octets: u8,
    place: Place,
    modified_seconds: i64,
    octets: u64,
}

impl Scan {
    /// Lists the messages whose modification time is less than `before_seconds`, if there is one.
    pub(super) fn new(
        folders: Folders,
        before_seconds: Option<i64>,
        known: &Facts,
    ) -> Result<(Self, Listing), MaildropError> {
        let mut scan = Self {
            folders,
            names: Vec::new(),
            messages: Vec::new(),
            news: false,
        };
        // In this order nothing is missed that is moved meanwhile, only seen twice.
        for place in [Place::New, Place::Cur] {
            scan.read(place, before_seconds, known)
                .map_err(MaildropError::Unreadable)?;
        }
        scan.sort();
        let mut listing = Listing::with_capacity(scan.messages.len());
        for message in &scan.messages {
            let base = scan.base(message);
            if Listing::is_id(base) {
                // There are no more than a listing takes.
                let _ = listing.push(message.octets, base);
            } else {
                let _ = listing.push(message.octets, hash(base).as_bytes());
            }
        }
        Ok((scan, listing))
    }

    fn read(&mut self, place: Place, before_seconds: Option<i64>, known: &Facts) -> io::Result<()> {
        let Self {
            folders,
            names,
            messages,
            news,
        } = self;
        let folder = folders.at(place);
        each_name(folder, |name, kind| {
            if !may_be_message(name, kind) || messages.len() == Listing::MESSAGES_MAX {
                return;
            }
            // Without the type in the directory, what has the name of a message may be none.
            let remembered = match kind {
                FileType::RegularFile => known.get(base(name.to_bytes())).copied(),
                _ => None,
            };
            *news |= remembered.is_none();
            let Some(fact) = remembered.or_else(|| look_at(folder, name)) else {
                return;
            };
            if before_seconds.is_some_and(|before| fact.modified_seconds >= before) {
                return;
            }
            let name = name.to_bytes();
            // A name of more than 255 octets is on no file system that keeps to POSIX; it is no message.
            let (Ok(start), Ok(name_octets), Ok(base_octets)) = (
                u32::try_from(names.len()),
                u8::try_from(name.len()),
                u8::try_from(base(name).len()),
            ) else {
                return;
            };
            names.extend_from_slice(name);
            messages.push(Message {
                start,
                name_octets,
                base_octets,
                place,
                modified_seconds: fact.modified_seconds,
                octets: fact.octets,
            });
        })
    }

    /// By time, then by name; each base name once.
    fn sort(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        messages.sort_unstable_by(|a, b| {
            (self.base(a), a.place, self.file_name(a)).cmp(&(
                self.base(b),
                b.place,
                self.file_name(b),
            ))
        });
        messages.dedup_by(|b, a| self.base(a) == self.base(b));
        // A stable sort keeps the order by name within a second. Names usually begin with the time, so that there is
        // little left to do.
        messages.sort_by_key(|message| message.modified_seconds);
        self.messages = messages;
    }

    /// Whether the next session would have to ask for something that is not among what is known.
    pub(super) fn adds_to(&self, known: &Facts) -> bool {
        self.news || self.messages.len() != known.len()
    }

    /// What the next session need not ask for.
    pub(super) fn facts(&self) -> Facts {
        let fact = |message: &Message| Fact {
            modified_seconds: message.modified_seconds,
            octets: message.octets,
        };
        self.messages
            .iter()
            .map(|message| (self.base(message).into(), fact(message)))
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The file of a message.
    pub(super) fn name(&self, message: usize) -> Option<(Place, &[u8])> {
        let message = self.messages.get(message)?;
        Some((message.place, self.file_name(message)))
    }

    fn file_name(&self, message: &Message) -> &[u8] {
        let start = message.start as usize;
        &self.names[start..start + usize::from(message.name_octets)]
    }

    fn base(&self, message: &Message) -> &[u8] {
        let start = message.start as usize;
        &self.names[start..start + usize::from(message.base_octets)]
    }
}

/// Time and size, if it is a regular file.
fn look_at(folder: &OwnedFd, name: &CStr) -> Option<Fact> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| Fact {
        modified_seconds: stat_seconds(stat.st_mtime),
        octets: u64::try_from(stat.st_size).unwrap_or_default(),
    })
}

/// Calls `found` for each name, in the order of the directory.
fn each_name(folder: &OwnedFd, mut found: impl FnMut(&CStr, FileType)) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        found(entry.file_name(), entry.file_type());
    }
    Ok(())
}

/// Whether it is worth asking the file system: not every one tells types with names.
fn may_be_message(name: &CStr, kind: FileType) -> bool {
    name.to_bytes().first() != Some(&b'.')
        && matches!(kind, FileType::RegularFile | FileType::Unknown)
}

/// The unique part of a name.
fn base(name: &[u8]) -> &[u8] {
    match memchr::memchr(b':', name) {
        Some(colon) => &name[..colon],
        None => name,
    }
}

/// A unique id for a name that cannot be one.
fn hash(name: &[u8]) -> String {
    Md5::digest(name)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

/// The type of a time differs between platforms.
fn stat_seconds<T: TryInto<i64>>(seconds: T) -> i64 {
    seconds.try_into().unwrap_or_default()
}

/// What is in `tmp` longer than this without being touched is removed: 36 hours, as qmail-pop3d(8) does.
const TMP_SECONDS_MAX: i64 = 129_600;
