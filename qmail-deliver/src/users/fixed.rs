//! Users given by the program itself.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::Address;

use super::{User, UserDirectory, UserError};

/// A fixed table of users by local part, whatever the domain: the one built-in user of a small server, a handful of
/// mailboxes, a test.
///
/// Local parts are compared without regard to ASCII case, as everywhere in qmail.
///
/// ```
/// use qmail_deliver::{FixedUsers, User};
/// let users = FixedUsers::new()
///     .with("joe", User::new("joe", "/home/joe"))
///     .with("postmaster", User::new("joe", "/home/joe"));
/// assert!(users.get(b"Joe").is_some());
/// assert!(users.get(b"ann").is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct FixedUsers {
    users: HashMap<Bytes, User>,
}

impl FixedUsers {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a local part to a user; the last of equal local parts counts.
    #[must_use]
    pub fn with(mut self, local_part: impl AsRef<[u8]>, user: User) -> Self {
        let key = Bytes::from(local_part.as_ref().to_ascii_lowercase());
        self.users.insert(key, user);
        self
    }

    /// Who a local part belongs to.
    pub fn get(&self, local_part: &[u8]) -> Option<&User> {
        self.users.get(local_part.to_ascii_lowercase().as_slice())
    }
}

#[async_trait]
impl UserDirectory for FixedUsers {
    async fn find(&self, recipient: &Address) -> Result<Option<User>, UserError> {
        Ok(self.get(recipient.local_part()).cloned())
    }
}
