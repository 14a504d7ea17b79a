//! What a service manager such as systemd and this process say to each other: sockets that it opened for us (sd_listen_fds(3)),
//! being ready, reading again, ending (sd_notify(3)), signs of life (sd_watchdog_enabled(3)).
//!
//! Where there is none, no socket comes and nothing is said. A message that does not reach it is not missed: it finds out by its own
//! limits of time.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use sd_notify::NotifyState;

use crate::inherited;
use crate::serve::BACKLOG;

/// Most sockets that are taken over.
const SOCKETS_MAX: usize = 64;

/// A listening socket that was opened for this process.
#[derive(Debug)]
pub(crate) struct Socket {
    /// What it is for, in the words of the log: `smtp`, `pop3`.
    pub(crate) service: &'static str,
    /// It does not block.
    pub(crate) listener: TcpListener,
}

impl Socket {
    /// Whether only this host reaches it.
    pub(crate) fn is_loopback(&self) -> bool {
        let address = self.listener.local_addr();
        address.is_ok_and(|address| address.ip().is_loopback())
    }
}

/// Sockets that cannot be used. `Display` is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("cannot take over the sockets of the service manager: {0}; look at LISTEN_FDS")]
    Sockets(#[from] io::Error),
    #[error(
        "the service manager opened {0} sockets, more than {SOCKETS_MAX}: take some of them away"
    )]
    TooMany(usize),
    #[error(
        "the service manager opened a socket named `{name}`: name it one of {known} by FileDescriptorName="
    )]
    Unknown { name: String, known: String },
    #[error(
        "what the service manager opened for {0} is no listening TCP socket: use ListenStream= with a port"
    )]
    NoListener(&'static str),
}

/// The sockets that were opened for this process; all other descriptors beyond the standard ones are closed. To be called before
/// anything is opened.
///
/// `known` are the services that there are: each socket bears the name of one.
///
/// # Errors
///
/// A socket that is for nothing known, or is no listening one.
pub(crate) fn sockets(known: &[&'static str]) -> Result<Vec<Socket>, SocketError> {
    // The names are looked at only if the sockets are for this process: both may be left over in the environment.
    if sd_notify::listen_fds()?.len() == 0 {
        inherited::close_others();
        return Ok(Vec::new());
    }
    let (numbers, names): (Vec<_>, Vec<_>) = sd_notify::listen_fds_with_names()?.unzip();
    if numbers.len() > SOCKETS_MAX {
        return Err(SocketError::TooMany(numbers.len()));
    }
    let taken = inherited::take_beyond_standard(&numbers)?;
    taken
        .into_iter()
        .zip(names)
        .map(|(descriptor, name)| socket(descriptor, name, known))
        .collect()
}

fn socket(
    descriptor: OwnedFd,
    name: String,
    known: &[&'static str],
) -> Result<Socket, SocketError> {
    let Some(&service) = known.iter().find(|&&service| service == name) else {
        let known = known.join(", ");
        return Err(SocketError::Unknown { name, known });
    };
    let stream = socket_type(&descriptor) == Ok(SocketType::STREAM);
    let listener = TcpListener::from(descriptor);
    // A connection has an address, too, but cannot be made to listen.
    if !stream || listener.local_addr().is_err() || rustix::net::listen(&listener, BACKLOG).is_err()
    {
        return Err(SocketError::NoListener(service));
    }
    listener.set_nonblocking(true)?;
    Ok(Socket { service, listener })
}

/// All is there that is needed; `status` is shown to people.
pub(crate) fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The control files are read again; [`ready`] follows.
pub(crate) fn reloading() {
    // Managers that wait for the answer to their own order compare the time.
    let Ok(now) = NotifyState::monotonic_usec_now() else {
        return;
    };
    say(&[NotifyState::Reloading, now]);
}

/// It ends.
pub(crate) fn stopping() {
    say(&[
        NotifyState::Stopping,
        NotifyState::Status("ending what was begun"),
    ]);
}

/// It lives. To be said every [`pulse`].
pub(crate) fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// How often the service manager wants to hear [`alive`]; `None` if it does not. It waits for twice as long.
pub(crate) fn pulse() -> Option<Duration> {
    sd_notify::watchdog_enabled()
        .map(|limit| limit / 2)
        .filter(|pulse| !pulse.is_zero())
}

fn say(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
