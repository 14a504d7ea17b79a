//! The handle by which the rest of a program talks to its engine.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::task::AtomicWaker;
use qmail_core::route::Tables;
use qmail_core::{Draft, Envelope, Origin, Receipt, Submit, SubmitError};

use super::obey::{Request, WhenDue};
use super::reasons::Reasons;
use crate::intake::{Intake, IntakeDraft};
use crate::order::{Answers, Order, Refusal};
use crate::{Channel, Incoming, Limits, MessageId};

/// A queue with a running engine: takes messages, and orders. Cheap to clone.
///
/// As a [`Submit`] it tells the engine of each message as soon as it is durable, together with its envelope, so that nothing is
/// read back or looked for. Beyond [`ENVELOPES_OCTETS_MAX`] of envelopes not yet looked at it tells the number only, and the engine
/// reads the envelope when it gets there. Messages taken after the engine has ended are in the spool for the next one.
#[derive(Clone)]
pub struct Queue {
    intake: Intake,
    shared: Arc<Shared>,
}

/// Most octets of envelopes that wait in memory for the engine.
pub const ENVELOPES_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// Most messages not yet routed that somebody else may tell an engine of.
pub const TOLD_MAX: usize = 65_536;

/// How many messages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Accepted, not routed yet.
    pub incoming: usize,
    /// Waiting for an attempt at local recipients.
    pub local_waiting: usize,
    /// Local jobs running.
    pub local_running: usize,
    /// Waiting for an attempt at remote recipients.
    pub remote_waiting: usize,
    /// Remote jobs running.
    pub remote_running: usize,
    /// With all recipients done, not removed yet.
    pub finishing: usize,
    /// Held, and so among those that wait for nothing.
    pub held: usize,
}

impl Queue {
    pub(super) fn new(intake: Intake) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        let queue = Self {
            intake,
            shared: Arc::clone(&shared),
        };
        (queue, shared)
    }

    /// Everything that waits for its time is tried now, and what was damaged is looked at again (the ALRM signal). Ages stay as they
    /// are.
    pub fn retry_all(&self) {
        self.shared.order(|orders| orders.retry_all = true);
    }

    /// Messages that are routed from now on are routed by these tables (the HUP signal).
    pub fn set_routes(&self, routes: Tables) {
        self.shared.order(|orders| orders.routes = Some(routes));
    }

    /// Changes how much is done at once.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.order(|orders| orders.limits = Some(limits));
    }

    /// Somebody else may have put messages into the spool: the engine looks for them.
    pub fn look(&self) {
        self.shared.order(|orders| orders.look = true);
    }

    /// Somebody else says that this message is new in the spool. Nothing depends on that being so: the engine reads its envelope from
    /// the spool, and forgets a number that is nobody's. Beyond [`TOLD_MAX`] messages that wait it looks for them by itself.
    pub fn tell(&self, id: MessageId) {
        self.shared.tell(id);
    }

    /// Starts nothing new, waits for running deliveries and records them, writes down when each message is due, and ends
    /// [`Engine::run`](super::Engine::run) (the TERM signal). Returns at once.
    pub fn stop(&self) {
        self.shared.order(|orders| orders.stop = true);
    }

    /// As [`stop`](Self::stop), since whoever makes the deliveries of a channel is gone. From now on it is not told of each of them
    /// that it has no outcome: they are tried again after the next start.
    pub fn stop_without(&self, channel: Channel) {
        self.shared.inbox().lost[channel as usize] = true;
        self.stop();
    }

    /// How many messages are where, as of the engine's last step.
    pub fn counts(&self) -> Counts {
        let inbox = self.shared.inbox();
        let mut counts = inbox.counts;
        counts.incoming += inbox.arrivals.len();
        counts
    }

    /// Has something done with messages, and says for each of them what was done, or why not. Durable when it returns.
    ///
    /// Each call looks at all that waits, so it is given many messages at once rather than one after the other.
    pub async fn order(&self, order: Order, ids: Vec<MessageId>) -> Answers {
        let (answer, answers) = oneshot::channel();
        let request = Request {
            order,
            ids: ids.clone(),
            answer,
        };
        self.shared.order(|orders| orders.requests.push(request));
        answers.await.unwrap_or_else(|_| {
            let stopping = |id| (id, Err(Refusal::Stopping));
            ids.into_iter().map(stopping).collect()
        })
    }

    /// When the local and the remote recipients of these messages are due, in seconds since 1970, as far as they wait for their
    /// time.
    pub async fn due_times(&self, ids: HashSet<MessageId>) -> HashMap<MessageId, [Option<u64>; 2]> {
        let (answer, times) = oneshot::channel();
        let question = WhenDue { ids, answer };
        self.shared.order(|orders| orders.when_due.push(question));
        times.await.unwrap_or_default()
    }

    /// What the last attempt at a message said that was deferred, cut at 200 octets; known for the last
    /// 50,000 messages that were deferred since the engine started.
    pub fn reason(&self, id: MessageId) -> Option<Box<[u8]>> {
        self.shared.reasons().of(id)
    }

    async fn begin(&self, origin: Origin) -> Result<QueueDraft, SubmitError> {
        Ok(QueueDraft {
            draft: self.intake.begin(origin).await?,
            shared: Arc::clone(&self.shared),
        })
    }
}

