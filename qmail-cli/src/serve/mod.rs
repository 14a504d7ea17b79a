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
mod packages;
mod pop3;
mod rules;
mod settings;
mod smtp;
mod start;
mod submission;
mod system;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use qmail_core::sasl;
use qmail_deliver::{HickoryResolver, ResolverError};
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::home::{Home, SpoolKind};
use crate::service_manager::Socket;

pub(crate) use crate::report::LogFormat;
pub(crate) use accounts::{Accounts, MAILDIR, Passwords};
pub(crate) use listen::{BACKLOG, listener};
pub(crate) use mailer::remote_delivery;
pub(crate) use networks::Networks;
pub(crate) use pop3::MailLogin;
pub(crate) use settings::smtp_config;
pub(crate) use start::{Elsewhere, ElsewhereLogins, StartError, run, run_network};
pub(crate) use submission::Socket as SubmissionSocket;

/// What `qmail serve` is asked for, checked.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) home: Home,
    /// Where to take mail; may be empty.
    pub(crate) smtp: Vec<SocketAddr>,
    /// Where to take mail of users who log in; may be empty.
    pub(crate) submission: Vec<SocketAddr>,
    /// The same, encrypted from the start; may be empty.
    pub(crate) submissions: Vec<SocketAddr>,
    /// Where to take mail by LMTP; may be empty.
    pub(crate) lmtp: Vec<SocketAddr>,
    /// Where to take mail by QMTP; may be empty.
    pub(crate) qmtp: Vec<SocketAddr>,
    /// Where to take mail by QMQP of clients that may relay; may be empty.
    pub(crate) qmqp: Vec<SocketAddr>,
    /// Where to give mail out; may be empty.
    pub(crate) pop3: Vec<SocketAddr>,
    /// The same, encrypted from the start; may be empty.
    pub(crate) pop3s: Vec<SocketAddr>,
    /// Listening sockets of whoever started this process, for any of [`services`].
    pub(crate) sockets: Vec<Socket>,
    /// Whether queued mail is delivered.
    pub(crate) deliver: bool,
    /// Users beside those of the home.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// Whether any password opens every mailbox.
    pub(crate) any_password: bool,
    /// Where queued mail is kept; `None` for where it is, in a new home in a journal.
    pub(crate) spool: Option<SpoolKind>,
    /// Another process keeps the queue of this home: it is handed each message through its socket.
    pub(crate) queue_elsewhere: bool,
    pub(crate) log_format: LogFormat,
    /// The name servers to ask; empty for those of the system.
    pub(crate) name_servers: Vec<SocketAddr>,
}

impl Options {
    /// Where queued mail is kept: where it was asked for, where it is, in a new home in a journal.
    ///
    /// # Errors
    ///
    /// It is kept elsewhere than it was asked for.
    fn spool_kind(&self) -> Result<SpoolKind, StartError> {
        let queue = self.home.queue();
        match (self.spool, SpoolKind::of(&queue)) {
            (Some(SpoolKind::Memory), _) => Ok(SpoolKind::Memory),
            (Some(wanted), Some(there)) if wanted != there => Err(StartError::OtherSpool {
                path: queue,
                there: there.name(),
                wanted: wanted.name(),
            }),
            (wanted, there) => Ok(wanted.or(there).unwrap_or(SpoolKind::Journal)),
        }
    }

    /// What asks the name servers. Must be called within the runtime.
    ///
    /// # Errors
    ///
    /// The configuration of the system makes no sense.
    fn resolver(&self) -> Result<HickoryResolver, ResolverError> {
        if self.name_servers.is_empty() {
            HickoryResolver::system()
        } else {
            HickoryResolver::with_name_servers(self.name_servers.iter().copied())
        }
    }

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

/// What there can be listeners for, in the words of the log.
pub(crate) fn services() -> Vec<&'static str> {
    let smtp = smtp::Door::ALL.map(smtp::Door::name);
    let packages = packages::PROTOCOLS.map(packages::name);
    let pop3 = pop3::Door::ALL.map(pop3::Door::name);
    [&smtp[..], &packages, &pop3].concat()
}

/// Random octets in a nonce.
const NONCE_OCTETS: usize = 16;

/// A nonce for the logins of one session, that nobody can guess.
fn nonce() -> io::Result<String> {
    let mut random = [0; NONCE_OCTETS];
    SysRng
        .try_fill_bytes(&mut random)
        .map_err(io::Error::other)?;
    Ok(sasl::encode(&random))
}

/// A user that an option names.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    /// Local part, in lower case.
    pub(crate) user: String,
    /// Complete path of the Maildir.
    pub(crate) maildir: PathBuf,
}
