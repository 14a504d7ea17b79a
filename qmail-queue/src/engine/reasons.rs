//! Why messages were deferred: what people want to know of a queue, and nobody else. It is not kept across a restart.

use std::collections::{HashMap, VecDeque};

use crate::MessageId;

/// Most messages whose last reason is remembered.
pub const REASONS_MAX: usize = 50_000;

/// As much of a reason as is remembered.
pub const REASON_OCTETS_MAX: usize = 200;

/// The last reasons.
#[derive(Default)]
pub(super) struct Reasons {
    texts: HashMap<MessageId, Box<[u8]>>,
    /// The messages, in the order in which they were first deferred; some may be gone.
    order: VecDeque<MessageId>,
}

impl Reasons {
    pub(super) fn of(&self, id: MessageId) -> Option<Box<[u8]>> {
        self.texts.get(&id).cloned()
    }

    pub(super) fn keep(&mut self, id: MessageId, reason: &[u8]) {
        let text = &reason[..reason.len().min(REASON_OCTETS_MAX)];
        if self.texts.insert(id, text.into()).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > REASONS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.texts.remove(&oldest);
            }
        }
    }

    pub(super) fn forget(&mut self, id: MessageId) {
        self.texts.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_kept() {
        let mut reasons = Reasons::default();
        for id in 0..REASONS_MAX as u64 + 10 {
            reasons.keep(MessageId(id), &[b'x'; 1000]);
            reasons.keep(MessageId(id), b"later");
        }
        assert_eq!(reasons.of(MessageId(9)), None);
        assert_eq!(reasons.of(MessageId(10)).as_deref(), Some(&b"later"[..]));
        reasons.forget(MessageId(10));
        assert_eq!(reasons.of(MessageId(10)), None);
        assert_eq!(reasons.order.len(), REASONS_MAX);
    }
}
