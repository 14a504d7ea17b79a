//! The seam between a session and what keeps its mail.

use std::io;

use async_trait::async_trait;
use qmail_core::{Account, Body};

/// The mail of one account, as one session sees it.
///
/// A session calls [`list`](Self::list) once, first; then [`open`](Self::open) as often as it likes; and
/// [`commit`](Self::commit) at most once, last. What comes in after the listing is for the next session.
#[async_trait]
pub trait Maildrop: Send {
    /// The messages, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// The client is told by the error's `Display`, and the connection is closed.
    async fn list(&mut self) -> Result<Listing, MaildropError>;

    /// Starts reading the message at this place of the listing, from 0.
    ///
    /// # Errors
    ///
    /// The message is gone or cannot be read. The client is told so, and the session goes on.
    async fn open(&mut self, message: usize) -> io::Result<Box<dyn Body>>;

    /// Removes the marked messages. All others stay, and count as seen.
    ///
    /// A maildrop tries them all before it reports a failure.
    ///
    /// # Errors
    ///
    /// At least one that was marked is still there. The client is told so.
    async fn commit(&mut self, deleted: &Deletions) -> io::Result<()>;
}

/// All maildrops of a server: finds the one of an account.
#[async_trait]
pub trait Maildrops: Send + Sync {
    /// The maildrop of who has just logged in.
    ///
    /// A maildrop that must not be open twice is locked here, until it is dropped (RFC 1939 section 4). A Maildir needs
    /// no lock: its messages never change.
    ///
    /// # Errors
    ///
    /// As [`Maildrop::list`].
    async fn open(&self, account: &Account) -> Result<Box<dyn Maildrop>, MaildropError>;
}

/// Why there is no maildrop to show. `Display` is what the client is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaildropError {
    /// The account has none.
    #[error("this user has no $HOME/Maildir")]
    Missing(#[source] io::Error),
    /// It is there, but its messages cannot be listed.
    #[error("unable to scan $HOME/Maildir")]
    Unreadable(#[source] io::Error),
    /// Another session has it, and it can be had by one only (RFC 2449 section 8.1.1).
    #[error("[IN-USE] another session has this maildrop")]
    InUse,
}

/// Size and unique id of each message, in the order of their numbers: about 12 octets each, besides the ids.
///
/// ```
/// use qmail_pop3::Listing;
/// let mut listing = Listing::new();
/// listing.push(120, b"whqtswO00WBw418f9t5JxYwZ")?;
/// listing.push(200, b"QhdPYR:00WBw1Ph7x7")?;
/// assert_eq!((listing.len(), listing.octets()), (2, 320));
/// # Ok::<(), qmail_pop3::ListingError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    sizes: Vec<u64>,
    /// Where the id of each message ends in `ids`; it begins where the one before ends.
    ends: Vec<u32>,
    ids: Vec<u8>,
    octets: u64,
}

impl Listing {
    /// Most messages that a session shows. A maildrop that has more lists the first ones; the rest is for later sessions.
    pub const MESSAGES_MAX: usize = 4_000_000;

    /// Longest unique id in octets (RFC 1939 section 7).
    pub const ID_OCTETS_MAX: usize = 70;

    /// No messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// No messages, but room for this many.
    pub fn with_capacity(messages: usize) -> Self {
        /// Octets of a usual unique id: the base name of a file in a Maildir.
        const ID_OCTETS_USUAL: usize = 32;
        let messages = messages.min(Self::MESSAGES_MAX);
        Self {
            sizes: Vec::with_capacity(messages),
            ends: Vec::with_capacity(messages),
            ids: Vec::with_capacity(messages * ID_OCTETS_USUAL),
            octets: 0,
        }
    }

