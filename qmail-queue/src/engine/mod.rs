//! Joins a spool, a scheduler and two deliveries into a queue that delivers.
//!
//! The engine is one future. It holds the futures of everything that goes on, never spawns, needs no runtime, and takes time from its
//! [`Clock`]; with a spool, deliveries and a clock that behave the same it does the same, step by step.
//!
//! | a message | by | in |
//! |---|---|---|
//! | is told of, or found at the start | [`Queue`], `recover` | incoming |
//! | has its recipients rewritten and sorted by channel | `preprocess` | incoming |
//! | is tried at once, if they make one job | `first`, `attempt` | incoming |
//! | has written down who gets it where, if it is to stay | `preprocess`, `record` | routed |
//! | is tried, recipient by recipient | `attempt`, `record` | routed |
//! | has its failures reported to its sender, and is removed | `bounce` | gone |
//!
//! **What is written down before what.** The note of a failure before the mark of its recipient; marks before a pass ends; the bounce
//! before the notes are forgotten; all of this before the message goes. A crash in between repeats a step, and loses nothing.
//! Only where the last deliveries of a message succeed and there is no failure to tell is nothing marked: its removal says it all.
//! What came of a first try before routing is written down by the routing: it keeps only who is left.
//!
//! **When the spool fails**, the step that needed it is tried again after [`TROUBLE_WAIT`], from where it stopped. A delivery
//! that cannot be recorded keeps its place among those of the scheduler's `RECORDING_MAX` until it can be, so that a broken disk
//! stops the queue instead of making it deliver again and again.

mod attempt;
mod bounce;
mod config;
mod damaged;
mod first;
mod handle;
mod obey;
mod preprocess;
mod reasons;
mod record;
mod recover;
#[cfg(test)]
mod tests;
mod unrouted;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use qmail_core::Submit;
use qmail_core::route::Tables;

pub use config::{Config, Parts};
pub use handle::{Counts, ENVELOPES_OCTETS_MAX, Queue, TOLD_MAX};
pub use reasons::{REASON_OCTETS_MAX, REASONS_MAX};

use crate::intake::Intake;
use crate::{Attempt, Channel, LogEvent, MessageId, Now, PassId, Recipient, Scheduler, SpoolError};
use attempt::{Fresh, NotOpened, Opened, Pass, Reported};
use bounce::{Finish, Finished};
use damaged::Damaged;
use first::FirstTries;
use handle::{Arrival, Shared};
use obey::Obeyed;
use preprocess::{Looked, Routing, Workload};
use record::Record;
use recover::{Listed, Listing, Look};
use unrouted::Unrouted;

/// How long after trouble with the spool the same step is tried again (qmail-send's 123 seconds).
pub const TROUBLE_WAIT: Duration = Duration::from_secs(123);

/// The same for the note of a failure.
const NOTE_WAIT: Duration = Duration::from_secs(10);

/// How long the spool is left alone between two clean-ups (qmail-send's 76431 seconds).
const CLEAN_UP_WAIT: Duration = Duration::from_secs(76_431);

/// Longest sleep while messages wait for their time: the wall clock, by which they wait, may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// A channel of a message with more recipients has them read back from the spool.
const FRESH_RECIPIENTS_MAX: usize = 64;

/// Most events handled before anything new is started.
const EVENTS_MAX: usize = 32;

/// Most turns, of so many events each, before other tasks of the same thread get theirs.
const TURNS_MAX: u32 = 8;

/// A queue that delivers. Made together with its [`Queue`], by which the rest of the program talks to it.
///
/// All its deliveries are polled by whoever polls [`run`](Self::run), on one thread: one that computes much, as encryption does,
/// should hand its work to the threads of its runtime and wait for it.
pub struct Engine {
    world: Arc<World>,
    routes: Arc<Tables>,
    shared: Arc<Shared>,
    scheduler: Scheduler,
    tasks: FuturesUnordered<BoxFuture<'static, Event>>,

