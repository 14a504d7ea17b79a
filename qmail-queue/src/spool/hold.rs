//! Messages that are held, as names in a directory of their own: what a spool can keep beside its files without changing them.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{MessageId, SpoolError};
use crate::Disk;
use crate::split::layout;

/// The directory.
pub(super) const HOLD: &str = "hold";

/// Which messages are held, as far as this process knows: their removal releases them.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<HashSet<MessageId>>);

impl Holds {
    fn known(&self) -> MutexGuard<'_, HashSet<MessageId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a message: `make` makes the name, unless it is there. Durable on return.
    pub(super) fn hold(
        &self,
        disk: &dyn Disk,
        id: MessageId,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), SpoolError> {
        let path = name(id);
        write_down(disk, path.clone(), || match make(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        })?;
        self.known().insert(id);
        Ok(())
    }

    /// Releases a message; durable on return.
    pub(super) fn release(&self, disk: &dyn Disk, id: MessageId) -> Result<(), SpoolError> {
        let path = name(id);
        write_down(disk, path.clone(), || match disk.unlink(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        })?;
        self.known().remove(&id);
        Ok(())
    }

    pub(super) fn knows(&self, id: MessageId) -> bool {
        self.known().contains(&id)
    }

    /// A message is gone. Its name may come back by a crash: it holds nobody then, and [`Holds::list`] removes it.
    pub(super) fn forget(&self, disk: &dyn Disk, id: MessageId) {
        self.known().remove(&id);
        let _ = disk.unlink(&name(id));
    }

    /// The messages that are held. Names of others are removed.
    pub(super) fn list(
        &self,
        disk: &dyn Disk,
        is_current: impl Fn(MessageId) -> Result<bool, SpoolError>,
    ) -> Result<HashSet<MessageId>, SpoolError> {
        let names = match disk.list(Path::new(HOLD)) {
            Ok(names) => names,
            // A queue of the classic programs has no such directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
            Err(source) => {
                let path = PathBuf::from(HOLD);
                return Err(SpoolError::Read { path, source });
            }
        };
        let mut found = HashSet::new();
        for id in names.iter().filter_map(|name| layout::message_id(name)) {
            if is_current(id)? {
                found.insert(id);
            } else {
                // It may stay: it counts for nothing.
                let _ = disk.unlink(&name(id));
            }
        }
        self.known().extend(&found);
        Ok(found)
    }
}

/// The name by which a message is held.
pub(super) fn name(id: MessageId) -> PathBuf {
    Path::new(HOLD).join(id.to_string())
}

fn write_down(
    disk: &dyn Disk,
    path: PathBuf,
    change: impl FnOnce() -> io::Result<()>,
) -> Result<(), SpoolError> {
    change()
        .and_then(|()| disk.sync(&[], &[Path::new(HOLD)]))
        .map_err(|source| SpoolError::Write { path, source })
}
