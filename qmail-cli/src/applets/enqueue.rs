//! `qmail-queue`: puts the message on descriptor 0 with the envelope on descriptor 1 into the queue.
//!
//! If a system runs in the home, that takes the message, by a socket. Otherwise this program writes into the queue itself.
//!
//! It takes all of both before it promises anything, and exits with 0 only when the message would survive a power cut. Any
//! other exit leaves nothing behind, except by a crash: what that leaves is swept up when it is old.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nix::sys::signal::{self as classic, SigSet};
use qmail_core::{Envelope, EnvelopeError, EnvelopeReader, Origin};
use qmail_queue::{
    Entry, JournalSpool, RealDisk, SplitSpool, Spool, SpoolDraft, SpoolError, Workers,
    split::Trigger,
};
use rustix::process::{Signal, geteuid, getuid};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::applet::{Applet, Call, Kind};
use crate::descriptor::is_closed;
use crate::home::{Home, SpoolKind, extra_recipients};
use crate::input::Input;
use crate::privilege::{Account, AccountError, is_setuid};
use crate::queue_program::FOR_BOUNCE;
use crate::submission_client::Submission;
use crate::{exit, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-queue"],
    kind: Kind::Classic,
    summary: "put a message into the queue: its text on descriptor 0, its envelope on 1",
    run,
};

/// A submission that takes longer is given up: what is older than 36 hours may be swept up under it.
const LIFE: Duration = Duration::from_secs(86_400);

/// Stack of the thread that does nothing but wait for a signal.
const WAITER_STACK_OCTETS: usize = 64 * 1024;

/// Octets read at a time.
const READ_OCTETS: usize = 64 * 1024;

/// The exit codes of qmail-queue(8) that no [`EnvelopeError`] has.
const NO_MEMORY: u8 = 51;
const TIMEOUT: u8 = 52;
const WRITE: u8 = 53;
const READ: u8 = 54;
const CONFIGURATION: u8 = 55;
const HOME: u8 = 61;
const QUEUE: u8 = 62;
const PID: u8 = 63;
const MESS: u8 = 64;
const INTD: u8 = 65;
const TODO: u8 = 66;
const BUG: u8 = 81;

fn run(call: &Call) -> ExitCode {
    if is_closed(io::stdin()) || is_closed(io::stdout()) {
        return ExitCode::from(READ);
    }
    let home = Home::choose(None, None);
    let origin = match origin(&home) {
        Ok(origin) => origin,
        Err(error) => return exit::fatal(call.name, &error, exit::TEMPORARY),
    };
    let result = stdio::run(async {
        let bug = bug_signals()?;
        let mut alarm = signals()?;
        Ok::<_, io::Error>(tokio::select! {
            biased;
            // Giving up drops the message, and that removes its files.
            Ok(()) = bug => Err(BUG),
            _ = alarm.recv() => Err(TIMEOUT),
            () = sleep(LIFE) => Err(TIMEOUT),
            result = take(&home, origin) => result,
        })
    });
    match result.and_then(|result| result) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(code)) => ExitCode::from(code),
        Err(_) => ExitCode::from(NO_MEMORY),
    }
}

/// Who calls, by the real user id. In a home of one's own all run as the same user, whether or not the machine has the classic ones:
/// there a bounce says itself that it is one.
fn origin(home: &Home) -> Result<Origin, AccountError> {
    let uid = getuid().as_raw();
    if home.is_own() && std::env::var_os(FOR_BOUNCE).is_some() {
        return Ok(Origin::Bounce);
    }
    let mut origin = Origin::Uid(uid);
    for (name, its_origin) in [
        ("qmails", Origin::Bounce),
        ("qmaild", Origin::Network),
        ("alias", Origin::Alias),
    ] {
        if Account::classic(home, name)?.is_some_and(|account| account.uid == uid) {
            origin = its_origin;
        }
    }
    Ok(origin)
}

/// Lets the signals pass that a caller's terminal or limits send, and gives the one that ends a submission.
fn signals() -> io::Result<unix::Signal> {
    for ignored in [
        Signal::PIPE,
        Signal::VTALARM,
        Signal::PROF,
        Signal::QUIT,
        Signal::INT,
        Signal::HUP,
        Signal::XCPU,
        Signal::XFSZ,
    ] {
        // A signal that has a handler does nothing else, even if nobody waits for it.
        let _ = signal(SignalKind::from_raw(ignored.as_raw()))?;
    }
    signal(SignalKind::alarm())
}

/// The signals by which the system tells of a bug. Sent by somebody else they end a submission in an orderly way; what is really a bug
/// kills this program all the same, since no mask is in the way of that.
///
/// They cannot all have handlers without unsafe code, so a thread waits for them. To be called before there is any other thread, which
/// would get them instead.
fn bug_signals() -> io::Result<oneshot::Receiver<()>> {
    let signals: SigSet = [
        classic::SIGILL,
        classic::SIGABRT,
        classic::SIGFPE,
        classic::SIGBUS,
        classic::SIGSEGV,
        classic::SIGSYS,
    ]
    .into_iter()
    .collect();
    signals.thread_block()?;
    let (told, seen) = oneshot::channel();
    let waiter = thread::Builder::new().stack_size(WAITER_STACK_OCTETS);
    waiter.spawn(move || {
        if signals.wait().is_ok() {
            // Who listened may have ended.
            let _ = told.send(());
        }
    })?;
    Ok(seen)
}

