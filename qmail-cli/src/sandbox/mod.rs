//! What a party of a partitioned system may still do once it has what it needs, by the kernel's word: files (Landlock), TCP ports
//! (Landlock), system calls (a filter), no new privileges.
//!
//! A process locks itself down before it starts its threads, and cannot take that back. Where the kernel cannot do a part of it, that is
//! told, once and loudly; nothing is pretended.

#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod system_calls;

use std::fmt;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(crate) use system_calls::Calls;

/// What a party may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grants {
    /// Directories below which it may list names, and no more.
    pub(crate) list: Vec<PathBuf>,
    /// Files and directories that it may read.
    pub(crate) read: Vec<PathBuf>,
    /// Directories that it may read, and in which it may make, change, link, rename and remove files.
    pub(crate) write: Vec<PathBuf>,
    /// Where it may connect to. It never opens a listening TCP port.
    pub(crate) connect: Connect,
    /// Whether it may connect to sockets of this host: those of the parties that it asks.
    pub(crate) asks: bool,
    /// Whether it may make files in memory, which have no name.
    pub(crate) copies: bool,
}

/// TCP ports that a party may connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Connect {
    /// None, and it has no socket of the internet at all.
    #[default]
    Nowhere,
    /// These only.
    Ports(&'static [u16]),
    Everywhere,
}

/// What the kernel did of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    pub(crate) files: Enforced,
    pub(crate) system_calls: Enforced,
}

/// How far a lock holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enforced {
    Fully,
    /// The kernel is older than the lock.
    Partly,
    Not,
}

impl Locked {
    /// What is missing, in words for a warning; `None` if nothing is.
    pub(crate) fn lack(self) -> Option<String> {
        let word = |enforced| match enforced {
            Enforced::Fully => "fully",
            Enforced::Partly => "partly",
            Enforced::Not => "not",
        };
        let complete = self.files == Enforced::Fully && self.system_calls == Enforced::Fully;
        (!complete).then(|| {
            format!(
                "this kernel locks files {} and system calls {}; a newer one does more",
                word(self.files),
                word(self.system_calls)
            )
        })
    }
}

/// A lock that the kernel knows and yet refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock down {what}: {why}")]
pub(crate) struct SandboxError {
    what: &'static str,
    why: String,
}

impl SandboxError {
    #[cfg(target_os = "linux")]
    fn new(what: &'static str, why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Self { what, why }
    }
}

/// Locks this process down, for good. Threads that are there already are not locked: call it before any is started.
///
/// # Errors
///
/// The kernel refused: the process must not go on.
#[cfg(target_os = "linux")]
pub(crate) fn lock_down(grants: &Grants) -> Result<Locked, SandboxError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| SandboxError::new("privileges", error))?;
    // The filter comes last: it would refuse the calls that lock files.
    let files = files::lock(grants)?;
    let system_calls = system_calls::lock(grants)?;
    Ok(Locked {
        files,
        system_calls,
    })
}

/// There is nothing of the kind.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lock_down(_grants: &Grants) -> Result<Locked, SandboxError> {
    Ok(Locked {
        files: Enforced::Not,
        system_calls: Enforced::Not,
    })
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, paths: &[PathBuf]| {
            let paths: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let paths = if paths.is_empty() {
                "nothing".to_owned()
            } else {
                paths.join(" ")
            };
            writeln!(f, "  {what:<8} {paths}")
        };
        line("lists", &self.list)?;
        line("reads", &self.read)?;
        line("writes", &self.write)?;
        let connects = match self.connect {
            Connect::Nowhere => "nowhere".to_owned(),
            Connect::Ports(ports) => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                format!("to TCP ports {}, by UDP", ports.join(" "))
            }
            Connect::Everywhere => "everywhere".to_owned(),
        };
        let sockets = if self.asks { ", to local sockets" } else { "" };
        writeln!(f, "  {:<8} {connects}{sockets}", "connects")?;
        #[cfg(target_os = "linux")]
        {
            let names: Vec<_> = Calls::of(self).map(Calls::name).collect();
            writeln!(f, "  {:<8} {}", "calls", names.join(", "))?;
        }
        Ok(())
    }
}
