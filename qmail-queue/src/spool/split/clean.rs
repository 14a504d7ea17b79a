//! What is done for a queue manager that may not remove files of `mess`, `intd` and `todo` itself.

use std::sync::Arc;

use super::commit::Job;
use super::keeper::Removal;
use super::layout::Directory;
use super::route::{Answer, relink_job};
use super::{Inner, spares, unlink_if_there};
use crate::spool::{MessageId, SpoolError};

/// Does what is asked. Blocks; the answer comes after the sync, if there is one.
pub(super) fn clean(inner: &Arc<Inner>, removal: Removal, answer: Answer) {
    match removal {
        // A text that comes back after a power cut belongs to nobody, and is swept up when it is old: no sync.
        Removal::Text(id) => drop(answer.send(remove_text(inner, id))),
        Removal::Envelope(id) => forget(inner, id, answer, |inner, id| {
            // It is routed, with this name or without it, which is removed with the text, too.
            let _ = unlink_if_there(inner, Directory::Intd, id);
            Ok(())
        }),
        Removal::Message(id) => forget(inner, id, answer, |inner, id| {
            match spares::keep(inner, id) {
                true => Ok(()),
                false => remove_text(inner, id),
            }
        }),
    }
}

fn remove_text(inner: &Inner, id: MessageId) -> Result<(), SpoolError> {
    unlink_if_there(inner, Directory::Intd, id)?;
    unlink_if_there(inner, Directory::mess(id), id).map(drop)
}

/// The message is incoming no longer once this is durable, and then `rest` is done. On an error it is incoming, as it was: the other
/// name of the envelope is still there.
fn forget(
    inner: &Arc<Inner>,
    id: MessageId,
    answer: Answer,
    rest: fn(&Inner, MessageId) -> Result<(), SpoolError>,
) {
    // Also if it was gone: the sync after its removal may have failed.
    if let Err(error) = unlink_if_there(inner, Directory::Todo, id) {
        let _ = unlink_if_there(inner, Directory::Intd, id);
        return drop(answer.send(Err(error)));
    }
    let shared = Arc::clone(inner);
    inner.committer.submit(Job {
        files: Vec::new(),
        directories: vec![Directory::Todo],
        then: Box::new(move |synced| match synced {
            Ok(()) => {
                let _ = answer.send(rest(&shared, id));
                None
            }
            Err(source) => Some(relink_job(&shared, id, source, answer)),
        }),
    });
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use futures::executor::block_on;

    use super::*;
    use crate::helpers::clean::Request;
    use crate::{Choices, Disk, RealDisk, SimDisk, SplitSpool, Trouble, Workers};

    fn queue() -> (tempfile::TempDir, SplitSpool) {
        let root = tempfile::tempdir().unwrap();
        SplitSpool::create(root.path()).unwrap();
        let disk = RealDisk::open(root.path()).unwrap();
        let spool = SplitSpool::over(Arc::new(disk), Workers::inline());
        (root, spool)
    }

    fn put(root: &Path, id: MessageId) {
        let disk = RealDisk::open(root).unwrap();
        for directory in [Directory::mess(id), Directory::Intd, Directory::Todo] {
            disk.create(&directory.file(id), 0o644).unwrap();
        }
    }

    /// Which of mess, intd and todo are there.
    fn left(root: &Path, id: MessageId) -> [bool; 3] {
        [Directory::mess(id), Directory::Intd, Directory::Todo]
            .map(|directory| root.join(directory.file(id)).exists())
    }

    #[test]
    fn a_text_or_an_envelope_is_removed_whether_it_is_there_or_not() {
        let (root, spool) = queue();
        let id = MessageId(47);
        put(root.path(), id);
        for _ in 0..2 {
            block_on(spool.clean(Request::Envelope(id))).unwrap();
            assert_eq!(left(root.path(), id), [true, false, false]);
        }
        for _ in 0..2 {
            block_on(spool.clean(Request::Text(id))).unwrap();
            assert_eq!(left(root.path(), id), [false; 3]);
        }
    }

    #[test]
    fn an_obstacle_is_told() {
        let (root, spool) = queue();
        let id = MessageId(13);
        put(root.path(), id);
        let disk = RealDisk::open(root.path()).unwrap();
        disk.unlink(Path::new("todo/13")).unwrap();
        std::fs::create_dir(root.path().join("todo/13")).unwrap();
        assert!(block_on(spool.clean(Request::Envelope(id))).is_err());
        assert_eq!(left(root.path(), id), [true, false, true]);
        std::fs::create_dir(root.path().join("intd/13")).unwrap();
        assert!(block_on(spool.clean(Request::Text(id))).is_err());
        assert_eq!(left(root.path(), id), [true, true, true]);
    }

    /// A simulated queue with a message in `mess`, `intd` and `todo`, all of it durable.
    fn simulated(id: MessageId) -> (SimDisk, SplitSpool) {
        let disk = SimDisk::new(Directory::all().map(Directory::path));
        let [mess, intd, todo] = [Directory::mess(id), Directory::Intd, Directory::Todo];
        for directory in [mess, intd] {
            let file = disk.create(&directory.file(id), 0o644).unwrap();
            disk.sync(&[&*file], &[&directory.path()]).unwrap();
        }
        disk.link(&intd.file(id), &todo.file(id)).unwrap();
        disk.sync(&[], &[&todo.path()]).unwrap();
        let spool = SplitSpool::over(Arc::new(disk.clone()), Workers::inline());
        (disk, spool)
    }

    #[test]
    fn an_envelope_is_gone_for_good_when_its_removal_is_answered() {
        let id = MessageId(46);
        let (disk, spool) = simulated(id);
        block_on(spool.clean(Request::Envelope(id))).unwrap();
        let mut choices = Choices::every();
        loop {
            let found = disk.after_crash(&mut choices);
            assert!(found.stat(&Directory::Todo.file(id)).is_err());
            assert!(found.stat(&Directory::mess(id).file(id)).is_ok());
            if !choices.advance() {
                break;
            }
        }
    }

    #[test]
    fn a_message_stays_incoming_if_its_removal_is_not_durable() {
        let id = MessageId(46);
        let (disk, spool) = simulated(id);
        // The unlink comes first, then the sync.
        let sync = disk.operations() + 2;
        disk.plan(Trouble::Fail(sync, io::ErrorKind::Other));
        assert!(block_on(spool.clean(Request::Envelope(id))).is_err());
        assert!(disk.stat(&Directory::Todo.file(id)).is_ok());
    }

    #[test]
    fn only_old_newborn_files_are_swept_up() {
        let (root, spool) = queue();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let disk = RealDisk::open(root.path()).unwrap();
        for (name, hours) in [("pid/old", 37), ("pid/young", 35)] {
            disk.create(Path::new(name), 0o600).unwrap();
            let time = now - Duration::from_secs(hours * 3600);
            disk.set_times(Path::new(name), time).unwrap();
        }
        block_on(spool.sweep_newborn(now)).unwrap();
        assert_eq!(disk.list(Path::new("pid")).unwrap(), [Path::new("young")]);
    }
}
