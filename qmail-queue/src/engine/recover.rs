//! The start and the end of an engine, and looking for messages that it was not told of.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, stream};

use super::handle::Arrival;
use super::{Again, Engine, Event, TROUBLE_WAIT};
use crate::{Found, LogEvent, MessageId, Scheduler, SpoolError};

/// Times written down at once at the end.
const WRITES_MAX: usize = 64;

/// A listing of incoming messages, until it is known which of them the engine is told of anyway.
///
/// A message can be seen in a listing and be told of a moment later by the one who commits it. To handle it twice would be to
/// deliver it twice. So a listing counts only once every commit that had begun when it ended is over, and without
/// the messages that were known when it began or were told of since: by then the number of one of them may even belong to
/// another message, which will be told of, too.
#[derive(Default)]
pub(super) struct Look {
    /// Known when it began, or told of since.
    told: HashSet<MessageId>,
    /// What was seen, and the number of commits begun by then; `None` while listing.
    seen: Option<(Vec<MessageId>, u64)>,
}

impl Look {
    pub(super) fn tell(&mut self, id: MessageId) {
        self.told.insert(id);
    }
}

impl Engine {
    /// Lists the spool and fills the schedule. Returns `false` if the engine was stopped before that worked.
    pub(super) async fn recover(&mut self) -> bool {
        self.look = Some(Look::default());
        loop {
            match self.scan().await {
                None => return false,
                Some(Ok(incoming)) => {
                    let begun = self.shared.commits_begun();
                    if let Some(look) = &mut self.look {
                        look.seen = Some((incoming, begun));
                    }
                    return true;
                }
                Some(Err(error)) => self.log_trouble("listing the spool", &error),
            }
            if !self.wait_for_spool().await {
                return false;
            }
        }
    }

    /// Lists everything; gives the incoming messages, or `None` if the engine is to stop instead.
    async fn scan(&mut self) -> Option<Result<Vec<MessageId>, SpoolError>> {
        // A schedule of its own: a listing that breaks off leaves nothing behind.
        let mut scheduler = Scheduler::new(*self.scheduler.limits());
        let mut incoming = Vec::new();
        let mut settled = Vec::new();
        let world = Arc::clone(&self.world);
        let held = match world.parts.spool.held().await {
            Ok(held) => held,
            Err(error) => return Some(Err(error)),
        };
        let mut found = |found: Found| match found {
            Found::Incoming(id) => incoming.push(id),
            Found::Routed {
                id,
                local: None,
                remote: None,
                ..
            } => settled.push(id),
            Found::Routed {
                id,
                birth,
                local,
                remote,
            } => {
                let due = [local, remote].map(|due| due.map(seconds));
                if held.contains(&id) {
                    scheduler.handle_found_held(id, seconds(birth), due);
                } else {
                    scheduler.handle_found(id, seconds(birth), due);
                }
            }
            Found::Damaged { path, reason } => world.log(&LogEvent::Damaged {
                path: &path,
                reason: &reason,
            }),
        };
        let mut scan = self.world.parts.spool.scan(&mut found);
        let scanned = poll_fn(|context| {
            // Not taken: only a stop cannot wait until a long listing is over.
            let _ = self.shared.poll_news(context);
            if self.shared.is_stop_ordered() {
                return Poll::Ready(None);
            }
            scan.as_mut().poll(context).map(Some)
        });
        if let Err(error) = scanned.await? {
            return Some(Err(error));
        }
        drop(scan);
        self.scheduler = scheduler;
        for id in settled {
            self.finish(id);
        }
        Some(Ok(incoming))
    }

    /// Waits before the spool is listed again; `false` if the engine is to stop instead.
    async fn wait_for_spool(&mut self) -> bool {
        let clock = Arc::clone(&self.world.parts.clock);
        let mut sleep = clock.sleep_until(clock.now().monotonic + TROUBLE_WAIT);
        loop {
            let news = poll_fn(|context| {
                if self.shared.poll_news(context).is_ready() {
                    return Poll::Ready(true);
                }
                sleep.as_mut().poll(context).map(|()| false)
            });
            if !news.await {
                return true;
            }
            self.take_orders();
            if self.stopping {
                return false;
            }
        }
    }

    pub(super) fn begin_look(&mut self) {
        self.look_again = true;
        if self.look.is_some() || self.stopping {
            return;
        }
        self.look_again = false;
        self.look = Some(Look {
            told: self.unrouted.ids(),
            seen: None,
        });
        let world = Arc::clone(&self.world);
        self.start(async move { Event::Looked(world.parts.spool.incoming_ids().await) });
    }

    pub(super) fn handle_looked(&mut self, found: Result<Vec<MessageId>, SpoolError>) {
        match (found, &mut self.look) {
            (Ok(ids), Some(look)) => look.seen = Some((ids, self.shared.commits_begun())),
            (Err(error), _) => {
                self.log_trouble("listing the spool", &error);
                self.look = None;
                self.do_again(TROUBLE_WAIT, Again::Look);
            }
            (Ok(_), None) => {}
        }
    }

    /// Takes what a listing found once the engine was told of every commit before number `told`.
    pub(super) fn end_look(&mut self, told: u64) {
        let settled = |look: &mut Look| look.seen.as_ref().is_some_and(|&(_, begun)| begun <= told);
        let Some(look) = self.look.take_if(settled) else {
            return;
        };
        for id in look.seen.unwrap_or_default().0 {
            if !look.told.contains(&id) && !self.unrouted.contains(id) {
                self.unrouted.insert(id);
                self.arrivals.push_back(Arrival::Id(id));
            }
        }
    }

    /// Writes down when each message is due, so that the next start does not try it before.
    pub(super) async fn write_down(self) {
        self.shared.close();
        let world = self.world;
        let spool = &world.parts.spool;
        let now = world.seconds();
        let unwritten = stream::iter(self.scheduler.into_unwritten(now));
        let mut writes = unwritten
            .map(|(id, channel, due)| async move {
                let due = SystemTime::UNIX_EPOCH + Duration::from_secs(due);
                spool.put_off(id, channel, due).await
            })
            .buffered(WRITES_MAX);
        while let Some(result) = writes.next().await {
            if let Err(error) = result {
                world.log(&LogEvent::SpoolTrouble {
                    doing: "writing down when messages are due",
                    error: &error,
                    consequence: "they will be retried too soon",
                });
                // It is a convenience; a broken disk is not asked a million times.
                break;
            }
        }
        world.log(&LogEvent::Exiting);
    }
}

/// Whole seconds since 1970; what was before counts as then.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
