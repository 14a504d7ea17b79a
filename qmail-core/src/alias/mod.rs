//! Alias files and forwarding databases: `.forward`, `/etc/aliases`, mailing list files, and the databases that fastforward(1)
//! looks addresses up in.
//!
//! | text | read by | becomes |
//! |---|---|---|
//! | `.forward` | [`words`] | [`Word`]s |
//! | a list for `newinclude` | [`include_list`] | a binary list |
//! | `/etc/aliases` | [`aliases`] | [`Record`]s of a database |
//! | instructions for `setforward` | [`forwards`] | [`Record`]s of a database |
//! | a list for `setmaillist` | [`list_from_text`] | entries of a binary list |
//! | a database | [`expand`] | an [`Expansion`]: programs, and recipients with their sender |

mod aliases;
mod expand;
mod forwards;
mod list;
mod words;

pub use aliases::{AliasError, AliasProblem, aliases, include_list};
pub use expand::{ExpandError, Expansion, expand};
pub use forwards::{ForwardsError, Record, describe, forwards};
pub use list::{ListError, describe_list, entries, list_from_text};
pub use words::{Word, WordsError, words};

/// Longest address in octets that goes into a database or a list.
pub const TARGET_OCTETS_MAX: usize = 800;
