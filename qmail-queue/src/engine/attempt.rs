//! Attempts: passes over the recipients of a message, in jobs of one destination each.

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use qmail_core::{Address, Content, Delivery, Job, Outcome, Report, ReversePath, bounce, verp};

use super::first::FirstTry;
use super::record::{Mark, Place, Record};
use super::{Again, Engine, Event, TROUBLE_WAIT, World};
use crate::{
    Attempt, Channel, JobId, LogEvent, MessageId, PassId, Position, Recipient, SpoolError, Step,
    Verdict,
};

/// Recipients read at once. Those for one destination share jobs as far as they stand on one page.
const PAGE_RECIPIENTS: usize = 1_000;

/// What is known of a new message's channel without reading it back.
pub(super) struct Fresh {
    pub(super) sender: ReversePath,
    pub(super) recipients: Vec<Address>,
    /// Set while the message is not routed.
    pub(super) first: Option<FirstTry>,
}

/// A pass under way.
pub(super) struct Pass {
    pub(super) attempt: Attempt,
    pub(super) sender: ReversePath,
    content: Arc<dyn Content>,
    /// Set while the message is not routed: then the pass has one job.
    pub(super) first: Option<FirstTry>,
    /// Jobs that have not started.
    jobs: HashMap<JobId, Batch>,
    /// Where the next page starts.
    next: Position,
    /// Whether a page could not be read, and may be the next time.
    trouble: bool,
}

/// What a pass starts with.
pub(super) struct Opened {
    attempt: Attempt,
    sender: ReversePath,
    content: Arc<dyn Content>,
    first: Option<FirstTry>,
    page: Page,
}

/// Why a pass does not start.
pub(super) struct NotOpened {
    error: SpoolError,
    /// Set if the message is not routed.
    first: Option<FirstTry>,
}

enum Page {
    /// From the spool.
    Read(Vec<Recipient>),
    /// All there are, from memory.
    Given(Vec<Address>),
}

/// The recipients of a job.
#[derive(Default)]
struct Batch {
    recipients: Vec<Address>,
    places: Vec<Place>,
}

/// A job that has ended.
pub(super) struct Reported {
    pass: PassId,
    job: JobId,
    first_delivery: u64,
    batch: Batch,
    outcomes: Vec<Outcome>,
}

/// What the outcomes of a job come to.
#[derive(Default)]
struct Judged {
    /// Of those who failed.
    notes: Vec<u8>,
    /// Who is not to be tried again.
    done: Vec<Place>,
    /// Who is.
    left: Vec<Address>,
}

impl Engine {
    /// Does what the scheduler says.
    pub(super) fn start_attempts(&mut self, now: u64) {
        while let Some(step) = self.scheduler.poll(now) {
            match step {
                Step::Open(attempt) => self.open(attempt),
                Step::Read(pass) => self.read(pass),
                Step::Start(pass, job) => self.start_job(pass, job),
                Step::Complete { pass, deferred } => self.complete(pass, deferred),
                Step::Forget(pass) => self.forget(pass),
            }
        }
    }

    fn open(&mut self, attempt: Attempt) {
        let fresh = self.fresh.remove(&(attempt.id, attempt.channel));
        let world = Arc::clone(&self.world);
        self.start(async move {
            let result = open(&world, attempt, fresh).await;
            Event::Opened(attempt, result)
        });
    }

    pub(super) fn handle_opened(&mut self, attempt: Attempt, result: Result<Opened, NotOpened>) {
        let pass = attempt.pass;
        match result {
            Ok(opened) => {
                let more = opened.page.may_have_more();
                let mut entry = Pass {
                    attempt: opened.attempt,
                    sender: opened.sender,
                    content: opened.content,
                    first: opened.first,
                    jobs: HashMap::new(),
                    next: opened.page.next(Position::START),
                    trouble: false,
                };
                self.offer(pass, &mut entry, opened.page);
                self.passes.insert(pass, entry);
                self.scheduler.handle_page(pass, more);
            }
            Err(NotOpened {
                error,
                first: Some(first),
            }) => {
                self.log_trouble("opening", &error);
                self.scheduler.handle_closed(pass);
                self.first_tries.end(&first);
                self.do_again(TROUBLE_WAIT, Again::Route(attempt.id));
            }
            // Its text or its sender is gone, and no waiting brings it back. The number is free, and may soon be that of
            // another message, which must not be tried in place of this one.
            Err(NotOpened {
                error: SpoolError::Read { path, source },
                ..
            }) if source.kind() == io::ErrorKind::NotFound => {
                let (path, reason) = (&*path, &*source.to_string());
                self.log(&LogEvent::Damaged { path, reason });
                self.scheduler.handle_closed(pass);
            }
            Err(NotOpened { error, .. }) => {
                self.log_trouble("opening", &error);
                let due = match error {
                    // It will not mend by itself: its schedule is soon enough to say so again.
                    SpoolError::Damaged { .. } => attempt.retry_at,
                    _ => self.world.seconds() + TROUBLE_WAIT.as_secs(),
                };
                self.scheduler.handle_put_off(pass, due);
            }
        }
    }

