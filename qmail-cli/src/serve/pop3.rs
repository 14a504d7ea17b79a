//! One POP3 session.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use qmail_core::Account;
use qmail_pop3::{
    Config, Greeting, MaildirMaildrop, MaildirOptions, Maildrop, MaildropError, Maildrops, Session,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::accounts::Accounts;
use crate::report::Reporter;

/// Serves one client to the end.
pub(super) async fn serve<S>(
    config: Arc<Config>,
    accounts: &Accounts,
    stream: S,
    reporter: &Reporter,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Passwords are hashed, so there is no APOP to offer.
    let session = Session::new(config, Greeting::Plain, Instant::now());
    let served = qmail_pop3::serve(session, stream, Instant::now, accounts, &ShownMaildirs).await;
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

/// The Maildir that an account's `home` names.
struct ShownMaildirs;

#[async_trait]
impl Maildrops for ShownMaildirs {
    async fn open(&self, account: &Account) -> Result<Box<dyn Maildrop>, MaildropError> {
        let Some(maildir) = &account.home else {
            return Err(MaildropError::Missing(io::ErrorKind::NotFound.into()));
        };
        Ok(Box::new(MaildirMaildrop::new(
            maildir,
            MaildirOptions::default(),
            SystemTime::now(),
        )))
    }
}
