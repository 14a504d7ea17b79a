//! From accepted to routed, and what happens to a routed message: `info`, `local`, `remote`, `bounce`.
//!
//! | step | durable after it |
//! |---|---|
//! | remove what a broken-off try left, create `info`, `local`, `remote`, for recipients that can go nowhere `bounce` | nothing yet; `todo` counts |
//! | sync them and the directories that were changed | all of it; `todo` still counts |
//! | unlink `todo/ID` | |
//! | sync `todo` | the message is **routed** |
//! | unlink `intd/ID` | nothing depends on it |

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures::channel::oneshot;
use qmail_core::Address;

use super::commit::Job;
use super::format;
use super::keeper::Removal;
use super::layout::{Directory, ROUTED_MODE};
use super::{Inner, create_afresh, exists, spares, unlink_if_there};
use crate::DiskFile;
use crate::spool::{Channel, MessageId, Position, Routed, SpoolError};

/// Recipients are written in pieces of about this size.
const WRITE_OCTETS: usize = 64 * 1024;

pub(super) type Answer = oneshot::Sender<Result<(), SpoolError>>;

/// Writes where the recipients go. Blocks; the answer comes after the syncs.
pub(super) fn route(inner: &Arc<Inner>, id: MessageId, routed: &Routed, answer: Answer) {
    let mut written = Written::default();
    match write_all(inner, id, routed, &mut written) {
        Ok(()) => inner.committer.submit(sync_job(inner, id, written, answer)),
        Err(error) => {
            take_back(inner, id);
            let _ = answer.send(Err(error));
        }
    }
}

#[derive(Default)]
struct Written {
    files: Vec<Box<dyn DiskFile>>,
    directories: Vec<Directory>,
}

fn write_all(
    inner: &Inner,
    id: MessageId,
    routed: &Routed,
    written: &mut Written,
) -> Result<(), SpoolError> {
    let birth = SystemTime::UNIX_EPOCH + Duration::from_secs(routed.birth_seconds);
    if !exists(inner, Directory::Todo, id)? {
        return Err(SpoolError::Read {
            path: Directory::Todo.file(id),
            source: io::ErrorKind::NotFound.into(),
        });
    }
    // A note of a message that had this number before, or of a broken-off try, is nobody's business any more.
    if routed.failures.is_empty() {
        if unlink_if_there(inner, Directory::Bounce, id)? {
            written.directories.push(Directory::Bounce);
        }
    } else {
        let path = Directory::Bounce.file(id);
        let (file, _) = create_afresh(&*inner.disk, &path, ROUTED_MODE)?;
        let filled = file.write_at(&routed.failures, 0);
        filled.map_err(|source| SpoolError::Write { path, source })?;
        written.files.push(file);
        written.directories.push(Directory::Bounce);
    }
    let channels = [
        (Channel::Local, &routed.local),
        (Channel::Remote, &routed.remote),
    ];
    for (channel, recipients) in channels {
        let directory = Directory::channel(channel, id);
        if recipients.is_empty() {
            // Its removal must last: it would be taken for a channel of this message.
            if unlink_if_there(inner, directory, id)? {
                written.directories.push(directory);
            }
            continue;
        }
        let file = write_recipients(inner, directory.file(id), recipients)?;
        written.files.push(file);
        written.directories.push(directory);
    }
    let mut sender = Vec::new();
    format::write_sender(&routed.sender, &mut sender);
    let directory = Directory::info(id);
    let path = directory.file(id);
    let (file, _) = create_afresh(&*inner.disk, &path, ROUTED_MODE)?;
    // Last of all, so that the write does not change the time again.
    let filled = file
        .write_at(&sender, 0)
        .and_then(|()| file.set_times(birth));
    filled.map_err(|source| SpoolError::Write { path, source })?;
    written.files.push(file);
    written.directories.push(directory);
    Ok(())
}

