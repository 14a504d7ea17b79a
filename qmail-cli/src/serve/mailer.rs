//! The queue of the running system, with its deliveries.

use std::future::pending;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use async_trait::async_trait;
use qmail_core::{Address, Delivery, Destination, Job, Outcome, Submit};
use qmail_deliver::{LocalDelivery, Maildirs, UserDirectory};
use qmail_queue::{Engine, Intake, MemorySpool, Parts, Queue, Spool, SystemClock};
use tokio::task::JoinHandle;

use super::report::Reporter;
use super::settings::limits;
use super::{Options, SpoolKind, StartError};
use crate::home::Controls;

/// The queue, from the program's side.
pub(super) struct Mailer {
    submit: Arc<dyn Submit>,
    running: Option<Running>,
}

/// What there is when mail is delivered, not only accepted.
struct Running {
    queue: Queue,
    engine: JoinHandle<()>,
    remote: Arc<Replaceable>,
}

impl Mailer {
    /// Opens the spool and starts the engine.
    pub(super) async fn start(
        options: &Options,
        controls: &Controls,
        users: Arc<dyn UserDirectory>,
        reporter: &Reporter,
    ) -> Result<Self, StartError> {
        let spool: Arc<dyn Spool> = match options.spool {
            SpoolKind::Split => Arc::new(MemorySpool::new()),
            SpoolKind::Memory => Arc::new(MemorySpool::new()),
        };
        let clock = Arc::new(SystemClock::new()?);
        let (pid, uid) = (std::process::id(), rustix::process::getuid().as_raw());
        if !options.deliver {
            return Ok(Self {
                submit: Arc::new(Intake::new(spool, clock, pid, uid)),
                running: None,
            });
        }
        let maildirs = Maildirs::new(&controls.pop3.hostname, pid, SystemTime::now);
        let local = Arc::new(LocalDelivery::new(users, maildirs));
        let remote = Arc::new(Replaceable::new(remote_delivery(controls)?));
        let mut parts = Parts::new(
            spool,
            clock,
            controls.queue.tables.as_ref().clone(),
            local,
            Arc::clone(&remote) as Arc<dyn Delivery>,
        );
        parts.log = Arc::new(reporter.clone());
        let (engine, queue) = Engine::new(parts, engine_config(controls, pid, uid)?);
        Ok(Self {
            submit: Arc::new(queue.clone()),
            running: Some(Running {
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
    ///
    /// # Errors
    ///
    /// As [`Mailer::start`]; then nothing has changed.
    pub(super) fn reconfigure(&self, controls: &Controls) -> Result<(), StartError> {
        if let Some(running) = &self.running {
            running.remote.replace(remote_delivery(controls)?);
            running
                .queue
                .set_routes(controls.queue.tables.as_ref().clone());
            running.queue.set_limits(limits(&controls.queue));
        }
        Ok(())
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
            running.queue.stop();
            let _ = running.engine.await;
        }
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
    Ok(config)
}

/// A delivery that can be exchanged while it is in use. Attempts that run keep what they began with.
struct Replaceable(RwLock<Arc<dyn Delivery>>);

impl Replaceable {
    fn new(delivery: Arc<dyn Delivery>) -> Self {
        Self(RwLock::new(delivery))
    }

    fn replace(&self, delivery: Arc<dyn Delivery>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = delivery;
    }

    fn current(&self) -> Arc<dyn Delivery> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Delivery for Replaceable {
    fn destination(&self, recipient: &Address) -> Destination {
        self.current().destination(recipient)
    }

    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        self.current().deliver(job).await
    }
}

fn remote_delivery(_controls: &Controls) -> Result<Arc<dyn Delivery>, StartError> {
    struct Later;
    #[async_trait]
    impl Delivery for Later {
        async fn deliver(&self, job: Job) -> Vec<Outcome> {
            vec![Outcome::Deferred("later\n".into()); job.recipients.len()]
        }
    }
    Ok(Arc::new(Later))
}
