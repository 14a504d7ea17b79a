//! The queue of the running system, with its deliveries.

use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use qmail_core::{Address, Draft, Escaped, Origin, Submit, SubmitError};
use qmail_deliver::{
    HickoryResolver, LocalAgent, LocalDelivery, Maildirs, Programs, RemoteConfig, RemoteDelivery,
    TcpConnect, UserDirectory,
};
use qmail_queue::split::Trigger;
use qmail_queue::{
    Engine, Intake, MemorySpool, Parts, Queue, SplitSpool, Spool, SystemClock, Workers,
};
use qmail_smtp::client::Timeouts;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::report::Reporter;
use super::settings::limits;
use super::{Options, SpoolKind, StartError};
use crate::home::{Controls, Home};
use crate::policy::own_addresses;

/// Threads that work on the queue's files: they wait for the disk more than they compute.
const DISK_THREADS: usize = 16;

/// How often the queue is looked through for messages whose bringer could not pull the trigger (qmail-send's 1500 seconds).
const LOOK_EVERY: Duration = Duration::from_secs(1500);

/// What is kept of the output of a program that mail is delivered to, as qmail-lspawn keeps it.
const REPORT_OCTETS_MAX: usize = 3000;

/// How long such a program may run.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(3600);

/// The queue, from the program's side.
pub(super) struct Mailer {
    submit: Arc<dyn Submit>,
    running: Option<Running>,
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
        let (spool, trigger): (Arc<dyn Spool>, _) = match options.spool {
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
        let (pid, uid) = (std::process::id(), rustix::process::getuid().as_raw());
        if !options.deliver {
            let intake = Intake::new(spool, clock, pid, uid)
                .with_extra_recipients(controls.queue.extra_recipients.as_slice());
            return Ok(Self {
                submit: Arc::new(intake),
                running: None,
            });
        }
        let maildirs = Maildirs::new(&controls.pop3.hostname, pid, SystemTime::now);
        let forwards = Arc::new(LateSubmit::default());
        let programs = Programs::captured(REPORT_OCTETS_MAX)
            .with_time_max(PROGRAM_TIME_MAX)
            .with_bare_environment()
            .with_variable("PATH", search_path(&options.home))
            .with_variable("QMAIL_HOME", options.home.path());
        let agent = LocalAgent::new(maildirs, SystemTime::now)
            .with_programs(programs)
            .with_submit(forwards.clone());
        let local = Arc::new(LocalDelivery::new(users, agent));
        let remote = remote_delivery(controls)?;
        let mut parts = Parts::new(
            spool,
            clock,
            controls.queue.tables.as_ref().clone(),
            local,
            Arc::new(remote.clone()),
        );
        parts.log = Arc::new(reporter.clone());
        let (engine, queue) = Engine::new(parts, engine_config(controls, pid, uid)?);
        forwards.0.get_or_init(|| queue.clone());
        Ok(Self {
            submit: Arc::new(queue.clone()),
            running: Some(Running {
                watcher: trigger.map(|trigger| tokio::spawn(watch(trigger, queue.clone()))),
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
            running.queue.set_limits(limits(&controls.queue));
        }
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
    }
}

/// Where programs are looked for: in the home first, as qmail's start scripts have it.
fn search_path(home: &Home) -> OsString {
    let mut path = home.path().join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()));
    path
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

/// Has the queue look for messages that other programs have put into it.
async fn watch(trigger: Trigger, queue: Queue) {
    loop {
        let _ = timeout(LOOK_EVERY, trigger.pulled()).await;
        queue.look();
    }
}

fn engine_config(
    controls: &Controls,
    pid: u32,
    uid: u32,
) -> Result<qmail_queue::Config, StartError> {
    let queue = &controls.queue;
    let host = |value: &[u8]| {
        let value = String::from_utf8_lossy(value).into_owned();
        move |source| StartError::Host { value, source }
    };
    let mut config = qmail_queue::Config::new(controls.pop3.hostname.clone())
        .map_err(host(&controls.pop3.hostname))?;
    config.limits = limits(queue);
    config.bounce_from = queue.bounce_from.clone();
    config.bounce_host = queue.bounce_host.clone();
    config.double_bounce_to = if queue.double_bounce_to.is_empty() {
        None
    } else {
        let address = [&queue.double_bounce_to[..], b"@", &queue.double_bounce_host].concat();
        Some(Address::new(address).map_err(host(&queue.double_bounce_host))?)
    };
    config.pid = pid;
    config.uid = uid;
    config.log_hashes = queue.log_hashes;
    config.extra_recipients = queue.extra_recipients.clone();
    Ok(config)
}

/// Sending by SMTP, as the control files say.
fn remote_delivery(controls: &Controls) -> Result<RemoteDelivery, StartError> {
    let remote = &controls.remote;
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
    let resolver = HickoryResolver::system().map_err(StartError::Resolver)?;
    Ok(RemoteDelivery::new(
        config,
        Arc::new(resolver),
        Arc::new(TcpConnect),
        Instant::now,
        SysRng.try_next_u64().map_err(io::Error::other)?,
    ))
}
