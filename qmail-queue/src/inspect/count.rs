//! Counting the messages of a split-directory queue by the names in its directories.

use std::collections::HashSet;
use std::io;

use crate::split::layout::{Directory, SPLIT, message_id};
use crate::spool::journal;
use crate::{Disk, MessageId, SpoolError};

/// How many messages a split-directory queue holds: accepted, and not yet removed.
///
/// The queue may run meanwhile: a message on its way from one directory to the next is counted once, one that comes or goes
/// meanwhile maybe. Foreign names are passed over. Takes the memory of the messages that are not routed yet.
///
/// # Errors
///
/// A directory that cannot be listed.
pub fn count_messages(disk: &dyn Disk) -> io::Result<u64> {
    // In this order: what moves from `todo` to `info` in between is in both lists, and never in none.
    let incoming: HashSet<MessageId> = messages(disk, Directory::Todo)?.collect();
    let mut count = incoming.len() as u64;
    for part in 0..SPLIT as u8 {
        for id in messages(disk, Directory::Info(part))? {
            count += u64::from(!incoming.contains(&id));
        }
    }
    Ok(count)
}

/// How many messages a journal holds. The queue may run meanwhile: what is told is what the disk says at some moment of the
/// count. Takes the memory of an index.
///
/// # Errors
///
/// The journal cannot be read.
pub fn count_journal_messages(disk: &dyn Disk) -> Result<u64, SpoolError> {
    for _ in 1..JOURNAL_TRIES {
        match journal::count(disk) {
            // A segment was removed meanwhile.
            Err(SpoolError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    journal::count(disk)
}

/// How often a journal is read again that changes meanwhile.
const JOURNAL_TRIES: usize = 9;

/// What the directories of a split-directory queue hold, as qmail-qstat(8) counts it: by names, so that a million take no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Under `mess`: messages that are queued, being taken or being removed.
    pub texts: u64,
    /// In `todo`: messages that are accepted and not routed.
    pub incoming: u64,
}

/// Counts the names in a queue.
///
/// # Errors
///
/// A directory that cannot be listed.
pub fn count_names(disk: &dyn Disk) -> io::Result<Names> {
    let count = |directory: Directory| Ok(disk.list(&directory.path())?.len() as u64);
    let texts = (0..SPLIT as u8).map(|part| count(Directory::Mess(part)));
    Ok(Names {
        texts: texts.sum::<io::Result<u64>>()?,
        incoming: count(Directory::Todo)?,
    })
}

fn messages(disk: &dyn Disk, directory: Directory) -> io::Result<impl Iterator<Item = MessageId>> {
    let names = disk.list(&directory.path())?;
    Ok(names
        .into_iter()
        .filter_map(move |name| message_id(&name).filter(|&id| directory.may_hold(id))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{RealDisk, SplitSpool};

    #[test]
    fn a_message_is_counted_once_and_foreign_files_never() {
        let root = tempfile::tempdir().unwrap();
        SplitSpool::create(root.path()).unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        assert_eq!(count_messages(&disk).unwrap(), 0);
        for name in [
            "todo/24",
            "todo/25",
            "info/1/24",
            "info/3/26",
            "info/3/27",
            "todo/core",
            "mess/5/28",
        ] {
            disk.create(Path::new(name), 0o600).unwrap();
        }
        assert_eq!(count_messages(&disk).unwrap(), 3);
        let names = Names {
            texts: 1,
            incoming: 3,
        };
        assert_eq!(count_names(&disk).unwrap(), names);
    }
}