/// What root puts into somebody's queue is the queue's: another owner's message is not delivered, and its owner could not remove
/// it. The real user id stays, for the Received field.
fn become_owner(queue: &Path) -> io::Result<()> {
    if geteuid().is_root() {
        // Where messages are born; a journal has no such place.
        let born = std::fs::metadata(queue.join("pid"));
        let owner = born.or_else(|_| std::fs::metadata(queue))?.uid();
        nix::unistd::seteuid(owner.into())?;
    }
    Ok(())
}

/// The spool of a home whose system does not run, or runs beside us on qmail's own directories.
fn spool(home: &Home) -> Result<Box<dyn Spool>, u8> {
    let queue = home.queue();
    if SpoolKind::of(&queue) == Some(SpoolKind::Journal) {
        let journal = JournalSpool::open(home.journal(), Workers::inline());
        return Ok(Box::new(journal.map_err(|error| exit_code(&error))?));
    }
    let disk = RealDisk::open(&queue).map_err(|_| QUEUE)?;
    Ok(Box::new(SplitSpool::over(
        Arc::new(disk),
        Workers::inline(),
    )))
}

async fn take(home: &Home, origin: Origin) -> Result<(), u8> {
    std::env::set_current_dir(home.path()).map_err(|_| HOME)?;
    if let Some(running) = connect(home).await {
        return hand_over(running).await;
    }
    let extra = extra_recipients(home).map_err(|_| CONFIGURATION)?;
    let queue = home.queue();
    become_owner(&queue).map_err(|_| QUEUE)?;
    let spool = spool(home)?;
    let entry = Entry {
        origin,
        uid: getuid().as_raw(),
        pid: std::process::id(),
        now: SystemTime::now(),
    };
    let draft = spool.begin(entry).await;
    let mut draft = draft.map_err(|error| exit_code(&error))?;
    copy_message(&mut *draft).await?;
    let mut envelope = read_envelope().await?;
    envelope.recipients.splice(0..0, extra);
    let committed = draft.commit(&envelope).await;
    committed.map_err(|error| exit_code(&error))?;
    Trigger::pull(&queue);
    Ok(())
}

/// The running system of this home, if there is one that takes mail by its socket. A program with the rights to the queue needs none.
async fn connect(home: &Home) -> Option<Submission> {
    if is_setuid() {
        return None;
    }
    Submission::begin(&home.submission_socket()).await.ok()
}

/// Has the running system take message and envelope.
async fn hand_over(mut submission: Submission) -> Result<(), u8> {
    let mut message = input(io::stdin())?;
    while let Some(chunk) = read(&mut message).await? {
        submission.write(&chunk).await;
    }
    let envelope = read_envelope().await?;
    submission.finish(&envelope).await.map(drop)
}

async fn copy_message(draft: &mut dyn SpoolDraft) -> Result<(), u8> {
    let mut message = input(io::stdin())?;
    while let Some(chunk) = read(&mut message).await? {
        let written = draft.write(chunk).await;
        written.map_err(|error| exit_code(&error))?;
    }
    Ok(())
}

async fn read_envelope() -> Result<Envelope, u8> {
    // Descriptor 1 is read, not written.
    let mut envelope = input(io::stdout())?;
    let mut reader = EnvelopeReader::default();
    while let Some(chunk) = read(&mut envelope).await? {
        let received = reader.receive(&chunk).map_err(EnvelopeError::exit_code)?;
        if let Some(envelope) = received {
            return Ok(envelope);
        }
    }
    Err(EnvelopeError::Torn.exit_code())
}

/// Begins to read a descriptor.
fn input(descriptor: impl AsFd) -> Result<Input, u8> {
    Input::new(descriptor, READ_OCTETS).map_err(|_| NO_MEMORY)
}

/// Some octets of it; `None` at the end.
async fn read(input: &mut Input) -> Result<Option<Bytes>, u8> {
    let octets = input.next().await.map_err(|_| READ)?;
    Ok((!octets.is_empty()).then_some(octets))
}

/// What the spool's trouble is called.
fn exit_code(error: &SpoolError) -> u8 {
    match error {
        SpoolError::Create { path, .. } => match first_part(path) {
            "pid" => PID,
            "mess" => MESS,
            "intd" => INTD,
            "todo" => TODO,
            _ => QUEUE,
        },
        _ => WRITE,
    }
}

/// The directory of the queue that a path is in.
fn first_part(path: &Path) -> &str {
    match path.components().next() {
        Some(Component::Normal(part)) => part.to_str().unwrap_or_default(),
        _ => "",
    }
}
