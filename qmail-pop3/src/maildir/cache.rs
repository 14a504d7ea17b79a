//! What is known of large Maildirs from earlier sessions, so that the next one need not ask the file system of every message.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A Maildir of fewer messages is looked at as quickly.
const MESSAGES_MIN: usize = 200;

/// Most messages that are remembered, over all Maildirs: about 100 octets each. Those that were listed longest ago make room.
const MESSAGES_MAX: usize = 500_000;

/// Time and size of messages by the unique part of their names.
///
/// A message is never changed and its unique name never used again (maildir(5)), so what was seen once holds, also when the
/// file is moved or renamed. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub struct MaildirCache(Arc<Mutex<Remembered>>);

#[derive(Default)]
struct Remembered {
    /// Oldest first.
    maildirs: VecDeque<(PathBuf, Arc<Facts>)>,
    messages: usize,
}

/// Time of modification and size of messages, by the unique part of their names.
pub(super) type Facts = HashMap<Box<[u8]>, Fact>;

/// What the file system once said of a regular file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) modified_seconds: i64,
    pub(super) octets: u64,
}

impl MaildirCache {
    /// What is known of the Maildir at `path`; nothing, if it was not listed lately.
    pub(super) fn facts(&self, path: &Path) -> Arc<Facts> {
        let remembered = self.lock();
        let found = remembered.maildirs.iter().find(|(known, _)| known == path);
        found
            .map(|(_, facts)| Arc::clone(facts))
            .unwrap_or_default()
    }

    /// Takes these in place of what was known of that Maildir. They are only made if there will be room for so many `messages`.
    pub(super) fn remember(&self, path: PathBuf, messages: usize, facts: impl FnOnce() -> Facts) {
        self.lock().forget(&path);
        if !(MESSAGES_MIN..=MESSAGES_MAX).contains(&messages) {
            return;
        }
        // Making them takes time, and others wait for the lock.
        let facts = facts();
        let mut remembered = self.lock();
        remembered.forget(&path);
        while remembered.messages + facts.len() > MESSAGES_MAX {
            remembered.forget_at(0);
        }
        remembered.messages += facts.len();
        remembered.maildirs.push_back((path, Arc::new(facts)));
    }

    /// What is guarded is whole at every moment, so a thread that panicked does no harm.
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn forget(&mut self, path: &Path) {
        if let Some(at) = (self.maildirs.iter()).position(|(known, _)| known == path) {
            self.forget_at(at);
        }
    }

    fn forget_at(&mut self, at: usize) {
        if let Some((_, facts)) = self.maildirs.remove(at) {
            self.messages -= facts.len();
        }
    }
}

impl fmt::Debug for MaildirCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaildirCache")
            .field("messages", &self.lock().messages)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(count: usize) -> Facts {
        let fact = Fact {
            modified_seconds: 1,
            octets: 2,
        };
        (0..count)
            .map(|number| (number.to_string().into_bytes().into(), fact))
            .collect()
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let cache = MaildirCache::default();
        let known = |path: &str| cache.facts(Path::new(path)).len();
        let remember =
            |path: &str, count: usize| cache.remember(path.into(), count, || facts(count));
        remember("small", MESSAGES_MIN - 1);
        remember("huge", MESSAGES_MAX + 1);
        assert_eq!((known("small"), known("huge")), (0, 0));
        remember("a", MESSAGES_MIN);
        remember("b", MESSAGES_MAX - MESSAGES_MIN);
        assert_eq!(
            (known("a"), known("b")),
            (MESSAGES_MIN, MESSAGES_MAX - MESSAGES_MIN)
        );
        remember("a", MESSAGES_MIN + 1);
        assert_eq!((known("a"), known("b")), (MESSAGES_MIN + 1, 0));
        remember("a", 1);
        assert_eq!(cache.lock().messages, 0);
    }
}
