//! A maildrop read by its owner: a process with that user's rights, which the launcher started, shows one Maildir to one POP3 session of the
//! network party. So nobody who breaks in there can read mail whose password was not given to it.
//!
//! | request | answer |
//! |---|---|
//! | `l` | the listing: `m` and messages, as often as needed, then `e` |
//! | `o`, message (4) | `e`: it is open |
//! | `n` | `t` and the next octets of what is open; `e` after the last |
//! | `d`, messages (4 each) | none: they are marked |
//! | `c` | what is marked is removed, `e` |
//!
//! Instead of `e` there may be `x`, what went wrong (`m`: there is no Maildir, `u`: it cannot be read, `i`: it is in use, `o`: another thing), and
//! words. A message of the listing is its size (8 octets), the length of its id (1), its id. A number counts from 0.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use bytes::Bytes;
use qmail_core::Body;
use qmail_pop3::{Deletions, Listing, MaildirMaildrop, MaildirOptions, Maildrop, MaildropError};

use super::channel::{Channel, Incoming, MESSAGE_OCTETS_MAX};
use super::grants;
use crate::sandbox;
use crate::{exit, stdio};

/// The argument is the Maildir.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let Some(maildir) = arguments.first().map(PathBuf::from) else {
        return ExitCode::from(exit::PERMANENT);
    };
    if sandbox::lock_down(&grants::of_maildrop(&maildir)).is_err() {
        return ExitCode::from(exit::TEMPORARY);
    }
    let served = stdio::run(async {
        let channel = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        let options = MaildirOptions::default();
        let maildrop = MaildirMaildrop::new(maildir, options, SystemTime::now());
        serve(&channel, Box::new(maildrop)).await
    });
    match served.and_then(|served| served) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::TEMPORARY),
    }
}

/// Shows a maildrop until nobody looks any more. Who says what is no request is not listened to any longer: it is one session's process.
async fn serve(channel: &Channel, mut maildrop: Box<dyn Maildrop>) -> io::Result<()> {
    let mut room = vec![0; MESSAGE_OCTETS_MAX];
    let mut reading = Reading::default();
    let mut deleted = Deletions::default();
    loop {
        let octets = match channel.receive(&mut room).await? {
            Incoming::Message(octets, None) => octets,
            Incoming::End => return Ok(()),
            Incoming::Message(..) | Incoming::Refused(_) => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        let answer = match &room[..octets] {
            b"l" => match maildrop.list().await {
                Ok(listing) => {
                    for part in told_listing(&listing) {
                        channel.send(&part, None).await?;
                    }
                    END.to_vec()
                }
                Err(error) => told_error(&error),
            },
            [b'o', number @ ..] => match maildrop.open(message(number)?).await {
                Ok(opened) => {
                    reading = Reading {
                        body: Some(opened),
                        rest: Bytes::new(),
                    };
                    END.to_vec()
                }
                Err(error) => told_trouble(&error),
            },
            b"n" => match reading.next().await {
                Ok(Some(chunk)) => [b"t", &chunk[..]].concat(),
                Ok(None) => END.to_vec(),
                Err(error) => told_trouble(&error),
            },
            [b'd', numbers @ ..] => {
                for number in numbers.chunks(NUMBER_OCTETS) {
                    deleted.insert(message(number)?);
                }
                continue;
            }
            b"c" => match maildrop.commit(&deleted).await {
                Ok(()) => END.to_vec(),
                Err(error) => told_trouble(&error),
            },
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        channel.send(&answer, None).await?;
    }
}

/// What is open.
#[derive(Default)]
struct Reading {
    body: Option<Box<dyn Body>>,
    /// Of a chunk that is more than a message may have.
    rest: Bytes,
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.rest.is_empty() {
            let Some(body) = &mut self.body else {
                return Ok(None);
            };
            let Some(chunk) = body.next().await? else {
                self.body = None;
                return Ok(None);
            };
            self.rest = chunk;
        }
        let octets = self.rest.len().min(MESSAGE_OCTETS_MAX - 1);
        Ok(Some(self.rest.split_to(octets)))
    }
}

/// Octets of the number of a message.
pub(super) const NUMBER_OCTETS: usize = 4;

/// It is done.
pub(super) const END: &[u8] = b"e";

fn message(number: &[u8]) -> io::Result<usize> {
    let number = number.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(u32::from_be_bytes(number) as usize)
}

fn told_listing(listing: &Listing) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut part = vec![b'm'];
    for message in 0..listing.len() {
        let (Some(octets), Some(id)) = (listing.size(message), listing.id(message)) else {
            continue;
        };
        if part.len() + ENTRY_OCTETS_MAX > MESSAGE_OCTETS_MAX {
            parts.push(std::mem::replace(&mut part, vec![b'm']));
        }
        part.extend_from_slice(&octets.to_be_bytes());
        part.push(id.len() as u8);
        part.extend_from_slice(id);
    }
    parts.push(part);
    parts
}

/// Longest message of a listing.
const ENTRY_OCTETS_MAX: usize = 9 + Listing::ID_OCTETS_MAX;

