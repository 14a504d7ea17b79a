//! Both spools that keep files, for tests that are the same for each.

use std::path::PathBuf;
use std::sync::Arc;

use super::hold::HOLD;
use super::split::layout::Directory;
use super::{JournalConfig, JournalSpool, SplitSpool, Spool, SpoolError};
use crate::{SimDisk, Workers};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Split,
    /// With segments so small that there are many, and a file for each text of more than 400 octets.
    Journal,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Split, Self::Journal];

    /// An empty disk with the directories of such a spool.
    pub(crate) fn disk(self) -> SimDisk {
        let mut directories: Vec<PathBuf> = match self {
            Self::Split => Directory::all().map(Directory::path).collect(),
            Self::Journal => JournalSpool::DIRECTORIES.map(PathBuf::from).into(),
        };
        directories.extend(["", HOLD].map(PathBuf::from));
        SimDisk::new(directories)
    }

    /// The spool on a disk, as a start opens it.
    pub(crate) fn spool(self, disk: &SimDisk) -> Result<Arc<dyn Spool>, SpoolError> {
        let (disk, workers) = (Arc::new(disk.clone()), Workers::inline());
        Ok(match self {
            Self::Split => Arc::new(SplitSpool::over(disk, workers)),
            Self::Journal => {
                let config = JournalConfig {
                    segment_octets: 1024,
                    text_octets_max: 400,
                };
                Arc::new(JournalSpool::over(disk, workers, config)?)
            }
        })
    }
}
