//! The parties by name, and what each process does first.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use crate::applet::Call;
use crate::home::Home;
use crate::sandbox::{self, SandboxError};
use crate::submission_client::SocketSubmit;
use crate::{exit, send};

use super::{grants, logger, network, remote, writer};

/// A party of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    Network,
    Writer,
    Manager,
    Cleaner,
    Remote,
    Launcher,
    Log,
}

impl Party {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Network,
        Self::Writer,
        Self::Manager,
        Self::Cleaner,
        Self::Remote,
        Self::Launcher,
        Self::Log,
    ];

    /// Its name in arguments and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Writer => "writer",
            Self::Manager => "manager",
            Self::Cleaner => "cleaner",
            Self::Remote => "remote",
            Self::Launcher => "launcher",
            Self::Log => "log",
        }
    }

    /// The account that it runs as; `None` for the one that has to become others.
    pub(crate) fn account(self) -> Option<&'static str> {
        Some(match self {
            Self::Network => "qmaild",
            Self::Writer | Self::Cleaner => "qmailq",
            Self::Manager => "qmails",
            Self::Remote => "qmailr",
            Self::Launcher => return None,
            Self::Log => "qmaill",
        })
    }

    fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|party| party.name() == name)
    }
}

/// Runs the party that the first argument names: what the supervisor starts.
pub(crate) fn run(call: &Call) -> ExitCode {
    let [name, arguments @ ..] = &call.arguments[..] else {
        return exit::fatal("qmail", &"which party?", exit::PERMANENT);
    };
    let Some(party) = name.to_str().and_then(Party::called) else {
        return exit::fatal("qmail", &"there is no such party", exit::PERMANENT);
    };
    // Whoever is left without a supervisor ends: nobody would start what it needs again.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let home = Home::choose(None, None);
    match party {
        Party::Network => network::run(&home, arguments),
        Party::Writer => writer::run(&home),
        Party::Remote => remote::run(&home, arguments),
        Party::Log => logger::run(&home),
        Party::Manager => manager(&home),
        Party::Cleaner => classic(party, &home, "qmail-clean", arguments),
        Party::Launcher => classic(party, &home, "qmail-lspawn", arguments),
    }
}

/// qmail-send, whose bounces go to the writer.
fn manager(home: &Home) -> ExitCode {
    let bounces = Arc::new(SocketSubmit {
        socket: home.submission_socket(),
        quotes: true,
    });
    let lock = || lock_down(Party::Manager, home).map_err(io::Error::other);
    match send::run(home, bounces, send::Texts::Closed, lock) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::TEMPORARY),
        Err(error) => exit::fatal("manager", &error, exit::TEMPORARY),
    }
}

/// A classic program, locked down.
fn classic(
    party: Party,
    home: &Home,
    program: &'static str,
    arguments: &[std::ffi::OsString],
) -> ExitCode {
    if let Err(error) = lock_down(party, home) {
        return exit::fatal(party.name(), &error, exit::TEMPORARY);
    }
    crate::applet::run_classic(program, arguments.to_vec())
}

/// Takes from this process what the party does not need.
///
/// # Errors
///
/// The kernel refused.
pub(super) fn lock_down(party: Party, home: &Home) -> Result<(), SandboxError> {
    let Some(grants) = grants::of(party, home) else {
        return Ok(());
    };
    let locked = sandbox::lock_down(&grants)?;
    if let Some(lack) = locked.lack() {
        exit::warn(party.name(), &lack);
    }
    Ok(())
}
