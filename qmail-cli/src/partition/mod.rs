//! `qmail start`: a mail system of parties that do not trust each other, started and watched by a supervisor that parses no mail.
//!
//! ```text
//!   internet --> network --run/submit--> writer <--run/keeper--> manager --> opener --> launcher --> a user's process --> mailboxes
//!                 |  |      ^                                                   \---> remote ---> internet
//!              keys passwords                                                    lookup (asked by the launcher)
//!   programs of the host ---/            what all of them say --> log
//! ```
//!
//! | party | account | has |
//! |---|---|---|
//! | network | qmaild | the ports, no file |
//! | keys | qmailp | the private key of the certificate; signs handshakes |
//! | passwords | qmailp | the names and hashes of users; says whether a login is right |
//! | writer | qmailq | the half of the queue that holds messages; asks the kernel who submits; removes what the manager is done with |
//! | manager | qmails | the half of the queue that says what is to be done; reads no message, runs nothing |
//! | opener | qmailq | message files to read; hands each to whom the manager says it goes |
//! | remote | qmailr | the messages that it is handed, the internet, no file |
//! | launcher | root | starts processes as the users whom mail is for, and nothing else |
//! | lookup | qmailp | says whose an address is |
//! | log | qmaill | its directory |
//!
//! The sockets by which they ask one another lie in `run/`, made by the supervisor, who keeps them while a party is started again; who may
//! connect is said by their owners and modes. Manager, opener, remote, launcher and lookup are connected among themselves, and live and die
//! together; the manager ends with the writer, too, and begins anew. The others are started again by themselves. Each party locks itself down
//! ([`sandbox`](crate::sandbox)) once it has what it needs. Accounts can be called otherwise in control/accounts.

mod agent;
mod calls;
mod channel;
mod complaints;
mod deliveries;
mod grants;
mod keeper;
mod keeper_client;
mod key_client;
mod keys;
mod launcher;
mod listener;
mod logger;
mod lookup;
mod maildrop;
mod maildrop_client;
mod network;
mod opener;
mod party;
mod password_client;
mod passwords;
mod plumbing;
mod remote;
mod requests;
mod serving;
mod sockets;
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

/// What `qmail start` is asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) home: Home,
    /// Where clients come in, and for which of the services of [`crate::serve`].
    pub(crate) ports: Vec<(&'static str, SocketAddr)>,
    /// Listening sockets of a service manager.
    pub(crate) sockets: Vec<Socket>,
    /// Instructions for users who have none (dot-qmail(5)).
    pub(crate) default_delivery: String,
    /// Whether the log goes to standard output instead of files.
    pub(crate) log_to_stdout: bool,
}
