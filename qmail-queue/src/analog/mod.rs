//! What a log of the queue tells: the model and the reports of qmailanalog. Pure and streaming.
//!
//! [`Matchup`] joins the lines that qmail-send wrote about a message to one [`Record`] for each message and each delivery
//! attempt; [`Report`]s add records up. Both read line after line from [`Lines`] and hold what is open, or what is printed, and
//! nothing else, within named bounds.
//!
//! ```
//! use qmail_queue::analog::Matchup;
//! let mut matchup = Matchup::default();
//! let mut out = Vec::new();
//! for line in ["1.0 info msg 7: bytes 10 from <a@b> qp 5 uid 6", "2.5 end msg 7"] {
//!     matchup.line(line.as_bytes(), &mut out);
//! }
//! assert_eq!(out, b"m 1.0 2.5 10 0 0 0 <a@b> 5 6\n");
//! ```

mod distribution;
mod lines;
mod matchup;
mod number;
mod overall;
mod record;
mod report;
mod sendmail;
mod stamp;
mod table;
#[cfg(test)]
mod tests;

pub use distribution::{DELAYS_MAX, Distribution};
pub use lines::{LINE_OCTETS_MAX, Lines};
pub use matchup::{Matchup, OPEN_OCTETS_MAX};
pub use overall::Overall;
pub use record::{Attempt, Message, Record};
pub use report::{KEYS_OCTETS_MAX, OTHERS, REPORTS, Report, Tally};
pub use sendmail::write_sendmail;
pub use stamp::Stamp;
pub use table::{TABLE_OCTETS_MAX, Table, TableFull};
