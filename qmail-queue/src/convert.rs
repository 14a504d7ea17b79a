//! From one spool to another, with all that is known of each message.

use std::collections::BTreeMap;
use std::io;

use futures::stream::{self, StreamExt, TryStreamExt};
use qmail_core::{Address, Content, Envelope};

use crate::{
    Channel, Entry, Found, JournalSpool, MessageId, Position, Routed, Spool, SpoolDraft,
    SpoolError, SplitSpool,
};

/// Messages on their way at the same time: enough for them to share their syncs.
const AT_ONCE: usize = 64;

/// Recipients read at once.
const PAGE_RECIPIENTS: usize = 1_000;

/// A spool that takes a message as another one has it.
pub trait Adopt: Spool {
    /// Starts a message whose text is complete: the spool puts no Received field before it.
    fn adopt(&self, entry: Entry) -> Box<dyn SpoolDraft>;
}

impl Adopt for SplitSpool {
    fn adopt(&self, entry: Entry) -> Box<dyn SpoolDraft> {
        Self::adopt(self, entry)
    }
}

impl Adopt for JournalSpool {
    fn adopt(&self, entry: Entry) -> Box<dyn SpoolDraft> {
        Self::adopt(self, entry)
    }
}

/// Why a spool was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A spool could not be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A text could not be read.
    #[error("cannot read the text of message {id}")]
    Text {
        /// Which message.
        id: MessageId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that is no message: what it is has to be found out first.
    #[error("{path} is no message: {reason}; look at it, and remove it")]
    Damaged {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Copies all messages of a spool that nobody else changes into an empty one: texts, envelopes, recipients with their marks,
/// failures, and when each channel is due. All of it is durable on return, but for the times, which need a sync of the file
/// system to be. Numbers are given anew. Calls `progress` with the messages copied so far and in all.
///
/// # Errors
///
/// The first failure, or the first thing that is no message. The copy is then good for nothing.
pub async fn convert(
    from: &dyn Spool,
    to: &dyn Adopt,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<u64, ConvertError> {
    let mut messages = Vec::new();
    let mut damaged = None;
    let mut found = |found| match found {
        Found::Damaged { path, reason } => {
            let path = path.display().to_string();
            damaged.get_or_insert(ConvertError::Damaged { path, reason });
        }
        message => messages.push(message),
    };
    from.scan(&mut found).await?;
    if let Some(damaged) = damaged {
        return Err(damaged);
    }
    let (all, mut done) = (messages.len() as u64, 0);
    progress(done, all);
    let copies = messages.iter().map(|message| copy(from, to, message));
    let mut copies = stream::iter(copies).buffer_unordered(AT_ONCE);
    while copies.try_next().await?.is_some() {
        done += 1;
        progress(done, all);
    }
    Ok(all)
}

async fn copy(from: &dyn Spool, to: &dyn Adopt, found: &Found) -> Result<(), ConvertError> {
    match *found {
        Found::Incoming(id) => {
            let incoming = from.incoming(id).await?;
            let entry = entry(incoming.uid, incoming.pid);
            accept(from, to, id, entry, &incoming.envelope).await?;
        }
        Found::Routed {
            id,
            birth,
            local,
            remote,
        } => {
            let (routed, done) = routed(from, id, birth).await?;
            let recipients = [&routed.local[..], &routed.remote].concat();
            let envelope = Envelope::new(routed.sender.clone(), recipients);
            let new = accept(from, to, id, entry(0, 0), &envelope).await?;
            to.route(new, routed).await?;
            for (channel, due) in [(Channel::Local, local), (Channel::Remote, remote)] {
                mark(to, new, channel, &done[&channel]).await?;
                match due {
                    Some(due) => to.put_off(new, channel, due).await?,
                    None => to.close_channel(new, channel).await?,
                }
            }
        }
        Found::Damaged { .. } => {}
    }
    Ok(())
}

/// Who brought a message is known until it is routed; when it came stands in its text.
fn entry(uid: u32, pid: u32) -> Entry {
    Entry {
        origin: qmail_core::Origin::Uid(uid),
        uid,
        pid,
        now: std::time::SystemTime::UNIX_EPOCH,
    }
}

async fn accept(
    from: &dyn Spool,
    to: &dyn Adopt,
    id: MessageId,
    entry: Entry,
    envelope: &Envelope,
) -> Result<MessageId, ConvertError> {
    let content = from.content(id).await?;
    let unreadable = |source| ConvertError::Text { id, source };
    let mut body = content.open().await.map_err(unreadable)?;
    let mut draft = to.adopt(entry);
    while let Some(chunk) = body.next().await.map_err(unreadable)? {
        draft.write(chunk).await?;
    }
    Ok(draft.commit(envelope).await?.id)
}

/// Which of the recipients of each channel are done, by their number.
type Done = BTreeMap<Channel, Vec<usize>>;

async fn routed(
    from: &dyn Spool,
    id: MessageId,
    birth: std::time::SystemTime,
) -> Result<(Routed, Done), ConvertError> {
    let mut lists = [Vec::new(), Vec::new()];
    let mut done = Done::new();
    for (channel, list) in Channel::ALL.into_iter().zip(&mut lists) {
        let marks = done.entry(channel).or_default();
        let mut at = Position::START;
        loop {
            let page = from.recipients(id, channel, at, PAGE_RECIPIENTS).await?;
            let Some(last) = page.last() else {
                break;
            };
            at = last.next;
            for recipient in page {
                if recipient.done {
                    marks.push(list.len());
                }
                list.push(recipient.address);
            }
        }
    }
    let failures = match from.failures(id).await? {
        Some(failures) => whole(id, &*failures).await?,
        None => Vec::new(),
    };
    let [local, remote]: [Vec<Address>; 2] = lists;
    let since = birth.duration_since(std::time::SystemTime::UNIX_EPOCH);
    let routed = Routed {
        sender: from.sender(id).await?,
        local,
        remote,
        birth_seconds: since.map_or(0, |since| since.as_secs()),
        failures,
    };
    Ok((routed, done))
}

async fn whole(id: MessageId, content: &dyn Content) -> Result<Vec<u8>, ConvertError> {
    let unreadable = |source| ConvertError::Text { id, source };
    let mut body = content.open().await.map_err(unreadable)?;
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.map_err(unreadable)? {
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// Marks the recipients of these numbers.
async fn mark(
    to: &dyn Adopt,
    id: MessageId,
    channel: Channel,
    done: &[usize],
) -> Result<(), SpoolError> {
    let (mut at, mut first) = (Position::START, 0);
    while done.last().is_some_and(|&last| last >= first) {
        let page = to.recipients(id, channel, at, PAGE_RECIPIENTS).await?;
        let Some(last) = page.last() else {
            break;
        };
        at = last.next;
        let marks = page.iter().zip(first..).filter(|(_, number)| done.binary_search(number).is_ok());
        let marks: Vec<Position> = marks.map(|(recipient, _)| recipient.position).collect();
        if !marks.is_empty() {
            to.mark_done(id, channel, &marks).await?;
        }
        first += page.len();
    }
    Ok(())
}