    /// Accepted messages that wait for their routing.
    arrivals: VecDeque<Arrival>,
    /// Empty but while they are taken.
    inbox: VecDeque<Arrival>,
    unrouted: Unrouted,
    damaged: Damaged,
    workload: Workload,
    first_tries: FirstTries,
    listing: Listing,
    look: Option<Look>,
    look_again: bool,

    /// Recipients of new messages, so that they need not be read back. Only looked up.
    fresh: HashMap<(MessageId, Channel), Fresh>,
    passes: HashMap<PassId, Pass>,
    deliveries: u64,
    running: [usize; 2],

    /// Messages of which a note of failure is being written, with what waits for that. Only looked up.
    noting: HashMap<MessageId, Vec<Record>>,

    finishes: VecDeque<Finish>,
    finishing: usize,

    /// What is to be done again at its time; the number keeps the order.
    again: BTreeMap<(Instant, u64), Again>,
    again_count: u64,
    timer: Option<Timer>,
    /// Gathered by `poll`.
    ended: Vec<Event>,
    turns: u32,
    stopping: bool,
}

/// What never changes, for the futures.
struct World {
    parts: Parts,
    config: Config,
    bounces: Arc<dyn Submit>,
}

impl World {
    fn log(&self, event: &LogEvent<'_>) {
        self.parts.log.log(event);
    }

    fn seconds(&self) -> u64 {
        self.parts.clock.now().seconds()
    }
}

/// Something that went on has ended.
enum Event {
    Listed(Result<Listed, SpoolError>),
    Looked(Result<Vec<MessageId>, SpoolError>),
    EnvelopeRead(Arrival, Result<Looked, SpoolError>),
    Routed(Routing, Result<(), SpoolError>),
    Opened(Attempt, Result<Opened, NotOpened>),
    Read(PassId, Result<Vec<Recipient>, SpoolError>),
    Reported(Reported),
    Noted(MessageId, Vec<Record>, Result<(), SpoolError>),
    Recorded(Record, Result<(), SpoolError>),
    Finished(Finished),
    Obeyed(Obeyed),
    CleanedUp(Result<(), SpoolError>),
}

/// Something to be done again.
enum Again {
    Route(MessageId),
    LookAtDamaged,
    Record(Record),
    Finish(Finish),
    List,
    Look,
    CleanUp,
}

struct Timer {
    /// What it was set for, so that it is set anew only when that changes.
    wanted: (Option<u64>, Option<Instant>),
    sleep: BoxFuture<'static, ()>,
}

impl Engine {
    /// An engine, and the handle to it. Messages may be given to the handle at once; nothing else happens before
    /// [`run`](Self::run).
    pub fn new(parts: Parts, config: Config) -> (Self, Queue) {
        let intake = Intake::new(
            Arc::clone(&parts.spool),
            Arc::clone(&parts.clock),
            config.pid,
            config.uid,
        )
        .with_extra_recipients(config.extra_recipients.as_slice());
        let (queue, shared) = Queue::new(intake);
        let bounces = match &parts.bounces {
            Some(bounces) => Arc::clone(bounces),
            None => Arc::new(queue.clone()),
        };
        let engine = Self {
            routes: Arc::new(parts.routes.clone()),
            shared,
            scheduler: Scheduler::new(config.limits),
            tasks: FuturesUnordered::new(),
            arrivals: VecDeque::new(),
            inbox: VecDeque::new(),
            unrouted: Unrouted::default(),
            damaged: Damaged::default(),
            workload: Workload::default(),
            first_tries: FirstTries::default(),
            listing: Listing::default(),
            look: None,
            look_again: false,
            fresh: HashMap::new(),
            passes: HashMap::new(),
            deliveries: 0,
            running: [0; 2],
            noting: HashMap::new(),
            finishes: VecDeque::new(),
            finishing: 0,
            again: BTreeMap::new(),
            again_count: 0,
            timer: None,
            ended: Vec::new(),
            turns: 0,
            stopping: false,
            world: Arc::new(World {
                parts,
                config,
                bounces,
            }),
        };
        (engine, queue)
    }

