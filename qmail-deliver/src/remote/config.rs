//! What remote delivery may be told. All defaults stand in [`RemoteConfig::new`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qmail_core::route::SmtpRoutes;
use qmail_smtp::client;
use rustls::RootCertStore;

use super::TlsPolicy;

/// How mail is sent to other hosts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RemoteConfig {
    /// How SMTP sessions behave: their name, extensions and timeouts. Default: as [`client::Config::new`].
    pub session: client::Config,
    /// Relays that take the place of DNS: control/smtproutes. Default: none.
    pub routes: SmtpRoutes,
    /// How much of TLS there has to be. It sets [`client::Config::start_tls`]. Default: [`TlsPolicy::Opportunistic`].
    pub tls: TlsPolicy,
    /// Who may vouch for certificates, where these are verified. Default: `None`, for whom the system trusts.
    pub tls_roots: Option<Arc<RootCertStore>>,
    /// Addresses of this host. It does not send to itself, or to an exchanger no better than itself, unless a route says so.
    /// Default: none, and then only `0.0.0.0` and `::` are known to be this host.
    pub own_addresses: Vec<IpAddr>,
    /// How long one connection may take to be made: control/timeoutconnect. Default: 60 s.
    pub connect_timeout: Duration,
    /// Most recipients of one message in one transaction; at least 1. Default: 100, which every server takes (RFC 5321 section
    /// 4.5.3.1.8).
    pub recipients_max: usize,
    /// How long a connection is kept for another message to the same destination. Default: 5 s; zero closes it at once.
    pub idle_timeout: Duration,
    /// Idle connections that are kept, over all destinations; the oldest makes room for a new one. Default: 256.
    pub idle_connections_max: usize,
    /// Messages sent over one connection. Default: 100.
    pub transactions_max: u32,
    /// Age beyond which a connection gets no further message, so that one server of many does not get them all. Default: 5
    /// minutes.
    pub connection_age_max: Duration,
}

impl RemoteConfig {
    /// All defaults, under the name that EHLO and HELO say: control/helohost.
    ///
    /// # Errors
    ///
    /// As [`client::Config::new`].
    pub fn new(hello: impl Into<Bytes>) -> Result<Self, client::UnsendableError> {
        Ok(Self {
            session: client::Config::new(hello)?,
            routes: SmtpRoutes::default(),
            tls: TlsPolicy::default(),
            tls_roots: None,
            own_addresses: Vec::new(),
            connect_timeout: Duration::from_secs(60),
            recipients_max: 100,
            idle_timeout: Duration::from_secs(5),
            idle_connections_max: 256,
            transactions_max: 100,
            connection_age_max: Duration::from_secs(5 * 60),
        })
    }
}
