//! The start and the end of an engine, and looking for messages that it was not told of.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::{StreamExt, stream};

use super::handle::Arrival;
use super::obey::{Request, WhenDue};
use super::{Again, Engine, Event, TROUBLE_WAIT, World};
use crate::{Found, LogEvent, MessageId, SpoolError};

/// Times written down at once at the end.
const WRITES_MAX: usize = 64;

/// Listed messages that the schedule is given at once.
const SCHEDULED_MAX: usize = 4_096;

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

/// The listing of the whole spool that a start begins with. New mail does not wait for it.
#[derive(Default)]
pub(super) struct Listing {
    /// While it goes on.
    task: Option<BoxFuture<'static, Result<Listed, SpoolError>>>,
    /// What it found and the schedule has not got yet.
    routed: Vec<Routed>,
    /// Whether everything was to be due before it had it (the ALRM signal).
    alarm: bool,
    /// What was asked about single messages before it had them.
    questions: Vec<WhenDue>,
    requests: Vec<Request>,
    /// Whether it has everything.
    over: bool,
}

/// What a whole spool holds.
#[derive(Default)]
pub(super) struct Listed {
    incoming: Vec<MessageId>,
    routed: Vec<Routed>,
    settled: Vec<MessageId>,
}

/// A message that an engine before this one has routed.
struct Routed {
    id: MessageId,
    birth: u64,
    due: [Option<u64>; 2],
    held: bool,
}

impl Listing {
    /// Ready when it is over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Listed, SpoolError>> {
        let Some(task) = &mut self.task else {
            return Poll::Pending;
        };
        let listed = ready!(task.as_mut().poll(context));
        self.task = None;
        Poll::Ready(listed)
    }

    /// Whether there is more for the schedule.
    pub(super) fn has_more(&self) -> bool {
        !self.routed.is_empty()
    }
}

async fn list(world: Arc<World>) -> Result<Listed, SpoolError> {
    let mut listed = Listed::default();
    let held = world.parts.spool.held().await?;
    let mut found = |found: Found| match found {
        Found::Incoming(id) => listed.incoming.push(id),
        Found::Routed {
            id,
            local: None,
            remote: None,
            ..
        } => listed.settled.push(id),
        Found::Routed {
            id,
            birth,
            local,
            remote,
        } => listed.routed.push(Routed {
            id,
            birth: seconds(birth),
            due: [local, remote].map(|due| due.map(seconds)),
            held: held.contains(&id),
        }),
        Found::Damaged { path, reason } => world.log(&LogEvent::Damaged {
            path: &path,
            reason: &reason,
        }),
    };
    world.parts.spool.scan(&mut found).await?;
    Ok(listed)
}

impl Engine {
    /// Begins to list the spool. A listing that breaks off leaves nothing behind but what the engine was told of meanwhile.
    pub(super) fn begin_listing(&mut self) {
        self.look.get_or_insert_default();
        self.listing.task = Some(Box::pin(list(Arc::clone(&self.world))));
    }

    pub(super) fn handle_listed(&mut self, listed: Result<Listed, SpoolError>) {
        if self.stopping {
            return;
        }
        let mut listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.log_trouble("listing the spool", &error);
                self.do_again(TROUBLE_WAIT, Again::List);
                return;
            }
        };
        let look = self.look.get_or_insert_default();
        // What the engine was told of meanwhile is on its way already, and may be routed or settled by now.
        listed.routed.retain(|found| !look.told.contains(&found.id));
        listed.settled.retain(|id| !look.told.contains(id));
        look.seen = Some((listed.incoming, self.shared.commits_begun()));
        self.listing.routed = listed.routed;
        if !self.listing.has_more() {
            self.end_listing();
        }
        for id in listed.settled {
            self.finish(id);
        }
        self.clean_up();
    }

    /// Gives the schedule a part of what was listed, so that a long list holds up nobody.
    pub(super) fn schedule_listed(&mut self) {
        if !self.listing.has_more() {
            return;
        }
        let rest = self.listing.routed.len().saturating_sub(SCHEDULED_MAX);
        for found in self.listing.routed.drain(rest..) {
            let Routed { id, birth, due, .. } = found;
            if found.held {
                self.scheduler.handle_found_held(id, birth, due);
            } else {
                self.scheduler.handle_found(id, birth, due);
            }
        }
        if rest == 0 {
            self.end_listing();
        }
    }

    /// The schedule has everything that there was: what was asked for meanwhile can be done.
    fn end_listing(&mut self) {
        self.listing.routed = Vec::new();
        self.listing.over = true;
        if std::mem::take(&mut self.listing.alarm) {
            self.scheduler.handle_alarm();
        }
        self.answer(Vec::new(), Vec::new());
    }

    /// Does what is asked about single messages, or keeps it until they are known.
    pub(super) fn answer(&mut self, questions: Vec<WhenDue>, requests: Vec<Request>) {
        self.listing.questions.extend(questions);
        self.listing.requests.extend(requests);
        if self.listing.over || self.stopping {
            for question in std::mem::take(&mut self.listing.questions) {
                self.tell_due_times(question);
            }
            for request in std::mem::take(&mut self.listing.requests) {
                self.obey(request);
            }
        }
    }

    /// Makes everything due, also what is not listed yet.
    pub(super) fn retry_all(&mut self) {
        self.scheduler.handle_alarm();
        self.listing.alarm = !self.listing.over;
        // What was tried, and waits for its time as soon as that is written down, is to wait no longer either.
        let now = self.world.seconds();
        for pass in self.passes.values_mut() {
            if pass.first.as_ref().is_some_and(|first| first.tried) {
                pass.attempt.retry_at = now;
            }
        }
        self.look_at_damaged();
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
