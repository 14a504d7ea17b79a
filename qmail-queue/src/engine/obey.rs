//! Orders about single messages, from outside.
//!
//! A message is first taken out of the schedule, then changed in the spool, and only then the answer is given; so nothing is tried
//! that is about to go. What is being tried is left alone, but for a hold, which lets nothing further of it start.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::{StreamExt, stream};

use super::{Engine, Event, World};
use crate::order::{self, Answers, Done, Order, Refusal};
use crate::{Channel, LogEvent, MessageId, Taken};

/// Messages that are changed in the spool at once, for their syncs to be shared.
const CHANGES_MAX: usize = 64;

/// An order that waits for the engine.
pub(super) struct Request {
    pub(super) order: Order,
    pub(super) ids: Vec<MessageId>,
    pub(super) answer: oneshot::Sender<Answers>,
}

/// When the local and the remote recipients of messages are due.
pub(super) type DueTimes = HashMap<MessageId, [Option<u64>; 2]>;

/// A question that waits for the engine: when these messages are due.
pub(super) struct WhenDue {
    pub(super) ids: HashSet<MessageId>,
    pub(super) answer: oneshot::Sender<DueTimes>,
}

/// An order that is carried out, as far as the spool goes.
pub(super) struct Obeyed {
    request: Request,
    answers: Answers,
    /// What was taken out of the schedule, and whether it was held.
    taken: HashMap<MessageId, (Taken, bool)>,
}

impl Engine {
    pub(super) fn tell_due_times(&self, question: WhenDue) {
        // Who asked may have gone away.
        let _ = question
            .answer
            .send(self.scheduler.due_times(&question.ids));
    }

    pub(super) fn obey(&mut self, mut request: Request) {
        let ids = std::mem::take(&mut request.ids);
        let mut answers = Answers::new();
        let mut wanted = HashSet::new();
        for &id in &ids {
            if self.stopping {
                answers.push((id, Err(Refusal::Stopping)));
            } else if self.unrouted.contains(id) {
                answers.push((id, Err(Refusal::New)));
            } else {
                wanted.insert(id);
            }
        }
        let now = self.world.seconds();
        let mut taken = HashMap::new();
        // What is to be changed in the spool.
        let mut to_change = HashSet::new();
        match &request.order {
            Order::Hold => to_change = self.scheduler.hold(&wanted),
            Order::Release => {
                for &id in &wanted {
                    if self.scheduler.is_held(id) {
                        to_change.insert(id);
                    } else {
                        answers.push((id, Err(Refusal::NotHeld)));
                    }
                }
            }
            Order::Retry => {
                for id in self.scheduler.make_due(&wanted, now) {
                    answers.push((id, Ok(Done::Due)));
                }
            }
            Order::Reroute { .. } | Order::Delete { .. } => {
                let held: HashSet<_> = wanted
                    .iter()
                    .filter(|&&id| self.scheduler.is_held(id))
                    .copied()
                    .collect();
                for (id, what) in self.scheduler.take(&wanted) {
                    taken.insert(id, (what, held.contains(&id)));
                    to_change.insert(id);
                }
            }
        }
        let answered: HashSet<_> = answers.iter().map(|(id, _)| *id).collect();
        let left: HashSet<_> = wanted
            .into_iter()
            .filter(|id| !to_change.contains(id) && !answered.contains(id))
            .collect();
        let busy = self.scheduler.being_tried(&left);
        for id in left {
            let refusal = match () {
                () if self.scheduler.is_held(id) && request.order == Order::Retry => Refusal::Held,
                () if busy.contains(&id) => Refusal::Busy,
                () => Refusal::Unknown,
            };
            answers.push((id, Err(refusal)));
        }
        // In the order of the request, for what it is asked to change.
        request.ids = ids.into_iter().filter(|id| to_change.remove(id)).collect();
        let world = Arc::clone(&self.world);
        let routes = Arc::clone(&self.routes);
        self.start(async move {
            let original = |recipient: &[u8]| match &request.order {
                Order::Reroute { prefix } if !prefix.is_empty() => {
                    order::without_prefix(prefix, recipient)
                }
                _ => Bytes::copy_from_slice(routes.strip_prefix(recipient)),
            };
            let changes = stream::iter(request.ids.clone()).map(|id| {
                let (world, order) = (&world, &request.order);
                let original = &original;
                async move { (id, change(world, original, order, id).await) }
            });
            let changed: Answers = changes.buffered(CHANGES_MAX).collect().await;
            answers.extend(changed);
            Event::Obeyed(Obeyed {
                request,
                answers,
                taken,
            })
        });
    }

    pub(super) fn handle_obeyed(&mut self, obeyed: Obeyed) {
        let Obeyed {
            request,
            answers,
            taken,
        } = obeyed;
        let now = self.world.seconds();
        let changed: HashSet<_> = request.ids.into_iter().collect();
        for (id, result) in &answers {
            let id = *id;
            match (result, &request.order) {
                (Ok(done), _) => {
                    self.log(&LogEvent::Ordered { id, done });
                    match done {
                        Done::Released => self.scheduler.release(id, now),
                        Done::Deleted { .. } | Done::Rerouted { .. } => {
                            for channel in Channel::ALL {
                                self.fresh.remove(&(id, channel));
                            }
                            self.finish(id);
                        }
                        Done::Held | Done::Due => {}
                    }
                }
                // It was taken out of the schedule, and stays in the queue as it was.
                (Err(_), Order::Hold) if changed.contains(&id) => self.scheduler.release(id, now),
                (Err(_), _) => match taken.get(&id) {
                    Some(&(taken, true)) => {
                        self.scheduler.handle_found_held(id, taken.birth, taken.due);
                    }
                    Some(&(taken, false)) => self.scheduler.restore(id, taken),
                    None => {}
                },
            }
        }
        let _ = request.answer.send(answers);
    }
}

async fn change(
    world: &World,
    original: &order::Original<'_>,
    order: &Order,
    id: MessageId,
) -> Result<Done, Refusal> {
    let spool = &*world.parts.spool;
    match order {
        Order::Hold => {
            spool.set_held(id, true).await?;
            Ok(Done::Held)
        }
        Order::Release => {
            spool.set_held(id, false).await?;
            Ok(Done::Released)
        }
        _ => {
            order::end(
                spool,
                &*world.bounces,
                world.config.uid,
                original,
                id,
                order,
            )
            .await
        }
    }
}