/// Adds a part of a listing, without its `m`.
pub(super) fn understand_listing(mut part: &[u8], listing: &mut Listing) -> io::Result<()> {
    while let Some((octets, rest)) = part.split_first_chunk() {
        let (&length, rest) = rest.split_first().ok_or(io::ErrorKind::InvalidData)?;
        let entry = rest.split_at_checked(length.into());
        let (id, rest) = entry.ok_or(io::ErrorKind::InvalidData)?;
        let pushed = listing.push(u64::from_be_bytes(*octets), id);
        pushed.map_err(io::Error::other)?;
        part = rest;
    }
    match part {
        [] => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn told_error(error: &MaildropError) -> Vec<u8> {
    let (letter, cause) = match error {
        MaildropError::Missing(source) => (b'm', source.to_string()),
        MaildropError::Unreadable(source) => (b'u', source.to_string()),
        MaildropError::InUse => (b'i', String::new()),
        other => (b'o', other.to_string()),
    };
    [&[b'x', letter], cause.as_bytes()].concat()
}

fn told_trouble(error: &io::Error) -> Vec<u8> {
    [b"xo", error.to_string().as_bytes()].concat()
}

/// What `x` and its letter stand for.
pub(super) fn understand_error(letter: u8, words: &[u8]) -> MaildropError {
    let source = io::Error::other(String::from_utf8_lossy(words).into_owned());
    match letter {
        b'm' => MaildropError::Missing(source),
        b'i' => MaildropError::InUse,
        _ => MaildropError::Unreadable(source),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use qmail_core::Account;
    use qmail_pop3::{Maildrops as _, MemoryMaildrops};

    use super::super::channel;
    use super::super::maildrop_client::DistantMaildrop;
    use super::*;

    async fn joined(maildrop: Box<dyn Maildrop>) -> DistantMaildrop {
        let (near, far) = channel::pair().unwrap();
        let far = Channel::new(far).unwrap();
        tokio::spawn(async move { serve(&far, maildrop).await });
        DistantMaildrop::new(Arc::new(Channel::new(near).unwrap()))
    }

    async fn text(maildrop: &mut DistantMaildrop, message: usize) -> Vec<u8> {
        let mut body = maildrop.open(message).await.unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = body.next().await.unwrap() {
            text.extend_from_slice(&chunk);
        }
        text
    }

    #[tokio::test]
    async fn a_maildir_is_the_same_from_afar() {
        let scratch = tempfile::tempdir().unwrap();
        for part in ["cur", "new", "tmp"] {
            std::fs::create_dir(scratch.path().join(part)).unwrap();
        }
        let large = "x".repeat(200_000);
        for (name, body) in [("1.a", "one\n"), ("2.b", &large), ("3.c", "three\n")] {
            std::fs::write(scratch.path().join("new").join(name), body).unwrap();
        }
        let options = MaildirOptions::default();
        let maildir = MaildirMaildrop::new(scratch.path(), options, SystemTime::now());
        let mut maildrop = joined(Box::new(maildir)).await;
        let listing = maildrop.list().await.unwrap();
        assert_eq!(listing.len(), 3);
        assert_eq!(text(&mut maildrop, 1).await.len(), 200_000);
        // One that is not read to its end does not stand in the way of the next.
        let mut broken_off = maildrop.open(1).await.unwrap();
        broken_off.next().await.unwrap();
        drop(broken_off);
        assert_eq!(text(&mut maildrop, 0).await, b"one\n");
        assert!(maildrop.open(7).await.is_err());
        let deleted = [0, 2].into_iter().collect();
        maildrop.commit(&deleted).await.unwrap();
        let left: Vec<_> = std::fs::read_dir(scratch.path().join("cur"))
            .unwrap()
            .collect();
        assert_eq!(left.len(), 1);
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_as_it_is() {
        let options = MaildirOptions::default();
        let maildir = MaildirMaildrop::new("/nonexistent", options, SystemTime::now());
        let mut maildrop = joined(Box::new(maildir)).await;
        let error = maildrop.list().await.unwrap_err();
        assert!(matches!(
            error,
            MaildropError::Missing(_) | MaildropError::Unreadable(_)
        ));
        // The process that should show it could not be started.
        let (near, far) = channel::pair().unwrap();
        drop(far);
        let mut maildrop = DistantMaildrop::new(Arc::new(Channel::new(near).unwrap()));
        assert!(matches!(
            maildrop.list().await,
            Err(MaildropError::Unreadable(_))
        ));
    }

    #[tokio::test]
    async fn hostile_requests_end_the_process_of_that_session() {
        for hostile in [
            &b"z"[..],
            b"o",
            b"o\0\0\0",
            b"o\0\0\0\0\0",
            b"d\0\0",
            b"ll",
            &[b'd'; MESSAGE_OCTETS_MAX + 4],
        ] {
            let (near, far) = channel::pair().unwrap();
            channel::send(&near, hostile, None).unwrap();
            let far = Channel::new(far).unwrap();
            let account = Account::new("joe");
            let maildrop = MemoryMaildrops::default().open(&account).await;
            let Ok(maildrop) = maildrop else { return };
            assert!(
                serve(&far, maildrop).await.is_err(),
                "{:?}",
                &hostile[..hostile.len().min(9)]
            );
        }
    }

    #[test]
    fn hostile_listings_are_no_listings() {
        let mut listing = Listing::new();
        for hostile in [
            &b"\0\0\0\0\0\0\0\x01"[..],
            b"\0\0\0\0\0\0\0\x01\x05ab",
            b"x",
            b"\0\0\0\0\0\0\0\x01\x01 ",
        ] {
            assert!(understand_listing(hostile, &mut listing).is_err());
        }
    }
}
