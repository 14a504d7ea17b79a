//! Doing what a request says, and telling of it line by line.

use std::collections::HashSet;
use std::io;
use std::time::SystemTime;

use async_trait::async_trait;
use qmail_core::Escaped;
use qmail_queue::{Done, Found, Listed, Listing, MessageId, Order, Refusal, SpoolError};
use serde_json::json;

use super::request::{Request, Verb};
use super::source::{Due, Source};
use crate::exit;

/// Messages that are looked up, or ordered about, at once.
const BATCH: usize = 1_000;

/// As much of a header as is shown.
const HEADER_OCTETS_MAX: usize = 16 * 1024;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// For standard output.
    Out(String),
    /// For standard error: a line, without its end.
    Error(String),
    /// It is the last one.
    Exit(u8),
}

/// Where an answer goes.
#[async_trait]
pub(crate) trait Sink: Send {
    async fn send(&mut self, frame: Frame) -> io::Result<()>;
}

/// Why an answer breaks off.
enum Trouble {
    Spool(SpoolError),
    /// Nobody listens any more.
    Sink(io::Error),
}

impl From<SpoolError> for Trouble {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Sink(error)
    }
}

/// Does what is asked. The last frame is the exit code: 0 if all was done, 111 if something was not.
///
/// # Errors
///
/// Nobody listens any more. An order is carried out to the end of its batch all the same.
pub(crate) async fn perform(
    source: &dyn Source,
    request: &Request,
    sink: &mut dyn Sink,
) -> io::Result<()> {
    let mut desk = Performance {
        source,
        request,
        sink,
        refused: false,
        shown: 0,
    };
    let code = match desk.run().await {
        Ok(()) if desk.refused => exit::TEMPORARY,
        Ok(()) => 0,
        Err(Trouble::Sink(error)) => return Err(error),
        Err(Trouble::Spool(error)) => {
            let line = format!("cannot read the queue: {}", with_cause(&error));
            desk.sink.send(Frame::Error(line)).await?;
            exit::TEMPORARY
        }
    };
    sink.send(Frame::Exit(code)).await
}

struct Performance<'a> {
    source: &'a dyn Source,
    request: &'a Request,
    sink: &'a mut dyn Sink,
    /// Whether something that was asked was not done.
    refused: bool,
    shown: usize,
}