    /// There is no room for a pass. A message that is not routed cannot be read back: what is known of it is kept.
    fn forget(&mut self, pass: PassId) {
        let Some(entry) = self.passes.remove(&pass) else {
            return;
        };
        let (Some(first), Some(batch)) = (entry.first, entry.jobs.into_values().next()) else {
            return;
        };
        let fresh = Fresh {
            sender: entry.sender,
            recipients: batch.recipients,
            first: Some(first),
        };
        let Attempt { id, channel, .. } = entry.attempt;
        self.fresh.insert((id, channel), fresh);
    }

    fn read(&mut self, pass: PassId) {
        let Some(entry) = self.passes.get(&pass) else {
            return;
        };
        let (id, channel, from) = (entry.attempt.id, entry.attempt.channel, entry.next);
        let world = Arc::clone(&self.world);
        self.start(async move {
            let spool = &world.parts.spool;
            let page = spool.recipients(id, channel, from, PAGE_RECIPIENTS).await;
            Event::Read(pass, page)
        });
    }

    pub(super) fn handle_read(&mut self, pass: PassId, result: Result<Vec<Recipient>, SpoolError>) {
        let Some(mut entry) = self.passes.remove(&pass) else {
            return;
        };
        match result {
            Ok(recipients) => {
                let page = Page::Read(recipients);
                let more = page.may_have_more();
                entry.next = page.next(entry.next);
                self.offer(pass, &mut entry, page);
                self.scheduler.handle_page(pass, more);
            }
            Err(error) => {
                self.log_trouble("reading", &error);
                entry.trouble = !matches!(error, SpoolError::Damaged { .. });
                self.scheduler.handle_trouble(pass);
            }
        }
        self.passes.insert(pass, entry);
    }

    /// Makes jobs of a page: recipients of one destination together, as many as it takes at once, in the order of their records.
    fn offer(&mut self, pass: PassId, entry: &mut Pass, page: Page) {
        if let Some(first) = &entry.first {
            let mut batch = Batch::default();
            page.into_waiting()
                .for_each(|(place, address)| batch.push(place, address));
            let job = self.scheduler.offer(pass, first.destination.clone());
            entry.jobs.insert(job, batch);
            return;
        }
        let delivery = delivery(&self.world, entry.attempt.channel);
        let alone = verp::asks_for_expansion(&entry.sender);
        let mut open: Vec<(Bytes, Batch)> = Vec::new();
        let mut index: HashMap<Bytes, usize> = HashMap::new();
        for (place, address) in page.into_waiting() {
            let destination = delivery.destination(&address);
            if alone || destination.recipients_max <= 1 {
                let job = self.scheduler.offer(pass, destination.key);
                entry.jobs.insert(job, Batch::of(place, address));
                continue;
            }
            let at = *index.entry(destination.key).or_insert_with_key(|key| {
                open.push((key.clone(), Batch::default()));
                open.len() - 1
            });
            let (key, batch) = &mut open[at];
            batch.push(place, address);
            if batch.recipients.len() >= destination.recipients_max {
                let job = self.scheduler.offer(pass, key.clone());
                entry.jobs.insert(job, std::mem::take(batch));
            }
        }
        for (key, batch) in open {
            if !batch.recipients.is_empty() {
                let job = self.scheduler.offer(pass, key);
                entry.jobs.insert(job, batch);
            }
        }
    }

