//! The certificate of this host, and TLS with those who connect (RFC 3207, RFC 8314).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(60);

/// Makes connections secure as this host. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ServerTls(TlsAcceptor);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("no certificate in it")]
    NoCertificate,
    #[error("no certificate and key in PEM: {0}")]
    Pem(#[from] pem::Error),
    #[error("{0}")]
    Useless(#[from] rustls::Error),
}

impl ServerTls {
    /// By a chain of certificates, the host's own first, and its private key, both in PEM.
    ///
    /// # Errors
    ///
    /// They are not there, or do not belong together.
    pub(crate) fn new(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>()?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider)?;
        Ok(Self::with(certified)?)
    }

    /// By a chain of certificates and something that signs as its key does.
    ///
    /// # Errors
    ///
    /// There is no TLS for it.
    pub(crate) fn with_key(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, rustls::Error> {
        Self::with(CertifiedKey::new(chain, key))
    }

    fn with(certified: CertifiedKey) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes the handshake, within a minute.
    ///
    /// # Errors
    ///
    /// The client does not make it.
    async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        timeout(HANDSHAKE_WAIT, self.0.accept(stream))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

/// A connection in clear, or encrypted.
pub(crate) enum Stream<S> {
    Clear(S),
    Encrypted(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Makes the handshake.
    ///
    /// # Errors
    ///
    /// The client does not make it, or it was made already.
    pub(crate) async fn encrypted(self, tls: &ServerTls) -> io::Result<Self> {
        match self {
            Self::Clear(stream) => tls.accept(stream).await.map(Box::new).map(Self::Encrypted),
            Self::Encrypted(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn certificate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["mail.test".to_owned()]);
        let made = made.expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_is_no_certificate_with_its_key_is_told() {
        let (chain, key) = certificate();
        let both = format!("{chain}{key}");
        assert!(ServerTls::new(both.as_bytes(), both.as_bytes()).is_ok());
        let other = certificate().1;
        for (chain, key, told) in [
            ("", &*key, "no certificate in it"),
            (&*chain, "", "no certificate and key in PEM: "),
            (&*chain, &*other, "keys may not be consistent"),
            ("-----BEGIN CERTIFICATE-----\n!\n", &*key, "in PEM"),
        ] {
            let error = ServerTls::new(chain.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    #[tokio::test]
    async fn octets_pass_in_clear_and_garbage_is_no_handshake() {
        let (mut near, far) = tokio::io::duplex(100);
        let mut stream = Stream::Clear(far);
        near.write_all(b"hello").await.expect("room");
        let mut octets = [0; 5];
        stream.read_exact(&mut octets).await.expect("five octets");
        assert_eq!(&octets, b"hello");
        let (chain, key) = certificate();
        let tls = ServerTls::new(chain.as_bytes(), key.as_bytes()).expect("a pair");
        near.write_all(b"EHLO evil\r\n").await.expect("room");
        assert!(stream.encrypted(&tls).await.is_err());
    }
}
