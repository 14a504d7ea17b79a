//! POP3 without the mail: the passwords party lets in, and a process of the user shows the maildrop ([`maildrop`](super::maildrop)).

use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Account, Body, Credentials, LoginError, PasswordChecker};
use qmail_pop3::{Deletions, Listing, Maildrop, MaildropError, Maildrops};
use tokio::time::timeout;

use super::channel::{self, Channel, Incoming, MESSAGE_OCTETS_MAX};
use super::maildrop::{END, NUMBER_OCTETS, understand_error, understand_listing};
use super::password_client::PasswordsParty;
use crate::serve::MailLogin;

/// How long an answer may take: a large Maildir on a slow disk has to be looked through.
const WAIT: Duration = Duration::from_secs(300);

/// The login of one POP3 session: whoever's password it shows, that user's process is at the other end of its connection.
pub(super) struct Login {
    passwords: Arc<PasswordsParty>,
    opened: Mutex<Option<Channel>>,
}

impl Login {
    pub(super) fn new(passwords: Arc<PasswordsParty>) -> Self {
        Self {
            passwords,
            opened: Mutex::default(),
        }
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Option<Channel>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MailLogin for Login {}

#[async_trait]
impl PasswordChecker for Login {
    async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError> {
        let unavailable = |error: io::Error| LoginError::Unavailable {
            reason: error.to_string(),
        };
        let (near, far) = channel::pair().map_err(unavailable)?;
        let account = self.passwords.open(credentials, far.as_fd()).await?;
        let near = Channel::new(near).map_err(unavailable)?;
        *self.opened() = Some(near);
        Ok(account)
    }
}

#[async_trait]
impl Maildrops for Login {
    async fn open(&self, _: &Account) -> Result<Box<dyn Maildrop>, MaildropError> {
        let opened = self.opened().take();
        let channel =
            opened.ok_or_else(|| MaildropError::Missing(io::ErrorKind::NotFound.into()))?;
        Ok(Box::new(DistantMaildrop::new(Arc::new(channel))))
    }
}

/// A maildrop at the other end of a connection.
pub(super) struct DistantMaildrop(Arc<Channel>);

impl DistantMaildrop {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self(channel)
    }
}

/// The next message of the other side.
async fn receive(channel: &Channel) -> io::Result<Vec<u8>> {
    let mut room = vec![0; MESSAGE_OCTETS_MAX];
    match timeout(WAIT, channel.receive(&mut room)).await?? {
        Incoming::Message(octets, None) => {
            room.truncate(octets);
            Ok(room)
        }
        Incoming::End => Err(io::ErrorKind::UnexpectedEof.into()),
        Incoming::Message(..) | Incoming::Refused(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Asks for something that is answered by an end or an error.
async fn ask(channel: &Channel, request: &[u8]) -> io::Result<()> {
    channel.send(request, None).await?;
    let answer = receive(channel).await?;
    match &answer[..] {
        END => Ok(()),
        answer => Err(trouble(answer)),
    }
}

fn trouble(answer: &[u8]) -> io::Error {
    match answer {
        [b'x', _, words @ ..] => io::Error::other(String::from_utf8_lossy(words).into_owned()),
        _ => io::ErrorKind::InvalidData.into(),
    }
}

#[async_trait]
impl Maildrop for DistantMaildrop {
    async fn list(&mut self) -> Result<Listing, MaildropError> {
        let channel = &self.0;
        let unreadable = MaildropError::Unreadable;
        channel.send(b"l", None).await.map_err(unreadable)?;
        let mut listing = Listing::new();
        loop {
            let answer = receive(channel).await.map_err(unreadable)?;
            match &answer[..] {
                END => return Ok(listing),
                [b'm', part @ ..] => {
                    understand_listing(part, &mut listing).map_err(unreadable)?;
                }
                [b'x', letter, words @ ..] => return Err(understand_error(*letter, words)),
                _ => return Err(unreadable(io::ErrorKind::InvalidData.into())),
            }
        }
    }

    async fn open(&mut self, message: usize) -> io::Result<Box<dyn Body>> {
        let number = number(message)?;
        ask(&self.0, &[&b"o"[..], &number].concat()).await?;
        Ok(Box::new(DistantBody(Arc::clone(&self.0))))
    }

    async fn commit(&mut self, deleted: &Deletions) -> io::Result<()> {
        let numbers: Vec<usize> = deleted.iter().collect();
        for numbers in numbers.chunks(MESSAGE_OCTETS_MAX / NUMBER_OCTETS - 1) {
            let mut request = vec![b'd'];
            for &message in numbers {
                request.extend_from_slice(&number(message)?);
            }
            self.0.send(&request, None).await?;
        }
        ask(&self.0, b"c").await
    }
}

fn number(message: usize) -> io::Result<[u8; NUMBER_OCTETS]> {
    let number = u32::try_from(message).map_err(io::Error::other)?;
    Ok(number.to_be_bytes())
}

struct DistantBody(Arc<Channel>);

#[async_trait]
impl Body for DistantBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.0.send(b"n", None).await?;
        let answer = receive(&self.0).await?;
        match &answer[..] {
            END => Ok(None),
            [b't', ..] => Ok(Some(Bytes::from(answer).slice(1..))),
            answer => Err(trouble(answer)),
        }
    }
}
