//! TLS on the way out: who has to prove what.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use qmail_core::route::RelayProtocol;
use qmail_smtp::client::StartTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::connect::Stream;
use super::mx::Target;
use super::routes::NextHop;

/// How much of TLS there has to be. Versions 1.2 and 1.3.
///
/// | policy | a server that offers no TLS | one that fails at it | its certificate |
/// |---|---|---|---|
/// | `Off` | gets mail in clear, as all do | | |
/// | `Opportunistic` | gets mail in clear | gets it in clear, over another connection | is not looked at |
/// | `Required` | is tried later | is tried later | is not looked at |
/// | `Verified` | is tried later | is tried later | must be valid for the name of exchanger or relay |
///
/// A relay that the client logs in at gets the password only under `Verified`, or under `Required` where that was chosen:
/// `Opportunistic` counts as `Verified` there, and under `Off` the client only logs in by mechanisms that do not show the
/// password. A relay by `smtps://` is always spoken to by TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// No TLS.
    Off,
    /// TLS wherever it works (RFC 7435).
    #[default]
    Opportunistic,
    /// TLS or nothing.
    Required,
    /// TLS with a valid certificate, or nothing.
    Verified,
}

/// What a policy means for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Security {
    /// Whether TLS comes before anything else.
    pub(super) from_start: bool,
    pub(super) start_tls: StartTls,
    pub(super) verified: bool,
}

impl Security {
    pub(super) fn of(policy: TlsPolicy, hop: &NextHop) -> Self {
        let has_login = matches!(hop, NextHop::Relay(relay) if relay.login.is_some());
        let policy = match policy {
            TlsPolicy::Opportunistic if has_login => TlsPolicy::Verified,
            policy => policy,
        };
        Self {
            from_start: hop.protocol() == RelayProtocol::Smtps,
            start_tls: match policy {
                TlsPolicy::Off => StartTls::Never,
                TlsPolicy::Opportunistic => StartTls::IfOffered,
                TlsPolicy::Required | TlsPolicy::Verified => StartTls::Required,
            },
            verified: policy == TlsPolicy::Verified,
        }
    }

    /// The same without TLS, if that will do.
    pub(super) fn in_clear(self) -> Option<Self> {
        (!self.from_start && self.start_tls == StartTls::IfOffered).then_some(Self {
            start_tls: StartTls::Never,
            ..self
        })
    }
}

/// Makes handshakes.
pub(super) struct TlsClient {
    unverified: TlsConnector,
    /// Whom to trust, if not whom the system trusts.
    roots: Option<Arc<RootCertStore>>,
    verified: OnceLock<TlsConnector>,
}

impl TlsClient {
    pub(super) fn new(roots: Option<Arc<RootCertStore>>) -> Self {
        Self {
            unverified: unverifying().into(),
            roots,
            verified: OnceLock::new(),
        }
    }

    /// Makes a handshake with this server.
    ///
    /// # Errors
    ///
    /// It failed, or the certificate is not valid for the server's name, where it has to be.
    pub(super) async fn handshake(
        &self,
        stream: Box<dyn Stream>,
        target: &Target,
        verified: bool,
    ) -> io::Result<Box<dyn Stream>> {
        let connector = match verified {
            true => self.verified()?,
            false => &self.unverified,
        };
        let name = server_name(&target.name, target.address.ip());
        let stream = connector.connect(name, stream).await?;
        Ok(Box::new(stream))
    }

    /// The system's certificates are read when they are wanted for the first time.
    pub(super) fn verified(&self) -> io::Result<&TlsConnector> {
        if let Some(connector) = self.verified.get() {
            return Ok(connector);
        }
        let roots = match &self.roots {
            Some(roots) => Arc::clone(roots),
            None => Arc::new(system_roots()?),
        };
        let config = verifying(roots)?;
        Ok(self.verified.get_or_init(|| config.into()))
    }
}

/// For a client that makes handshakes itself, over a connection of its own: the same versions and suites as ours. With `verified`
/// the certificate must be valid by those that the system trusts, else any will do.
///
/// # Errors
///
/// The system trusts nobody.
pub fn tls_client_config(verified: bool) -> io::Result<Arc<ClientConfig>> {
    if verified {
        verifying(Arc::new(system_roots()?))
    } else {
        Ok(unverifying())
    }
}

fn verifying(roots: Arc<RootCertStore>) -> io::Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn system_roots() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other(
            "this system has no trusted certificates to verify others by",
        ));
    }
    Ok(roots)
}

/// The name that is asked for, and that a certificate has to be for; for lack of one it is the address.
fn server_name(name: &[u8], address: IpAddr) -> ServerName<'static> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    str::from_utf8(name)
        .ok()
        .and_then(|name| ServerName::try_from(name.to_owned()).ok())
        .unwrap_or_else(|| ServerName::from(address))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unverifying() -> Arc<ClientConfig> {
    let provider = provider();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

/// Takes any certificate: between mail exchangers most are for no name that means anything, and whoever can put himself
/// between could take STARTTLS out of the announcement as well. What is gained is that who only listens hears nothing.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use qmail_core::route::SmtpRoutes;

    use super::*;

    #[test]
    fn a_password_wants_more_than_chance() {
        let file = b"plain:r\ntls:smtps://r\nlogin:r joe x\nboth:smtps://r joe x\n";
        let routes = SmtpRoutes::parse(file, &mut Vec::new());
        use StartTls::{IfOffered, Never, Required};
        for (policy, domain, from_start, start_tls, verified) in [
            (TlsPolicy::Off, "plain", false, Never, false),
            (TlsPolicy::Off, "tls", true, Never, false),
            (TlsPolicy::Off, "login", false, Never, false),
            (TlsPolicy::Opportunistic, "mx", false, IfOffered, false),
            (TlsPolicy::Opportunistic, "login", false, Required, true),
            (TlsPolicy::Opportunistic, "tls", true, IfOffered, false),
            (TlsPolicy::Opportunistic, "both", true, Required, true),
            (TlsPolicy::Required, "login", false, Required, false),
            (TlsPolicy::Verified, "mx", false, Required, true),
        ] {
            let hop = NextHop::of_domain(domain.as_bytes(), &routes);
            let security = Security {
                from_start,
                start_tls,
                verified,
            };
            assert_eq!(Security::of(policy, &hop), security, "{policy:?} {domain}");
            let in_clear = policy == TlsPolicy::Opportunistic && domain == "mx";
            assert_eq!(
                security.in_clear().is_some(),
                in_clear,
                "{policy:?} {domain}"
            );
        }
    }

    #[test]
    fn a_server_without_a_name_is_its_address() {
        let address: IpAddr = [192, 0, 2, 1].into();
        for (name, expected) in [
            ("mx.test", "mx.test"),
            ("mx.test.", "mx.test"),
            ("", "192.0.2.1"),
            ("a b", "192.0.2.1"),
            ("\u{e9}.test", "192.0.2.1"),
        ] {
            let found = server_name(name.as_bytes(), address);
            assert_eq!(found.to_str(), expected, "{name}");
        }
    }
}
