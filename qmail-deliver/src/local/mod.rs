//! Delivery to users of this host, as qmail-lspawn(8) and qmail-local(8) do it.
//!
//! A recipient is looked up in a [`UserDirectory`]; from the user a plan is made, purely; then the plan is carried out. So far
//! a plan is one Maildir: that of the user, or the default in the user's home. Instruction files are not read.

mod execute;
mod plan;
#[cfg(test)]
mod tests;
mod trace;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Address, Delivery, Destination, Job, Outcome, Report, ReversePath};

use crate::{Maildirs, UserDirectory};
use plan::Plan;

/// Delivers to the users of a [`UserDirectory`], into Maildirs.
///
/// | recipient | outcome |
/// |---|---|
/// | of a user | into the user's Maildir, with `Return-Path` and `Delivered-To` in front: `did 1+0+0` |
/// | unknown, or an extension nobody wants | failed: `Sorry, no mailbox here by that name. (#5.1.1)` |
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
/// use qmail_deliver::{FixedUsers, LocalDelivery, Maildirs, User};
///
/// # let scratch = tempfile::tempdir()?;
/// # let home = scratch.path();
/// Maildirs::create(&home.join("Maildir"))?;
/// let users = FixedUsers::new().with("joe", User::new("joe", home));
/// let maildirs = Maildirs::new("mx.example.org", std::process::id(), SystemTime::now);
/// let local = LocalDelivery::new(Arc::new(users), maildirs);
/// let outcomes = local.deliver(Job {
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
    maildirs: Maildirs,
    default_maildir: PathBuf,
}

impl LocalDelivery {
    /// Mail goes to `Maildir` in the home directory of its user, if the user does not say otherwise.
    pub fn new(users: Arc<dyn UserDirectory>, maildirs: Maildirs) -> Self {
        Self {
            users,
            maildirs,
            default_maildir: PathBuf::from("Maildir"),
        }
    }

    /// Mail goes to this place instead, relative to the home directory.
    #[must_use]
    pub fn with_default_maildir(mut self, maildir: impl Into<PathBuf>) -> Self {
        self.default_maildir = maildir.into();
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
        match plan::plan(&user, &self.default_maildir) {
            Plan::NoMailbox => no_mailbox(),
            Plan::Carry(instructions) => {
                let parcel = execute::Parcel {
                    content: &*job.content,
                    sender: &job.sender,
                    recipient,
                    user: &user,
                };
                execute::execute(&self.maildirs, parcel, &instructions).await
            }
        }
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
            .field("default_maildir", &self.default_maildir)
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

/// The fields that are put in front of a message: where bounces go, and whom it was delivered to.
fn head(sender: &ReversePath, recipient: &Address) -> Bytes {
    let mut head = b"Return-Path: <".to_vec();
    head.extend(sender.quoted().into_iter().map(in_one_line));
    head.extend_from_slice(b">\n");
    head.extend(delivered_to(recipient));
    Bytes::from(head)
}

/// The line that tells a loop.
fn delivered_to(recipient: &Address) -> Vec<u8> {
    let mut line = b"Delivered-To: ".to_vec();
    line.extend(recipient.as_bytes().iter().copied().map(in_one_line));
    line.push(b'\n');
    line
}

fn in_one_line(octet: u8) -> u8 {
    if octet == b'\n' { b'_' } else { octet }
}
