//! Header fields: taken apart, completed, rewritten, written.
//!
//! | to | use |
//! |---|---|
//! | split a message into fields and body | [`Splitter`] |
//! | rewrite a field with a list of addresses | [`address_list::rewrite`] with a [`Qualifier`] |
//! | take a structured field apart | [`token::Lexer`] |
//! | write a date as qmail does, or label a log line | [`date`] |
//! | know the local time | [`zone::Zone`] |
//! | write a Received field | [`received`] |

pub mod address_list;
pub mod date;
mod field;
mod qualify;
pub mod received;
pub mod token;
pub mod zone;

pub use field::{Field, FieldTooLong, HeaderEnd, Part, Splitter};
pub use qualify::Qualifier;
