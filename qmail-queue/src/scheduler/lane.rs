//! One channel's messages and slots.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::{JobId, Limits, PassId};
use crate::{Channel, MessageId};

/// What is known of one channel: who waits, who runs, who gets the next slot.
#[derive(Debug)]
pub(super) struct Lane {
    channel: Channel,
    jobs_max: usize,
    backlog_max: usize,
    destination_max: usize,
    /// New messages, oldest first.
    pub(super) fresh: VecDeque<Known>,
    /// Messages that were put back to make room, and may go on.
    pub(super) resumed: VecDeque<Known>,
    /// Due by order, whatever their time.
    ripe: BTreeMap<(u64, MessageId), Retry>,
    /// Due at their time.
    later: BTreeMap<(u64, MessageId), Retry>,
    /// Open passes with a job that may start, in turn.
    pub(super) ring: VecDeque<PassId>,
    /// Destinations with a running job.
    destinations: HashMap<Bytes, Line>,
    /// Slots in use: by running jobs, and by passes that are being opened.
    jobs: usize,
    /// Of these, all but the first jobs of new messages.
    backlog_jobs: usize,
    /// Jobs whose outcomes are being recorded.
    pub(super) recording: usize,
    /// Open passes that wait with nothing in progress.
    pub(super) idle: usize,
    /// Messages among the waiters for destinations.
    parked: usize,
    fresh_turn: u8,
    backlog_turn: u8,
}

/// A message that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) id: MessageId,
    pub(super) birth: u64,
}

/// A message that is due later.
#[derive(Clone, Copy, Debug)]
struct Retry {
    birth: u64,
    /// Whether the spool knows the time already.
    written: bool,
}

/// A destination with a running job.
#[derive(Debug, Default)]
struct Line {
    running: usize,
    waiting: VecDeque<Waiter>,
}

/// Who waits for a slot of a destination.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    Job(PassId, JobId),
    Message(Known),
}

/// Who gets a slot.
#[derive(Debug)]
pub(super) enum Choice {
    New(Known),
    Overdue(Known),
    Next(PassId),
}

/// The two kinds of use that a slot can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Fresh,
    Backlog,
}

impl Lane {
    pub(super) fn new(channel: Channel, limits: &Limits) -> Self {
        Self {
            channel,
            jobs_max: limits.jobs_max(channel),
            backlog_max: limits.backlog_max(channel),
            destination_max: limits.destination_max(channel),
            fresh: VecDeque::new(),
            resumed: VecDeque::new(),
            ripe: BTreeMap::new(),
            later: BTreeMap::new(),
            ring: VecDeque::new(),
            destinations: HashMap::new(),
            jobs: 0,
            backlog_jobs: 0,
            recording: 0,
            idle: 0,
            parked: 0,
            fresh_turn: 0,
            backlog_turn: 0,
        }
    }

    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.jobs_max = limits.jobs_max(self.channel);
        self.backlog_max = limits.backlog_max(self.channel);
        self.destination_max = limits.destination_max(self.channel);
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    /// Messages that wait without being open.
    pub(super) fn waiting(&self) -> usize {
        self.fresh.len() + self.resumed.len() + self.ripe.len() + self.later.len() + self.parked
    }

    pub(super) fn put_off(&mut self, message: Known, due: u64, written: bool) {
        let birth = message.birth;
        self.later
            .insert((due, message.id), Retry { birth, written });
    }

    pub(super) fn make_all_due(&mut self) {
        // Cheap where it matters: nothing is moved unless an earlier order is not worked off yet.
        if self.ripe.is_empty() {
            std::mem::swap(&mut self.ripe, &mut self.later);
        } else {
            self.ripe.append(&mut self.later);
        }
    }

    /// When the next message becomes due, if there is one and its channel is not held.
    pub(super) fn deadline(&self, now: u64) -> Option<u64> {
        if self.jobs_max == 0 {
            return None;
        }
        let &(due, _) = self.later.keys().next()?;
        (due > now).then_some(due)
    }

    /// Decides who gets a slot, if one is free and somebody wants it.
    pub(super) fn choose(&mut self, now: u64) -> Option<Choice> {
        if self.jobs >= self.jobs_max || self.recording >= RECORDING_MAX {
            return None;
        }
        let backlog = self.backlog_jobs < self.backlog_max && self.has_backlog(now);
        let fresh = match (self.fresh.is_empty(), backlog) {
            (true, _) => false,
            (false, false) => true,
            (false, true) => {
                self.fresh_turn = (self.fresh_turn + 1) % FRESH_TURNS;
                self.fresh_turn != 0
            }
        };
        if fresh {
            return self.fresh.pop_front().map(Choice::New);
        }
        if !backlog {
            return None;
        }
        let first = self.backlog_turn;
        (0..3).find_map(|offset| {
            let turn = (first + offset) % 3;
            self.backlog_turn = (turn + 1) % 3;
            match turn {
                0 => self.ring.pop_front().map(Choice::Next),
                1 => self.resumed.pop_front().map(Choice::Overdue),
                _ => self.pop_overdue(now).map(Choice::Overdue),
            }
        })
    }

    fn has_backlog(&self, now: u64) -> bool {
        !self.ring.is_empty()
            || !self.resumed.is_empty()
            || !self.ripe.is_empty()
            || self.later.keys().next().is_some_and(|&(due, _)| due <= now)
    }

