//! From one spool to another, with all that is known of each message.

mod form;
mod print;
mod switch;
#[cfg(test)]
mod tests;

pub use form::{Change, ChangeError, Changed, Form};
pub(crate) use switch::settle;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;

use futures::stream::{self, StreamExt, TryStreamExt};
use qmail_core::{Address, Content, Envelope};

use self::print::{Prints, Sum};
use crate::{
    Channel, Entry, Found, JournalSpool, MessageId, Position, Routed, Settled, SplitSpool, Spool,
    SpoolDraft, SpoolError,
};

/// Messages on their way at the same time: enough for them to share their syncs.
const AT_ONCE: usize = 64;

/// Recipients read at once.
const PAGE_RECIPIENTS: usize = 1_000;

/// Text of failures that is noted at once.
const NOTE_OCTETS: usize = 256 * 1024;

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
    /// What is known of a message could not be read.
    #[error("cannot read message {id}")]
    Message {
        /// Which message.
        id: MessageId,
        /// Why.
        #[source]
        source: SpoolError,
    },
    /// A text could not be read.
    #[error("cannot read the text of message {id}")]
    Text {
        /// Which message.
        id: MessageId,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ConvertError {
    /// What is wrong with the message, if it is that: trying again would not help.
    fn damage(&self) -> Option<Damage> {
        let (path, source) = match self {
            Self::Message { source, .. } => match source {
                SpoolError::Damaged { path, reason } => {
                    return Some(Damage {
                        path: path.clone(),
                        reason: reason.clone(),
                    });
                }
                SpoolError::Read { path, source } => (path.clone(), source),
                _ => return None,
            },
            Self::Text { id, source } => (format!("message {id}").into(), source),
            Self::Spool(_) => return None,
        };
        let kinds = [
            io::ErrorKind::NotFound,
            io::ErrorKind::InvalidData,
            io::ErrorKind::UnexpectedEof,
        ];
        // A disk that cannot read a place will not learn it.
        let for_good = kinds.contains(&source.kind())
            || source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        for_good.then(|| Damage {
            path,
            reason: source.to_string(),
        })
    }
}

/// Something that is no message, as [`Found::Damaged`] tells of it, or a message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A copy of a spool that is being made, into another one that is empty at first.
///
/// Texts, envelopes, recipients with their marks, failures, holds, the birth of each message, and when each channel is due: all of it
/// is durable when a call returns, but for the times when something is due, which need a sync of the file system to be. Numbers are
/// given anew.
#[derive(Debug, Default)]
pub struct Copying {
    /// Incoming messages that are copied, or cannot be.
    incoming: HashSet<MessageId>,
    messages: u64,
    prints: Prints,
}

impl Copying {
    /// Copies all messages of a spool that nobody else changes, but that new ones may come. Calls `progress` with the messages copied
    /// so far and in all. Tells what is no message, and which cannot be read: nothing of those is in the copy.
    ///
    /// # Errors
    ///
    /// The first failure. The copy is then good for nothing.
    pub async fn all(
        &mut self,
        from: &dyn Spool,
        to: &dyn Adopt,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Vec<Damage>, ConvertError> {
        let (mut messages, mut damages) = (Vec::new(), Vec::new());
        let mut found = |found| match found {
            Found::Damaged { path, reason } => damages.push(Damage { path, reason }),
            message => messages.push(message),
        };
        from.scan(&mut found).await?;
        damages.extend(self.copy(from, to, messages, progress).await?);
        Ok(damages)
    }

    /// Copies messages that came since, of which nothing is known but that they are accepted. Tells which cannot be read.
    ///
    /// # Errors
    ///
    /// As [`Copying::all`].
    pub async fn late(
        &mut self,
        from: &dyn Spool,
        to: &dyn Adopt,
    ) -> Result<Vec<Damage>, ConvertError> {
        let mut ids = from.incoming_ids().await?;
        ids.retain(|id| !self.incoming.contains(id));
        let messages = ids.into_iter().map(Found::Incoming).collect();
        self.copy(from, to, messages, &mut |_, _| ()).await
    }

    /// Messages that are copied.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    async fn copy(
        &mut self,
        from: &dyn Spool,
        to: &dyn Adopt,
        messages: Vec<Found>,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Vec<Damage>, ConvertError> {
        let mut all = self.messages + messages.len() as u64;
        progress(self.messages, all);
        let held = &from.held().await?;
        let copies = messages
            .iter()
            .map(|message| copy_or_tell(from, to, message, held));
        let mut copies = stream::iter(copies).buffer_unordered(AT_ONCE);
        let mut damages = Vec::new();
        while let Some(copied) = copies.try_next().await? {
            match copied {
                Ok(print) => {
                    self.messages += 1;
                    self.prints.add(print);
                }
                Err(damage) => {
                    all -= 1;
                    damages.push(damage);
                }
            }
            progress(self.messages, all);
        }
        drop(copies);
        let incoming = messages.iter().filter_map(|message| match *message {
            Found::Incoming(id) => Some(id),
            _ => None,
        });
        self.incoming.extend(incoming);
        Ok(damages)
    }
}

/// Copies a message, and gives its print; or tells why it cannot be read.
async fn copy_or_tell(
    from: &dyn Spool,
    to: &dyn Adopt,
    found: &Found,
    held: &HashSet<MessageId>,
) -> Result<Result<u64, Damage>, ConvertError> {
    match copy(from, to, found, held).await {
        Ok(print) => Ok(Ok(print)),
        Err(error) => match error.damage() {
            Some(damage) => Ok(Err(damage)),
            None => Err(error),
        },
    }
}

/// Copies a message, and gives its print.
async fn copy(
    from: &dyn Spool,
    to: &dyn Adopt,
    found: &Found,
    held: &HashSet<MessageId>,
) -> Result<u64, ConvertError> {
    match *found {
        Found::Incoming(id) => {
            let incoming = from.incoming(id).await.map_err(unreadable(id))?;
            let entry = entry(incoming.uid, incoming.pid);
            let (_, text) = accept(from, to, id, entry, &incoming.envelope).await?;
            Ok(print::of_incoming(&incoming, text))
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
            let (new, text) = accept(from, to, id, entry(0, 0), &envelope).await?;
            let mut print = print::of_routed(&routed, &done, held.contains(&id), text);
            to.route(new, routed).await?;
            match copy_failures(from, id, to, new).await {
                Ok(failures) => print.failures(failures),
                Err(error) => {
                    // It is whole, or it is not there.
                    to.remove(Settled::new(new)).await?;
                    return Err(error);
                }
            }
            for (channel, due) in [(Channel::Local, local), (Channel::Remote, remote)] {
                mark(to, new, channel, &done[&channel]).await?;
                match due {
                    Some(due) => to.put_off(new, channel, due).await?,
                    None => to.close_channel(new, channel).await?,
                }
            }
            if held.contains(&id) {
                to.set_held(new, true).await?;
            }
            Ok(print.finish())
        }
        Found::Damaged { .. } => Ok(0),
    }
}

/// An error about a message that was asked of the spool that has it.
fn unreadable(id: MessageId) -> impl Fn(SpoolError) -> ConvertError {
    move |source| ConvertError::Message { id, source }
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
) -> Result<(MessageId, Sum), ConvertError> {
    let content = from.content(id).await.map_err(unreadable(id))?;
    let unreadable = |source| ConvertError::Text { id, source };
    let mut body = content.open().await.map_err(unreadable)?;
    let mut draft = to.adopt(entry);
    let mut text = Sum::default();
    while let Some(chunk) = body.next().await.map_err(unreadable)? {
        text.add(&chunk);
        draft.write(chunk).await?;
    }
    Ok((draft.commit(envelope).await?.id, text))
}

/// A sum of a text.
async fn sum(id: MessageId, content: &dyn Content) -> Result<Sum, ConvertError> {
    let unreadable = |source| ConvertError::Text { id, source };
    let mut body = content.open().await.map_err(unreadable)?;
    let mut sum = Sum::default();
    while let Some(chunk) = body.next().await.map_err(unreadable)? {
        sum.add(&chunk);
    }
    Ok(sum)
}

/// The print of a message, as one that is copied has it.
async fn print(
    spool: &dyn Spool,
    found: &Found,
    held: &HashSet<MessageId>,
) -> Result<u64, ConvertError> {
    match *found {
        Found::Incoming(id) => {
            let incoming = spool.incoming(id).await?;
            let text = sum(id, &*spool.content(id).await?).await?;
            Ok(print::of_incoming(&incoming, text))
        }
        Found::Routed { id, birth, .. } => {
            let (routed, done) = routed(spool, id, birth).await?;
            let text = sum(id, &*spool.content(id).await?).await?;
            let mut print = print::of_routed(&routed, &done, held.contains(&id), text);
            print.failures(match spool.failures(id).await? {
                Some(failures) => sum(id, &*failures).await?,
                None => Sum::default(),
            });
            Ok(print.finish())
        }
        Found::Damaged { .. } => Ok(0),
    }
}

/// Reads all messages of a spool, and tells whether they are those that were copied.
async fn compare(spool: &dyn Spool, copied: &Copying) -> Result<(), ChangeError> {
    let mut all = Vec::new();
    spool.scan(&mut |found| all.push(found)).await?;
    let held = &spool.held().await?;
    let mut prints = Prints::default();
    let read = all.iter().map(|found| print(spool, found, held));
    let mut read = stream::iter(read).buffer_unordered(AT_ONCE);
    while let Some(print) = read.try_next().await? {
        prints.add(print);
    }
    if prints == copied.prints {
        return Ok(());
    }
    Err(ChangeError::Incomplete {
        copied: all.len() as u64,
        messages: copied.messages,
    })
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
            let page = from.recipients(id, channel, at, PAGE_RECIPIENTS);
            let page = page.await.map_err(unreadable(id))?;
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
    let [local, remote]: [Vec<Address>; 2] = lists;
    let since = birth.duration_since(std::time::SystemTime::UNIX_EPOCH);
    let routed = Routed {
        sender: from.sender(id).await.map_err(unreadable(id))?,
        local,
        remote,
        birth_seconds: since.map_or(0, |since| since.as_secs()),
        failures: Vec::new(),
    };
    Ok((routed, done))
}

/// The text of failures may be long: it is never held whole.
async fn copy_failures(
    from: &dyn Spool,
    id: MessageId,
    to: &dyn Adopt,
    new: MessageId,
) -> Result<Sum, ConvertError> {
    let mut sum = Sum::default();
    let Some(failures) = from.failures(id).await.map_err(unreadable(id))? else {
        return Ok(sum);
    };
    let unreadable = |source| ConvertError::Text { id, source };
    let mut body = failures.open().await.map_err(unreadable)?;
    let mut note = Vec::new();
    while let Some(chunk) = body.next().await.map_err(unreadable)? {
        sum.add(&chunk);
        note.extend_from_slice(&chunk);
        if note.len() >= NOTE_OCTETS {
            to.note_failure(new, &note).await?;
            note.clear();
        }
    }
    if !note.is_empty() {
        to.note_failure(new, &note).await?;
    }
    Ok(sum)
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
        let marks = page
            .iter()
            .zip(first..)
            .filter(|(_, number)| done.binary_search(number).is_ok());
        let marks: Vec<Position> = marks.map(|(recipient, _)| recipient.position).collect();
        if !marks.is_empty() {
            to.mark_done(id, channel, &marks).await?;
        }
        first += page.len();
    }
    Ok(())
}
