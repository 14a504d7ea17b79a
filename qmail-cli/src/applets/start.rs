//! `qmail-start`: starts a partitioned system, each part as a user of its own.
//!
//! ```text
//! qmail-send --0--> log
//!     |      --1--> 0 qmail-lspawn 1 --2-->
//!     |      --3--> 0 qmail-rspawn 1 --4-->
//!     |      --5--> 0 qmail-clean  1 --6-->
//! ```

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::fs::Mode;
use rustix::process::{Gid, Uid, getuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::privilege::{self, Account, AccountError};
use crate::{exit, inherited};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-start"],
    kind: Kind::Classic,
    summary: "start the delivery of mail by qmail-send and its helpers",
    run,
};

/// Becomes a user and then a program: the way of each child between fork and exec.
pub(crate) const CHILD: Applet = Applet {
    names: &["start-child"],
    kind: Kind::Internal,
    summary: "become a part of the system",
    run: run_child,
};

const DEFAULT_DELIVERY: &str = "./Mailbox";

/// Who a part of the system is.
#[derive(Clone, Copy)]
struct Identity {
    user: Option<&'static str>,
    group: &'static str,
    /// Whether it has the supplementary groups of its user.
    all_groups: bool,
}

const LOGGER: Identity = Identity {
    user: Some("qmaill"),
    group: "nofiles",
    all_groups: false,
};

const LSPAWN: Identity = Identity {
    user: None,
    group: "qmail",
    all_groups: false,
};

const RSPAWN: Identity = Identity {
    user: Some("qmailr"),
    group: "qmail",
    all_groups: true,
};

const CLEAN: Identity = Identity {
    user: Some("qmailq"),
    group: "qmail",
    all_groups: false,
};

const SEND: Identity = Identity {
    user: Some("qmails"),
    group: "qmail",
    all_groups: false,
};

/// Who the internal program may be told to become.
const IDENTITIES: [(&str, Identity); 4] = [
    ("logger", LOGGER),
    ("lspawn", LSPAWN),
    ("rspawn", RSPAWN),
    ("clean", CLEAN),
];

fn run(call: &Call) -> ExitCode {
    inherited::close_others();
    let _failed = start(&call.arguments);
    ExitCode::from(exit::TEMPORARY)
}

/// Starts everything and becomes qmail-send; returns only if that fails. What was started then sees the end of its input.
fn start(arguments: &[OsString]) -> Result<(), StartError> {
    let home = Home::choose(None, None);
    std::env::set_current_dir("/")?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    // All accounts, before anything runs.
    for identity in IDENTITIES
        .map(|(_, identity)| identity)
        .iter()
        .chain([&SEND])
    {
        identity.ids(&home)?;
    }
    let (default_delivery, logger) = match arguments {
        [] => (OsString::from(DEFAULT_DELIVERY), &[][..]),
        [first, rest @ ..] => (first.clone(), rest),
    };
    let log = match logger {
        [] => io::stdout().as_fd().try_clone_to_owned()?,
        [program, rest @ ..] => {
            let (reader, writer) = io::pipe()?;
            let output = io::stdout().as_fd().try_clone_to_owned()?;
            child("logger", program, rest, reader.into(), output.into())?
                .stderr(Stdio::inherit())
                .spawn()?;
            writer.into()
        }
    };
    let lspawn = helper("lspawn", "qmail-lspawn", &[default_delivery])?;
    let rspawn = helper("rspawn", "qmail-rspawn", &[])?;
    let clean = helper("clean", "qmail-clean", &[])?;
    let mut send = Command::new("qmail-send");
    let mappings = (1..)
        .zip([lspawn, rspawn, clean].into_iter().flatten())
        .chain([(0, log)])
        .map(|(child_fd, parent_fd)| FdMapping {
            parent_fd,
            child_fd,
        });
    send.fd_mappings(mappings.collect())
        .map_err(io::Error::other)?;
    SEND.assume(&home)?;
    Err(send.exec().into())
}

/// Starts a helper; gives the ends for its requests and its answers.
fn helper(identity: &str, program: &str, arguments: &[OsString]) -> io::Result<[OwnedFd; 2]> {
    let (requests, to_helper) = io::pipe()?;
    let (from_helper, answers) = io::pipe()?;
    let program = OsString::from(program);
    child(
        identity,
        &program,
        arguments,
        requests.into(),
        answers.into(),
    )?
    .spawn()?;
    Ok([to_helper.into(), from_helper.into()])
}

/// A command that becomes somebody, and then the program.
fn child(
    identity: &str,
    program: &OsString,
    arguments: &[OsString],
    input: Stdio,
    output: Stdio,
) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    // By whatever name the binary is called, it must not be taken for qmail-start once more.
    command
        .arg0("qmail")
        .args([CHILD.names[0], identity])
        .arg(program)
        .args(arguments)
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::null());
    Ok(command)
}

fn run_child(call: &Call) -> ExitCode {
    let [identity, program, arguments @ ..] = &call.arguments[..] else {
        return ExitCode::from(exit::PERMANENT);
    };
    let identity = IDENTITIES.iter().find(|(name, _)| identity == name);
    let Some((_, identity)) = identity else {
        return ExitCode::from(exit::PERMANENT);
    };
    if identity.assume(&Home::choose(None, None)).is_ok() {
        let _failed = Command::new(program).args(arguments).exec();
    }
    ExitCode::from(exit::TEMPORARY)
}

impl Identity {
    /// Its user, and its groups with the main one first. What is missing in a home of one's own is `None`, or no group.
    fn ids(&self, home: &Home) -> Result<(Option<Uid>, Vec<Gid>), AccountError> {
        let account = match self.user {
            Some(user) => Account::classic(home, user)?,
            None => None,
        };
        let uid = account.map(|account| Uid::from_raw(account.uid));
        let group = privilege::classic_group(home, self.group)?;
        let mut groups: Vec<Gid> = group.into_iter().map(Gid::from_raw).collect();
        if self.all_groups
            && let (Some(user), Some(&main)) = (self.user, groups.first())
        {
            groups.extend(privilege::groups_of(user, main.as_raw())?.map(Gid::from_raw));
        }
        Ok((uid, groups))
    }

    /// Becomes it, for good. Who is not root stays who he is.
    ///
    /// The groups come first: who is no longer root cannot change them. There is one thread, so what it becomes the whole
    /// process is.
    fn assume(&self, home: &Home) -> Result<(), StartError> {
        if !getuid().is_root() {
            return Ok(());
        }
        let (uid, groups) = self.ids(home)?;
        if let Some(&main) = groups.first() {
            set_thread_groups(&groups)?;
            set_thread_gid(main)?;
        }
        if let Some(uid) = uid {
            set_thread_uid(uid)?;
        }
        Ok(())
    }
}

/// Why a part of the system does not start. Nobody is told: who starts it may have no place for words.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<rustix::io::Errno> for StartError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.into())
    }
}
