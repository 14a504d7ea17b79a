//! The writer party: takes messages from the network daemons and from programs of the host, and writes them into the queue.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::bounce::Excerpt;
use qmail_core::{Draft, Envelope, Origin, Receipt, Submit, SubmitError};
use qmail_queue::{Clock as _, Intake, MessageId, SplitSpool, Spool, SystemClock, Workers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Party;
use super::channel::Listener;
use super::keeper::Manager;
use super::party::lock_down;
use crate::home::{Home, extra_recipients};
use crate::privilege::Account;
use crate::serve::SubmissionSocket;
use crate::{exit, inherited};

/// Threads that work on the queue's files.
const DISK_THREADS: usize = 8;

/// The descriptor beside standard input, which takes messages: where the manager connects.
const MORE: [i32; 1] = [3];

/// How often files are looked for that writers before this one have left half-written.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

pub(super) fn run(home: &Home) -> ExitCode {
    match serve(home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("writer", &words, exit::TEMPORARY),
    }
}

fn serve(home: &Home) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let more = inherited::take_beyond_standard(&MORE).map_err(|error| words(&error))?;
    let extra = extra_recipients(home).map_err(|error| words(&error))?;
    let callers = Callers::look_up(home)?;
    lock_down(Party::Writer, home).map_err(|error| words(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| words(&error))?;
    runtime.block_on(async {
        let queue = home.queue();
        let workers = Workers::threads(DISK_THREADS).map_err(|error| words(&error))?;
        let mut keeper = SplitSpool::open(&queue, workers).map_err(|error| words(&error))?;
        if super::opener::COPIES {
            // Nobody has their files open any more.
            keeper = keeper.keeping_spares();
        }
        let clock = Arc::new(SystemClock::new().map_err(|error| words(&error))?);
        let uid = rustix::process::getuid().as_raw();
        let spool: Arc<dyn Spool> = Arc::new(keeper.clone());
        let pid = std::process::id();
        let intake = Intake::new(Arc::clone(&spool), clock.clone(), pid, uid);
        let manager = Arc::new(Manager::of(queue));
        let submit = Arc::new(Telling {
            intake: intake.with_extra_recipients(extra),
            spool,
            manager: Arc::clone(&manager),
        });
        let managers = more.into_iter().next().ok_or("a descriptor is missing")?;
        let managers = Listener::new(managers).map_err(|error| words(&error))?;
        let sweeping = async {
            loop {
                // Whatever cannot be removed now is looked at again.
                let _ = keeper.sweep_newborn(clock.now().wall).await;
                tokio::time::sleep(SWEEP_EVERY).await;
            }
        };
        let socket = inherited_socket().map_err(|error| words(&error))?;
        let (_stop, stopped) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| words(&error))?;
        tokio::select! {
            () = socket.serve(submit, stopped, move |uid| callers.origin(uid)) => {}
            () = manager.serve(managers, &keeper) => {}
            () = sweeping => {}
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

/// An intake that tells the manager of each message.
struct Telling {
    intake: Intake,
    /// Where the messages are that a bounce quotes.
    spool: Arc<dyn Spool>,
    manager: Arc<Manager>,
}

#[async_trait]
impl Submit for Telling {
    async fn begin(&self, origin: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        Ok(Box::new(TellingDraft {
            draft: Submit::begin(&self.intake, origin).await?,
            quoted: (origin == Origin::Bounce).then(|| Arc::clone(&self.spool)),
            manager: Arc::clone(&self.manager),
        }))
    }
}

struct TellingDraft {
    draft: Box<dyn Draft>,
    /// There for the manager, which quotes what it may not read.
    quoted: Option<Arc<dyn Spool>>,
    manager: Arc<Manager>,
}

#[async_trait]
impl Draft for TellingDraft {
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
        self.manager.tell(receipt.message);
        Ok(receipt)
    }
}
