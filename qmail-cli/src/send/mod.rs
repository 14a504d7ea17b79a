//! `qmail-send`: the queue manager of a partitioned system, between the queue and the programs that deliver (qmail-send(8)).
//!
//! | descriptor | what |
//! |---|---|
//! | 0 | the log |
//! | 1, 2 | requests to qmail-lspawn, and its reports |
//! | 3, 4 | the same of qmail-rspawn |
//! | 5, 6 | requests to qmail-clean, and its answers |
//!
//! It is the same engine as that of `qmail serve`: here deliveries are made by the spawners, bounces go in by the queue program,
//! and files of the queue writer are removed by qmail-clean.

mod clean;
mod loss;
mod spawn;

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use qmail_core::{Delivery, Submit};
use qmail_queue::split::{Keeper, SendMutex, Trigger};
use qmail_queue::{
    Config, Engine, Parts, Queue, RealDisk, SplitSpool, Spool, SpoolError, SystemClock, Workers,
};
use rand::TryRng as _;
use rand::rngs::SysRng;
use rustix::fs::Mode;
use tokio::signal::unix::{SignalKind, signal};

use self::clean::{CleanedDisk, Cleaner};
pub(crate) use self::loss::Loss;
pub(crate) use self::spawn::Spawners;
use crate::home::{Home, SendControls};
use crate::queue_desk::{Desk, Running};
use crate::report::{LogFormat, Reporter};
use crate::{inherited, log, queue_config};

/// Threads that work on the queue's files: they wait for the disk more than they compute.
const DISK_THREADS: usize = 8;

/// Why qmail-send does not start. `Display` is the words of the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotStart {
    #[error("unable to switch to home directory")]
    Home,
    #[error("unable to read controls")]
    Controls,
    #[error("unable to switch to queue directory")]
    Queue,
    #[error("unable to open mutex")]
    Mutex,
    #[error("qmail-send is already running")]
    Running,
    #[error("hath the daemon spawn no fire?")]
    Spawn,
    #[error("{0}: {source}", source = cause(.0))]
    Layout(#[from] SpoolError),
    #[error("{0}")]
    System(#[from] io::Error),
}

/// What the words of an error leave out.
fn cause(error: &SpoolError) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(String::new, |source| source.to_string())
}

/// Those who deliver for the manager of a queue.
pub(crate) trait Deliverers {
    /// Most deliveries that they make at once: local, remote.
    fn limits(&self) -> [usize; 2];

    /// Local and remote deliveries by them; the loss of them is told. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// The system has no room for it.
    fn start(self, loss: &Arc<Loss>, reporter: &Reporter) -> io::Result<[Arc<dyn Delivery>; 2]>;
}

/// What the manager of a queue has to do with others.
pub(crate) struct Surroundings<D> {
    pub(crate) deliverers: D,
    pub(crate) removals: Removals,
    /// A listening socket for orders; without one it is made.
    pub(crate) desk: Option<OwnedFd>,
}

/// Who removes files of the queue that the manager may not.
pub(crate) enum Removals {
    /// qmail-clean: requests to it, and its answers.
    Clean(OwnedFd, OwnedFd),
    /// Whoever keeps texts and envelopes, which are not for the manager to read: who takes bounces quotes them. Started within the
    /// runtime; the loss of it is told.
    Keeper(Box<StartKeeper>),
}

type StartKeeper = dyn FnOnce(&Arc<Loss>) -> io::Result<Arc<dyn Keeper>>;

/// Runs the queue of a home until it is told to stop. Bounces are handed to `bounces`; `arrange` makes something of the descriptors
/// `numbers`. `lock_down` is called when these are there and before there is a thread.
///
/// # Errors
///
/// There is no log, or no lock; what else is wrong is in the log, and `false` is returned.
pub(crate) fn run<D: Deliverers>(
    home: &Home,
    bounces: Arc<dyn Submit>,
    numbers: RangeInclusive<RawFd>,
    arrange: impl FnOnce(Vec<OwnedFd>) -> Result<Surroundings<D>, CannotStart>,
    lock_down: impl FnOnce() -> io::Result<()>,
) -> io::Result<bool> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let descriptors = inherited::take(numbers);
    lock_down()?;
    let sink = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (log, writer) = log::start(sink)?;
    let reporter = Reporter::new(log, LogFormat::Classic);
    let arrange = || arrange(descriptors.map_err(|_| CannotStart::Spawn)?);
    let started = start(home, arrange, bounces, &reporter).and_then(|system| Ok(system.run()?));
    let result = started.map_err(|error| reporter.alert(&format_args!("cannot start: {error}")));
    writer.close();
    Ok(result.is_ok())
}

/// Everything that qmail-send holds, before it does anything.
struct System<'a, D> {
    home: &'a Home,
    controls: SendControls,
    config: Config,
    surroundings: Surroundings<D>,
    disk: RealDisk,
    bounces: Arc<dyn Submit>,
    reporter: &'a Reporter,
    _mutex: SendMutex,
}

