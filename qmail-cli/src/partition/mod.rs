//! `qmail start`: a mail system of parties that do not trust each other, started and watched by a supervisor that parses no mail.
//!
//! ```text
//!   internet --> network --run/submit--> writer --trigger--> manager --> launcher --> mailboxes
//!                           ^                                   |  \---> remote ---> internet
//!   programs of the host ---/                                   \------> cleaner
//!                                    what all of them say ----> log
//! ```
//!
//! | party | account | has |
//! |---|---|---|
//! | network | qmaild | the ports, no file |
//! | writer | qmailq | the half of the queue that holds messages; asks the kernel who submits |
//! | manager | qmails | the half of the queue that says what is to be done; runs nothing |
//! | cleaner | qmailq | removes messages that the manager is done with |
//! | remote | qmailr | message files to read, the internet |
//! | launcher | root | becomes the recipient, and nothing else (qmail-lspawn) |
//! | log | qmaill | its directory |
//!
//! Manager, cleaner, remote and launcher talk over pipes as qmail-send(8) and its helpers do, and live and die together; the others are
//! started again by themselves. Each party locks itself down ([`sandbox`](crate::sandbox)) once it has what it needs.

mod grants;
mod logger;
mod network;
mod party;
mod plumbing;
mod remote;
mod supervisor;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
mod writer;

use std::net::SocketAddr;

pub(crate) use grants::describe;
pub(crate) use party::{Party, run as run_party};
pub(crate) use supervisor::run;

use crate::home::Home;
use crate::service_manager::Socket;

/// What there can be listeners for.
pub(crate) const SERVICES: &[&str] = &["smtp"];

/// What `qmail start` is asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) home: Home,
    /// Where to take mail.
    pub(crate) smtp: Vec<SocketAddr>,
    /// Listening sockets of a service manager, for any of [`SERVICES`].
    pub(crate) sockets: Vec<Socket>,
    /// Instructions for users who have none (dot-qmail(5)).
    pub(crate) default_delivery: String,
    /// Whether the log goes to standard output instead of files.
    pub(crate) log_to_stdout: bool,
}