fn write_recipients(
    inner: &Inner,
    path: PathBuf,
    recipients: &[Address],
) -> Result<Box<dyn DiskFile>, SpoolError> {
    let (file, _) = create_afresh(&*inner.disk, &path, ROUTED_MODE)?;
    let (mut buffer, mut at) = (Vec::new(), 0);
    let mut flush = |buffer: &mut Vec<u8>| -> io::Result<()> {
        file.write_at(buffer, at)?;
        at += buffer.len() as u64;
        buffer.clear();
        Ok(())
    };
    for recipient in recipients {
        format::write_recipient(recipient, &mut buffer);
        if buffer.len() >= WRITE_OCTETS {
            flush(&mut buffer).map_err(|source| SpoolError::Write {
                path: path.clone(),
                source,
            })?;
        }
    }
    flush(&mut buffer).map_err(|source| SpoolError::Write { path, source })?;
    Ok(file)
}

fn sync_job(inner: &Arc<Inner>, id: MessageId, written: Written, answer: Answer) -> Job {
    let inner = Arc::clone(inner);
    Job {
        files: written.files,
        directories: written.directories,
        then: Box::new(move |synced| {
            let path = Directory::Todo.file(id);
            let result = match synced {
                // The rest is for the keeper.
                Ok(()) if inner.managed.is_some() => {
                    let _ = answer.send(Ok(()));
                    return None;
                }
                Ok(()) => inner.disk.unlink(&path),
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => Some(todo_job(&inner, id, answer)),
                Err(source) => {
                    take_back(&inner, id);
                    let _ = answer.send(Err(SpoolError::Write { path, source }));
                    None
                }
            }
        }),
    }
}

fn todo_job(inner: &Arc<Inner>, id: MessageId, answer: Answer) -> Job {
    let inner = Arc::clone(inner);
    Job {
        files: Vec::new(),
        directories: vec![Directory::Todo],
        then: Box::new(move |synced| match synced {
            Ok(()) => {
                // Without it nothing is lost but a name, which is removed with the message, too.
                let _ = inner.disk.unlink(&Directory::Intd.file(id));
                let _ = answer.send(Ok(()));
                None
            }
            Err(source) => Some(relink_job(&inner, id, source, answer)),
        }),
    }
}

/// Incoming it was and incoming it stays: the other name of the envelope is still there, but for messages of programs that
/// moved it instead of linking it. The next try replaces files that count if `todo` does not, so `todo` is synced first.
pub(super) fn relink_job(inner: &Inner, id: MessageId, failed: io::Error, answer: Answer) -> Job {
    let path = Directory::Todo.file(id);
    let _ = inner.disk.link(&Directory::Intd.file(id), &path);
    Job {
        files: Vec::new(),
        directories: vec![Directory::Todo],
        then: Box::new(move |_| {
            let _ = answer.send(Err(SpoolError::Write {
                path,
                source: failed,
            }));
            None
        }),
    }
}

/// Removes what a failed try has written, if the message is incoming all the same: it must never be neither. What remains is
/// removed by the next try.
pub(super) fn take_back(inner: &Inner, id: MessageId) {
    if !matches!(exists(inner, Directory::Todo, id), Ok(true)) {
        return;
    }
    for directory in [
        Directory::info(id),
        Directory::channel(Channel::Local, id),
        Directory::channel(Channel::Remote, id),
        Directory::Bounce,
    ] {
        let _ = inner.disk.unlink(&directory.file(id));
    }
}

/// Marks recipients as done. Blocks; the answer comes after the sync. With a closed channel all are done already.
pub(super) fn mark_done(
    inner: &Inner,
    id: MessageId,
    channel: Channel,
    positions: &[Position],
    answer: Answer,
) {
    match overwrite_letters(inner, id, channel, positions) {
        Ok(Some(file)) => {
            let path = Directory::channel(channel, id).file(id);
            inner.committer.submit(Job {
                files: vec![file],
                directories: Vec::new(),
                then: Box::new(move |synced| {
                    let _ =
                        answer.send(synced.map_err(|source| SpoolError::Write { path, source }));
                    None
                }),
            });
        }
        Ok(None) => drop(answer.send(Ok(()))),
        Err(error) => drop(answer.send(Err(error))),
    }
}