    fn pop_overdue(&mut self, now: u64) -> Option<Known> {
        let ((_, id), retry) = match self.ripe.pop_first() {
            Some(first) => first,
            None => {
                let first = self.later.first_entry()?;
                if first.key().0 > now {
                    return None;
                }
                first.remove_entry()
            }
        };
        let birth = retry.birth;
        Some(Known { id, birth })
    }

    pub(super) fn take_slot(&mut self, used: Use) {
        self.jobs += 1;
        if used == Use::Backlog {
            self.backlog_jobs += 1;
        }
    }

    pub(super) fn free_slot(&mut self, used: Use) {
        self.jobs -= 1;
        if used == Use::Backlog {
            self.backlog_jobs -= 1;
        }
    }

    /// Counts a job to `destination` if there is room for it.
    pub(super) fn enter(&mut self, destination: &Bytes) -> bool {
        match self.destinations.get_mut(destination) {
            Some(line) if line.running >= self.destination_max => false,
            Some(line) => {
                line.running += 1;
                true
            }
            None => {
                let line = Line {
                    running: 1,
                    waiting: VecDeque::new(),
                };
                self.destinations.insert(destination.clone(), line);
                true
            }
        }
    }

    /// Lets somebody wait for a job to `destination` to end. Gives the waiter back if none is running.
    pub(super) fn queue_up(&mut self, destination: &Bytes, waiter: Waiter) -> Option<Waiter> {
        let Some(line) = self.destinations.get_mut(destination) else {
            return Some(waiter);
        };
        self.parked += usize::from(matches!(waiter, Waiter::Message(_)));
        line.waiting.push_back(waiter);
        None
    }

    /// A job to `destination` ended. Returns who waits, if it was the last one: nobody would be left to call them.
    pub(super) fn leave(&mut self, destination: &Bytes) -> VecDeque<Waiter> {
        let Some(line) = self.destinations.get_mut(destination) else {
            return VecDeque::new();
        };
        line.running -= 1;
        if line.running > 0 {
            return VecDeque::new();
        }
        let line = self.destinations.remove(destination).unwrap_or_default();
        let message = |waiter: &&Waiter| matches!(waiter, Waiter::Message(_));
        self.parked -= line.waiting.iter().filter(message).count();
        line.waiting
    }

    /// Who waits longest for `destination`, taken out of the line.
    pub(super) fn next_waiter(&mut self, destination: &Bytes) -> Option<Waiter> {
        let waiter = self
            .destinations
            .get_mut(destination)?
            .waiting
            .pop_front()?;
        self.parked -= usize::from(matches!(waiter, Waiter::Message(_)));
        Some(waiter)
    }

    /// Takes messages out that wait without being open, each with when it is due; at once is 0. Looks at every message of the
    /// channel.
    pub(super) fn extract(&mut self, ids: &HashSet<MessageId>) -> Vec<(Known, u64)> {
        let mut taken = Vec::new();
        for waiting in [&mut self.fresh, &mut self.resumed] {
            waiting.retain(|message| keep(ids, *message, 0, &mut taken));
        }
        for waiting in [&mut self.ripe, &mut self.later] {
            waiting.retain(|&(due, id), retry| {
                let birth = retry.birth;
                keep(ids, Known { id, birth }, due, &mut taken)
            });
        }
        for line in self.destinations.values_mut() {
            line.waiting.retain(|waiter| match waiter {
                Waiter::Job(..) => true,
                Waiter::Message(message) => {
                    let kept = keep(ids, *message, 0, &mut taken);
                    self.parked -= usize::from(!kept);
                    kept
                }
            });
        }
        taken
    }

    /// A message is due by order.
    pub(super) fn make_due(&mut self, message: Known, now: u64) {
        let retry = Retry {
            birth: message.birth,
            written: false,
        };
        self.ripe.insert((now, message.id), retry);
    }

    /// When messages of the channel are due that wait for their time.
    pub(super) fn due_times(&self) -> impl Iterator<Item = (MessageId, u64)> {
        self.later.keys().map(|&(due, id)| (id, due))
    }

    /// Messages whose time the spool does not know, for the next start.
    pub(super) fn into_unwritten(self, now: u64) -> impl Iterator<Item = (MessageId, u64)> {
        let known = move |due: u64, retry: &Retry| retry.written && due <= now;
        let ripe = self.ripe.into_iter();
        let ripe = ripe.filter(move |((due, _), retry)| !known(*due, retry));
        let later = self.later.into_iter().filter(|(_, retry)| !retry.written);
        ripe.map(move |((due, id), _)| (id, due.min(now)))
            .chain(later.map(|((due, id), _)| (id, due)))
    }
}

fn keep(ids: &HashSet<MessageId>, message: Known, due: u64, taken: &mut Vec<(Known, u64)>) -> bool {
    let wanted = ids.contains(&message.id);
    if wanted {
        taken.push((message, due));
    }
    !wanted
}

/// Of this many slots given while both kinds wait, all but one go to new messages.
const FRESH_TURNS: u8 = 4;

/// Most jobs of a channel whose outcomes are being recorded. No job is started beyond it: a queue that cannot write down what
/// it has done stops doing.
pub(super) const RECORDING_MAX: usize = 256;
