//! The writer party: takes messages from the network daemons and from programs of the host, and writes them into the queue.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::bounce::Excerpt;
use qmail_core::{Draft, Envelope, Origin, Receipt, Submit, SubmitError};
use qmail_queue::split::Trigger;
use qmail_queue::{Intake, MessageId, SplitSpool, Spool, SystemClock, Workers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Party;
use super::party::lock_down;
use crate::exit;
use crate::home::{Home, extra_recipients};
use crate::privilege::Account;
use crate::serve::SubmissionSocket;

/// Threads that work on the queue's files.
const DISK_THREADS: usize = 8;

pub(super) fn run(home: &Home) -> ExitCode {
    match serve(home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("writer", &words, exit::TEMPORARY),
    }
}

fn serve(home: &Home) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let extra = extra_recipients(home).map_err(|error| words(&error))?;
    let callers = Callers::look_up(home)?;
    lock_down(Party::Writer, home).map_err(|error| words(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| words(&error))?;
    runtime.block_on(async {
        let queue = home.queue();
        let workers = Workers::threads(DISK_THREADS).map_err(|error| words(&error))?;
        let spool = SplitSpool::open(&queue, workers).map_err(|error| words(&error))?;
        let clock = SystemClock::new().map_err(|error| words(&error))?;
        let uid = rustix::process::getuid().as_raw();
        let spool: Arc<dyn Spool> = Arc::new(spool);
        let pid = std::process::id();
        let intake = Intake::new(Arc::clone(&spool), Arc::new(clock), pid, uid);
        let submit = Arc::new(Waking {
            intake: intake.with_extra_recipients(extra),
            spool,
            queue: home.queue(),
        });
        let socket = inherited_socket().map_err(|error| words(&error))?;
        let (_stop, stopped) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| words(&error))?;
        tokio::select! {
            () = socket.serve(submit, stopped, move |uid| callers.origin(uid)) => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}

/// The supervisor made the socket, and keeps it while this party is started again.
fn inherited_socket() -> io::Result<SubmissionSocket> {
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    Ok(SubmissionSocket::inherited(listener))
}

/// Who the accounts are that mail comes from in other ways than from a user.
#[derive(Clone, Copy)]
struct Callers {
    network: Option<u32>,
    manager: Option<u32>,
    alias: Option<u32>,
}

impl Callers {
    fn look_up(home: &Home) -> Result<Self, String> {
        let uid = |name| {
            Account::classic(home, name)
                .map(|account| account.map(|account| account.uid))
                .map_err(|error| error.to_string())
        };
        Ok(Self {
            network: uid("qmaild")?,
            manager: uid("qmails")?,
            alias: uid("alias")?,
        })
    }

    fn origin(self, uid: u32) -> Origin {
        match Some(uid) {
            uid if uid == self.network => Origin::Network,
            uid if uid == self.manager => Origin::Bounce,
            uid if uid == self.alias => Origin::Alias,
            _ => Origin::Uid(uid),
        }
    }
}

/// An intake that wakes the manager after each message.
struct Waking {
    intake: Intake,
    /// Where the messages are that a bounce quotes.
    spool: Arc<dyn Spool>,
    queue: PathBuf,
}

#[async_trait]
impl Submit for Waking {
    async fn begin(&self, origin: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        Ok(Box::new(WakingDraft {
            draft: Submit::begin(&self.intake, origin).await?,
            quoted: (origin == Origin::Bounce).then(|| Arc::clone(&self.spool)),
            queue: self.queue.clone(),
        }))
    }
}

struct WakingDraft {
    draft: Box<dyn Draft>,
    /// There for the manager, which quotes what it may not read.
    quoted: Option<Arc<dyn Spool>>,
    queue: PathBuf,
}

#[async_trait]
impl Draft for WakingDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError> {
        self.draft.write(chunk).await
    }

    async fn quote(&mut self, message: u64, octets_max: Option<u64>) -> Result<bool, SubmitError> {
        let Some(spool) = &self.quoted else {
            return Ok(false);
        };
        let text = spool.content(MessageId(message)).await;
        let text = text.map_err(|error| SubmitError::Write(io::Error::other(error)))?;
        let mut body = text.open().await.map_err(SubmitError::Write)?;
        let mut excerpt = octets_max.map(Excerpt::new);
        while let Some(chunk) = body.next().await.map_err(SubmitError::Write)? {
            let Some(excerpt) = &mut excerpt else {
                self.draft.write(chunk).await?;
                continue;
            };
            let mut text = Vec::new();
            let full = excerpt.push(&chunk, &mut text);
            self.draft.write(text.into()).await?;
            if full {
                break;
            }
        }
        let mut text = Vec::new();
        if let Some(excerpt) = excerpt {
            excerpt.end(&mut text);
        }
        self.draft.write(text.into()).await?;
        Ok(true)
    }

    async fn commit(self: Box<Self>, envelope: Envelope) -> Result<Receipt, SubmitError> {
        let receipt = self.draft.commit(envelope).await?;
        Trigger::pull(&self.queue);
        Ok(receipt)
    }
}
