//! A mail queue that loses nothing: a [`Spool`] keeps messages, a scheduler says when to try, an engine joins them to
//! deliveries.
#![forbid(unsafe_code)]

mod clock;
mod disk;
mod spool;
mod workers;

pub use clock::{Clock, ManualClock, Now, SystemClock};
#[cfg(any(test, feature = "sim"))]
pub use disk::{Choices, SimDisk, Trouble};
pub use disk::{Disk, DiskFile, RealDisk, Stat};
pub use spool::{
    Channel, Committed, Entry, Found, Incoming, MemorySpool, MessageId, Position, Recipient,
    Routed, Settled, SplitSpool, Spool, SpoolDraft, SpoolError, split,
};
pub use workers::Workers;