    fn start_job(&mut self, pass: PassId, job: JobId) {
        let Some(entry) = self.passes.get_mut(&pass) else {
            return;
        };
        let Some(batch) = entry.jobs.remove(&job) else {
            return;
        };
        let Attempt { id, channel, .. } = entry.attempt;
        let sender = match batch.recipients.first() {
            Some(recipient) => verp::expand(&entry.sender, recipient),
            None => entry.sender.clone(),
        };
        let task = Job {
            message: id.0,
            content: Arc::clone(&entry.content),
            sender,
            recipients: batch.recipients.clone(),
        };
        let first_delivery = self.deliveries + 1;
        for recipient in &batch.recipients {
            self.deliveries += 1;
            self.log(&LogEvent::DeliveryStarted {
                delivery: self.deliveries,
                id,
                channel,
                recipient,
            });
        }
        self.running[channel as usize] += 1;
        self.log_status();
        let delivery = Arc::clone(delivery(&self.world, channel));
        self.start(async move {
            // A panic of one delivery must not take the queue with it.
            let attempt = AssertUnwindSafe(delivery.deliver(task)).catch_unwind();
            let crashed = |_| vec![Outcome::Deferred(CRASHED.into()); batch.recipients.len()];
            let outcomes = attempt.await.unwrap_or_else(crashed);
            Event::Reported(Reported {
                pass,
                job,
                first_delivery,
                batch,
                outcomes,
            })
        });
    }

    pub(super) fn handle_reported(&mut self, reported: Reported) {
        let Reported { pass, job, .. } = reported;
        let Some(entry) = self.passes.get(&pass) else {
            return;
        };
        let Attempt {
            id, channel, dying, ..
        } = entry.attempt;
        let first = entry.first.is_some();
        // Its deliveries have no outcome, which nobody is to hear of once for each of them.
        let lost = self.shared.is_lost(channel) && reported.outcomes.is_empty();
        let Judged { notes, done, left } = self.judge_all(id, reported, dying, lost);
        let deferred = !left.is_empty();
        let closed = !deferred && self.scheduler.is_last(pass, job);
        self.running[channel as usize] -= 1;
        self.scheduler.handle_report(pass, job, deferred);
        if !lost {
            self.log_status();
        }
        if first {
            self.record_first_try(pass, left, notes);
            return;
        }
        if done.is_empty() {
            self.scheduler.handle_recorded(pass);
            return;
        }
        if closed && notes.is_empty() && self.scheduler.is_only_channel(pass) && !self.stopping {
            // Its removal says the same as a closed channel, and both would cost a sync.
            self.finish_with(pass, id, channel);
            return;
        }
        self.record(Record {
            pass,
            id,
            channel,
            notes,
            mark: if closed {
                Mark::Closed
            } else {
                Mark::Done(done)
            },
        });
    }

    fn judge_all(&self, id: MessageId, reported: Reported, dying: bool, lost: bool) -> Judged {
        let mut judged = Judged::default();
        let mut outcomes = reported.outcomes.into_iter();
        for (delivery, (recipient, place)) in (reported.first_delivery..).zip(reported.batch) {
            let Some(outcome) = outcomes.next() else {
                // However old the message is: nobody has said what became of it.
                if !lost {
                    self.log(&LogEvent::ReportMangled { delivery });
                }
                judged.left.push(recipient);
                continue;
            };
            let (verdict, report) = judge(outcome, dying);
            let text = report.as_bytes();
            self.log(&LogEvent::DeliveryEnded {
                delivery,
                verdict,
                text,
            });
            if verdict == Verdict::Failure {
                let shown = self.routes.strip_prefix(recipient.as_bytes());
                bounce::write_note(shown, text, &mut judged.notes);
            }
            match verdict {
                Verdict::Deferral => {
                    self.shared.reasons().keep(id, text);
                    judged.left.push(recipient);
                }
                Verdict::Success | Verdict::Failure => judged.done.push(place),
            }
        }
        judged
    }