    /// Runs the queue until [`Queue::stop`]. What the spool holds already is listed first, but new mail does not wait for that.
    ///
    /// Dropping the future is a crash: what was going on is repeated by the next engine on the spool.
    pub async fn run(mut self) {
        self.log_status();
        self.begin_listing();
        self.work().await;
        self.write_down().await;
    }

    async fn work(&mut self) {
        loop {
            self.take_orders();
            let now = self.world.parts.clock.now();
            self.begin_again(now.monotonic);
            self.start_routing();
            self.schedule_listed();
            self.start_attempts(now.seconds());
            self.start_finishing();
            if self.stopping && self.tasks.is_empty() {
                return;
            }
            self.shared.show(self.counts());
            self.set_timer(now);
            poll_fn(|context| self.poll(context)).await;
            let mut ended = std::mem::take(&mut self.ended);
            ended.drain(..).for_each(|event| self.handle(event));
            self.ended = ended;
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Listed(listed) => self.handle_listed(listed),
            Event::Looked(found) => self.handle_looked(found),
            Event::EnvelopeRead(arrival, read) => self.handle_envelope(&arrival, read),
            Event::Routed(routing, result) => self.handle_routed(routing, result),
            Event::Opened(attempt, result) => self.handle_opened(attempt, result),
            Event::Read(pass, result) => self.handle_read(pass, result),
            Event::Reported(reported) => self.handle_reported(reported),
            Event::Noted(id, records, result) => self.handle_noted(id, records, result),
            Event::Recorded(record, result) => self.handle_recorded(record, result),
            Event::Finished(finished) => self.handle_finished(finished),
            Event::Obeyed(obeyed) => self.handle_obeyed(obeyed),
            Event::CleanedUp(result) => {
                if let Err(error) = result {
                    self.log_trouble("cleaning up", &error);
                }
                self.do_again(CLEAN_UP_WAIT, Again::CleanUp);
            }
        }
    }

    fn start(&mut self, task: impl Future<Output = Event> + Send + 'static) {
        self.tasks.push(Box::pin(task));
    }

    fn take_orders(&mut self) {
        let (orders, told) = self.shared.take(&mut self.inbox);
        for arrival in self.inbox.drain(..) {
            let id = arrival.id();
            if self.damaged.remove(id) {
                // That one was taken away, and its number given to this one.
                let _ = self.unrouted.remove(id);
            }
            match arrival {
                // The word of others may come late, or twice.
                Arrival::New(_) if !self.unrouted.tell(id) => continue,
                Arrival::New(_) => {}
                Arrival::Known(..) | Arrival::Id(_) | Arrival::Damaged(_) => {
                    self.unrouted.insert(id);
                }
            }
            if let Some(look) = &mut self.look {
                look.tell(id);
            }
            self.arrivals.push_back(arrival);
        }
        self.end_look(told);
        if orders.stop && !self.stopping {
            self.stopping = true;
            self.scheduler.handle_stop();
            self.give_up();
        }
        if orders.retry_all {
            self.retry_all();
        }
        if let Some(routes) = orders.routes {
            self.routes = Arc::new(routes);
        }
        if let Some(limits) = orders.limits {
            self.scheduler.set_limits(limits);
        }
        if orders.look || self.look_again {
            self.begin_look();
        }
        self.answer(orders.when_due, orders.requests);
    }

    fn counts(&self) -> Counts {
        let [local_running, remote_running] = self.running;
        Counts {
            incoming: self.arrivals.len() + self.workload.messages(),
            local_waiting: self.scheduler.waiting(Channel::Local),
            local_running,
            remote_waiting: self.scheduler.waiting(Channel::Remote),
            remote_running,
            finishing: self.finishes.len() + self.finishing,
            held: self.scheduler.held(),
        }
    }

