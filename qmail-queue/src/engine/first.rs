//! Trying a new message before it is routed.
//!
//! Most messages have one recipient, who can have it at once. To route such a message is to write down where it goes, in files of
//! its own, and to wait for them, only to remove them a moment later. So a message whose recipients make one job is tried as it
//! is, incoming. If all of them got it, it is removed. Otherwise [`Spool::route`](crate::Spool::route) is given who is left, with
//! the notes of those who failed, and from then on it is a routed message as any other.
//!
//! A crash before that leaves an incoming message, and the next engine repeats the job: as it does with the job of a routed
//! message that was not recorded.
//!
//! Only messages that the engine was told of are tried like this, with their envelopes or by their numbers. What is found in the spool
//! may have been routed in part before a crash, and is routed before anything else.

use bytes::Bytes;
use qmail_core::{Address, verp};

use super::attempt::{Fresh, delivery};
use super::record::{Mark, Record};
use super::{Engine, FRESH_RECIPIENTS_MAX};
use crate::{Attempt, Channel, MessageId, PassId, Routed};

/// Most messages that wait for their first try, or are in it, without being routed.
const FIRST_TRIES_MAX: usize = 8_192;

/// Most octets of their envelopes.
const FIRST_TRIES_OCTETS_MAX: usize = 4 * 1024 * 1024;

/// Messages that are tried before they are routed.
#[derive(Default)]
pub(super) struct FirstTries {
    count: usize,
    octets: usize,
}

/// What a message is tried with before it is routed.
pub(super) struct FirstTry {
    /// Where all of its recipients go.
    pub(super) destination: Bytes,
    octets: usize,
    /// It was tried, and what came of it is being recorded.
    pub(super) tried: bool,
}

impl Engine {
    /// Schedules a message as it is, if its recipients make one job and there is room.
    pub(super) fn try_first(
        &mut self,
        id: MessageId,
        routed: Routed,
        octets: usize,
    ) -> Result<(), Routed> {
        let Some((channel, destination)) = self.only_job(&routed) else {
            return Err(routed);
        };
        let FirstTries { count, octets: all } = &mut self.first_tries;
        if *count >= FIRST_TRIES_MAX || *all + octets > FIRST_TRIES_OCTETS_MAX {
            return Err(routed);
        }
        *count += 1;
        *all += octets;
        let fresh = Fresh {
            sender: routed.sender,
            recipients: match channel {
                Channel::Local => routed.local,
                Channel::Remote => routed.remote,
            },
            first: Some(FirstTry {
                destination,
                octets,
                tried: false,
            }),
        };
        self.fresh.insert((id, channel), fresh);
        self.scheduler
            .handle_new(id, routed.birth_seconds, &[channel]);
        Ok(())
    }

    /// The channel and the destination of the only job that a message's recipients make.
    fn only_job(&self, routed: &Routed) -> Option<(Channel, Bytes)> {
        let (channel, recipients) = match (&routed.local[..], &routed.remote[..]) {
            (local, []) => (Channel::Local, local),
            ([], remote) => (Channel::Remote, remote),
            _ => return None,
        };
        let (first, others) = recipients.split_first()?;
        // Who waits for a held channel is to be seen there.
        let held = self.scheduler.limits().jobs_max(channel) == 0;
        if held || !routed.failures.is_empty() || recipients.len() > FRESH_RECIPIENTS_MAX {
            return None;
        }
        let delivery = delivery(&self.world, channel);
        let destination = delivery.destination(first);
        let together = others.is_empty()
            || (recipients.len() <= destination.recipients_max
                && !verp::asks_for_expansion(&routed.sender)
                && others
                    .iter()
                    .all(|other| delivery.destination(other).key == destination.key));
        together.then_some((channel, destination.key))
    }

    /// Records what came of a first try: who is left, and the notes of those who failed.
    pub(super) fn record_first_try(&mut self, pass: PassId, left: Vec<Address>, notes: Vec<u8>) {
        let Some(entry) = self.passes.get_mut(&pass) else {
            return;
        };
        if let Some(first) = &mut entry.first {
            first.tried = true;
        }
        let Attempt {
            id, channel, birth, ..
        } = entry.attempt;
        if left.is_empty() && notes.is_empty() {
            self.finish_unrouted(pass, id, channel);
            return;
        }
        let mut routed = Routed {
            sender: entry.sender.clone(),
            birth_seconds: birth,
            failures: notes,
            ..Routed::default()
        };
        match channel {
            Channel::Local => routed.local = left,
            Channel::Remote => routed.remote = left,
        }
        self.record(Record {
            pass,
            id,
            channel,
            notes: Vec::new(),
            mark: Mark::Routed(routed),
        });
    }

    /// A first try is recorded by the routing.
    pub(super) fn handle_first_recorded(&mut self, pass: PassId, routed: &Routed) {
        let Some(attempt) = self.end_first_try(pass) else {
            return;
        };
        if routed.local.is_empty() && routed.remote.is_empty() {
            self.scheduler.handle_closed(pass);
            self.finish(attempt.id);
        } else {
            self.scheduler.handle_put_off(pass, attempt.retry_at);
        }
    }

    /// The message of a pass is gone, or routed if it was not.
    pub(super) fn end_first_try(&mut self, pass: PassId) -> Option<Attempt> {
        let entry = self.passes.remove(&pass)?;
        if let Some(first) = &entry.first {
            self.first_tries.end(first);
            self.leave_unrouted(entry.attempt.id);
        }
        Some(entry.attempt)
    }
}

impl FirstTries {
    pub(super) fn end(&mut self, first: &FirstTry) {
        self.count -= 1;
        self.octets -= first.octets;
    }
}
