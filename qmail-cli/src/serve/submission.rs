//! Mail from programs of this host: a socket in the home that everybody may connect to.
//!
//! The kernel says who is calling; nobody can pretend to be somebody else, and no program needs rights to the queue. What one
//! user may have on its way in at a time is bounded, so that one cannot keep the others out.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use qmail_core::{Origin, StatusClass, Submit, SubmitError};
use qmail_queue::submission::{Answer, Piece, Receiver};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::socket_path::SocketPath;

/// Most messages on their way in from one user.
const MESSAGES_PER_USER_MAX: usize = 64;

/// Most octets of text in messages on their way in from one user.
const OCTETS_PER_USER_MAX: u64 = 1 << 30;

/// Most messages on their way in from all users.
const MESSAGES_MAX: usize = 1024;

/// A program that says nothing for so long has gone wrong.
const IDLE_MAX: Duration = Duration::from_secs(1200);

/// A submission that takes longer is given up (qmail-queue(8)).
const LIFE: Duration = Duration::from_secs(86_400);

/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const READ_OCTETS: usize = 64 * 1024;

/// Exit codes of qmail-queue(8).
const MEMORY: u8 = 51;
const TIMEOUT: u8 = 52;
const WRITE: u8 = 53;
const READ: u8 = 54;
const ADDRESS: u8 = 11;
const REFUSED: u8 = 31;
const REFUSED_FOR_NOW: u8 = 71;
const CREATE: u8 = 63;
const FORMAT: u8 = 91;

/// The socket; its name goes when this is dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    /// Absent if it is for somebody else to remove.
    path: Option<PathBuf>,
}

impl Socket {
    /// Makes the socket. Whoever calls this holds the lock of the queue: a socket that is there is left over.
    ///
    /// # Errors
    ///
    /// It cannot be made, with its path.
    pub(crate) fn bind(path: PathBuf) -> Result<Self, (PathBuf, io::Error)> {
        let bound = make_directory(&path).and_then(|()| {
            // Under a name of its own first, so that nobody can connect before everybody may.
            let new = path.with_extension("new");
            remove(&new)?;
            let listener = UnixListener::bind(SocketPath::new(&new)?.as_path())?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o666))?;
            fs::rename(&new, &path)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self {
                listener,
                path: Some(path),
            }),
            Err(error) => Err((path, error)),
        }
    }

    /// One that whoever started this process has made.
    pub(crate) fn inherited(listener: UnixListener) -> Self {
        Self {
            listener,
            path: None,
        }
    }

    /// Takes mail for ever; drop the future to stop. `origin` says what a user who calls is to the queue.
    pub(crate) async fn serve(
        self,
        submit: Arc<dyn Submit>,
        stop: watch::Receiver<bool>,
        origin: impl Fn(u32) -> Origin + Copy + Send + Sync + 'static,
    ) {
        let users = Arc::new(Users::default());
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (submit, users, mut stop) = (Arc::clone(&submit), Arc::clone(&users), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = converse(stream, &*submit, origin, &users) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Everybody must get to the socket.
fn make_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    match fs::DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn converse(
    mut stream: UnixStream,
    submit: &dyn Submit,
    origin: impl Fn(u32) -> Origin,
    users: &Arc<Users>,
) {
    let Ok(caller) = stream.peer_cred() else {
        return;
    };
    let uid = caller.uid();
    let origin = origin(uid);
    let share = match origin {
        // Its sessions have limits of their own.
        Origin::Network => Ok(None),
        _ => users.enter(uid).map(Some).ok_or(REFUSED_FOR_NOW),
    };
    let taken = match share {
        Ok(share) => match timeout(LIFE, take(&mut stream, submit, origin, share)).await {
            Ok(taken) => taken,
            Err(_) => Err(TIMEOUT),
        },
        Err(code) => Err(code),
    };
    let answer = match taken {
        Ok(qp) => Answer { exit_code: 0, qp },
        Err(exit_code) => Answer { exit_code, qp: 0 },
    };
    let _ = timeout(IDLE_MAX, stream.write_all(&answer.to_octets())).await;
}

/// Takes one message. Returns its `qp`.
async fn take(
    stream: &mut UnixStream,
    submit: &dyn Submit,
    origin: Origin,
    mut share: Option<Share>,
) -> Result<u32, u8> {
    let mut draft = submit
        .begin(origin)
        .await
        .map_err(|error| exit_code(&error))?;
    let mut receiver = Receiver::default();
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_OCTETS);
        match timeout(IDLE_MAX, stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) | Ok(Err(_)) => return Err(READ),
            Ok(Ok(_)) => {}
            Err(_) => return Err(TIMEOUT),
        }
        let mut octets = buffer.split().freeze();
        while let Some(piece) = receiver
            .receive(&mut octets)
            .map_err(|error| error.exit_code())?
        {
            match piece {
                Piece::Text(text) => {
                    if let Some(share) = &mut share
                        && !share.add(text.len() as u64)
                    {
                        return Err(REFUSED_FOR_NOW);
                    }
                    draft.write(text).await.map_err(|error| exit_code(&error))?;
                }
                Piece::Quote(quote) => {
                    let quoted = draft.quote(quote.message, quote.octets_max).await;
                    if !quoted.map_err(|error| exit_code(&error))? {
                        return Err(FORMAT);
                    }
                }
                Piece::Envelope(envelope) => {
                    let receipt = draft.commit(envelope).await;
                    return receipt
                        .map(|receipt| receipt.qp)
                        .map_err(|error| exit_code(&error));
                }
            }
        }
    }
}

