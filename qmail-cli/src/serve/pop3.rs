//! One POP3 session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use qmail_core::sasl::Mechanism;
use qmail_core::{Account, PasswordChecker};
use qmail_pop3::{
    Config, Greeting, MaildirCache, MaildirMaildrop, MaildirOptions, Maildrop, MaildropError,
    Maildrops, Served, Session, serve_tls,
};
use tokio::net::TcpStream;

use super::nonce;
use crate::report::Reporter;
use crate::tls::{ServerTls, Stream};

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// POP3, with STLS where there is a certificate.
    Pop3,
    /// POP3 over TLS (RFC 8314 section 3.3).
    Pop3s,
}

impl Door {
    pub(crate) const ALL: [Self; 2] = [Self::Pop3, Self::Pop3s];

    /// For the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pop3 => "pop3",
            Self::Pop3s => "pop3s",
        }
    }
}

/// The login of one session where mail is read by another process: it opens the maildrop of whoever it lets in.
pub(crate) trait MailLogin: PasswordChecker + Maildrops {}

/// What all sessions of one configuration share.
pub(crate) struct Rules {
    pub(crate) config: Config,
    /// How clients may log in by AUTH, as far as passwords are kept in a way that allows it.
    pub(crate) mechanisms: Vec<Mechanism>,
    /// Whether a password may come in clear from another host although there is a certificate.
    pub(crate) in_clear: bool,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) maildirs: ShownMaildirs,
}

impl Rules {
    fn config(&self, accounts: &dyn PasswordChecker, peer: SocketAddr) -> Config {
        let mut config = self.config.clone();
        config.tls = self.tls.is_some();
        // Nobody listens between a host and itself.
        config.in_clear =
            self.in_clear || self.tls.is_none() || peer.ip().to_canonical().is_loopback();
        let possible = |mechanism: &Mechanism| mechanism.is_possible(accounts);
        config.mechanisms = self.mechanisms.iter().copied().filter(possible).collect();
        config
    }
}

/// Serves one client to the end.
pub(super) async fn serve(
    rules: &Rules,
    accounts: &dyn PasswordChecker,
    elsewhere: Option<&dyn MailLogin>,
    door: Door,
    stream: TcpStream,
    peer: SocketAddr,
    reporter: &Reporter,
) {
    // What goes wrong before the greeting is the client's affair.
    let Ok(served) = converse(rules, accounts, elsewhere, door, stream, peer).await else {
        return;
    };
    // A client that went away is no trouble of ours; a maildrop that cannot be read is.
    if let (Some(account), Some(trouble)) = (&served.account, &served.trouble)
        && !matches!(
            trouble.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::TimedOut
        )
    {
        reporter.warning(&format_args!(
            "trouble with the mail of {}: {trouble}",
            qmail_core::Escaped(&account.name)
        ));
    }
}

async fn converse(
    rules: &Rules,
    accounts: &dyn PasswordChecker,
    elsewhere: Option<&dyn MailLogin>,
    door: Door,
    stream: TcpStream,
    peer: SocketAddr,
) -> io::Result<Served> {
    let accounts: &dyn PasswordChecker = match elsewhere {
        Some(login) => login,
        None => accounts,
    };
    let config = Arc::new(rules.config(accounts, peer));
    // Passwords are hashed, so there is no APOP to offer.
    let session = Session::new(config, Greeting::Plain, Instant::now()).with_nonce(&nonce()?);
    let stream = Stream::Clear(stream);
    let tls = || rules.tls.as_ref().ok_or(io::ErrorKind::Unsupported);
    let (session, stream) = match door {
        Door::Pop3 => (session, stream),
        Door::Pop3s => (session.with_tls(), stream.encrypted(tls()?).await?),
    };
    let handshake = async |stream: Stream<TcpStream>| stream.encrypted(tls()?).await;
    let maildirs: &dyn Maildrops = match elsewhere {
        Some(login) => login,
        None => &rules.maildirs,
    };
    Ok(serve_tls(session, stream, Instant::now, accounts, maildirs, handshake).await)
}

/// The Maildir that an account's `home` names.
#[derive(Default)]
pub(crate) struct ShownMaildirs(MaildirCache);

#[async_trait]
impl Maildrops for ShownMaildirs {
    async fn open(&self, account: &Account) -> Result<Box<dyn Maildrop>, MaildropError> {
        let Some(maildir) = &account.home else {
            return Err(MaildropError::Missing(io::ErrorKind::NotFound.into()));
        };
        let options = MaildirOptions::default();
        let maildrop = MaildirMaildrop::new(maildir, options, SystemTime::now());
        Ok(Box::new(maildrop.with_cache(&self.0)))
    }
}
