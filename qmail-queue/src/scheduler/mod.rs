//! Decides what is tried when, and how much at once. Pure: no clock, no file, no lock.
//!
//! A *pass* goes over the recipients of one message on one channel. The owner of the scheduler reads them, page by page, puts
//! them together into *jobs* for one destination each, and offers these; the scheduler says which job may start.
//!
//! # Who gets a slot
//!
//! A channel has so many slots ([`Limits`]), and a job takes one from start to report. When one is free:
//!
//! - New messages go before everything else, so that a backlog, of whatever size, never delays new mail. While both wait, three
//!   slots in four go to new messages and one to the backlog, so that neither starves.
//! - The backlog is what was tried before, and every job of a message after its first one: a message to a hundred thousand
//!   recipients leaves room for others. It takes turns between open passes, messages put back, and messages due again.
//! - A tenth of the slots (rounded up; none of fewer than four) is never given to the backlog, so that slow
//!   retries cannot hold all of them.
//! - A job to a destination that has as many as it may waits aside, and holds up nobody.
//! - A channel with no slots is held. The other one does not notice. A message can be held by itself: what runs of it runs to its
//!   end, and nothing else of it starts.
//!
//! # Memory
//!
//! A waiting message takes less than 100 octets for each channel it waits on. What is loaded for passes is bounded by
//! the slots, and by [`IDLE_PASSES_MAX`] passes with at most [`JOBS_LOADED_MAX`] jobs and a page.

mod backoff;
mod held;
mod lane;
mod limits;
mod pass;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

pub use backoff::{is_dying, next_attempt};
pub use held::Taken;
use lane::{Choice, Known, Lane, Use};
pub use limits::Limits;
use pass::Pass;

use crate::{Channel, MessageId};

/// Number of a pass; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PassId(u64);

/// Number of a job within its pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u64);

/// Schedule of all messages of a queue.
///
/// After any `&mut` call, drain [`poll`](Self::poll), then come back with what happened, or at the
/// [`deadline`](Self::deadline). All times are whole seconds since 1970; `now` may go back as clocks do.
///
/// ```
/// use qmail_queue::{Channel, Limits, MessageId, Scheduler, Step};
///
/// let mut scheduler = Scheduler::new(Limits::default());
/// scheduler.handle_new(MessageId(7), 1_000, &[Channel::Local]);
/// let Some(Step::Open(attempt)) = scheduler.poll(1_000) else { panic!() };
/// let job = scheduler.offer(attempt.pass, "joe".into());
/// scheduler.handle_page(attempt.pass, false);
/// assert_eq!(scheduler.poll(1_000), Some(Step::Start(attempt.pass, job)));
/// scheduler.handle_report(attempt.pass, job, true);
/// scheduler.handle_recorded(attempt.pass);
/// assert_eq!(scheduler.poll(1_003), Some(Step::Complete { pass: attempt.pass, deferred: true }));
/// scheduler.handle_put_off(attempt.pass, attempt.retry_at);
/// assert_eq!(scheduler.poll(1_003), None);
/// assert_eq!(scheduler.deadline(1_003), Some(1_100));
/// ```
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    lanes: [Lane; 2],
    /// Messages that wait on both channels. Only looked up, never listed.
    both: HashSet<MessageId>,
    /// Messages that are held, with what waits of them.
    held: HashMap<MessageId, Taken>,
    passes: BTreeMap<PassId, Pass>,
    passes_opened: u64,
    steps: VecDeque<Step>,
    stopped: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start a pass: read the first recipients, [`offer`](Scheduler::offer) jobs for them, then
    /// [`handle_page`](Scheduler::handle_page).
    Open(Attempt),
    /// Read the next recipients of a pass, and go on as after `Open`.
    Read(PassId),
    /// Start a job. Then [`handle_report`](Scheduler::handle_report).
    Start(PassId, JobId),
    /// Every recipient has been tried and recorded: [`handle_closed`](Scheduler::handle_closed) if none was deferred now or
    /// earlier, else [`handle_put_off`](Scheduler::handle_put_off).
    Complete {
        /// Which pass.
        pass: PassId,
        /// Whether a job reported a deferral.
        deferred: bool,
    },
    /// Forget a pass: there are too many. Its message will be opened again.
    Forget(PassId),
}

/// A pass that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The pass.
    pub pass: PassId,
    /// Which message.
    pub id: MessageId,
    /// Which of its recipients.
    pub channel: Channel,
    /// When the message was routed.
    pub birth: u64,
    /// When to try again what is deferred now ([`next_attempt`]).
    pub retry_at: u64,
    /// Whether this is the last attempt ([`is_dying`]).
    pub dying: bool,
}

/// Most open passes of a channel that wait with nothing in progress. Beyond it they are forgotten and opened again later.
pub const IDLE_PASSES_MAX: usize = 256;

