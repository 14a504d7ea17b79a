//! The queue of the running system, with its deliveries.

use std::collections::HashSet;
use std::future::pending;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use qmail_core::{Draft, Escaped, Origin, Submit, SubmitError};
use qmail_deliver::{
    HickoryResolver, LocalAgent, LocalDelivery, Maildirs, Programs, RemoteConfig, RemoteDelivery,
    TcpConnect, UserDirectory,
};
use qmail_queue::split::Trigger;
use qmail_queue::{
    Engine, Intake, JournalSpool, MemorySpool, Parts, Queue, SplitSpool, Spool, SystemClock,
    Workers,
};
use qmail_smtp::client::Timeouts;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::task::JoinHandle;

use super::{Options, StartError};
use crate::home::{Controls, RemoteControls, SpoolKind};
use crate::policy::own_addresses;
use crate::queue_config::{self, watch};
use crate::queue_desk::{self, Desk, Resting, Source};
use crate::report::Reporter;
use crate::submission_client::SocketSubmit;

/// Threads that work on the queue's files: they wait for the disk more than they compute.
const DISK_THREADS: usize = 16;

/// What is kept of the output of a program that mail is delivered to, as qmail-lspawn keeps it.
const REPORT_OCTETS_MAX: usize = 3000;

/// The queue, from the program's side.
pub(super) struct Mailer {
    submit: Arc<dyn Submit>,
    /// Where the messages are, unless that is another process's.
    spool: Option<Arc<dyn Spool>>,
    running: Option<Running>,
    /// Answers `qmail queue`, if it could be opened.
    _desk: Option<Desk>,
}

/// Tells whether the engine is at work.
pub(super) struct Pulse(Option<Queue>);

impl Pulse {
    /// Returns when the engine has answered a question; at once where there is none.
    pub(super) async fn beat(&self) {
        if let Some(queue) = &self.0 {
            queue.due_times(HashSet::new()).await;
        }
    }
}

/// What there is when mail is delivered, not only accepted.
struct Running {
    queue: Queue,
    engine: JoinHandle<()>,
    remote: RemoteDelivery,
    watcher: Option<JoinHandle<()>>,
}

impl Mailer {
    /// Opens the spool and starts the engine.
    pub(super) async fn start(
        options: &Options,
        controls: &Controls,
        users: Arc<dyn UserDirectory>,
        reporter: &Reporter,
    ) -> Result<Self, StartError> {
        let queue = options.home.queue();
        if options.queue_elsewhere {
            let socket = options.home.submission_socket();
            return Ok(Self {
                submit: Arc::new(SocketSubmit {
                    socket,
                    quotes: false,
                }),
                spool: None,
                running: None,
                _desk: None,
            });
        }
        let (spool, trigger): (Arc<dyn Spool>, _) = match options.spool_kind()? {
            SpoolKind::Journal => {
                let workers = Workers::threads(DISK_THREADS)?;
                let journal = options.home.journal();
                (Arc::new(JournalSpool::open(journal, workers)?), None)
            }
            SpoolKind::Split => {
                let workers = Workers::threads(DISK_THREADS)?;
                (
                    Arc::new(SplitSpool::open(&queue, workers)?.keeping_spares()),
                    Some(Trigger::open(&queue)?),
                )
            }
            SpoolKind::Memory => (Arc::new(MemorySpool::new()), None),
        };
        let clock = Arc::new(SystemClock::new()?);
        let kept = Some(Arc::clone(&spool));
        let (pid, uid) = (std::process::id(), rustix::process::getuid().as_raw());
        if !options.deliver {
            let intake = Intake::new(Arc::clone(&spool), clock, pid, uid)
                .with_extra_recipients(controls.queue.extra_recipients.as_slice());
            let submit: Arc<dyn Submit> = Arc::new(intake);
            let source = Resting {
                spool,
                submit: Arc::clone(&submit),
                uid,
                tables: Arc::clone(&controls.queue.tables),
                _lock: None,
            };
            return Ok(Self {
                submit,
                spool: kept,
                running: None,
                _desk: open_desk(options, source, reporter),
            });
        }
        let maildirs = Maildirs::new(&controls.pop3.hostname, pid, SystemTime::now);
        let forwards = Arc::new(LateSubmit::default());
        let programs = Programs::captured(REPORT_OCTETS_MAX)
            .with_time_max(controls.program_time_max)
            .with_bare_environment()
            .with_variable("PATH", options.home.search_path())
            .with_variable("QMAIL_HOME", options.home.path());
        let agent = LocalAgent::new(maildirs, SystemTime::now)
            .with_strictness(controls.strictness)
            .with_programs(programs)
            .with_submit(forwards.clone());
        let local = Arc::new(LocalDelivery::new(users, agent));
        let remote = remote_delivery(&controls.remote, options.resolver()?)?;
        let mut parts = Parts::new(
            Arc::clone(&spool),
            clock,
            controls.queue.tables.as_ref().clone(),
            local,
            Arc::new(remote.clone()),
        );
        parts.log = Arc::new(reporter.clone());
        let config = queue_config::config(&controls.queue, random()?).map_err(|source| {
            let value = Escaped(&controls.queue.double_bounce_host).to_string();
            StartError::Host { value, source }
        })?;
        let (engine, queue) = Engine::new(parts, config);
        forwards.0.get_or_init(|| queue.clone());
        let source = queue_desk::Running {
            spool,
            queue: queue.clone(),
        };
        Ok(Self {
            _desk: open_desk(options, source, reporter),
            submit: Arc::new(queue.clone()),
            spool: kept,
            running: Some(Running {
                watcher: trigger.map(|trigger| tokio::spawn(watch(Some(trigger), queue.clone()))),
                queue,
                engine: tokio::spawn(engine.run()),
                remote,
            }),
        })
    }

