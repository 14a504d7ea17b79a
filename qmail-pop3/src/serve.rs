//! The owner that most programs want: it joins a session to a stream, a password checker and maildrops.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use qmail_core::pump::Pump;
use qmail_core::{Account, Body, Credentials, LoginError, PasswordChecker};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::output::push_error;
use crate::{
    BodyFlow, Config, Deletions, End, Event, LoginAnswer, Maildrop, Maildrops, RetrieveAnswer,
    Session, UpdateAnswer, VerifierAnswer,
};

/// What a session came to, for the log.
#[derive(Debug)]
#[non_exhaustive]
pub struct Served {
    /// Who was logged in, if anybody.
    pub account: Option<Account>,
    /// How it ended.
    pub end: End,
    /// How many messages were opened, by RETR or TOP.
    pub retrieved: u64,
    /// How many messages were to be removed at its end.
    pub deleted: u64,
    /// The last thing that went wrong here, not at the client: passwords that could not be checked, a maildrop that could
    /// not be read or cleared.
    pub trouble: Option<io::Error>,
    /// How the connection broke, if it did: usually the client's doing.
    pub broken: Option<io::Error>,
}

/// Serves one client, from the greeting of `session` to the end.
///
/// `now` is the clock: `Instant::now` in a program. Dropping the future breaks the connection, and removes nothing unless
/// the removing has begun.
///
/// ```no_run
/// # use std::{sync::Arc, time::Instant};
/// # use qmail_core::PasswordChecker;
/// # use qmail_pop3::{Config, Greeting, MemoryMaildrops, Session, serve};
/// # async fn example(stream: tokio::io::DuplexStream, passwords: &dyn PasswordChecker) {
/// let session = Session::new(Arc::new(Config::default()), Greeting::Plain, Instant::now());
/// let served = serve(session, stream, Instant::now, passwords, &MemoryMaildrops::default()).await;
/// println!("{:?}", served.end);
/// # }
/// ```
pub async fn serve<S>(
    session: Session,
    stream: S,
    now: fn() -> Instant,
    passwords: &dyn PasswordChecker,
    maildrops: &dyn Maildrops,
) -> Served
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let no_tls = async |_| Err(io::ErrorKind::Unsupported.into());
    serve_tls(session, stream, now, passwords, maildrops, no_tls).await
}

/// As [`serve`], for a session whose [`Config::tls`](crate::Config::tls) is on: `handshake` makes TLS of the stream when the
/// client has said STLS. It should bound the time that it takes.
pub async fn serve_tls<S>(
    session: Session,
    stream: S,
    now: fn() -> Instant,
    passwords: &dyn PasswordChecker,
    maildrops: &dyn Maildrops,
    handshake: impl AsyncFnOnce(S) -> io::Result<S>,
) -> Served
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let owner = Owner {
        now,
        backend: Some((passwords, maildrops)),
        maildrop: None,
        body: None,
        served: Served::new(),
    };
    owner.run(Pump::new(session, stream, now), handshake).await
}

/// Serves one client that is logged in already, from the `+OK ` to its password to the end: what qmail-pop3d does.
///
/// If the maildrop cannot be listed, the client is told so instead, and that is all.
pub async fn serve_maildrop<S>(
    config: Arc<Config>,
    mut stream: S,
    now: fn() -> Instant,
    mut maildrop: Box<dyn Maildrop>,
) -> Served
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut served = Served::new();
    let listing = match maildrop.list().await {
        Ok(listing) => listing,
        Err(error) => {
            let mut reply = Vec::new();
            push_error(&mut reply, error.to_string().as_bytes());
            served.end = End::LoginFailed;
            served.trouble = Some(io::Error::other(error));
            let last_words = async {
                stream.write_all(&reply).await?;
                // A stream may keep what it was given: tokio's standard output does.
                stream.flush().await?;
                stream.shutdown().await
            };
            // A client that does not take them is as good as gone.
            let _ = timeout(config.idle, last_words).await;
            return served;
        }
    };
    let owner = Owner {
        now,
        backend: None,
        maildrop: Some(maildrop),
        body: None,
        served,
    };
    let session = Session::logged_in(config, listing, now());
    // Who is logged in says no STLS.
    let no_tls = async |_| Err(io::ErrorKind::Unsupported.into());
    owner.run(Pump::new(session, stream, now), no_tls).await
}

impl Served {
    fn new() -> Self {
        Self {
            account: None,
            end: End::Disconnected,
            retrieved: 0,
            deleted: 0,
            trouble: None,
            broken: None,
        }
    }
}

struct Owner<'a> {
    now: fn() -> Instant,
    backend: Option<(&'a dyn PasswordChecker, &'a dyn Maildrops)>,
    /// There since the login.
    maildrop: Option<Box<dyn Maildrop>>,
    /// The message that is being sent.
    body: Option<Box<dyn Body>>,
    served: Served,
}