#[async_trait]
impl Submit for Queue {
    async fn begin(&self, origin: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        Ok(Box::new(Self::begin(self, origin).await?))
    }
}

struct QueueDraft {
    draft: IntakeDraft,
    shared: Arc<Shared>,
}

#[async_trait]
impl Draft for QueueDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError> {
        self.draft.write(chunk).await
    }

    async fn commit(self: Box<Self>, mut envelope: Envelope) -> Result<Receipt, SubmitError> {
        let Self { draft, shared } = *self;
        let entry = draft.entry;
        let ticket = Ticket::new(&shared);
        match draft.commit(&mut envelope).await {
            Ok((committed, receipt)) => {
                let incoming = Incoming {
                    envelope,
                    uid: entry.uid,
                    pid: entry.pid,
                    octets: committed.octets,
                };
                ticket.tell(Arrival::Known(committed.id, Box::new(incoming)));
                Ok(receipt)
            }
            Err(error) => {
                ticket.nothing_accepted();
                Err(error)
            }
        }
    }
}

/// A commit in progress. Whoever lists the spool meanwhile may see its message before the engine is told of it.
struct Ticket<'a> {
    shared: &'a Shared,
    number: u64,
    settled: bool,
}

impl<'a> Ticket<'a> {
    fn new(shared: &'a Shared) -> Self {
        let mut inbox = shared.inbox();
        let number = inbox.tickets_given;
        inbox.tickets_given += 1;
        inbox.commits.insert(number);
        drop(inbox);
        Self {
            shared,
            number,
            settled: false,
        }
    }

    fn tell(mut self, arrival: Arrival) {
        self.settled = true;
        let mut inbox = self.shared.inbox();
        if inbox.closed {
            return;
        }
        let octets = arrival.octets();
        if inbox.octets + octets > ENVELOPES_OCTETS_MAX {
            inbox.arrivals.push_back(Arrival::Id(arrival.id()));
        } else {
            inbox.octets += octets;
            inbox.arrivals.push_back(arrival);
        }
    }

    fn nothing_accepted(mut self) {
        self.settled = true;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut inbox = self.shared.inbox();
        inbox.commits.remove(&self.number);
        if !self.settled {
            // Whoever committed has gone away in the middle of it; the message may be accepted all the same.
            inbox.orders.look = true;
        }
        inbox.news = true;
        drop(inbox);
        self.shared.waker.wake();
    }
}

/// A message that the engine is told of.
#[derive(Debug)]
pub(super) enum Arrival {
    /// With its envelope.
    Known(MessageId, Box<Incoming>),
    /// Its envelope is in the spool.
    Id(MessageId),
    /// The same, and somebody said that it is new: it may be tried before it is routed.
    New(MessageId),
    /// Its envelope was damaged when it was looked at last.
    Damaged(MessageId),
}