/// Overwrites the letters of records with `D`; gives the file to sync, or `None` if there is none.
fn overwrite_letters(
    inner: &Inner,
    id: MessageId,
    channel: Channel,
    positions: &[Position],
) -> Result<Option<Box<dyn DiskFile>>, SpoolError> {
    let path = Directory::channel(channel, id).file(id);
    let file = match inner.disk.open(&path, true) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SpoolError::Write { path, source }),
    };
    for position in positions {
        let mut letter = [0];
        let read = file.read_at(&mut letter, position.0);
        match read.map(|count| (count, letter)) {
            // A mark that is there already is written again: the sync after it may have failed, and the system then takes the
            // octet for written.
            Ok((1, [b'T' | b'D'])) => {
                if let Err(source) = file.write_at(b"D", position.0) {
                    return Err(SpoolError::Write { path, source });
                }
            }
            Ok(_) => {
                return Err(SpoolError::Damaged {
                    path,
                    reason: format!("no recipient begins at octet {}", position.0),
                });
            }
            Err(source) => return Err(SpoolError::Read { path, source }),
        }
    }
    Ok(Some(file))
}

/// Closes a channel. Blocks; the answer comes after the sync.
pub(super) fn close_channel(inner: &Inner, id: MessageId, channel: Channel, answer: Answer) {
    let directory = Directory::channel(channel, id);
    match unlink_if_there(inner, directory, id) {
        // Also if it was gone: the sync after its removal may have failed.
        Ok(_) => inner.committer.submit(Job {
            files: Vec::new(),
            directories: vec![directory],
            then: Box::new(move |synced| {
                let path = directory.path();
                let _ = answer.send(synced.map_err(|source| SpoolError::Write { path, source }));
                None
            }),
        }),
        Err(error) => drop(answer.send(Err(error))),
    }
}

/// Appends a note of failure. Blocks; the answer comes after the sync.
pub(super) fn note_failure(inner: &Arc<Inner>, id: MessageId, note: &[u8], answer: Answer) {
    let (file, start) = match append_note(inner, id, note) {
        Ok(appended) => appended,
        Err(error) => return drop(answer.send(Err(error))),
    };
    let shared = Arc::clone(inner);
    inner.committer.submit(Job {
        files: vec![file],
        directories: Vec::from_iter(start.is_none().then_some(Directory::Bounce)),
        then: Box::new(move |synced| {
            let result = synced.map_err(|source| {
                take_note_back(&shared, id, start);
                let path = Directory::Bounce.file(id);
                SpoolError::Write { path, source }
            });
            let _ = answer.send(result);
            None
        }),
    });
}

