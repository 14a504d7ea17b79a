//! The messages of a spool, as people ask for them.

use std::io;
use std::time::SystemTime;

use qmail_core::{Address, ReversePath};

use crate::{Channel, Found, MessageId, Position, Spool, SpoolError};

/// Recipients read at once.
const PAGE_RECIPIENTS: usize = 1_000;

/// What a spool holds, just now: numbers and times, from which each message can be looked up. It takes less than 100 octets a
/// message.
#[derive(Debug, Default)]
pub struct Listing {
    /// Accepted or routed messages, as the spool gives them.
    pub messages: Vec<Found>,
    /// What is no message.
    pub damaged: Vec<Found>,
}

impl Listing {
    /// Lists a spool. The queue may run meanwhile: what comes or goes is seen or not.
    ///
    /// # Errors
    ///
    /// The spool cannot be read.
    pub async fn read(spool: &dyn Spool) -> Result<Self, SpoolError> {
        let mut listing = Self::default();
        let mut take = |found: Found| match found {
            Found::Damaged { .. } => listing.damaged.push(found),
            _ => listing.messages.push(found),
        };
        spool.scan(&mut take).await?;
        Ok(listing)
    }
}

/// A message of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its number.
    pub id: MessageId,
    /// When it was routed; `None` if it is not yet.
    pub birth: Option<SystemTime>,
    /// Size of its text.
    pub octets: u64,
    /// Where its bounces go.
    pub sender: ReversePath,
    /// Everybody it was for, local ones first; those of a channel that is closed are not known any more.
    pub recipients: Vec<ListedRecipient>,
    /// Whether some recipients have failed, and its sender is to be told so.
    pub bouncing: bool,
    /// Whether it is held.
    pub held: bool,
    /// When its local and its remote recipients are due, in seconds since 1970. While the queue runs, only its engine knows.
    pub due: [Option<u64>; 2],
    /// What its last deferral said. Only the engine knows.
    pub reason: Option<Box<[u8]>>,
}

/// A recipient of a message of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedRecipient {
    /// Which way; `None` if that is not decided yet.
    pub channel: Option<Channel>,
    /// Who, rewritten if it is decided.
    pub address: Address,
    /// Whether it is done with: delivered, or failed.
    pub done: bool,
}

impl Listed {
    /// Looks up a message of a [`Listing`]; `None` for what is no message, and for a message that went meanwhile.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub async fn read(spool: &dyn Spool, found: &Found) -> Result<Option<Self>, SpoolError> {
        let read = match *found {
            Found::Incoming(id) => Self::incoming(spool, id).await,
            Found::Routed { id, birth, .. } => Self::routed(spool, id, birth).await,
            Found::Damaged { .. } => return Ok(None),
        };
        match read {
            Err(SpoolError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    async fn incoming(spool: &dyn Spool, id: MessageId) -> Result<Self, SpoolError> {
        let incoming = spool.incoming(id).await?;
        let recipients = incoming.envelope.recipients.into_iter();
        Ok(Self {
            id,
            birth: None,
            octets: incoming.octets,
            sender: incoming.envelope.sender,
            recipients: recipients
                .map(|address| ListedRecipient {
                    channel: None,
                    address,
                    done: false,
                })
                .collect(),
            bouncing: false,
            held: false,
            due: [None; 2],
            reason: None,
        })
    }

    /// Reads a routed message, as [`Self::read`] does; here one that has gone is an error.
    ///
    /// # Errors
    ///
    /// It cannot be read, or has gone.
    pub async fn routed(
        spool: &dyn Spool,
        id: MessageId,
        birth: SystemTime,
    ) -> Result<Self, SpoolError> {
        let mut listed = Self {
            id,
            birth: Some(birth),
            octets: spool.content(id).await?.octets(),
            sender: spool.sender(id).await?,
            recipients: Vec::new(),
            bouncing: spool.failures(id).await?.is_some(),
            held: false,
            due: [None; 2],
            reason: None,
        };
        for channel in Channel::ALL {
            let mut from = Position::START;
            loop {
                let page = spool.recipients(id, channel, from, PAGE_RECIPIENTS).await?;
                let ended = page.len() < PAGE_RECIPIENTS;
                from = page.last().map_or(from, |last| last.next);
                listed
                    .recipients
                    .extend(page.into_iter().map(|recipient| ListedRecipient {
                        channel: Some(channel),
                        address: recipient.address,
                        done: recipient.done,
                    }));
                if ended {
                    break;
                }
            }
        }
        Ok(listed)
    }

    /// How many recipients are not done with.
    pub fn waiting(&self) -> usize {
        self.recipients.iter().filter(|to| !to.done).count()
    }
}