    /// Where messages go.
    pub(super) fn submit(&self) -> Arc<dyn Submit> {
        Arc::clone(&self.submit)
    }

    /// Everything that waits for its time is tried now.
    pub(super) fn retry_all(&self) {
        if let Some(running) = &self.running {
            running.queue.retry_all();
        }
    }

    /// Goes by other control files from now on.
    pub(super) fn reconfigure(&self, controls: &Controls) {
        if let Some(running) = &self.running {
            running.remote.set_routes(controls.remote.routes.clone());
            running
                .queue
                .set_routes(controls.queue.tables.as_ref().clone());
            running
                .queue
                .set_limits(queue_config::limits(&controls.queue));
        }
    }

    /// What shows that the engine is at work.
    pub(super) fn pulse(&self) -> Pulse {
        let running = self.running.as_ref();
        Pulse(running.map(|running| running.queue.clone()))
    }

    /// Returns only if the engine ends without having been stopped: with the reason.
    pub(super) async fn died(&mut self) -> String {
        match &mut self.running {
            Some(running) => match (&mut running.engine).await {
                Ok(()) => "the engine ended".to_owned(),
                Err(error) => error.to_string(),
            },
            None => pending().await,
        }
    }

    /// Starts no new delivery, waits for the running ones, writes down when what is left is due.
    pub(super) async fn stop(self) {
        if let Some(running) = self.running {
            if let Some(watcher) = running.watcher {
                watcher.abort();
            }
            running.queue.stop();
            let _ = running.engine.await;
            running.remote.close().await;
        }
        if let Some(spool) = self.spool {
            // What it cannot write down the next start does without.
            let _ = spool.close().await;
        }
    }
}

/// Lets people ask the queue. Mail goes on without it.
fn open_desk(
    options: &Options,
    source: impl Source + 'static,
    reporter: &Reporter,
) -> Option<Desk> {
    match Desk::open(&options.home, Arc::new(source)) {
        Ok(desk) => Some(desk),
        Err(error) => {
            reporter.warning(&format_args!(
                "`qmail queue` will not reach this queue, no socket in {}: {error}",
                options.home.run().display()
            ));
            None
        }
    }
}

/// The queue as deliveries see it: they are made before it is, and it runs them.
#[derive(Default)]
struct LateSubmit(OnceLock<Queue>);

#[async_trait]
impl Submit for LateSubmit {
    async fn begin(&self, origin: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        match self.0.get() {
            Some(queue) => queue.begin(origin).await,
            None => Err(SubmitError::Unavailable),
        }
    }
}

/// Sending by SMTP, as the control files say.
pub(crate) fn remote_delivery(
    remote: &RemoteControls,
    resolver: HickoryResolver,
) -> Result<RemoteDelivery, StartError> {
    let mut config =
        RemoteConfig::new(remote.helo_host.clone()).map_err(|source| StartError::Hello {
            value: Escaped(&remote.helo_host).to_string(),
            source,
        })?;
    config.routes = remote.routes.clone();
    config.tls = remote.tls;
    config.own_addresses = own_addresses()?;
    config.connect_timeout = remote.connect_timeout;
    if let Some(timeout) = remote.timeout {
        config.session.timeouts = Timeouts::all(timeout);
    }
    Ok(RemoteDelivery::new(
        config,
        Arc::new(resolver),
        Arc::new(TcpConnect),
        Instant::now,
        random()?,
    ))
}

fn random() -> io::Result<u64> {
    SysRng.try_next_u64().map_err(io::Error::other)
}
