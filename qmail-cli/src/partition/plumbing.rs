//! Which descriptor of which party leads where.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt as _, FdMapping};

use super::{Party, channel};
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

/// The manager with those who deliver for it, each connected with whom it has to do.
///
/// ```text
///   manager --1--> opener --> launcher --2--> manager     launcher <--> lookup
///           --3--> opener --> remote   --4--> manager
/// ```
pub(super) fn delivery(
    log: &impl Fn() -> io::Result<Stdio>,
    default_delivery: &str,
    orders: OwnedFd,
    maildrops: OwnedFd,
) -> io::Result<Vec<Plan>> {
    let plan = |party| -> io::Result<Plan> {
        let mut plan = Plan::new(party);
        plan.stdout = log()?;
        Ok(plan)
    };
    let mut opener = plan(Party::Opener)?;
    let mut launcher = plan(Party::Launcher)?;
    let mut remote = plan(Party::Remote)?;
    let mut lookup = plan(Party::Lookup)?;
    let mut manager = Plan::new(Party::Manager);
    let mut managers = Vec::new();
    for (deliverer, first) in [(&mut launcher, true), (&mut remote, false)] {
        let (to_opener, requests) = channel::pair()?;
        match first {
            true => opener.stdin = requests.into(),
            false => opener.more.push(requests),
        }
        let (to_deliverer, requests) = channel::pair()?;
        opener.more.push(to_deliverer);
        deliverer.stdin = requests.into();
        let (reports, from_deliverer) = channel::pair()?;
        deliverer.more.push(from_deliverer);
        managers.extend([to_opener, reports]);
    }
    let (to_lookup, requests) = channel::pair()?;
    launcher.more.extend([to_lookup, maildrops]);
    launcher.arguments = vec![default_delivery.into()];
    lookup.stdin = requests.into();
    managers.push(orders);
    // 0 is the log, and what the standard descriptors are not enough for follows from 3 on.
    manager.stdin = log()?;
    let mut managers = managers.into_iter();
    manager.stdout = managers.next().map_or_else(Stdio::null, Stdio::from);
    manager.stderr = managers.next().map_or_else(Stdio::null, Stdio::from);
    manager.more = managers.collect();
    Ok(vec![opener, lookup, launcher, remote, manager])
}
