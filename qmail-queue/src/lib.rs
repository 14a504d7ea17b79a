//! A mail queue that loses nothing: a [`Spool`] keeps messages, a scheduler says when to try, an engine joins them to
//! deliveries.
//!
//! | to | use |
//! |---|---|
//! | have a whole queue | [`Engine`] of [`Parts`] and [`Config`]; its [`Queue`] takes messages and orders |
//! | keep messages | [`Spool`]: [`JournalSpool`], [`SplitSpool`] (qmail's own format), [`MemorySpool`], or your own |
//! | only put messages into a spool that another process works on | [`Intake`] |
//! | decide when to try what, and how much at once | [`Scheduler`], [`Limits`], [`next_attempt`] |
//! | put a disk or a clock of your own under it | [`Disk`], [`Clock`]: [`RealDisk`], [`SystemClock`], [`ManualClock`] |
//! | look at a queue from outside | [`Filter`], [`Listing`], [`count_messages`] |
//! | hold, release, reroute or delete single messages | [`Order`], [`carry_out`] |
//! | copy one spool into another | [`Change`] |
//! | hear what happens, in the lines of qmail-send | [`Log`], [`LogEvent`] |
//! | make sense of such a log | [`analog`] |
//! | take messages from programs of the host, or speak to qmail's helper programs | [`submission`], [`helpers`] |
//!
//! The engine spawns nothing and needs no runtime; `examples/custom_delivery.rs` is a queue with deliveries of its own.
#![forbid(unsafe_code)]

pub mod analog;
mod clock;
mod convert;
mod disk;
mod engine;
pub mod helpers;
mod inspect;
mod intake;
mod log;
mod order;
mod scheduler;
mod spool;
pub mod submission;
mod workers;

pub use clock::{Clock, ManualClock, Now, SystemClock};
pub use convert::{Adopt, Change, ChangeError, Changed, ConvertError, Copying, Damage, Form};
#[cfg(any(test, feature = "sim"))]
pub use disk::{Choices, SimDisk, Trouble};
pub use disk::{Disk, DiskFile, RealDisk, Stat};
pub use engine::{
    Config, Counts, ENVELOPES_OCTETS_MAX, Engine, Parts, Queue, REASON_OCTETS_MAX, REASONS_MAX,
    TOLD_MAX, TROUBLE_WAIT,
};
pub use inspect::{
    Filter, Listed, ListedRecipient, Listing, Names, Pattern, SHOWN_RECIPIENTS_MAX, count_messages,
    count_names, write_qread,
};
pub use intake::Intake;
pub use log::{Log, LogEvent, Masked, NoLog, Value, Verdict};
pub use order::{Answers, Done, Order, Refusal, carry_out, without_prefix};
pub use scheduler::{
    Attempt, IDLE_PASSES_MAX, JOBS_LOADED_MAX, JobId, Limits, PassId, Scheduler, Step, Taken,
    is_dying, next_attempt,
};
pub use spool::{
    Channel, Committed, Entry, Found, Incoming, JournalConfig, JournalSpool, MemorySpool,
    MessageId, Position, Recipient, Routed, Settled, SplitSpool, Spool, SpoolDraft, SpoolError,
    split,
};
pub use workers::Workers;