/// What qmail-queue(8) says of a refusal.
fn exit_code(error: &SubmitError) -> u8 {
    match error {
        SubmitError::AddressTooLong => ADDRESS,
        SubmitError::Write(source) if source.kind() == io::ErrorKind::OutOfMemory => MEMORY,
        SubmitError::Write(_) => WRITE,
        SubmitError::Create(_) => CREATE,
        error => match error.class() {
            StatusClass::Permanent => REFUSED,
            _ => REFUSED_FOR_NOW,
        },
    }
}

/// What each user has on its way in.
#[derive(Default)]
struct Users(Mutex<HashMap<u32, InFlight>>);

#[derive(Default)]
struct InFlight {
    messages: usize,
    octets: u64,
}

impl Users {
    /// Room for one more message of a user, unless there is none.
    fn enter(self: &Arc<Self>, uid: u32) -> Option<Share> {
        let mut users = self.lock();
        let all: usize = users.values().map(|user| user.messages).sum();
        let user = users.entry(uid).or_default();
        if all >= MESSAGES_MAX || user.messages >= MESSAGES_PER_USER_MAX {
            if user.messages == 0 {
                users.remove(&uid);
            }
            return None;
        }
        user.messages += 1;
        Some(Share {
            users: Arc::clone(self),
            uid,
            octets: 0,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, InFlight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a message in what its user has on its way; given back when dropped.
struct Share {
    users: Arc<Users>,
    uid: u32,
    octets: u64,
}

impl Share {
    /// Counts text; whether there is room for it.
    fn add(&mut self, octets: u64) -> bool {
        let mut users = self.users.lock();
        let user = users.entry(self.uid).or_default();
        if user.octets + octets > OCTETS_PER_USER_MAX {
            return false;
        }
        user.octets += octets;
        self.octets += octets;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut users = self.users.lock();
        let Some(user) = users.get_mut(&self.uid) else {
            return;
        };
        user.messages -= 1;
        user.octets -= self.octets;
        if user.messages == 0 {
            users.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_share_and_gives_it_back() {
        let users = Arc::new(Users::default());
        let mut mine: Vec<_> = (0..MESSAGES_PER_USER_MAX)
            .map(|_| users.enter(1).unwrap())
            .collect();
        assert!(users.enter(1).is_none());
        assert!(users.enter(2).is_some(), "others have room");
        assert!(mine[0].add(OCTETS_PER_USER_MAX));
        assert!(!mine[1].add(1));
        drop(mine.swap_remove(0));
        assert!(mine[0].add(1));
        assert!(users.enter(1).is_some());
        drop(mine);
        assert!(users.lock().is_empty());
    }

    #[tokio::test]
    async fn the_network_is_not_held_to_the_share_of_a_user() {
        let spool = Arc::new(qmail_queue::MemorySpool::new());
        let clock = Arc::new(qmail_queue::SystemClock::new().unwrap());
        let intake = qmail_queue::Intake::new(spool, clock, 1, 2);
        let users = Arc::new(Users::default());
        let uid = rustix::process::geteuid().as_raw();
        let _shares: Vec<_> = (0..MESSAGES_PER_USER_MAX)
            .map(|_| users.enter(uid).unwrap())
            .collect();
        for (origin, exit_code) in [(Origin::Network, 0), (Origin::Uid(uid), REFUSED_FOR_NOW)] {
            let (mut near, far) = UnixStream::pair().unwrap();
            near.write_all(b"\0\0\0\x01x\0\0\0\0Fa@b\0Tc@d\0\0")
                .await
                .unwrap();
            converse(far, &intake, |_| origin, &users).await;
            let mut answer = [0; Answer::OCTETS];
            near.read_exact(&mut answer).await.unwrap();
            assert_eq!(Answer::from_octets(answer).exit_code, exit_code);
        }
    }

    #[test]
    fn all_users_together_have_their_share() {
        let users = Arc::new(Users::default());
        let shares: Vec<_> = (0..MESSAGES_MAX as u32)
            .map(|uid| users.enter(uid).unwrap())
            .collect();
        assert!(users.enter(MESSAGES_MAX as u32).is_none());
        assert_eq!(users.lock().len(), shares.len());
    }
}
