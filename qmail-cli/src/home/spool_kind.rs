//! In which form a home keeps its queue.

use std::path::Path;

/// Where queued mail is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpoolKind {
    /// In a log of our own, below `queue/journal`.
    Journal,
    /// In qmail's own directories, below `queue`.
    Split,
    /// In memory, for tests.
    Memory,
}

impl SpoolKind {
    /// The form of a queue that is there; `None` if it is new. Where both forms are, as after a conversion that was broken off
    /// at its end, the journal counts.
    pub(crate) fn of(queue: &Path) -> Option<Self> {
        if queue.join("journal").exists() {
            Some(Self::Journal)
        } else if queue.join("mess").exists() {
            Some(Self::Split)
        } else {
            None
        }
    }

    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Split => "split",
            Self::Memory => "memory",
        }
    }
}
