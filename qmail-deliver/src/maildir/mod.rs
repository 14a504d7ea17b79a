//! Delivery into Maildirs: no locks, and nothing is seen before it is whole and durable.
//!
//! A message is written to `tmp/NAME`, synced, moved to `new/NAME`, and the directory `new/` is synced, in this order; only
//! then is it delivered. Whatever fails, what was written is removed again. A crash leaves at most a file in `tmp/`, which
//! readers remove when it is 36 hours old.
//!
//! Deliveries that move messages into one Maildir at the same time share the sync of its directory.

mod draft;
mod name;
mod syncs;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use qmail_core::{Body, Outcome, Report};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::errno::is_temporary;
use draft::Draft;
use name::Names;
use syncs::DirectorySyncs;

/// Writes messages into Maildirs of this host.
///
/// Make one for the whole process and share it: it is cheap to clone, and deliveries can share directory syncs only if they
/// know of each other. The blocking work is done on tokio's blocking threads: one task for a message of up to 256 KiB, one
/// for each 256 KiB of a longer one, so that no thread is held while text is awaited.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::SystemTime;
/// use qmail_core::{Content, MemoryContent};
/// use qmail_deliver::Maildirs;
///
/// # let scratch = tempfile::tempdir()?;
/// let maildir = scratch.path().join("Maildir");
/// qmail_deliver::Maildirs::create(&maildir)?;
/// let maildirs = Maildirs::new("mx.example.org", std::process::id(), SystemTime::now);
/// let message = MemoryContent("Subject: hello\n\nhello\n".into());
/// let mut body = message.open().await?;
/// let file = maildirs.deliver(&maildir, "Return-Path: <>\n".into(), body.as_mut()).await?;
/// assert_eq!(std::fs::read(file)?, b"Return-Path: <>\nSubject: hello\n\nhello\n");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Maildirs {
    names: Arc<Names>,
    syncs: Arc<DirectorySyncs>,
}

impl Maildirs {
    /// `host` and `pid` go into the names of files, which must be unique among all who deliver into one Maildir; `now` is
    /// the clock, as everywhere an argument: `SystemTime::now` in a program.
    pub fn new(host: impl AsRef<[u8]>, pid: u32, now: fn() -> SystemTime) -> Self {
        Self {
            names: Arc::new(Names::new(host.as_ref(), pid, now)),
            syncs: Arc::default(),
        }
    }

    /// Makes an empty Maildir, with mode 0700. What is already there stays; the directory that it is in must exist.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn create(maildir: &Path) -> io::Result<()> {
        draft::create_maildir(maildir)
    }

    /// Delivers `head` followed by all of `body`, unchanged. Returns the file in `new/`; the message survives a power cut.
    ///
    /// Reading the body may take 24 hours in all. If the returned future is dropped, the message may still be delivered.
    ///
    /// # Errors
    ///
    /// Nothing was delivered, and nothing is left in the Maildir.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn deliver(
        &self,
        maildir: &Path,
        head: Bytes,
        body: &mut dyn Body,
    ) -> Result<PathBuf, MaildirError> {
        let deadline = Instant::now() + DELIVERY_TIMEOUT;
        let mut draft = None;
        let mut batch = vec![head];
        loop {
            let read = timeout_at(deadline, gather(body, &mut batch));
            let last = read.await.map_err(|_| MaildirError::Timeout)??;
            let chunks = std::mem::take(&mut batch);
            let step = match draft.take() {
                Some(draft) => Step::Continue(draft),
                None => Step::Begin(maildir.to_owned(), self.names.clone()),
            };
            let syncs = last.then(|| self.syncs.clone());
            match spawn_blocking(move || step.run(&chunks, syncs.as_deref())).await {
                Ok(Ok(Stepped::Written(next))) => draft = Some(next),
                Ok(Ok(Stepped::Delivered(file))) => return Ok(file),
                Ok(Err(error)) => return Err(error),
                // The runtime is being shut down.
                Err(_) => return Err(MaildirError::Temporary(io::ErrorKind::Interrupted.into())),
            }
        }
    }
}

impl std::fmt::Debug for Maildirs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maildirs").finish_non_exhaustive()
    }
}

/// Why a message is not in a Maildir. All of them are deferrals: a Maildir can be put right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaildirError {
    /// The Maildir is not there, or is no directory, or may not be entered.
    #[error("unable to enter maildir")]
    Chdir(#[source] io::Error),
    /// Reading the text took more than 24 hours.
    #[error("reading the message took too long")]
    Timeout,
    /// The text cannot be read.
    #[error("unable to read message")]
    Read(#[source] io::Error),
    /// Anything else: the disk is full, `tmp/` is missing, a sync failed.
    #[error("unable to write to maildir")]
    Temporary(#[source] io::Error),
}

impl MaildirError {
    /// What the recipient gets, in the words of qmail-local(8).
    pub fn outcome(&self) -> Outcome {
        Outcome::Deferred(Report::from(match self {
            Self::Chdir(error) if !is_temporary(error) => "Unable to chdir to maildir. (#4.2.1)\n",
            Self::Timeout => "Timeout on maildir delivery. (#4.3.0)\n",
            Self::Read(_) => "Unable to read message. (#4.3.0)\n",
            Self::Chdir(_) | Self::Temporary(_) => {
                "Temporary error on maildir delivery. (#4.3.0)\n"
            }
        }))
    }
}

/// One stretch of blocking work.
enum Step {
    Begin(PathBuf, Arc<Names>),
    Continue(Draft),
}

enum Stepped {
    Written(Draft),
    Delivered(PathBuf),
}

impl Step {
    /// Writes `chunks`; with `syncs`, which comes with the last of them, also delivers.
    fn run(
        self,
        chunks: &[Bytes],
        syncs: Option<&DirectorySyncs>,
    ) -> Result<Stepped, MaildirError> {
        let mut draft = match self {
            Self::Begin(maildir, names) => Draft::create(maildir, names)?,
            Self::Continue(draft) => draft,
        };
        draft.write(chunks).map_err(MaildirError::Temporary)?;
        match syncs {
            None => Ok(Stepped::Written(draft)),
            Some(syncs) => draft
                .commit(syncs)
                .map(Stepped::Delivered)
                .map_err(MaildirError::Temporary),
        }
    }
}

/// Reads until there is enough for one write; `true` if that was the end.
async fn gather(body: &mut dyn Body, batch: &mut Vec<Bytes>) -> Result<bool, MaildirError> {
    let mut octets = 0;
    while octets < BATCH_OCTETS {
        match body.next().await.map_err(MaildirError::Read)? {
            Some(chunk) => {
                octets += chunk.len();
                batch.push(chunk);
            }
            None => return Ok(true),
        }
    }
    Ok(false)
}

/// Octets written by one blocking task, give or take a chunk; so much of a message is in memory.
const BATCH_OCTETS: usize = 256 * 1024;

/// As long as qmail-local(8) gives a Maildir delivery.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
