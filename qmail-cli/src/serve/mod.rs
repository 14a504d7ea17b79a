//! `qmail serve`: a whole mail system in one unprivileged process.
//!
//! Every listener is a task, every session is a task, and the queue's engine is one. They meet in [`Settings`], which is
//! exchanged as a whole when the control files are read again, and in the queue. A session that fails takes nobody with it.

mod accounts;
mod entrance;
mod gate;
mod listen;
mod mailer;
mod networks;
mod pop3;
mod settings;
mod smtp;
mod start;
mod submission;
mod system;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::home::Home;

pub(crate) use crate::report::LogFormat;
pub(crate) use listen::listener;
pub(crate) use mailer::remote_delivery;
pub(crate) use networks::Networks;
pub(crate) use settings::{Settings, smtp_config};
pub(crate) use start::{StartError, run, run_network};
pub(crate) use submission::Socket as SubmissionSocket;

/// What `qmail serve` is asked for, checked.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) home: Home,
    /// Where to take mail; may be empty.
    pub(crate) smtp: Vec<SocketAddr>,
    /// Listening sockets of whoever started this process, for the same.
    pub(crate) inherited_smtp: Vec<std::net::TcpListener>,
    /// Where to take mail of users who log in; may be empty.
    pub(crate) submission: Vec<SocketAddr>,
    /// The same, encrypted from the start; may be empty.
    pub(crate) submissions: Vec<SocketAddr>,
    /// Where to take mail by LMTP; may be empty.
    pub(crate) lmtp: Vec<SocketAddr>,
    /// Where to give mail out; may be empty.
    pub(crate) pop3: Vec<SocketAddr>,
    /// Whether queued mail is delivered.
    pub(crate) deliver: bool,
    /// Users beside those of the home.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// Whether any password opens every mailbox.
    pub(crate) any_password: bool,
    pub(crate) spool: SpoolKind,
    pub(crate) log_format: LogFormat,
}

impl Options {
    /// The listeners of one kind.
    fn addresses(&self, door: smtp::Door) -> &[SocketAddr] {
        match door {
            smtp::Door::Mx => &self.smtp,
            smtp::Door::Submission => &self.submission,
            smtp::Door::Submissions => &self.submissions,
            smtp::Door::Lmtp => &self.lmtp,
        }
    }
}

/// A user that an option names.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    /// Local part, in lower case.
    pub(crate) user: String,
    /// Complete path of the Maildir.
    pub(crate) maildir: PathBuf,
}

/// Where queued mail is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpoolKind {
    /// In qmail's own directories.
    Split,
    /// In memory, for tests.
    Memory,
    /// In another process, which is handed each message through the socket of the home.
    Elsewhere,
}
