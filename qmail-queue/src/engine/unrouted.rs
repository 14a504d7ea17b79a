//! Which messages are between acceptance and routing.

use std::collections::{HashMap, HashSet};

use crate::MessageId;

/// Numbers of messages, counted: when a message is removed, its number may be given to the next one, and told to the engine, before
/// the engine has heard that the first is gone. Only looked up, never listed, but for `recover`.
#[derive(Debug, Default)]
pub(super) struct Unrouted {
    counts: HashMap<MessageId, u32>,
}

impl Unrouted {
    pub(super) fn insert(&mut self, id: MessageId) {
        *self.counts.entry(id).or_default() += 1;
    }

    pub(super) fn remove(&mut self, id: MessageId) {
        if let Some(count) = self.counts.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&id);
            }
        }
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
        unrouted.remove(gone);
        assert!(unrouted.contains(new));
        assert_eq!(unrouted.ids(), HashSet::from([new]));
        unrouted.remove(new);
        unrouted.remove(new);
        assert!(!unrouted.contains(new));
    }
}
