//! Looking at a queue from outside, whether it runs or not.

mod count;
mod filter;
mod listing;
mod qread;
mod view;

pub use count::{Names, count_journal_messages, count_messages, count_names};
pub use filter::{Filter, Pattern};
pub use listing::{Listed, ListedRecipient, Listing};
pub use qread::write_qread;
pub use view::SHOWN_RECIPIENTS_MAX;
