//! TLS without the private key: the keys party signs.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::channel::{self, Incoming, MESSAGE_OCTETS_MAX};
use super::keys::understand;
use crate::tls::ServerTls;

/// How long an answer may take: the party may be starting again.
const WAIT: Duration = Duration::from_secs(10);

/// Connections that are kept for the next handshake.
const IDLE_MAX: usize = 16;

/// The certificate of this host, as the keys party tells it; `None` if there is none.
///
/// # Errors
///
/// The party does not answer, or not in a way that can be understood.
pub(super) fn server_tls(socket: PathBuf) -> io::Result<Option<ServerTls>> {
    let party = Arc::new(KeysParty {
        socket,
        idle: Mutex::default(),
    });
    let told = party.ask(b"c")?;
    if told == b"-" {
        return Ok(None);
    }
    let (algorithm, schemes, chain) = understand(&told).ok_or(io::ErrorKind::InvalidData)?;
    let key = Arc::new(DistantKey {
        party,
        algorithm,
        schemes,
    });
    let tls = ServerTls::with_key(chain, key).map_err(io::Error::other)?;
    Ok(Some(tls))
}

/// The other side of the socket.
struct KeysParty {
    socket: PathBuf,
    idle: Mutex<Vec<OwnedFd>>,
}

impl fmt::Debug for KeysParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeysParty").finish_non_exhaustive()
    }
}

impl KeysParty {
    /// One question. Blocks.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        // One that was kept may have been closed meanwhile; a new one has not.
        while let Some(connection) = self.idle().pop() {
            if let Ok(answer) = self.ask_on(connection, request) {
                return Ok(answer);
            }
        }
        let connection = channel::connect(&self.socket)?;
        channel::bound_waits(&connection, WAIT)?;
        self.ask_on(connection, request)
    }

    fn ask_on(&self, connection: OwnedFd, request: &[u8]) -> io::Result<Vec<u8>> {
        channel::send(&connection, request, None)?;
        let mut room = vec![0; MESSAGE_OCTETS_MAX];
        match channel::receive(&connection, &mut room)? {
            Incoming::Message(octets, None) => {
                let mut idle = self.idle();
                if idle.len() < IDLE_MAX {
                    idle.push(connection);
                }
                room.truncate(octets);
                Ok(room)
            }
            Incoming::End => Err(io::ErrorKind::UnexpectedEof.into()),
            Incoming::Message(..) | Incoming::Refused(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<OwnedFd>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that is elsewhere.
#[derive(Debug)]
struct DistantKey {
    party: Arc<KeysParty>,
    algorithm: SignatureAlgorithm,
    schemes: Vec<SignatureScheme>,
}

impl SigningKey for DistantKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let mut schemes = self.schemes.iter().copied();
        let scheme = schemes.find(|scheme| offered.contains(scheme))?;
        Some(Box::new(DistantSigner {
            party: Arc::clone(&self.party),
            scheme,
        }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

#[derive(Debug)]
struct DistantSigner {
    party: Arc<KeysParty>,
    scheme: SignatureScheme,
}

impl Signer for DistantSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let request = [b"s", &u16::from(self.scheme).to_be_bytes()[..], message].concat();
        let answer = apart(|| self.party.ask(&request));
        match answer.as_deref() {
            Ok([b's', signature @ ..]) => Ok(signature.to_vec()),
            Ok(_) => Err(Error::General("the keys party refused to sign".into())),
            Err(error) => Err(Error::General(format!("the keys party: {error}"))),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// A handshake that waits holds up no other session, where there are threads for these.
fn apart<T>(ask: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(ask),
        _ => ask(),
    }
}
