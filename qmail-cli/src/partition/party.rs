//! The parties by name, and what each process does first.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use qmail_core::route::SmtpRoutes;

use super::deliveries::Parties;
use super::keeper_client::{self, WriterParty};
use super::{
    agent, grants, keys, launcher, logger, lookup, maildrop, network, opener, passwords, remote,
    sockets, writer,
};
use crate::applet::Call;
use crate::home::{Home, KEYS, PASSWORDS, RemoteControls};
use crate::sandbox::{self, SandboxError};
use crate::send::{CannotStart, Removals, Surroundings};
use crate::submission_client::SocketSubmit;
use crate::{exit, send};

/// A party of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    Network,
    Keys,
    Passwords,
    Writer,
    Manager,
    Opener,
    Remote,
    Launcher,
    Lookup,
    Log,
}

impl Party {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Network,
        Self::Keys,
        Self::Passwords,
        Self::Writer,
        Self::Manager,
        Self::Opener,
        Self::Remote,
        Self::Launcher,
        Self::Lookup,
        Self::Log,
    ];

    /// Its name in arguments and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Keys => "keys",
            Self::Passwords => "passwords",
            Self::Writer => "writer",
            Self::Manager => "manager",
            Self::Opener => "opener",
            Self::Remote => "remote",
            Self::Launcher => "launcher",
            Self::Lookup => "lookup",
            Self::Log => "log",
        }
    }

    /// The account that it runs as, by its classic name; `None` for the one that has to become others.
    pub(crate) fn account(self) -> Option<&'static str> {
        Some(match self {
            Self::Network => "qmaild",
            Self::Keys => KEYS,
            Self::Passwords => PASSWORDS,
            Self::Writer | Self::Opener => "qmailq",
            Self::Manager => "qmails",
            Self::Remote => "qmailr",
            Self::Launcher => return None,
            Self::Lookup => "qmailp",
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
    if name == launcher::AGENT {
        return agent::run(&Home::choose(None, None), arguments);
    }
    if name == launcher::MAILDROP {
        return maildrop::run(arguments);
    }
    let Some(party) = name.to_str().and_then(Party::called) else {
        return exit::fatal("qmail", &"there is no such party", exit::PERMANENT);
    };
    // Whoever is left without a supervisor ends: nobody would start what it needs again.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let home = Home::choose(None, None);
    match party {
        Party::Network => network::run(&home, arguments),
        Party::Keys => keys::run(&home, arguments),
        Party::Passwords => passwords::run(&home),
        Party::Writer => writer::run(&home),
        Party::Opener => opener::run(&home),
        Party::Lookup => lookup::run(&home),
        Party::Remote => remote::run(&home),
        Party::Log => logger::run(&home),
        Party::Manager => manager(&home),
        Party::Launcher => launcher::run(&home, arguments),
    }
}

/// The manager's descriptors from 1 on: requests and reports of deliveries, the socket for orders.
const MANAGERS: RangeInclusive<i32> = 1..=5;

/// The engine of qmail-send among other parties: its bounces go to the writer, which also removes files for it; deliveries are made by
/// way of the opener.
fn manager(home: &Home) -> ExitCode {
    let bounces = Arc::new(SocketSubmit {
        socket: home.submission_socket(),
        quotes: true,
    });
    // Some of them may be secret, for the remote party alone; then recipients are put together by domain.
    let routes =
        RemoteControls::read(home).map_or_else(|_| SmtpRoutes::default(), |remote| remote.routes);
    let arrange = |descriptors| {
        let [to_launcher, from_launcher, to_remote, from_remote, orders] =
            <[OwnedFd; 5]>::try_from(descriptors).map_err(|_| CannotStart::Spawn)?;
        let writer = keeper_client::connect(&sockets::keeper(home))?;
        Ok(Surroundings {
            deliverers: Parties {
                ends: [(to_launcher, from_launcher), (to_remote, from_remote)],
                routes,
            },
            removals: Removals::Keeper(Box::new(|loss| Ok(WriterParty::start(writer, loss)?))),
            desk: Some(orders),
        })
    };
    let lock = || lock_down(Party::Manager, home).map_err(io::Error::other);
    match send::run(home, bounces, MANAGERS, arrange, lock) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::TEMPORARY),
        Err(error) => exit::fatal("manager", &error, exit::TEMPORARY),
    }
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
