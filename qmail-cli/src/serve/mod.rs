//! `qmail serve`: a whole mail system in one unprivileged process.
//!
//! Every listener is a task, every session is a task, and the queue's engine is one. They meet in [`Settings`], which is
//! exchanged as a whole when the control files are read again, and in the queue. A session that fails takes nobody with it.

mod accounts;
mod gate;
mod listen;
mod mailer;
mod networks;
mod pop3;
mod report;
mod settings;
mod smtp;
mod start;
mod submission;
mod system;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::home::Home;

pub(crate) use networks::Networks;
pub(crate) use report::LogFormat;
pub(crate) use settings::{Settings, smtp_config};
pub(crate) use start::{StartError, run};

/// What `qmail serve` is asked for, checked.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) home: Home,
    /// Where to take mail; may be empty.
    pub(crate) smtp: Vec<SocketAddr>,
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
}