impl Performance<'_> {
    async fn run(&mut self) -> Result<(), Trouble> {
        let order = match &self.request.verb {
            Verb::Count | Verb::List | Verb::Show => None,
            Verb::Hold => Some(Order::Hold),
            Verb::Release => Some(Order::Release),
            Verb::Retry => Some(Order::Retry),
            Verb::Reroute(prefix) => Some(Order::Reroute {
                prefix: prefix.clone(),
            }),
            &Verb::Delete(bounce) => Some(Order::Delete { bounce }),
        };
        if let Some(order) = &order
            && !self.request.ids.is_empty()
        {
            for ids in self.request.ids.chunks(BATCH) {
                self.order(order, ids).await?;
            }
            return Ok(());
        }
        let listing = Listing::read(self.source.spool()).await?;
        if self.request.verb == Verb::Count {
            let count = listing.messages.len();
            let text = match self.request.json {
                true => format!("{}\n", json!({ "messages": count })),
                false => format!("{count}\n"),
            };
            return Ok(self.sink.send(Frame::Out(text)).await?);
        }
        let held = self.source.spool().held().await?;
        let wanted = self.wanted(listing).await?;
        for batch in wanted.chunks(BATCH) {
            let messages = self.look_up(batch, &held).await?;
            match &order {
                None => self.show(&messages).await?,
                Some(order) => {
                    let ids: Vec<_> = messages.iter().map(|message| message.id).collect();
                    self.order(order, &ids).await?;
                }
            }
        }
        if self.request.verb == Verb::List && !self.request.json {
            let plural = if self.shown == 1 { "" } else { "s" };
            let text = format!("{} message{plural}\n", self.shown);
            self.sink.send(Frame::Out(text)).await?;
        }
        Ok(())
    }

    /// The messages that the request names, or all; what is no message is told.
    async fn wanted(&mut self, listing: Listing) -> Result<Vec<Found>, Trouble> {
        let ids = &self.request.ids;
        let mut wanted = listing.messages;
        if ids.is_empty() {
            for damaged in &listing.damaged {
                if let Found::Damaged { path, reason } = damaged {
                    let line = format!("{}: {reason}", path.display());
                    self.sink.send(Frame::Error(line)).await?;
                }
            }
            wanted.sort_unstable_by_key(born);
            return Ok(wanted);
        }
        let mut missing: HashSet<_> = ids.iter().copied().collect();
        wanted.retain(|found| id_of(found).is_some_and(|id| missing.remove(&id)));
        let mut missing: Vec<_> = missing.into_iter().collect();
        missing.sort_unstable();
        for id in missing {
            self.refuse(id, &Refusal::Unknown).await?;
        }
        Ok(wanted)
    }

    /// Looks messages up, and leaves out what does not fit.
    async fn look_up(
        &mut self,
        batch: &[Found],
        held: &HashSet<MessageId>,
    ) -> Result<Vec<Listed>, Trouble> {
        let ids = batch.iter().filter_map(id_of).collect();
        let known = self.source.due_times(ids).await;
        let now = SystemTime::now();
        let mut messages = Vec::new();
        for found in batch {
            let mut message = match Listed::read(self.source.spool(), found).await {
                Ok(Some(message)) => message,
                Ok(None) => continue,
                Err(error) => {
                    self.refused = true;
                    let line = with_cause(&error);
                    self.sink.send(Frame::Error(line)).await?;
                    continue;
                }
            };
            message.held = held.contains(&message.id);
            message.due = match &known {
                Some(known) => known.get(&message.id).copied().unwrap_or_default(),
                None => written_times(found),
            };
            message.reason = self.source.reason(message.id);
            if self.request.filter.fits(&message, now) {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    async fn show(&mut self, messages: &[Listed]) -> Result<(), Trouble> {
        let now = SystemTime::now();
        self.shown += messages.len();
        for message in messages {
            let text = match (self.request.json, &self.request.verb) {
                (true, _) => format!("{}\n", message.json()),
                (false, Verb::Show) => {
                    let header = header(self.source, message.id).await;
                    format!("{}\n{header}\n", message.page_text(now))
                }
                (false, _) => message.list_text(now),
            };
            self.sink.send(Frame::Out(text)).await?;
        }
        Ok(())
    }

    async fn order(&mut self, order: &Order, ids: &[MessageId]) -> Result<(), Trouble> {
        for (id, result) in self.source.order(order, ids).await? {
            match result {
                Ok(done) => self.tell(id, &done).await?,
                Err(refusal) => self.refuse(id, &refusal).await?,
            }
        }
        Ok(())
    }

    async fn tell(&mut self, id: MessageId, done: &Done) -> io::Result<()> {
        let text = match self.request.json {
            true => format!("{}\n", json!({ "message": id.0, "done": done.to_string() })),
            false => format!("{id}: {done}\n"),
        };
        self.sink.send(Frame::Out(text)).await
    }

    async fn refuse(&mut self, id: MessageId, refusal: &Refusal) -> io::Result<()> {
        self.refused = true;
        let words = with_cause(refusal);
        let frame = match self.request.json {
            true => Frame::Out(format!(
                "{}\n",
                json!({ "message": id.0, "refused": words })
            )),
            false => Frame::Error(format!("{id}: nothing was done: {words}")),
        };
        self.sink.send(frame).await
    }
}

/// The header of a message, as far as it can be read.
async fn header(source: &dyn Source, id: MessageId) -> String {
    let mut octets = Vec::new();
    if let Ok(content) = source.spool().content(id).await
        && let Ok(mut body) = content.open().await
    {
        while octets.len() < HEADER_OCTETS_MAX
            && let Ok(Some(chunk)) = body.next().await
        {
            octets.extend_from_slice(&chunk);
        }
    }
    octets.truncate(HEADER_OCTETS_MAX);
    let lines = octets.split(|&octet| octet == b'\n');
    let header = lines.take_while(|line| !line.is_empty());
    header.fold(String::new(), |text, line| {
        text + &format!("  {}\n", Escaped(line))
    })
}

fn id_of(found: &Found) -> Option<MessageId> {
    match *found {
        Found::Incoming(id) | Found::Routed { id, .. } => Some(id),
        _ => None,
    }
}

/// Oldest first; what is not routed yet is the newest.
fn born(found: &Found) -> (bool, Option<SystemTime>, Option<MessageId>) {
    let birth = match *found {
        Found::Routed { birth, .. } => Some(birth),
        _ => None,
    };
    (birth.is_none(), birth, id_of(found))
}

/// When a message is due according to the spool.
fn written_times(found: &Found) -> Due {
    let Found::Routed { local, remote, .. } = *found else {
        return Due::default();
    };
    [local, remote].map(|due| {
        let since = due?.duration_since(SystemTime::UNIX_EPOCH);
        Some(since.map_or(0, |since| since.as_secs()))
    })
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}