impl Arrival {
    pub(super) fn id(&self) -> MessageId {
        match self {
            Self::Known(id, _) | Self::Id(id) | Self::New(id) | Self::Damaged(id) => *id,
        }
    }

    fn octets(&self) -> usize {
        match self {
            Self::Id(_) | Self::New(_) | Self::Damaged(_) => 0,
            Self::Known(_, incoming) => envelope_octets(&incoming.envelope),
        }
    }
}

/// About what an envelope takes in memory.
pub(super) fn envelope_octets(envelope: &Envelope) -> usize {
    let address = |octets: &[u8]| octets.len() + 64;
    let recipients = envelope.recipients.iter();
    address(envelope.sender.as_bytes()) + recipients.map(|to| address(to.as_bytes())).sum::<usize>()
}

/// What passes between a [`Queue`] and its engine.
#[derive(Default)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    reasons: Mutex<Reasons>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Inbox {
    /// Whether anything below changed since the engine looked.
    news: bool,
    arrivals: VecDeque<Arrival>,
    /// What the envelopes among the arrivals take, and those that the engine has taken over but not worked off.
    octets: usize,
    orders: Orders,
    /// Tickets of the commits in progress.
    commits: BTreeSet<u64>,
    tickets_given: u64,
    counts: Counts,
    /// By channel, whether whoever makes its deliveries is gone.
    lost: [bool; 2],
    closed: bool,
}

/// What the engine is to do.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) retry_all: bool,
    pub(super) look: bool,
    pub(super) stop: bool,
    pub(super) routes: Option<Tables>,
    pub(super) limits: Option<Limits>,
    pub(super) requests: Vec<Request>,
    pub(super) when_due: Vec<WhenDue>,
}

impl Shared {
    // No code that can panic runs under the lock, so a poisoned one guards a sound state.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, write: impl FnOnce(&mut Orders)) {
        let mut inbox = self.inbox();
        if inbox.closed {
            return;
        }
        write(&mut inbox.orders);
        inbox.news = true;
        drop(inbox);
        self.waker.wake();
    }

    fn tell(&self, id: MessageId) {
        let mut inbox = self.inbox();
        if inbox.closed {
            return;
        }
        match inbox.arrivals.len() + inbox.counts.incoming < TOLD_MAX {
            true => inbox.arrivals.push_back(Arrival::New(id)),
            false => inbox.orders.look = true,
        }
        inbox.news = true;
        drop(inbox);
        self.waker.wake();
    }

    /// Ready when there is something to take.
    pub(super) fn poll_news(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.inbox().news {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Shows the counts.
    pub(super) fn show(&self, counts: Counts) {
        self.inbox().counts = counts;
    }

    /// Takes the orders, and appends what arrived to `arrivals`. Returns with the orders the number of the oldest commit in
    /// progress: of all before it, the engine has been told.
    pub(super) fn take(&self, arrivals: &mut VecDeque<Arrival>) -> (Orders, u64) {
        let mut inbox = self.inbox();
        inbox.news = false;
        arrivals.append(&mut inbox.arrivals);
        let told = inbox.commits.first().copied();
        let told = told.unwrap_or(inbox.tickets_given);
        (std::mem::take(&mut inbox.orders), told)
    }

    /// Whether whoever makes the deliveries of a channel is gone.
    pub(super) fn is_lost(&self, channel: Channel) -> bool {
        self.inbox().lost[channel as usize]
    }

    /// The engine has ended: from now on nothing is kept for it.
    pub(super) fn close(&self) {
        let mut inbox = self.inbox();
        inbox.closed = true;
        inbox.arrivals = VecDeque::new();
        // Who waits for an answer hears that there is none.
        inbox.orders = Orders::default();
        inbox.counts = Counts::default();
    }

    /// An envelope told of is worked off.
    pub(super) fn release(&self, octets: usize) {
        self.inbox().octets -= octets;
    }

    /// Every commit begun so far has a number below this one.
    pub(super) fn commits_begun(&self) -> u64 {
        self.inbox().tickets_given
    }
}
