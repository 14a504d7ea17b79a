//! Header fields: taken apart, completed, rewritten, written.
//!
//! | to | use |
//! |---|---|
//! | split a message into fields and body | [`Splitter`] |
//! | rewrite a field with a list of addresses | [`address_list::rewrite`] with a [`Qualifier`] |
//! | read names and addresses of a field | [`mailbox::read`] |
//! | take a structured field apart | [`token::Lexer`] |
//! | write a date as qmail does, or label a log line | [`date`] |
//! | read a Date | [`FieldDate`] |
//! | rewrite hosts by rules | [`HostRules`] |
//! | know the local time | [`zone::Zone`] |
//! | write a Received field | [`received`] |

pub mod address_list;
pub mod date;
mod date_field;
mod field;
mod glance;
mod host_rules;
pub mod mailbox;
mod qualify;
pub mod received;
pub mod token;
pub mod zone;

pub use date_field::FieldDate;
pub use field::{Field, FieldTooLong, HeaderEnd, Part, Splitter};
pub use host_rules::HostRules;
pub use qualify::Qualifier;
