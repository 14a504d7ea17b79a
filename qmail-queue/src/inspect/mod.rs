//! Looking at a queue from outside, whether it runs or not.

mod count;
mod listing;
mod qread;

pub use count::{Names, count_journal_messages, count_messages, count_names};
pub use listing::{Listed, ListedRecipient, Listing};
pub use qread::write_qread;
