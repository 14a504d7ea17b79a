//! The home of a mail system: `control/`, `users/`, `queue/` and more below one directory.

mod account_names;
mod catalog;
mod controls;
mod create;
mod directory;
mod entrance;
mod extra;
mod spool_kind;
mod strictness;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::privilege::is_setuid;

pub(crate) use account_names::{AccountNames, KEYS, PASSWORDS};
pub(crate) use catalog::{
    CLASSIC as CLASSIC_CONTROLS, ControlFile, ControlKind, Fallback, OWN as OWN_CONTROLS,
};
pub(crate) use controls::{
    Controls, Pop3Controls, QueueControls, ReceiverControls, RemoteControls, SendControls,
    SmtpControls,
};
pub(crate) use create::{CreateError, FirstUser, create_controls, create_users};
pub(crate) use directory::ControlError;
pub(crate) use entrance::{EntranceControls, server_tls};
pub(crate) use extra::extra_recipients;
pub(crate) use spool_kind::SpoolKind;
pub(crate) use strictness::{program_time_max, strictness};

/// Where a home is when nobody says otherwise.
const DEFAULT: &str = "/var/qmail";

/// The directory everything is in.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    path: PathBuf,
    own: bool,
}

impl Home {
    /// `--home` if given, else `QMAIL_HOME`, else `default`, else `/var/qmail`. A program that is installed setuid does not
    /// listen to its caller's `QMAIL_HOME`.
    pub(crate) fn choose(option: Option<PathBuf>, default: Option<&str>) -> Self {
        let chosen = option.or_else(|| {
            std::env::var_os("QMAIL_HOME")
                .filter(|home| !home.is_empty() && !is_setuid())
                .map(PathBuf::from)
        });
        let own = chosen.is_some();
        let path = chosen.unwrap_or_else(|| PathBuf::from(default.unwrap_or(DEFAULT)));
        // An absolute path stays right when somebody changes the directory, and says more in an error.
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { path, own }
    }

    /// The one in its usual place, whatever the environment says.
    #[cfg(test)]
    pub(crate) fn installed() -> Self {
        Self {
            path: DEFAULT.into(),
            own: false,
        }
    }

    /// Whether somebody said which home: it may be a private one, without the users of an installed mail system.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    pub(crate) fn users(&self) -> PathBuf {
        self.path.join("users")
    }

    pub(crate) fn passwords(&self) -> PathBuf {
        self.users().join("passwords")
    }

    /// The socket by which programs of this host submit mail to a running system.
    pub(crate) fn submission_socket(&self) -> PathBuf {
        self.run().join("submit")
    }

    /// The socket by which a running queue is given orders.
    pub(crate) fn queue_socket(&self) -> PathBuf {
        self.run().join("queue")
    }

    /// Where programs that mail is delivered to are looked for: in the home first, as qmail's start scripts have it.
    pub(crate) fn search_path(&self) -> OsString {
        let mut path = self.path.join("bin").into_os_string();
        path.push(":");
        path.push(
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
        );
        path
    }

    /// Sockets of the running system.
    pub(crate) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    pub(crate) fn queue(&self) -> PathBuf {
        self.path.join("queue")
    }

    /// The journal, where the queue is one.
    pub(crate) fn journal(&self) -> PathBuf {
        self.queue().join("journal")
    }
}
