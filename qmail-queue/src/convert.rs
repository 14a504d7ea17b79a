//! From one spool to another, with all that is known of each message.

use std::collections::BTreeMap;
use std::io;

use futures::stream::{self, StreamExt, TryStreamExt};
use qmail_core::{Address, Content, Envelope};

use crate::{
    Channel, Entry, Found, JournalSpool, MessageId, Position, Routed, SplitSpool, Spool,
    SpoolDraft, SpoolError,
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use futures::executor::block_on;

    use super::*;
    use crate::split::layout::Directory;
    use crate::{JournalConfig, SimDisk, Workers};

    fn address(text: &str) -> Address {
        Address::new(text.to_owned()).unwrap()
    }

    fn split() -> SplitSpool {
        let disk = SimDisk::new(Directory::all().map(Directory::path));
        SplitSpool::over(Arc::new(disk), Workers::inline())
    }

    fn journal() -> JournalSpool {
        let directories = JournalSpool::DIRECTORIES.map(PathBuf::from);
        let disk = SimDisk::new(directories.into_iter().chain([PathBuf::new()]));
        let config = JournalConfig {
            segment_octets: 4096,
            text_octets_max: 4096,
        };
        JournalSpool::over(Arc::new(disk), Workers::inline(), config).unwrap()
    }

    /// One message of every kind.
    async fn fill(spool: &dyn Spool) -> Result<(), SpoolError> {
        for number in 0..6_u8 {
            let mut draft = spool.begin(entry(5, 6)).await?;
            let text = vec![b'a' + number; 10 + 10_000 * usize::from(number / 5)];
            draft.write(text.into()).await?;
            let recipients = vec![address("l@here"), address("a@there"), address("b@there")];
            let envelope = Envelope::new(address("me@here").into(), recipients);
            let id = draft.commit(&envelope).await?.id;
            if number == 0 {
                continue;
            }
            let routed = Routed {
                sender: envelope.sender,
                local: vec![address("l@here")],
                remote: vec![address("a@there"), address("b@there")],
                birth_seconds: 1_000,
                failures: if number == 2 {
                    b"no\n\n".to_vec()
                } else {
                    Vec::new()
                },
            };
            spool.route(id, routed).await?;
            let due = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000);
            spool.put_off(id, Channel::Remote, due).await?;
            if number == 3 {
                let all = spool
                    .recipients(id, Channel::Remote, Position::START, 9)
                    .await?;
                spool
                    .mark_done(id, Channel::Remote, &[all[1].position])
                    .await?;
                spool.note_failure(id, b"never\n\n").await?;
            }
            if number >= 4 {
                spool.close_channel(id, Channel::Local).await?;
            }
        }
        Ok(())
    }

    /// All that is known, without the numbers.
    async fn known(spool: &dyn Spool) -> Result<Vec<String>, ConvertError> {
        let mut all = Vec::new();
        spool.scan(&mut |found| all.push(found)).await?;
        let mut known = Vec::new();
        for found in all {
            let (id, state) = match found {
                Found::Incoming(id) => (id, format!("{:?}", spool.incoming(id).await?)),
                Found::Routed {
                    id,
                    birth,
                    local,
                    remote,
                } => {
                    let routed = routed(spool, id, birth).await?;
                    (id, format!("{routed:?} {local:?} {remote:?}"))
                }
                Found::Damaged { .. } => panic!("{found:?}"),
            };
            let text = whole(id, &*spool.content(id).await?).await?;
            known.push(format!("{state} {}", String::from_utf8_lossy(&text)));
        }
        known.sort();
        Ok(known)
    }

    #[test]
    fn everything_that_is_known_comes_along_and_back() {
        block_on(async {
            let (first, second, third) = (split(), journal(), split());
            fill(&first).await.unwrap();
            let mut told = Vec::new();
            let mut progress = |done, all| told.push((done, all));
            let count = convert(&first, &second, &mut progress).await;
            assert_eq!(count.unwrap(), 6);
            assert_eq!(told, (0..=6).map(|done| (done, 6)).collect::<Vec<_>>());
            assert_eq!(known(&second).await.unwrap(), known(&first).await.unwrap());
            convert(&second, &third, &mut |_, _| ()).await.unwrap();
            assert_eq!(known(&third).await.unwrap(), known(&first).await.unwrap());
        });
    }
}