/// No further recipients are read for a pass with this many jobs that cannot start.
pub const JOBS_LOADED_MAX: usize = 4_000;

/// A new message that is opened so soon after its birth is on time: it was routed meanwhile, and its attempts follow from
/// its birth.
const ROUTING_SECONDS: u64 = 3;

impl Scheduler {
    /// A schedule without messages.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: Channel::ALL.map(|channel| Lane::new(channel, &limits)),
            both: HashSet::new(),
            held: HashMap::new(),
            passes: BTreeMap::new(),
            passes_opened: 0,
            steps: VecDeque::new(),
            stopped: false,
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the limits. What runs beyond the new ones runs to its end.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        for lane in &mut self.lanes {
            lane.set_limits(&limits);
        }
    }

    /// Slots of a channel that are in use.
    pub fn jobs(&self, channel: Channel) -> usize {
        self.lanes[index(channel)].jobs()
    }

    /// Messages that wait on a channel, without those that are being tried.
    pub fn waiting(&self, channel: Channel) -> usize {
        self.lanes[index(channel)].waiting()
    }

    /// A message was routed just now, to recipients on these channels.
    pub fn handle_new(&mut self, id: MessageId, birth: u64, channels: &[Channel]) {
        if channels.len() > 1 {
            self.both.insert(id);
        }
        for &channel in channels {
            self.lane(channel).fresh.push_back(Known { id, birth });
        }
    }

    /// A message routed earlier was found, with the time at which each open channel is due.
    pub fn handle_found(&mut self, id: MessageId, birth: u64, due: [Option<u64>; 2]) {
        if due.iter().all(Option::is_some) {
            self.both.insert(id);
        }
        for (lane, due) in self.lanes.iter_mut().zip(due) {
            if let Some(due) = due {
                lane.put_off(Known { id, birth }, due, true);
            }
        }
    }

    /// Everything is due now, whatever its time (the ALRM signal).
    pub fn handle_alarm(&mut self) {
        for lane in &mut self.lanes {
            lane.make_all_due();
        }
    }

    /// Nothing is started any more (the TERM signal). What runs is to be reported still.
    pub fn handle_stop(&mut self) {
        self.stopped = true;
        self.steps
            .retain(|step| matches!(step, Step::Complete { .. }));
    }

    /// When to [`poll`](Self::poll) if nothing else happens.
    pub fn deadline(&self, now: u64) -> Option<u64> {
        if self.stopped {
            return None;
        }
        self.lanes
            .iter()
            .filter_map(|lane| lane.deadline(now))
            .min()
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self, now: u64) -> Option<Step> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Some(step);
            }
            if self.stopped {
                return None;
            }
            let (channel, choice) = Channel::ALL
                .into_iter()
                .find_map(|channel| Some((channel, self.lane(channel).choose(now)?)))?;
            match choice {
                Choice::New(message) => return Some(self.open(channel, message, Use::Fresh, now)),
                Choice::Overdue(message) => {
                    return Some(self.open(channel, message, Use::Backlog, now));
                }
                Choice::Next(pass) => self.start_next(pass),
            }
        }
    }

    /// Times that the spool does not know, in whole seconds since 1970: what to write down at a stop.
    pub fn into_unwritten(self, now: u64) -> impl Iterator<Item = (MessageId, Channel, u64)> {
        let open = self
            .passes
            .into_values()
            .map(move |pass| (pass.message.id, pass.channel, now));
        let waiting = self
            .lanes
            .into_iter()
            .zip(Channel::ALL)
            .flat_map(move |(lane, channel)| {
                lane.into_unwritten(now)
                    .map(move |(id, due)| (id, channel, due))
            });
        open.chain(waiting)
    }

    fn lane(&mut self, channel: Channel) -> &mut Lane {
        &mut self.lanes[index(channel)]
    }

    fn open(&mut self, channel: Channel, message: Known, used: Use, now: u64) -> Step {
        self.passes_opened += 1;
        let pass = PassId(self.passes_opened);
        let Known { id, birth } = message;
        // What routing took is not its age.
        let start = match used {
            Use::Fresh if now <= birth.saturating_add(ROUTING_SECONDS) => birth,
            _ => now,
        };
        let retry_at = next_attempt(birth, start, channel);
        self.lane(channel).take_slot(used);
        self.passes
            .insert(pass, Pass::new(message, channel, retry_at, used));
        Step::Open(Attempt {
            pass,
            id,
            channel,
            birth,
            retry_at,
            dying: is_dying(birth, start, self.limits.lifetime_seconds),
        })
    }
}

fn index(channel: Channel) -> usize {
    match channel {
        Channel::Local => 0,
        Channel::Remote => 1,
    }
}
