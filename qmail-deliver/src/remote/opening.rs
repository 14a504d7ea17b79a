//! From a connection to a session that is ready: TLS, greeting, login.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use qmail_core::pump::Pump;
use qmail_core::route::RelayProtocol;
use qmail_core::sasl::client::Login;
use qmail_core::{Machine as _, Outcome};
use qmail_smtp::client::{self, Event, Extensions, Protocol, Session};
use tokio::time::timeout_at;

use super::connect::Stream;
use super::dialogue::failed;
use super::mx::Target;
use super::texts;
use super::tls::{Security, TlsClient};

/// How to open a session.
pub(super) struct Opening<'a> {
    pub(super) target: &'a Target,
    pub(super) protocol: RelayProtocol,
    pub(super) security: Security,
    pub(super) login: Option<Login>,
    pub(super) config: &'a client::Config,
    pub(super) tls: &'a TlsClient,
    pub(super) now: fn() -> Instant,
}

/// A session that is ready.
pub(super) struct Opened {
    pub(super) pump: Pump<Session, Box<dyn Stream>>,
    pub(super) extensions: Extensions,
}

/// Why there is none.
pub(super) enum OpeningError {
    /// The server said, or did, something that is true of every message. Nothing is left to say but QUIT.
    Said(Box<Pump<Session, Box<dyn Stream>>>, Outcome),
    /// The handshake failed.
    Tls(io::Error),
}

impl Opening<'_> {
    pub(super) async fn open(self, stream: Box<dyn Stream>) -> Result<Opened, OpeningError> {
        let now = self.now;
        let (mut session, stream) = if self.security.from_start {
            let deadline = now() + self.config.timeouts.hello;
            let stream = self.handshake(stream, Some(deadline)).await?;
            (Session::over_tls(self.config(), now()), stream)
        } else {
            (Session::new(self.config(), now()), stream)
        };
        if let Some(login) = self.login.clone() {
            session = session.with_login(login);
        }
        let mut pump = Pump::new(session, stream, now).hearing();
        loop {
            match pump.next_event().await {
                Ok(Some(Event::Ready { extensions })) => return Ok(Opened { pump, extensions }),
                Ok(Some(Event::StartTls)) => {
                    let (mut session, stream) = pump.into_parts();
                    let stream = self.handshake(stream, session.deadline()).await?;
                    session.tls_started();
                    pump = Pump::new(session, stream, now).hearing();
                }
                Ok(Some(Event::Failed(failure))) => {
                    let outcome = failed(self.address(), &failure);
                    return Err(OpeningError::Said(Box::new(pump), outcome));
                }
                Ok(Some(Event::Closed { .. }) | None) | Err(_) => {
                    let outcome = texts::lost(self.address(), false);
                    return Err(OpeningError::Said(Box::new(pump), outcome));
                }
                Ok(Some(_)) => {}
            }
        }
    }

    fn address(&self) -> IpAddr {
        self.target.address.ip()
    }

    fn config(&self) -> Arc<client::Config> {
        let mut config = self.config.clone();
        config.start_tls = self.security.start_tls;
        if self.protocol == RelayProtocol::Lmtp {
            config.protocol = Protocol::Lmtp;
        }
        Arc::new(config)
    }

    async fn handshake(
        &self,
        stream: Box<dyn Stream>,
        deadline: Option<Instant>,
    ) -> Result<Box<dyn Stream>, OpeningError> {
        let verified = self.security.verified;
        let handshake = self.tls.handshake(stream, self.target, verified);
        let made = match deadline {
            Some(deadline) => timeout_at(deadline.into(), handshake)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => handshake.await,
        };
        made.map_err(OpeningError::Tls)
    }
}