/// Gives the file to sync and where in it the note begins; `None` if the file was made for it.
fn append_note(
    inner: &Inner,
    id: MessageId,
    note: &[u8],
) -> Result<(Box<dyn DiskFile>, Option<u64>), SpoolError> {
    let path = Directory::Bounce.file(id);
    let (file, start) = match inner.disk.open(&path, true) {
        Ok(file) => match file.stat() {
            Ok(stat) => (file, Some(stat.octets)),
            Err(source) => return Err(SpoolError::Write { path, source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match inner.disk.create(&path, ROUTED_MODE) {
                Ok(file) => (file, None),
                Err(source) => return Err(SpoolError::Create { path, source }),
            }
        }
        Err(source) => return Err(SpoolError::Write { path, source }),
    };
    match file.write_at(note, start.unwrap_or(0)) {
        Ok(()) => Ok((file, start)),
        Err(source) => {
            take_note_back(inner, id, start);
            Err(SpoolError::Write { path, source })
        }
    }
}

/// Removes a note that could not be written or synced, so that the next try begins where this one did.
fn take_note_back(inner: &Inner, id: MessageId, start: Option<u64>) {
    let path = Directory::Bounce.file(id);
    // If this fails as well, a part of the note is told twice.
    let _ = match start {
        None => inner.disk.unlink(&path),
        Some(start) => inner
            .disk
            .open(&path, true)
            .and_then(|file| file.truncate(start)),
    };
}

/// Forgets the text of failures. Blocks; the answer comes after the sync.
pub(super) fn clear_failures(inner: &Arc<Inner>, id: MessageId, answer: Answer) {
    match unlink_if_there(inner, Directory::Bounce, id) {
        // Most messages have none, and need no sync.
        Ok(false) if !inner.bounce_in_doubt.load(Ordering::Relaxed) => {
            let _ = answer.send(Ok(()));
        }
        Ok(_) => {
            let shared = Arc::clone(inner);
            inner.committer.submit(Job {
                files: Vec::new(),
                directories: vec![Directory::Bounce],
                then: Box::new(move |synced| {
                    let result = synced.map_err(|source| {
                        shared.bounce_in_doubt.store(true, Ordering::Relaxed);
                        let path = Directory::Bounce.path();
                        SpoolError::Write { path, source }
                    });
                    let _ = answer.send(result);
                    None
                }),
            });
        }
        Err(error) => drop(answer.send(Err(error))),
    }
}

/// Removes a settled message. Blocks; the answer comes after the sync.
///
/// What makes it a message goes first and for good, the sender or, if it was never routed, its name in `todo`: with that it is
/// forgotten, and what else is left of it is only in the way. The other removals need not be durable: what they leave is swept up
/// when it is old, or by the next message of that number.
pub(super) fn remove(inner: &Arc<Inner>, id: MessageId, answer: Answer) {
    let info = Directory::info(id);
    let removed = unlink_if_there(inner, info, id)
        .and_then(|routed| Ok((routed, unlink_if_there(inner, Directory::Todo, id)?)));
    let directories = match removed {
        Ok((false, true)) => vec![Directory::Todo],
        Ok((true, true)) => vec![info, Directory::Todo],
        // Also if it was gone: the sync after its removal may have failed.
        Ok((_, false)) => vec![info],
        Err(error) => {
            let _ = answer.send(Err(error));
            return;
        }
    };
    let shared = Arc::clone(inner);
    inner.committer.submit(Job {
        files: Vec::new(),
        directories,
        then: Box::new(move |synced| match synced {
            Ok(()) => {
                let never_routed = matches!(removed, Ok((false, true)));
                let kept = never_routed && spares::keep(&shared, id);
                let result = if kept {
                    Ok(())
                } else {
                    remove_rest(&shared, id)
                };
                let _ = answer.send(result);
                None
            }
            // It is found again as it was, by the next try or the next start.
            Err(source) if matches!(removed, Ok((_, true))) => {
                Some(relink_job(&shared, id, source, answer))
            }
            Err(source) => {
                let path = info.path();
                let _ = answer.send(Err(SpoolError::Write { path, source }));
                None
            }
        }),
    });
}

/// Removes the manager's half of a settled message. Blocks; what is left for the keeper is answered after the sync, if one is needed.
pub(super) fn remove_own(
    inner: &Arc<Inner>,
    id: MessageId,
    answer: oneshot::Sender<Result<Removal, SpoolError>>,
) {
    let info = Directory::info(id);
    let removed = unlink_if_there(inner, info, id)
        .and_then(|routed| Ok((routed, exists(inner, Directory::Todo, id)?)));
    let removal = match removed {
        // Never routed, it has no more here.
        Ok((false, true)) => return drop(answer.send(Ok(Removal::Message(id)))),
        Ok((true, true)) => Removal::Message(id),
        // Also if it was gone: the sync after its removal may have failed.
        Ok((_, false)) => Removal::Text(id),
        Err(error) => return drop(answer.send(Err(error))),
    };
    let shared = Arc::clone(inner);
    inner.committer.submit(Job {
        files: Vec::new(),
        directories: vec![info],
        then: Box::new(move |synced| {
            let path = info.path();
            let synced = synced.map_err(|source| SpoolError::Write { path, source });
            let own = synced.and_then(|()| {
                for directory in [
                    Directory::channel(Channel::Local, id),
                    Directory::channel(Channel::Remote, id),
                    Directory::Bounce,
                ] {
                    unlink_if_there(&shared, directory, id)?;
                }
                Ok(removal)
            });
            let _ = answer.send(own);
            None
        }),
    });
}

/// Removes all files of a message that is neither in `todo` nor in `info`, the text last.
pub(super) fn remove_rest(inner: &Inner, id: MessageId) -> Result<(), SpoolError> {
    for directory in [
        Directory::channel(Channel::Local, id),
        Directory::channel(Channel::Remote, id),
        Directory::Bounce,
        Directory::Intd,
        Directory::mess(id),
    ] {
        unlink_if_there(inner, directory, id)?;
    }
    Ok(())
}