    fn do_again(&mut self, wait: Duration, what: Again) {
        let at = self.world.parts.clock.now().monotonic + wait;
        self.again_count += 1;
        self.again.insert((at, self.again_count), what);
    }

    /// Starts again what is due.
    fn begin_again(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        while let Some(entry) = self.again.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Again::Route(id) => self.arrivals.push_back(Arrival::Id(id)),
                Again::LookAtDamaged => self.look_at_damaged_as_planned(),
                Again::Record(record) => self.record(record),
                Again::Finish(finish) => self.finishes.push_back(finish),
                Again::List => self.begin_listing(),
                Again::Look => self.look_again = true,
                Again::CleanUp => self.clean_up(),
            }
        }
    }

    /// What waits to be done again is left to the next start, but for what only this engine knows.
    fn give_up(&mut self) {
        for again in std::mem::take(&mut self.again).into_values() {
            match again {
                Again::Record(record) => self.record(record),
                Again::Finish(finish) => self.finishes.push_back(finish),
                Again::Route(_)
                | Again::LookAtDamaged
                | Again::List
                | Again::Look
                | Again::CleanUp => {}
            }
        }
    }

    fn clean_up(&mut self) {
        let world = Arc::clone(&self.world);
        self.start(async move {
            let now = world.parts.clock.now().wall;
            Event::CleanedUp(world.parts.spool.clean_up(now).await)
        });
    }

    fn log(&self, event: &LogEvent<'_>) {
        self.world.log(event);
    }

    fn log_trouble(&self, doing: &'static str, error: &SpoolError) {
        self.log(&LogEvent::SpoolTrouble {
            doing,
            error,
            consequence: "will try again later",
        });
    }

    fn log_status(&self) {
        let limits = self.scheduler.limits();
        self.log(&LogEvent::Status {
            local: self.running[0],
            local_max: limits.local_max,
            remote: self.running[1],
            remote_max: limits.remote_max,
            exiting: self.stopping,
        });
    }

    /// Ready when there is something to do. What ended is gathered in the order in which it did, so that equal runs stay equal.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.turns >= TURNS_MAX {
            self.turns = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut ready = self.shared.poll_news(context).is_ready();
        while self.ended.len() < EVENTS_MAX {
            match self.tasks.poll_next_unpin(context) {
                Poll::Ready(Some(event)) => self.ended.push(event),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Poll::Ready(listed) = self.listing.poll(context) {
            self.ended.push(Event::Listed(listed));
        }
        ready |= !self.ended.is_empty() || self.listing.has_more();
        if let Some(timer) = &mut self.timer
            && timer.sleep.as_mut().poll(context).is_ready()
        {
            self.timer = None;
            ready = true;
        }
        if ready {
            self.turns += 1;
            return Poll::Ready(());
        }
        self.turns = 0;
        Poll::Pending
    }

    fn set_timer(&mut self, now: Now) {
        let due = self.scheduler.deadline(now.seconds());
        let again = match self.stopping {
            false => self.again.keys().next().map(|&(at, _)| at),
            true => None,
        };
        if due.is_none() && again.is_none() {
            self.timer = None;
            return;
        }
        let wanted = (due, again);
        if self
            .timer
            .as_ref()
            .is_some_and(|timer| timer.wanted == wanted)
        {
            return;
        }
        let due = due.map(|due| {
            let due = SystemTime::UNIX_EPOCH + Duration::from_secs(due);
            let wait = due.duration_since(now.wall).unwrap_or_default();
            now.monotonic + wait.min(SLEEP_MAX)
        });
        let until = match (due, again) {
            (Some(due), Some(again)) => due.min(again),
            (due, again) => due.or(again).unwrap_or(now.monotonic),
        };
        let clock = Arc::clone(&self.world.parts.clock);
        self.timer = Some(Timer {
            wanted,
            sleep: Box::pin(async move { clock.sleep_until(until).await }),
        });
    }
}