    /// Every recipient was tried: the channel is closed, or waits for the next attempt.
    fn complete(&mut self, pass: PassId, deferred: bool) {
        let Some(entry) = self.passes.get(&pass) else {
            return;
        };
        let Attempt {
            id,
            channel,
            retry_at,
            ..
        } = entry.attempt;
        if !deferred {
            self.record(Record {
                pass,
                id,
                channel,
                notes: Vec::new(),
                mark: Mark::Closed,
            });
            return;
        }
        let due = if entry.trouble {
            self.world.seconds() + TROUBLE_WAIT.as_secs()
        } else {
            retry_at
        };
        self.scheduler.handle_put_off(pass, due);
        self.passes.remove(&pass);
    }
}

pub(super) fn delivery(world: &World, channel: Channel) -> &Arc<dyn Delivery> {
    match channel {
        Channel::Local => &world.parts.local,
        Channel::Remote => &world.parts.remote,
    }
}

async fn open(world: &World, attempt: Attempt, fresh: Option<Fresh>) -> Result<Opened, NotOpened> {
    let spool = &world.parts.spool;
    let Attempt { id, channel, .. } = attempt;
    let Some(fresh) = fresh else {
        let read = async {
            let sender = spool.sender(id).await?;
            let page = spool
                .recipients(id, channel, Position::START, PAGE_RECIPIENTS)
                .await?;
            Ok(Opened {
                attempt,
                sender,
                content: spool.content(id).await?,
                first: None,
                page: Page::Read(page),
            })
        };
        return read.await.map_err(|error| NotOpened { error, first: None });
    };
    let Fresh {
        sender,
        recipients,
        first,
    } = fresh;
    match spool.content(id).await {
        Ok(content) => Ok(Opened {
            attempt,
            sender,
            content,
            first,
            page: Page::Given(recipients),
        }),
        Err(error) => Err(NotOpened { error, first }),
    }
}

/// What an outcome comes to, with its text; a message that has waited too long is not deferred again.
fn judge(outcome: Outcome, dying: bool) -> (Verdict, Report) {
    match outcome {
        Outcome::Delivered(report) => (Verdict::Success, report),
        Outcome::Failed(report) => (Verdict::Failure, report),
        Outcome::Deferred(report) if dying => {
            // The limit of a report is for what a delivery says; this sentence is always told in full.
            let keep = report.as_bytes().len().min(REPORT_ROOM);
            let text = [&report.as_bytes()[..keep], TOO_LONG_IN_QUEUE].concat();
            (Verdict::Failure, Report::new(text))
        }
        Outcome::Deferred(report) => (Verdict::Deferral, report),
    }
}

const CRASHED: &str = "The delivery crashed. (#4.3.0)\n";
const TOO_LONG_IN_QUEUE: &[u8] =
    b"I'm not going to try again; this message has been in the queue too long.\n";
const REPORT_ROOM: usize = qmail_core::REPORT_OCTETS_MAX - TOO_LONG_IN_QUEUE.len();

impl Page {
    fn may_have_more(&self) -> bool {
        match self {
            Self::Read(recipients) => recipients.len() >= PAGE_RECIPIENTS,
            Self::Given(_) => false,
        }
    }

    fn next(&self, from: Position) -> Position {
        match self {
            Self::Read(recipients) => recipients.last().map_or(from, |last| last.next),
            Self::Given(_) => from,
        }
    }

    /// Those who are not done.
    fn into_waiting(self) -> impl Iterator<Item = (Place, Address)> {
        let (read, given) = match self {
            Self::Read(recipients) => (recipients, Vec::new()),
            Self::Given(addresses) => (Vec::new(), addresses),
        };
        let read = read.into_iter().filter(|recipient| !recipient.done);
        let read = read.map(|recipient| (Place::At(recipient.position), recipient.address));
        let given = given.into_iter().enumerate();
        read.chain(given.map(|(number, address)| (Place::Nth(number), address)))
    }
}

impl Batch {
    fn of(place: Place, recipient: Address) -> Self {
        Self {
            recipients: vec![recipient],
            places: vec![place],
        }
    }

    fn push(&mut self, place: Place, recipient: Address) {
        self.recipients.push(recipient);
        self.places.push(place);
    }
}

impl IntoIterator for Batch {
    type Item = (Address, Place);
    type IntoIter = std::iter::Zip<std::vec::IntoIter<Address>, std::vec::IntoIter<Place>>;

    fn into_iter(self) -> Self::IntoIter {
        self.recipients.into_iter().zip(self.places)
    }
}