impl Owner<'_> {
    async fn run<S>(
        mut self,
        mut pump: Pump<Session, S>,
        handshake: impl AsyncFnOnce(S) -> io::Result<S>,
    ) -> Served
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut handshake = Some(handshake);
        loop {
            match pump.next_event().await {
                Ok(Some(Event::StartTls)) => {
                    let (mut session, stream) = pump.into_parts();
                    // A session starts TLS once at most.
                    let Some(handshake) = handshake.take() else {
                        return self.served;
                    };
                    match handshake(stream).await {
                        Ok(stream) => {
                            session.tls_started();
                            pump = Pump::new(session, stream, self.now);
                        }
                        Err(error) => {
                            self.served.broken = Some(error);
                            return self.served;
                        }
                    }
                }
                Ok(Some(event)) => self.settle(pump.machine(), event).await,
                Ok(None) => {
                    if let Some(end) = pump.machine().end() {
                        self.served.end = end;
                    }
                    return self.served;
                }
                Err(error) => {
                    // What the machine was told last is that its client is gone; an update was done nevertheless.
                    if let Some(end) = pump.machine().end() {
                        self.served.end = end;
                    }
                    self.served.broken = Some(error);
                    return self.served;
                }
            }
        }
    }

    async fn settle(&mut self, session: &mut Session, event: Event) {
        match event {
            Event::Login {
                question,
                credentials,
            } => {
                let answer = self.log_in(&credentials).await;
                session.answer_login((self.now)(), question, answer);
            }
            Event::Verifier { question, name } => {
                let answer = self.verifier(&name).await;
                session.answer_verifier((self.now)(), question, answer);
            }
            Event::Proved { question, account } => {
                let answer = self.open_maildrop(account).await;
                session.answer_login((self.now)(), question, answer);
            }
            Event::Retrieve {
                question, message, ..
            } => {
                let answer = self.open(message).await;
                session.answer_retrieve((self.now)(), question, answer);
            }
            Event::BodyWanted => self.feed(session).await,
            Event::Update { question, deleted } => {
                let answer = self.update(&deleted).await;
                session.answer_update((self.now)(), question, answer);
            }
            // Settled where the stream is.
            Event::StartTls => {}
        }
    }

    async fn verifier(&mut self, name: &Bytes) -> VerifierAnswer {
        let Some((passwords, _)) = self.backend else {
            return Err(LoginError::Refused);
        };
        let found = passwords.verifier(name).await;
        if let Err(error @ LoginError::Unavailable { .. }) = &found {
            self.served.trouble = Some(io::Error::other(error.to_string()));
        }
        found
    }

    async fn log_in(&mut self, credentials: &Credentials) -> LoginAnswer {
        // Only a session with a backend starts before the login.
        let Some((passwords, _)) = self.backend else {
            return LoginAnswer::Refused;
        };
        match passwords.check(credentials).await {
            Ok(account) => self.open_maildrop(account).await,
            Err(LoginError::Refused) => LoginAnswer::Refused,
            Err(error) => {
                self.served.trouble = Some(io::Error::other(error));
                LoginAnswer::Unavailable
            }
        }
    }

    /// Lets in who may come in.
    async fn open_maildrop(&mut self, account: Account) -> LoginAnswer {
        let Some((_, maildrops)) = self.backend else {
            return LoginAnswer::Refused;
        };
        let opened = match maildrops.open(&account).await {
            Ok(mut maildrop) => maildrop.list().await.map(|listing| (maildrop, listing)),
            Err(error) => Err(error),
        };
        self.served.account = Some(account);
        match opened {
            Ok((maildrop, listing)) => {
                self.maildrop = Some(maildrop);
                LoginAnswer::Accepted(listing)
            }
            Err(error) => {
                let text = error.to_string().into();
                self.served.trouble = Some(io::Error::other(error));
                LoginAnswer::Failed(text)
            }
        }
    }

    async fn open(&mut self, message: usize) -> RetrieveAnswer {
        let Some(maildrop) = &mut self.maildrop else {
            return RetrieveAnswer::Unavailable;
        };
        match maildrop.open(message).await {
            Ok(body) => {
                self.body = Some(body);
                self.served.retrieved += 1;
                RetrieveAnswer::Opened
            }
            Err(error) => {
                self.served.trouble = Some(error);
                RetrieveAnswer::Unavailable
            }
        }
    }

    async fn feed(&mut self, session: &mut Session) {
        let chunk = match &mut self.body {
            Some(body) => body.next().await,
            None => Ok(None),
        };
        let now = (self.now)();
        match chunk {
            Ok(Some(chunk)) => {
                if session.body(now, &chunk) == BodyFlow::More {
                    return;
                }
            }
            Ok(None) => session.end_body(now),
            Err(error) => {
                session.abort_body(now);
                self.served.trouble = Some(error);
            }
        }
        self.body = None;
    }

    async fn update(&mut self, deleted: &Deletions) -> UpdateAnswer {
        self.served.deleted = deleted.len() as u64;
        let Some(maildrop) = &mut self.maildrop else {
            return UpdateAnswer::Incomplete;
        };
        match maildrop.commit(deleted).await {
            Ok(()) => UpdateAnswer::Done,
            Err(error) => {
                self.served.trouble = Some(error);
                UpdateAnswer::Incomplete
            }
        }
    }
}

#[cfg(test)]
mod tests;
