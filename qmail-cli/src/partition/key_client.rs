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
        while let Some(connection) = self.take_idle() {
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

    /// It lets go of the lock, which the scrutinee of a loop would not.
    fn take_idle(&self) -> Option<OwnedFd> {
        self.idle().pop()
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

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::super::channel::Listener;
    use super::super::keys::{Identity, serve_on};
    use super::*;
    use crate::tls::Stream;

    #[tokio::test(flavor = "multi_thread")]
    async fn handshakes_are_made_without_the_key() {
        let made = rcgen::generate_simple_self_signed(vec!["mail.test".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let identity = Identity::new(chain.as_bytes(), key.as_bytes()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let listener = Listener::new(channel::listen(&path).unwrap()).unwrap();
        tokio::spawn(async move { serve_on(&listener, Some(identity)).await });
        let tls = tokio::task::spawn_blocking(move || server_tls(path)).await;
        let tls = tls.unwrap().unwrap().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        // Both versions have signatures of a form of their own; the second handshake of each uses a connection again.
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for _ in 0..2 {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_root_certificates(roots.clone())
                    .with_no_client_auth();
                let (near, far) = tokio::io::duplex(16 * 1024);
                let connector = TlsConnector::from(Arc::new(config));
                let name = ServerName::try_from("mail.test").unwrap();
                let (client, server) = tokio::join!(
                    connector.connect(name, near),
                    Stream::Clear(far).encrypted(&tls)
                );
                let (mut client, mut server) = (client.unwrap(), server.unwrap());
                client.write_all(b"hello").await.unwrap();
                client.flush().await.unwrap();
                let mut octets = [0; 5];
                server.read_exact(&mut octets).await.unwrap();
                assert_eq!(&octets, b"hello");
            }
        }
    }
}
