//! Messages that are held: a directory of our own, which the classic programs do not look at.
//!
//! `hold/ID` is another name of `info/N/ID`. It holds that very message and no other: when the message is gone and its number is
//! given away again, the new `info/N/ID` is another file, and the old name counts for nothing.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use super::layout::Directory;
use super::{Inner, SpoolError};
use crate::MessageId;
use crate::spool::hold;

/// Holds or releases a message; durable on return.
pub(super) fn set(inner: &Inner, id: MessageId, hold: bool) -> Result<(), SpoolError> {
    let disk = &*inner.disk;
    if !hold {
        return inner.holds.release(disk, id);
    }
    if !is_current(inner, id)? {
        // A name that is left from another message is in the way.
        let _ = disk.unlink(&hold::name(id));
    }
    let info = Directory::info(id).file(id);
    inner.holds.hold(disk, id, |name| disk.link(&info, name))
}

/// The messages that are held.
pub(super) fn list(inner: &Inner) -> Result<HashSet<MessageId>, SpoolError> {
    inner.holds.list(&*inner.disk, |id| is_current(inner, id))
}

/// Whether `hold` names the message that has this number now.
fn is_current(inner: &Inner, id: MessageId) -> Result<bool, SpoolError> {
    let inode = |path: PathBuf| match inner.disk.stat(&path) {
        Ok(stat) => Ok(Some(stat.inode)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SpoolError::Read { path, source }),
    };
    let hold = inode(hold::name(id))?;
    Ok(hold.is_some() && hold == inode(Directory::info(id).file(id))?)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use qmail_core::{Address, Envelope, Origin, ReversePath};

    use crate::{
        Disk as _, Entry, MessageId, RealDisk, Routed, Settled, SplitSpool, Spool, Workers,
    };

    async fn routed(spool: &SplitSpool) -> MessageId {
        let entry = Entry {
            origin: Origin::Network,
            uid: 1,
            pid: 1,
            now: std::time::SystemTime::UNIX_EPOCH,
        };
        let to = Address::new("a@b").unwrap();
        let draft = spool.begin(entry).await.unwrap();
        let envelope = Envelope::new(ReversePath::Null, vec![to.clone()]);
        let id = draft.commit(&envelope).await.unwrap().id;
        let routed = Routed {
            remote: vec![to],
            ..Routed::default()
        };
        spool.route(id, routed).await.unwrap();
        id
    }

    #[test]
    fn a_hold_outlives_the_process_and_not_the_message() {
        let root = tempfile::tempdir().unwrap();
        SplitSpool::create(root.path()).unwrap();
        let open = || SplitSpool::open(root.path(), Workers::inline()).unwrap();
        block_on(async {
            let spool = open();
            let (held, free) = (routed(&spool).await, routed(&spool).await);
            for _ in 0..2 {
                spool.set_held(held, true).await.unwrap();
                spool.set_held(free, false).await.unwrap();
            }
            let spool = open();
            assert_eq!(spool.held().await.unwrap(), [held].into());
            spool.remove(Settled::new(held)).await.unwrap();
            assert!(!root.path().join("hold").join(held.to_string()).exists());
            assert!(spool.held().await.unwrap().is_empty());
        });
    }

    #[test]
    fn a_name_that_is_left_holds_no_other_message() {
        let root = tempfile::tempdir().unwrap();
        SplitSpool::create(root.path()).unwrap();
        let spool = SplitSpool::open(root.path(), Workers::inline()).unwrap();
        block_on(async {
            let id = routed(&spool).await;
            let left = root.path().join("hold").join(id.to_string());
            let leave = || {
                let disk = RealDisk::open(root.path()).unwrap();
                let name = std::path::Path::new("hold").join(id.to_string());
                disk.create(&name, 0o600).unwrap();
            };
            leave();
            assert!(spool.held().await.unwrap().is_empty());
            assert!(!left.exists());
            leave();
            spool.set_held(id, true).await.unwrap();
            assert_eq!(spool.held().await.unwrap(), [id].into());
        });
    }

    #[test]
    fn a_queue_without_the_directory_says_which_one_is_missing() {
        let root = tempfile::tempdir().unwrap();
        SplitSpool::create(root.path()).unwrap();
        std::fs::remove_dir(root.path().join("hold")).unwrap();
        let spool = SplitSpool::open(root.path(), Workers::inline()).unwrap();
        block_on(async {
            assert!(spool.held().await.unwrap().is_empty());
            let id = routed(&spool).await;
            let error = spool.set_held(id, true).await.unwrap_err();
            assert!(error.to_string().contains("hold/"), "{error}");
        });
    }
}
