//! Delivery to users of this host, as qmail-lspawn(8) and qmail-local(8) do it.
//!
//! A recipient is looked up in a [`UserDirectory`]; the files in the user's home say which plan is made; then the plan is carried
//! out.

mod agent;
mod content;
mod durable_name;
mod lookup;
mod mbox;
mod mbox_lock;
mod plan;
mod program;
mod strictness;
#[cfg(test)]
mod tests;
mod trace;

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::dot_qmail::Mailbox;
use qmail_core::{Address, Delivery, Destination, Job, Outcome, Report};

use crate::{User, UserDirectory};

pub use agent::{LocalAgent, Parcel, ParcelContent, Rehearsal};
pub use content::FileContent;
pub use durable_name::sync_name;
pub use lookup::INSTRUCTIONS_OCTETS_MAX;
pub use mbox_lock::{DOT_LOCK_AGE_MAX, try_lock_mbox};
pub use plan::{Plan, Step};
pub use program::Programs;
pub use strictness::Strictness;

/// Delivers to the users of a [`UserDirectory`], as their instruction files say.
///
/// | recipient | outcome |
/// |---|---|
/// | of a user | what the user's instructions say, or the default delivery: `did 1+0+0` |
/// | unknown, or an extension without instructions | failed: `Sorry, no mailbox here by that name. (#5.1.1)` |
/// | without `@` | failed: `Sorry, address must include host name. (#5.1.3)` |
/// | with an empty local part | delivered to nowhere, as qmail-lspawn(8) does |
/// | already in a `Delivered-To` field of the message | failed: `This message is looping: ... (#5.4.6)` |
///
/// Everything else that goes wrong is a deferral, among it a home directory that is missing, that others may write to, or
/// that has its sticky bit set because its owner is at work.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::SystemTime};
/// use qmail_core::{Address, Delivery, Job, MemoryContent, Outcome, ReversePath};
/// use qmail_deliver::{FixedUsers, LocalAgent, LocalDelivery, Maildirs, User};
///
/// # let scratch = tempfile::tempdir()?;
/// # let home = scratch.path();
/// Maildirs::create(&home.join("Maildir"))?;
/// let users = FixedUsers::new().with("joe", User::new("joe", home));
/// let maildirs = Maildirs::new("mx.example.org", std::process::id(), SystemTime::now);
/// let agent = LocalAgent::new(maildirs, SystemTime::now);
/// let local = LocalDelivery::new(Arc::new(users), agent);
/// let outcomes = local.deliver(Job {
///     message: 0,
///     content: Arc::new(MemoryContent("Subject: hello\n\nhello\n".into())),
///     sender: ReversePath::new("ann@example.net")?,
///     recipients: vec![Address::new("joe@example.org")?, Address::new("who@example.org")?],
/// }).await;
/// assert!(matches!(outcomes[..], [Outcome::Delivered(_), Outcome::Failed(_)]));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LocalDelivery {
    users: Arc<dyn UserDirectory>,
    agent: LocalAgent,
    default_delivery: Bytes,
}

impl LocalDelivery {
    /// Mail goes to `./Maildir/` in the home directory of its user, if the user does not say otherwise.
    pub fn new(users: Arc<dyn UserDirectory>, agent: LocalAgent) -> Self {
        Self {
            users,
            agent,
            default_delivery: Bytes::from_static(b"./Maildir/"),
        }
    }

    /// These are the instructions of users who have none, instead.
    #[must_use]
    pub fn with_default_delivery(mut self, instructions: impl Into<Bytes>) -> Self {
        self.default_delivery = instructions.into();
        self
    }

    async fn deliver_one(&self, job: &Job, recipient: &Address) -> Outcome {
        match recipient.split() {
            (_, None) => return failed("Sorry, address must include host name. (#5.1.3)\n"),
            (b"", Some(_)) => return Outcome::Delivered(Report::default()),
            _ => {}
        }
        let user = match self.users.find(recipient).await {
            Ok(Some(user)) => user,
            Ok(None) => return no_mailbox(),
            Err(error) => return error.outcome(),
        };
        let (local, host) = recipient.split();
        let mailbox = mailbox(&user, local, host.unwrap_or_default());
        let parcel = Parcel {
            sender: &job.sender,
            content: ParcelContent::Any(&*job.content),
        };
        match &user.maildir {
            Some(maildir) => {
                let maildir = user.home.join(maildir);
                self.agent.deliver_into(&maildir, &mailbox, parcel).await
            }
            None => {
                let delivered = self.agent.deliver(&mailbox, &self.default_delivery, parcel);
                delivered.await
            }
        }
    }
}

/// Whether mail for this address would be delivered, as far as can be told without a message: not if it is nobody's, nor if
/// it is an extension address without instructions. In doubt, also while a directory or a home cannot be read, it is yes.
///
/// For servers that would rather refuse than bounce. Reads files of the user, on a thread of the runtime's own.
pub async fn has_mailbox(users: &dyn UserDirectory, recipient: &Address) -> bool {
    let (local, host) = recipient.split();
    if local.is_empty() || host.is_none() {
        return true;
    }
    let user = match users.find(recipient).await {
        Ok(Some(user)) => user,
        Ok(None) => return false,
        Err(_) => return true,
    };
    if user.maildir.is_some() {
        return true;
    }
    let mailbox = mailbox(&user, local, host.unwrap_or_default());
    let looked = tokio::task::spawn_blocking(move || {
        lookup::find(Strictness::default(), &mailbox, &Bytes::new())
    });
    !matches!(looked.await, Ok(Err(Outcome::Failed(_))))
}

fn mailbox(user: &User, local: &[u8], host: &[u8]) -> Mailbox {
    Mailbox {
        user: user.name.clone(),
        home: Bytes::copy_from_slice(user.home.as_os_str().as_bytes()),
        local: Bytes::copy_from_slice(local),
        dash: user.dash.clone(),
        extension: user.extension.clone(),
        host: Bytes::copy_from_slice(host),
    }
}

#[async_trait]
impl Delivery for LocalDelivery {
    /// Each recipient is a destination of its own: one slow mailbox holds up no other.
    fn destination(&self, recipient: &Address) -> Destination {
        Destination {
            key: Bytes::from(recipient.as_bytes().to_ascii_lowercase()),
            recipients_max: 1,
        }
    }

    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(job.recipients.len());
        for recipient in &job.recipients {
            outcomes.push(self.deliver_one(&job, recipient).await);
        }
        outcomes
    }
}

impl std::fmt::Debug for LocalDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalDelivery")
            .field("agent", &self.agent)
            .field("default_delivery", &self.default_delivery)
            .finish_non_exhaustive()
    }
}

fn no_mailbox() -> Outcome {
    failed("Sorry, no mailbox here by that name. (#5.1.1)\n")
}

fn failed(text: &'static str) -> Outcome {
    Outcome::Failed(Report::from(text))
}

fn deferred(text: &'static str) -> Outcome {
    Outcome::Deferred(Report::from(text))
}
