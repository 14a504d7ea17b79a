//! Messages that somebody takes out of the schedule, for a while or for good.
//!
//! Each of these looks at all that waits, so it is given many messages at once rather than one after the other.

use std::collections::{HashMap, HashSet};

use super::lane::Known;
use super::{Scheduler, index};
use crate::{Channel, MessageId};

/// What waits of a message that was taken out of the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// When the message was routed.
    pub birth: u64,
    /// When its local and its remote recipients are due, if they wait.
    pub due: [Option<u64>; 2],
}

impl Scheduler {
    /// Holds messages: nothing of them is tried until they are released, but what runs runs to its end. Returns those that are
    /// known; one that is held already is.
    pub fn hold(&mut self, ids: &HashSet<MessageId>) -> HashSet<MessageId> {
        for (id, taken) in self.extract(ids) {
            let held = self.held.entry(id).or_default();
            held.birth = taken.birth;
            for (held, due) in held.due.iter_mut().zip(taken.due) {
                *held = held.or(due);
            }
        }
        let open: Vec<_> = self.open_passes(ids).collect();
        for (pass, message) in open {
            self.held.entry(message.id).or_insert(Taken {
                birth: message.birth,
                due: [None; 2],
            });
            self.cut(pass);
        }
        let known = ids.iter().filter(|id| self.held.contains_key(id));
        known.copied().collect()
    }

    /// Whether a message is held.
    pub fn is_held(&self, id: MessageId) -> bool {
        self.held.contains_key(&id)
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Which of these messages are being tried just now, or recorded.
    pub fn being_tried(&self, ids: &HashSet<MessageId>) -> HashSet<MessageId> {
        self.open_passes(ids)
            .map(|(_, message)| message.id)
            .collect()
    }

    /// Lets a held message be tried again, at once.
    pub fn release(&mut self, id: MessageId, now: u64) {
        if let Some(taken) = self.held.remove(&id) {
            self.put_back_taken(id, taken, Some(now));
        }
    }

    /// Has messages that wait for their time tried now. Returns those that wait; a held one does not.
    pub fn make_due(&mut self, ids: &HashSet<MessageId>, now: u64) -> HashSet<MessageId> {
        let taken = self.extract(ids);
        for (&id, &taken) in &taken {
            self.put_back_taken(id, taken, Some(now));
        }
        taken.into_keys().collect()
    }

    /// Takes messages out for good, held ones too. One that is being tried stays.
    pub fn take(&mut self, ids: &HashSet<MessageId>) -> HashMap<MessageId, Taken> {
        let open = self.being_tried(ids);
        let ids: HashSet<_> = ids.difference(&open).copied().collect();
        let mut taken = self.extract(&ids);
        for id in ids {
            if let Some(held) = self.held.remove(&id) {
                taken.insert(id, held);
            }
        }
        for id in taken.keys() {
            self.both.remove(id);
        }
        taken
    }

    /// Puts a message back that was taken.
    pub fn restore(&mut self, id: MessageId, taken: Taken) {
        if taken.due.iter().all(Option::is_some) {
            self.both.insert(id);
        }
        self.put_back_taken(id, taken, None);
    }

    /// Holds a message that is found at the start.
    pub fn handle_found_held(&mut self, id: MessageId, birth: u64, due: [Option<u64>; 2]) {
        if due.iter().all(Option::is_some) {
            self.both.insert(id);
        }
        self.held.insert(id, Taken { birth, due });
    }

    /// When these messages are due, of those that wait for their time or are held.
    pub fn due_times(&self, ids: &HashSet<MessageId>) -> HashMap<MessageId, [Option<u64>; 2]> {
        let mut times: HashMap<MessageId, [Option<u64>; 2]> = HashMap::new();
        for channel in Channel::ALL {
            let at = index(channel);
            for (id, due) in self.lanes[at].due_times() {
                if ids.contains(&id) {
                    times.entry(id).or_default()[at] = Some(due);
                }
            }
        }
        times
    }

    /// Whether the message of a pass that ended is held: then it waits here.
    pub(super) fn keep_held(&mut self, message: Known, channel: Channel, due: u64) -> bool {
        let Some(held) = self.held.get_mut(&message.id) else {
            return false;
        };
        held.birth = message.birth;
        held.due[index(channel)] = Some(due);
        true
    }

    fn extract(&mut self, ids: &HashSet<MessageId>) -> HashMap<MessageId, Taken> {
        let mut all: HashMap<MessageId, Taken> = HashMap::new();
        for channel in Channel::ALL {
            for (message, due) in self.lane(channel).extract(ids) {
                let taken = all.entry(message.id).or_default();
                taken.birth = message.birth;
                taken.due[index(channel)] = Some(due);
            }
        }
        all
    }

    fn put_back_taken(&mut self, id: MessageId, taken: Taken, now: Option<u64>) {
        let message = Known {
            id,
            birth: taken.birth,
        };
        for (channel, due) in Channel::ALL.into_iter().zip(taken.due) {
            match (due, now) {
                (None, _) => {}
                (Some(_), Some(now)) => self.lane(channel).make_due(message, now),
                (Some(due), None) => self.lane(channel).put_off(message, due, false),
            }
        }
    }

    fn open_passes<'a>(
        &'a self,
        ids: &'a HashSet<MessageId>,
    ) -> impl Iterator<Item = (super::PassId, Known)> + 'a {
        let open = self.passes.iter();
        open.filter(|(_, pass)| ids.contains(&pass.message.id))
            .map(|(&id, pass)| (id, pass.message))
    }
}
