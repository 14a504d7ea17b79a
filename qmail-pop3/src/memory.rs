//! Maildrops in memory: for tests, examples and small embeddings.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Account, Body, Content, MemoryContent};

use crate::{Deletions, Listing, Maildrop, MaildropError, Maildrops};

/// Maildrops by account name. Clones share the same mail.
///
/// ```
/// # use qmail_pop3::MemoryMaildrops;
/// let maildrops = MemoryMaildrops::default();
/// maildrops.add("joe", "Subject: hello\n\nhello\n");
/// assert_eq!(maildrops.messages("joe").len(), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryMaildrops {
    by_name: Arc<Mutex<BTreeMap<Bytes, Store>>>,
}

#[derive(Debug, Default)]
struct Store {
    /// By number, ascending, which is also the unique id: none is used twice.
    messages: BTreeMap<u64, Bytes>,
    next: u64,
}

impl MemoryMaildrops {
    /// Appends a message to the maildrop of this name, which comes into being with its first.
    pub fn add(&self, name: impl Into<Bytes>, message: impl Into<Bytes>) {
        let mut by_name = self.lock();
        let store = by_name.entry(name.into()).or_default();
        store.next += 1;
        store.messages.insert(store.next, message.into());
    }

    /// What is in the maildrop of this name.
    pub fn messages(&self, name: impl AsRef<[u8]>) -> Vec<Bytes> {
        match self.lock().get(name.as_ref()) {
            Some(store) => store.messages.values().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// The maildrop of this name, whether or not there is mail in it.
    pub fn maildrop(&self, name: impl Into<Bytes>) -> MemoryMaildrop {
        MemoryMaildrop {
            maildrops: self.clone(),
            name: name.into(),
            listed: Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Bytes, Store>> {
        // No change to the map is made in two steps: it is whole even after a panic elsewhere.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Maildrops for MemoryMaildrops {
    async fn open(&self, account: &Account) -> Result<Box<dyn Maildrop>, MaildropError> {
        Ok(Box::new(self.maildrop(account.name.clone())))
    }
}

/// One maildrop of [`MemoryMaildrops`], in one session.
#[derive(Debug)]
pub struct MemoryMaildrop {
    maildrops: MemoryMaildrops,
    name: Bytes,
    listed: Vec<u64>,
}

#[async_trait]
impl Maildrop for MemoryMaildrop {
    async fn list(&mut self) -> Result<Listing, MaildropError> {
        let mut listing = Listing::new();
        self.listed.clear();
        if let Some(store) = self.maildrops.lock().get(&self.name) {
            for (&number, message) in &store.messages {
                if listing
                    .push(message.len() as u64, number.to_string().as_bytes())
                    .is_err()
                {
                    break;
                }
                self.listed.push(number);
            }
        }
        Ok(listing)
    }

    async fn open(&mut self, message: usize) -> io::Result<Box<dyn Body>> {
        let text = self.listed.get(message).and_then(|number| {
            let by_name = self.maildrops.lock();
            by_name.get(&self.name)?.messages.get(number).cloned()
        });
        MemoryContent(text.ok_or(io::ErrorKind::NotFound)?)
            .open()
            .await
    }

    async fn commit(&mut self, deleted: &Deletions) -> io::Result<()> {
        if let Some(store) = self.maildrops.lock().get_mut(&self.name) {
            for message in deleted.iter() {
                if let Some(number) = self.listed.get(message) {
                    store.messages.remove(number);
                }
            }
        }
        Ok(())
    }
}
