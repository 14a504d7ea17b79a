//! A host that certificates are made for, and clients that trust it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The name in every certificate.
pub const HOST: &str = "mail.test";

/// A certificate of [`HOST`], made for one test.
#[derive(Clone, Debug)]
pub struct Identity {
    pem: String,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// A new one.
    ///
    /// # Panics
    ///
    /// If none can be made.
    #[expect(
        clippy::new_without_default,
        reason = "each is another one, which a default is not"
    )]
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]);
        let made = made.expect("a certificate can be made");
        let mut trusted = RootCertStore::empty();
        let added = trusted.add(CertificateDer::from(made.cert.der().to_vec()));
        added.expect("it is one");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Self {
            pem: format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()),
            client: Arc::new(client),
        }
    }

    /// Makes it the certificate of a home.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn install(&self, home: &Path) {
        let control = home.join("control");
        std::fs::create_dir_all(&control).expect("a directory");
        std::fs::write(control.join("servercert.pem"), &self.pem).expect("a file");
    }

    /// A client that trusts this host and no other.
    ///
    /// # Panics
    ///
    /// If there cannot be one.
    pub fn connection(&self) -> ClientConnection {
        let name = ServerName::try_from(HOST).expect("a name");
        ClientConnection::new(Arc::clone(&self.client), name).expect("a client")
    }
}

/// A connection in clear, or encrypted. The handshake is made with the first octets.
#[derive(Debug)]
pub enum Wire {
    /// As it is.
    Clear(TcpStream),
    /// By TLS.
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// By TLS, with a host of this identity.
    ///
    /// # Panics
    ///
    /// If it is already.
    #[must_use]
    pub fn encrypted(self, identity: &Identity) -> Self {
        match self {
            Self::Clear(stream) => {
                let stream = StreamOwned::new(identity.connection(), stream);
                Self::Encrypted(Box::new(stream))
            }
            Self::Encrypted(_) => panic!("encrypted twice"),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(octets),
            Self::Encrypted(stream) => stream.read(octets),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(octets),
            Self::Encrypted(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.flush(),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}
