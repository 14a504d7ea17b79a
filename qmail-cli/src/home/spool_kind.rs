//! In which form a home keeps its queue.

use std::path::Path;

use qmail_queue::Form;

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
    /// The form of a queue that is there; `None` if it is new.
    pub(crate) fn of(queue: &Path) -> Option<Self> {
        Form::of(queue).map(|form| match form {
            Form::Journal => Self::Journal,
            Form::Split => Self::Split,
        })
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
