//! Passes: what their owner tells of them, and which of their jobs start.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::lane::{Known, Use, Waiter};
use super::{IDLE_PASSES_MAX, JOBS_LOADED_MAX, JobId, PassId, Scheduler, Step, index};
use crate::Channel;

/// An open pass.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) message: Known,
    pub(super) channel: Channel,
    retry_at: u64,
    jobs_offered: u64,
    /// The slot in which the pass was opened, until its first job takes it over.
    slot: Option<Use>,
    reading: bool,
    /// Whether the last recipient was read.
    ended: bool,
    /// Jobs that may start.
    ready: VecDeque<(JobId, Bytes)>,
    /// Jobs that wait for their destination.
    blocked: usize,
    blocked_at: Bytes,
    running: BTreeMap<JobId, (Bytes, Use)>,
    recording: usize,
    deferred: bool,
    in_ring: bool,
    idle: bool,
    completed: bool,
    /// Its message is held: no further job of it starts.
    cut: bool,
}

impl Pass {
    pub(super) fn new(message: Known, channel: Channel, retry_at: u64, slot: Use) -> Self {
        Self {
            message,
            channel,
            retry_at,
            jobs_offered: 0,
            slot: Some(slot),
            reading: true,
            ended: false,
            ready: VecDeque::new(),
            blocked: 0,
            blocked_at: Bytes::new(),
            running: BTreeMap::new(),
            recording: 0,
            deferred: false,
            in_ring: false,
            idle: false,
            completed: false,
            cut: false,
        }
    }
}

impl Pass {
    /// Forgets every job that has not started; their recipients wait for the next pass.
    fn drop_jobs(&mut self) {
        self.cut = true;
        self.ended = true;
        self.deferred = true;
        self.ready.clear();
        self.blocked = 0;
    }
}

/// What the owner of a pass tells. A pass that is not open is ignored throughout.
impl Scheduler {
    /// Offers a job for a destination, named by the key of its [`Destination`](qmail_core::Destination).
    pub fn offer(&mut self, pass: PassId, destination: Bytes) -> JobId {
        let Some(open) = self.passes.get_mut(&pass) else {
            return JobId(0);
        };
        open.jobs_offered += 1;
        let job = JobId(open.jobs_offered);
        open.ready.push_back((job, destination));
        job
    }

    /// Jobs for all recipients of a page were offered. `more`: there may be another page.
    pub fn handle_page(&mut self, pass: PassId, more: bool) {
        let Some(open) = self.passes.get_mut(&pass) else {
            return;
        };
        open.reading = false;
        open.ended = !more;
        if open.cut {
            open.drop_jobs();
        }
        if let Some(used) = open.slot.take() {
            let lane = &mut self.lanes[index(open.channel)];
            lane.free_slot(used);
            if !self.stopped {
                self.start(pass, used);
            }
        }
        self.settle(pass);
    }

    /// The next recipients of a pass could not be read. Its jobs go on; what was not read counts as deferred.
    pub fn handle_trouble(&mut self, pass: PassId) {
        if let Some(open) = self.passes.get_mut(&pass) {
            open.deferred = true;
            self.handle_page(pass, false);
        }
    }

    /// A job is over, and its slot is free; `deferred` if one of its recipients is to be tried again. What became of it is
    /// being recorded from now on.
    pub fn handle_report(&mut self, pass: PassId, job: JobId, deferred: bool) {
        let Some(open) = self.passes.get_mut(&pass) else {
            return;
        };
        let Some((destination, used)) = open.running.remove(&job) else {
            return;
        };
        open.deferred |= deferred;
        open.recording += 1;
        let channel = open.channel;
        let lane = &mut self.lanes[index(channel)];
        lane.recording += 1;
        lane.free_slot(used);
        self.leave(channel, &destination);
    }

    /// What became of a reported job is recorded.
    pub fn handle_recorded(&mut self, pass: PassId) {
        let Some(open) = self.passes.get_mut(&pass) else {
            return;
        };
        open.recording -= 1;
        self.lanes[index(open.channel)].recording -= 1;
        self.settle(pass);
    }

    /// Whether `job`, which is running, is all that is left of its pass, and nothing was deferred before.
    pub fn is_last(&self, pass: PassId, job: JobId) -> bool {
        self.passes.get(&pass).is_some_and(|open| {
            open.ended
                && !open.deferred
                && open.ready.is_empty()
                && open.blocked == 0
                && open.recording == 0
                && open.running.len() == 1
                && open.running.contains_key(&job)
        })
    }

    /// Whether the message of a pass waits on no other channel, so that it is finished with this pass.
    pub fn is_only_channel(&self, pass: PassId) -> bool {
        self.passes
            .get(&pass)
            .is_some_and(|open| !self.both.contains(&open.message.id))
    }

    /// All recipients of a pass are recorded as done. Returns whether its message has no other channel: it is finished.
    pub fn handle_closed(&mut self, pass: PassId) -> bool {
        let Some(pass) = self.drop_pass(pass) else {
            return false;
        };
        let finished = !self.both.remove(&pass.message.id);
        if finished {
            self.held.remove(&pass.message.id);
        }
        finished
    }

