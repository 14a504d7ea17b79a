//! The home of a mail system: `control/`, `users/`, `queue/` and more below one directory.

mod catalog;
mod controls;
mod create;
mod directory;

use std::path::{Path, PathBuf};

pub(crate) use catalog::{
    CLASSIC as CLASSIC_CONTROLS, ControlFile, ControlKind, Fallback, OWN as OWN_CONTROLS,
};
pub(crate) use controls::{
    Controls, Pop3Controls, QueueControls, ReceiverControls, RemoteControls, SmtpControls,
};
pub(crate) use create::{CreateError, FirstUser, create_controls, create_users};
pub(crate) use directory::ControlError;

/// Where a home is when nobody says otherwise.
const DEFAULT: &str = "/var/qmail";

/// The directory everything is in.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// `--home` if given, else `QMAIL_HOME`, else `default`, else `/var/qmail`.
    pub(crate) fn choose(option: Option<PathBuf>, default: Option<&str>) -> Self {
        let home = option
            .or_else(|| {
                std::env::var_os("QMAIL_HOME")
                    .filter(|home| !home.is_empty())
                    .map(PathBuf::from)
            })
            .unwrap_or_else(|| PathBuf::from(default.unwrap_or(DEFAULT)));
        // An absolute path stays right when somebody changes the directory, and says more in an error.
        Self(std::path::absolute(&home).unwrap_or(home))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.0.join("control")
    }

    pub(crate) fn users(&self) -> PathBuf {
        self.0.join("users")
    }

    pub(crate) fn passwords(&self) -> PathBuf {
        self.users().join("passwords")
    }

    pub(crate) fn queue(&self) -> PathBuf {
        self.0.join("queue")
    }
}
