//! Which descriptor of which party leads where.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt as _, FdMapping};

use super::Party;
use crate::home::Home;
use crate::privilege::{Account, AccountError};

/// The first port of the network party; the others follow.
pub(super) const FIRST_LISTENER: i32 = 3;

/// What this program is called to be a party.
pub(super) const APPLET: &str = "party";

/// A party about to be started.
pub(super) struct Plan {
    pub(super) party: Party,
    pub(super) arguments: Vec<OsString>,
    pub(super) stdin: Stdio,
    pub(super) stdout: Stdio,
    /// Where what goes wrong before there is a log is said.
    pub(super) stderr: Stdio,
    /// Descriptors from 3 on.
    pub(super) more: Vec<OwnedFd>,
}

impl Plan {
    pub(super) fn new(party: Party) -> Self {
        Self {
            party,
            arguments: Vec::new(),
            stdin: Stdio::null(),
            stdout: Stdio::null(),
            stderr: Stdio::inherit(),
            more: Vec::new(),
        }
    }

    /// The command. It becomes the party's user, with that user's group and no other, before it is this program again.
    pub(super) fn command(self, home: &Home) -> Result<Command, PlanError> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg0("qmail")
            .arg(APPLET)
            .arg(self.party.name())
            .args(self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("QMAIL_HOME", home.path())
            .current_dir("/")
            .stdin(self.stdin)
            .stdout(self.stdout)
            .stderr(self.stderr);
        if let Some(name) = self.party.account() {
            let account = Account::acting(home, name)?;
            // Without root's rights everything is one user.
            if rustix::process::geteuid().is_root() {
                command.gid(account.gid).uid(account.uid);
            }
        }
        let mappings = self
            .more
            .into_iter()
            .zip(FIRST_LISTENER..)
            .map(|(parent_fd, child_fd)| FdMapping {
                parent_fd,
                child_fd,
            })
            .collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok(command)
    }
}

/// What programs of users find others by.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why a party cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The pipes of manager, launcher, remote and cleaner, as qmail-start(8) lays them.
pub(super) fn delivery(
    home: &Home,
    log: &impl Fn() -> io::Result<Stdio>,
    default_delivery: &str,
) -> Result<Vec<Plan>, PlanError> {
    let writer = Account::acting(home, "qmailq")?;
    let mut manager = Plan::new(Party::Manager);
    let mut helpers = Vec::new();
    let mut ends: Vec<OwnedFd> = Vec::new();
    for (party, arguments) in [
        (Party::Launcher, vec![default_delivery.into()]),
        (Party::Remote, vec![writer.uid.to_string().into()]),
        (Party::Cleaner, Vec::new()),
    ] {
        let (requests, to_helper) = io::pipe()?;
        let (from_helper, reports) = io::pipe()?;
        let mut helper = Plan::new(party);
        helper.arguments = arguments;
        helper.stdin = requests.into();
        helper.stdout = reports.into();
        helpers.push(helper);
        ends.extend([OwnedFd::from(to_helper), OwnedFd::from(from_helper)]);
    }
    // 0 is the log; 1 and 2 lead to the launcher, 3 and 4 to the remote party, 5 and 6 to the cleaner.
    manager.stdin = log()?;
    let mut ends = ends.into_iter();
    manager.stdout = ends.next().map_or_else(Stdio::null, Stdio::from);
    manager.stderr = ends.next().map_or_else(Stdio::null, Stdio::from);
    manager.more = ends.collect();
    helpers.push(manager);
    Ok(helpers)
}