    /// Appends a message of this size in octets. Its `id` is never the id of another message of this maildrop, now or later.
    ///
    /// # Errors
    ///
    /// An id that is not 1 to [`ID_OCTETS_MAX`](Self::ID_OCTETS_MAX) octets from `!` to `~`, or a listing that has
    /// [`MESSAGES_MAX`](Self::MESSAGES_MAX) messages. The listing stays as it was.
    pub fn push(&mut self, octets: u64, id: &[u8]) -> Result<(), ListingError> {
        if !Self::is_id(id) {
            return Err(ListingError::Id);
        }
        if self.sizes.len() == Self::MESSAGES_MAX {
            return Err(ListingError::Full);
        }
        self.ids.extend_from_slice(id);
        self.ends
            .push(u32::try_from(self.ids.len()).expect("4,000,000 ids of 70 octets fit"));
        self.sizes.push(octets);
        self.octets = self.octets.saturating_add(octets);
        Ok(())
    }

    /// Whether a unique id may look so (RFC 1939 section 7).
    pub fn is_id(id: &[u8]) -> bool {
        (1..=Self::ID_OCTETS_MAX).contains(&id.len())
            && id.iter().all(|octet| (b'!'..=b'~').contains(octet))
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// The size of all messages together.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// The size of a message in octets.
    pub fn size(&self, message: usize) -> Option<u64> {
        self.sizes.get(message).copied()
    }

    /// The unique id of a message.
    pub fn id(&self, message: usize) -> Option<&[u8]> {
        let end = *self.ends.get(message)?;
        let start = match message {
            0 => 0,
            _ => self.ends[message - 1],
        };
        Some(&self.ids[start as usize..end as usize])
    }
}

/// Why a message does not go into a [`Listing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// Its unique id is not one.
    #[error("a unique id is 1 to 70 printable octets without spaces")]
    Id,
    /// The listing has as many messages as it takes.
    #[error("a listing has {} messages at most", Listing::MESSAGES_MAX)]
    Full,
}

/// The messages that a client has marked to be removed: one bit each, and nothing at all until the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletions {
    words: Vec<u64>,
    count: usize,
}

impl Deletions {
    /// Whether the message at this place of the listing is marked.
    pub fn contains(&self, message: usize) -> bool {
        self.words
            .get(message / 64)
            .is_some_and(|word| word >> (message % 64) & 1 == 1)
    }

    /// How many are marked.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is marked.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The places of those that are marked, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.words.len() * 64).filter(|&message| self.contains(message))
    }

    /// Marks a message. One that no listing can have is not marked.
    pub fn insert(&mut self, message: usize) {
        if self.contains(message) || message >= Listing::MESSAGES_MAX {
            return;
        }
        let word = message / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (message % 64);
        self.count += 1;
    }
}

impl FromIterator<usize> for Deletions {
    fn from_iter<T: IntoIterator<Item = usize>>(messages: T) -> Self {
        let mut deletions = Self::default();
        for message in messages {
            deletions.insert(message);
        }
        deletions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_a_reply_can_carry_are_listed() {
        let mut listing = Listing::new();
        for (id, ok) in [
            (&b"a"[..], true),
            (&[b'~'; 70], true),
            (&[b'~'; 71], false),
            (b"", false),
            (b"a b", false),
            (b"a\r\n.\r\n", false),
            (b"\xe9", false),
        ] {
            assert_eq!(listing.push(1, id).is_ok(), ok, "{id:?}");
        }
        assert_eq!(listing.len(), 2);
        assert_eq!(listing.id(0), Some(&b"a"[..]));
        assert_eq!(listing.id(1), Some(&[b'~'; 70][..]));
        assert_eq!((listing.id(2), listing.size(2)), (None, None));
    }

    #[test]
    fn sizes_never_wrap() {
        let mut listing = Listing::new();
        listing.push(u64::MAX, b"a").expect("an id");
        listing.push(1, b"b").expect("an id");
        assert_eq!(listing.octets(), u64::MAX);
    }

    #[test]
    fn marks_are_counted_once() {
        let deletions: Deletions = [64, 0, 63, 64, 200, usize::MAX].into_iter().collect();
        assert_eq!(deletions.len(), 4);
        assert_eq!(deletions.iter().collect::<Vec<_>>(), [0, 63, 64, 200]);
        assert!(!deletions.contains(1) && !deletions.contains(10_000));
    }
}
