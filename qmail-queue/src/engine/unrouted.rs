//! Which messages are between acceptance and routing.

use std::collections::{HashMap, HashSet};

use crate::MessageId;

/// Numbers of messages, counted: when a message is removed, its number may be given to the next one, and told to the engine, before
/// the engine has heard that the first is gone. Only looked up, never listed, but for `recover`.
#[derive(Debug, Default)]
pub(super) struct Unrouted {
    counts: HashMap<MessageId, u32>,
    /// Those among them that somebody told of once more: a word that came late, or the next message of that number.
    told_again: HashSet<MessageId>,
}

impl Unrouted {
    pub(super) fn insert(&mut self, id: MessageId) {
        *self.counts.entry(id).or_default() += 1;
    }

    /// Whether it was told of again meanwhile, and is to be looked at.
    #[must_use]
    pub(super) fn remove(&mut self, id: MessageId) -> bool {
        let Some(count) = self.counts.get_mut(&id) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.counts.remove(&id);
        self.told_again.remove(&id)
    }

    /// Somebody tells of it. `false` if it is known: it is looked at again when it is no longer.
    pub(super) fn tell(&mut self, id: MessageId) -> bool {
        let known = self.contains(id);
        if known {
            self.told_again.insert(id);
        } else {
            self.insert(id);
        }
        !known
    }

    pub(super) fn contains(&self, id: MessageId) -> bool {
        self.counts.contains_key(&id)
    }

    /// All of them.
    pub(super) fn ids(&self) -> HashSet<MessageId> {
        self.counts.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_again_stays() {
        let mut unrouted = Unrouted::default();
        let (gone, new) = (MessageId(7), MessageId(7));
        unrouted.insert(gone);
        unrouted.insert(new);
        assert!(!unrouted.remove(gone));
        assert!(unrouted.contains(new));
        assert_eq!(unrouted.ids(), HashSet::from([new]));
        assert!(!unrouted.remove(new));
        assert!(!unrouted.remove(new));
        assert!(!unrouted.contains(new));
    }

    #[test]
    fn what_is_told_of_while_it_is_known_is_looked_at_again_once() {
        let mut unrouted = Unrouted::default();
        let id = MessageId(7);
        assert!(unrouted.tell(id));
        assert!(!unrouted.tell(id) && !unrouted.tell(id));
        assert!(unrouted.remove(id));
        assert!(unrouted.tell(id));
        assert!(!unrouted.remove(id));
    }
}