    /// A pass is over, and is to be repeated at `due`.
    pub fn handle_put_off(&mut self, pass: PassId, due: u64) {
        if let Some(pass) = self.drop_pass(pass)
            && !self.keep_held(pass.message, pass.channel, due)
        {
            self.lane(pass.channel).put_off(pass.message, due, false);
        }
    }

    /// Starts no further job of a pass.
    pub(super) fn cut(&mut self, pass: PassId) {
        if let Some(open) = self.passes.get_mut(&pass) {
            open.drop_jobs();
            self.settle(pass);
        }
    }

    /// Takes a pass away, with the slots it may still hold.
    fn drop_pass(&mut self, pass: PassId) -> Option<Pass> {
        let open = self.passes.remove(&pass)?;
        let channel = open.channel;
        let lane = &mut self.lanes[index(channel)];
        lane.recording -= open.recording;
        lane.idle -= usize::from(open.idle);
        if let Some(used) = open.slot {
            lane.free_slot(used);
        }
        for (destination, used) in open.running.values() {
            let lane = &mut self.lanes[index(channel)];
            lane.free_slot(*used);
            self.leave(channel, destination);
        }
        Some(open)
    }

    /// Starts the next job of a pass whose turn it is.
    pub(super) fn start_next(&mut self, pass: PassId) {
        if let Some(open) = self.passes.get_mut(&pass) {
            open.in_ring = false;
            self.start(pass, Use::Backlog);
            self.settle(pass);
        }
    }

    /// Starts the first job that may, in a slot that is free.
    fn start(&mut self, pass: PassId, used: Use) {
        let Some(open) = self.passes.get_mut(&pass) else {
            return;
        };
        let lane = &mut self.lanes[index(open.channel)];
        while let Some((job, destination)) = open.ready.pop_front() {
            if lane.enter(&destination) {
                lane.take_slot(used);
                open.running.insert(job, (destination, used));
                self.steps.push_back(Step::Start(pass, job));
                return;
            }
            open.blocked += 1;
            // Full means that a job is running, so that the waiter is taken.
            let refused = lane.queue_up(&destination, Waiter::Job(pass, job));
            debug_assert!(refused.is_none(), "a full destination has a running job");
            open.blocked_at = destination;
        }
    }

    /// A job to `destination` is over: somebody else may go on.
    fn leave(&mut self, channel: Channel, destination: &Bytes) {
        for waiter in self.lane(channel).leave(destination) {
            self.resume(channel, waiter, destination);
        }
        while let Some(waiter) = self.lane(channel).next_waiter(destination) {
            if self.resume(channel, waiter, destination) {
                break;
            }
        }
    }

    /// Somebody who waited for a destination may go on; `false` if nobody is there any more.
    fn resume(&mut self, channel: Channel, waiter: Waiter, destination: &Bytes) -> bool {
        match waiter {
            Waiter::Message(message) => self.lane(channel).resumed.push_back(message),
            Waiter::Job(pass, job) => {
                let Some(open) = self.passes.get_mut(&pass).filter(|open| !open.cut) else {
                    return false;
                };
                open.blocked -= 1;
                open.ready.push_back((job, destination.clone()));
                self.settle(pass);
            }
        }
        true
    }

    /// Draws the conclusions after anything has changed about a pass.
    fn settle(&mut self, pass: PassId) {
        let Some(open) = self.passes.get_mut(&pass) else {
            return;
        };
        let lane = &mut self.lanes[index(open.channel)];
        if !open.ready.is_empty() && !open.in_ring {
            open.in_ring = true;
            lane.ring.push_back(pass);
        }
        let wants_page = !open.reading
            && !open.ended
            && open.ready.is_empty()
            && open.blocked < JOBS_LOADED_MAX
            && !self.stopped;
        if wants_page {
            open.reading = true;
            self.steps.push_back(Step::Read(pass));
        }
        let quiet = !open.reading && open.running.is_empty() && open.recording == 0;
        let work_left = !open.ready.is_empty() || open.blocked > 0 || !open.ended;
        if quiet && !work_left && !open.completed {
            open.completed = true;
            let deferred = open.deferred;
            self.steps.push_back(Step::Complete { pass, deferred });
        }
        let was_idle = std::mem::replace(&mut open.idle, quiet && work_left);
        lane.idle = lane.idle + usize::from(open.idle) - usize::from(was_idle);
        if open.idle && !was_idle && lane.idle > IDLE_PASSES_MAX {
            self.put_back(pass);
        }
    }

    /// Makes room: a pass is forgotten, its message waits.
    fn put_back(&mut self, pass: PassId) {
        let Some(open) = self.drop_pass(pass) else {
            return;
        };
        let lane = &mut self.lanes[index(open.channel)];
        if open.deferred {
            // What was deferred must not be tried again before its time.
            lane.put_off(open.message, open.retry_at, false);
        } else if open.ready.is_empty() {
            let waiter = Waiter::Message(open.message);
            if lane.queue_up(&open.blocked_at, waiter).is_some() {
                lane.resumed.push_back(open.message);
            }
        } else {
            lane.resumed.push_back(open.message);
        }
        self.steps.push_back(Step::Forget(pass));
    }
}
