//! The sockets by which parties ask one another. The supervisor makes them and says who may connect, by owner and mode; it keeps them
//! while a party is started again, so that whoever asks meanwhile waits and is not turned away.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::channel;
use super::supervisor::{StartError, give};
use crate::home::{Home, PASSWORDS};
use crate::privilege::Account;
use crate::socket_path::SocketPath;

/// Who may connect.
#[derive(Clone, Copy)]
enum Callers {
    Everybody,
    /// This account alone, by its classic name.
    Only(&'static str),
}

/// All of them, and the lock of their directory: it is for one supervisor.
pub(super) struct Sockets {
    /// Of the writer: takes messages from everybody.
    pub(super) submit: OwnedFd,
    /// Of the writer: the manager hears of messages there, and has them removed.
    pub(super) keeper: OwnedFd,
    /// Of the manager: takes orders of `qmail queue`.
    pub(super) queue: OwnedFd,
    /// Of the keys party.
    pub(super) keys: OwnedFd,
    /// Of the passwords party.
    pub(super) passwords: OwnedFd,
    /// Of the launcher: shows maildrops to whoever the passwords party lets in.
    pub(super) maildrops: OwnedFd,
    paths: Vec<PathBuf>,
    _lock: File,
}

/// Where the keys party is asked.
pub(super) fn keys(home: &Home) -> PathBuf {
    home.run().join("keys")
}

/// Where the passwords party is asked.
pub(super) fn passwords(home: &Home) -> PathBuf {
    home.run().join("passwords")
}

/// Where the writer works for the manager.
pub(super) fn keeper(home: &Home) -> PathBuf {
    home.run().join("keeper")
}

/// Where the launcher is asked for maildrops.
pub(super) fn maildrops(home: &Home) -> PathBuf {
    home.run().join("maildrops")
}

impl Sockets {
    /// Makes them, in place of those that a supervisor left which was killed.
    pub(super) fn make(home: &Home) -> Result<Self, StartError> {
        let lock = lock(&home.run())?;
        let mut paths = Vec::new();
        let mut make = |path: PathBuf, callers, listen: fn(&Path) -> io::Result<OwnedFd>| {
            let account = match callers {
                Callers::Everybody => None,
                Callers::Only(name) => Some(Account::acting(home, name)?),
            };
            let socket = place(&path, account, listen);
            let socket = socket.map_err(|source| StartError::Make {
                path: path.clone(),
                source,
            })?;
            paths.push(path);
            Ok::<_, StartError>(socket)
        };
        let network = Callers::Only("qmaild");
        Ok(Self {
            submit: make(home.submission_socket(), Callers::Everybody, stream)?,
            keeper: make(keeper(home), Callers::Only("qmails"), channel::listen)?,
            queue: make(home.queue_socket(), Callers::Only("qmails"), stream)?,
            keys: make(keys(home), network, channel::listen)?,
            passwords: make(passwords(home), network, channel::listen)?,
            maildrops: make(maildrops(home), Callers::Only(PASSWORDS), channel::listen)?,
            paths,
            _lock: lock,
        })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
    }
}

/// The directory, which everybody must get through.
fn lock(run: &Path) -> Result<File, StartError> {
    let made = match fs::DirBuilder::new().mode(0o755).create(run) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(run),
    };
    let directory = made.and_then(|directory| {
        // Only we make sockets there.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(&directory, Some(0), Some(0))?;
        }
        directory.set_permissions(fs::Permissions::from_mode(0o755))?;
        Ok(directory)
    });
    let directory = directory.map_err(|source| StartError::Make {
        path: run.to_owned(),
        source,
    })?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(_) => Err(StartError::Running {
            path: run.to_owned(),
        }),
    }
}

/// Puts a socket at a path that nobody can connect to before it is those whom it is for.
fn place(
    path: &Path,
    account: Option<Account>,
    listen: fn(&Path) -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = listen(&new)?;
    let mode = match account {
        None => 0o666,
        Some(account) => {
            give(&new, account)?;
            0o600
        }
    };
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, path)?;
    Ok(socket)
}

fn stream(path: &Path) -> io::Result<OwnedFd> {
    let path = SocketPath::new(path)?;
    Ok(UnixListener::bind(path.as_path())?.into())
}
