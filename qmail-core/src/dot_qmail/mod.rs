//! Instruction files, `.qmail`: which one serves an address, what its lines mean, what programs are told (dot-qmail(5),
//! qmail-command(8)).
//!
//! All of it is pure: the names to try come out as octets, and whoever owns a file system tries them.

mod instructions;
mod mailbox;
mod search;
mod variables;

pub use instructions::{Instruction, InstructionError, Instructions, instructions};
pub use mailbox::{Mailbox, from_line, return_path};
pub use search::{Candidate, Candidates, Owner};
pub use variables::{SenderOf, variables};