/// Gets hold of everything, in the order in which it is told what is missing.
fn start<'a, D: Deliverers>(
    home: &'a Home,
    arrange: impl FnOnce() -> Result<Surroundings<D>, CannotStart>,
    bounces: Arc<dyn Submit>,
    reporter: &'a Reporter,
) -> Result<System<'a, D>, CannotStart> {
    if !may_enter(home.path()) {
        return Err(CannotStart::Home);
    }
    let controls = SendControls::read(home).map_err(|_| CannotStart::Controls)?;
    let seed = SysRng.try_next_u64().map_err(io::Error::other)?;
    let mut config =
        queue_config::config(&controls.queue, seed).map_err(|_| CannotStart::Controls)?;
    let queue = home.queue();
    std::env::set_current_dir(&queue).map_err(|_| CannotStart::Queue)?;
    let mutex = SendMutex::lock(&queue).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => CannotStart::Running,
        // It has words of its own: a conversion that was broken off could not be put in order.
        _ if error.get_ref().is_some() => error.into(),
        _ => CannotStart::Mutex,
    })?;
    let disk = RealDisk::open(&queue).map_err(|_| CannotStart::Queue)?;
    SplitSpool::check(&queue, &disk)?;
    let surroundings = arrange()?;
    let [local_max, remote_max] = surroundings.deliverers.limits();
    config.limits.local_max = config.limits.local_max.min(local_max);
    config.limits.remote_max = config.limits.remote_max.min(remote_max);
    let closed_texts = matches!(surroundings.removals, Removals::Keeper(_));
    if closed_texts && std::mem::take(&mut config.log_hashes) {
        reporter.warning(&"control/loghash: not logged, since this manager may not read messages");
    }
    Ok(System {
        home,
        controls,
        config,
        surroundings,
        disk,
        bounces,
        reporter,
        _mutex: mutex,
    })
}

fn may_enter(directory: &Path) -> bool {
    directory.join(".").metadata().is_ok()
}

impl<D: Deliverers> System<'_, D> {
    fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let result = runtime.block_on(self.serve());
        runtime.shutdown_background();
        result
    }

    async fn serve(self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut alarm = signal(SignalKind::alarm())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        for warning in &self.controls.warnings {
            self.reporter.warning(warning);
        }
        let path = self.home.queue();
        // Without it messages are found all the same, only later.
        let trigger = Trigger::open(&path)
            .inspect_err(|error| self.reporter.warning(&format_args!("no trigger: {error}")))
            .ok();
        let loss = Arc::new(Loss::new(self.reporter.clone()));
        let Surroundings {
            deliverers,
            removals,
            desk,
        } = self.surroundings;
        let workers = Workers::threads(DISK_THREADS)?;
        let spool: Arc<dyn Spool> = Arc::new(match removals {
            Removals::Clean(requests, answers) => {
                let cleaner = Cleaner::new(requests, answers, Arc::clone(&loss));
                let disk = CleanedDisk::new(self.disk, cleaner);
                SplitSpool::over(Arc::new(disk), workers)
            }
            Removals::Keeper(start) => {
                SplitSpool::managing(Arc::new(self.disk), workers, start(&loss)?)
            }
        });
        let [local, remote] = deliverers.start(&loss, self.reporter)?;
        let mut parts = Parts::new(
            Arc::clone(&spool),
            Arc::new(SystemClock::new()?),
            self.controls.queue.tables.as_ref().clone(),
            local,
            remote,
        );
        parts.log = Arc::new(self.reporter.clone());
        parts.bounces = Some(self.bounces);
        let (engine, queue) = Engine::new(parts, self.config);
        loss.watch(queue.clone());
        let source = Running {
            spool,
            queue: queue.clone(),
        };
        let _desk = match desk {
            Some(socket) => Some(Desk::inherited(socket.into(), Arc::new(source))?),
            // Where qmail-send may not make a socket, orders are not taken: it never took any.
            None => Desk::open(self.home, Arc::new(source)).ok(),
        };
        let mut watch = pin!(queue_config::watch(trigger, queue.clone()));
        let mut engine = pin!(engine.run());
        loop {
            tokio::select! {
                () = &mut engine => return Ok(()),
                () = &mut watch => {}
                _ = terminate.recv() => queue.stop(),
                _ = alarm.recv() => queue.retry_all(),
                _ = hang_up.recv() => reread(self.home, &self.controls, &queue, self.reporter),
            }
        }
    }
}

/// Messages that are routed from now on are routed by the new files; if one is no good, all stays as it was.
fn reread(home: &Home, controls: &SendControls, queue: &Queue, reporter: &Reporter) {
    if !may_enter(home.path()) {
        reporter.alert(&"unable to reread controls: unable to switch to home directory");
        return;
    }
    match controls.reread(home) {
        Ok(tables) => queue.set_routes(tables),
        Err(file) => reporter.alert(&format_args!("unable to reread control/{file}")),
    }
}
