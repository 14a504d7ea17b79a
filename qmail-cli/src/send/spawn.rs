//! A delivery that another program makes: qmail-lspawn or qmail-rspawn, by the spawn protocol (qmail-lspawn(8)).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use qmail_core::{Delivery, Job, Outcome};
use qmail_queue::helpers::spawn::{ReportReader, Reported, Request};
use qmail_queue::{Channel, MessageId};
use rustix::event::PollFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::{CannotStart, Deliverers, Loss, Removals, Surroundings};
use crate::descriptor::wait_until;
use crate::report::Reporter;

/// Octets of reports that are read at once.
const READ_OCTETS: usize = 4096;

/// How long a spawner may take to say how many deliveries it makes at once.
const SPAWNER_WAIT: Duration = Duration::from_secs(60);

/// Both spawners, and how many deliveries each makes at once.
pub(crate) struct Spawners([(u8, OwnedFd, OwnedFd); 2]);

impl Spawners {
    /// What the descriptors of qmail-send lead to, from 1 on.
    ///
    /// # Errors
    ///
    /// One is missing, or a spawner does not say anything.
    pub(crate) fn arrange(descriptors: Vec<OwnedFd>) -> Result<Surroundings<Self>, CannotStart> {
        let [
            to_local,
            from_local,
            to_remote,
            from_remote,
            to_clean,
            from_clean,
        ] = <[OwnedFd; 6]>::try_from(descriptors).map_err(|_| CannotStart::Spawn)?;
        let (local_limit, from_local) = limit(from_local)?;
        let (remote_limit, from_remote) = limit(from_remote)?;
        Ok(Surroundings {
            deliverers: Self([
                (local_limit, to_local, from_local),
                (remote_limit, to_remote, from_remote),
            ]),
            removals: Removals::Clean(to_clean, from_clean),
            desk: None,
        })
    }
}

impl Deliverers for Spawners {
    fn limits(&self) -> [usize; 2] {
        let [(local, ..), (remote, ..)] = self.0;
        [local.into(), remote.into()]
    }

    fn start(self, loss: &Arc<Loss>, reporter: &Reporter) -> io::Result<[Arc<dyn Delivery>; 2]> {
        let Self([local, remote]) = self;
        let start = |channel, (limit, requests, reports)| {
            let shared = Arc::new(Shared {
                channel,
                deliveries: Mutex::new(Deliveries::new(limit)),
                loss: Arc::clone(loss),
                reporter: reporter.clone(),
            });
            Spawner::start(shared, limit, requests, reports)
        };
        Ok([
            Arc::new(start(Channel::Local, local)?),
            Arc::new(start(Channel::Remote, remote)?),
        ])
    }
}

/// The first octet of a spawner: how many deliveries it makes at once.
fn limit(reports: OwnedFd) -> Result<(u8, OwnedFd), CannotStart> {
    let deadline = Instant::now() + SPAWNER_WAIT;
    let mut reports = File::from(reports);
    let mut limit = [0];
    let read = wait_until(&reports, PollFlags::IN, Some(deadline)).and_then(|ready| match ready {
        true => reports.read_exact(&mut limit),
        false => Err(io::ErrorKind::TimedOut.into()),
    });
    read.map_err(|_| CannotStart::Spawn)?;
    Ok((limit[0], reports.into()))
}

/// One spawner, from the side of the queue. A delivery whose spawner is gone has no outcome.
struct Spawner {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

struct Shared {
    channel: Channel,
    deliveries: Mutex<Deliveries>,
    loss: Arc<Loss>,
    reporter: Reporter,
}

/// Deliveries in progress by their number in the protocol, which is one octet.
struct Deliveries {
    waiting: Vec<Option<oneshot::Sender<Option<Outcome>>>>,
    lost: bool,
}

impl Deliveries {
    fn new(limit: u8) -> Self {
        Self {
            waiting: (0..limit).map(|_| None).collect(),
            lost: false,
        }
    }
}

impl Spawner {
    /// A spawner that makes up to `limit` deliveries at once. To be called within a runtime, whose tasks move the octets.
    fn start(
        shared: Arc<Shared>,
        limit: u8,
        requests: OwnedFd,
        reports: OwnedFd,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(usize::from(limit).max(1));
        let requests = pipe::Sender::from_owned_fd(requests)?;
        let reports = pipe::Receiver::from_owned_fd(reports)?;
        tokio::spawn(send_requests(Arc::clone(&shared), receiver, requests));
        tokio::spawn(receive_reports(Arc::clone(&shared), reports));
        Ok(Self {
            shared,
            requests: sender,
        })
    }
}

#[async_trait]
impl Delivery for Spawner {
    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(job.recipients.len());
        for recipient in &job.recipients {
            let Some((number, outcome)) = self.shared.begin() else {
                return outcomes;
            };
            let id = MessageId(job.message);
            let request = Request::new(number, id, job.sender.as_bytes(), recipient.as_bytes());
            if self.requests.send(request).await.is_err() {
                return outcomes;
            }
            match outcome.await {
                Ok(Some(outcome)) => outcomes.push(outcome),
                // Mangled, or the spawner is gone.
                Ok(None) | Err(_) => return outcomes,
            }
        }
        outcomes
    }
}

impl Shared {
    fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a delivery its number. `None` if there is nobody to make it: the scheduler starts no more than there are numbers.
    fn begin(&self) -> Option<(u8, oneshot::Receiver<Option<Outcome>>)> {
        let mut deliveries = self.deliveries();
        if deliveries.lost {
            return None;
        }
        let free = deliveries.waiting.iter().position(Option::is_none)?;
        let (sender, receiver) = oneshot::channel();
        deliveries.waiting[free] = Some(sender);
        Some((u8::try_from(free).ok()?, receiver))
    }

    fn end(&self, reported: Reported) {
        let mut deliveries = self.deliveries();
        let waiting = deliveries.waiting.get_mut(usize::from(reported.delivery));
        let Some(waiting) = waiting.and_then(Option::take) else {
            self.reporter
                .warning(&"internal error: delivery report out of range");
            return;
        };
        // Whoever waited may have gone with the engine.
        let _ = waiting.send(reported.outcome);
    }

    fn lose(&self) {
        let mut deliveries = self.deliveries();
        if std::mem::replace(&mut deliveries.lost, true) {
            return;
        }
        // First the queue stops, then it sees deliveries without an outcome.
        self.loss.tell("spawn", Some(self.channel));
        deliveries.waiting.clear();
    }
}

async fn send_requests(
    shared: Arc<Shared>,
    mut requests: mpsc::Receiver<Request>,
    mut pipe: pipe::Sender,
) {
    let mut octets = Vec::new();
    while let Some(request) = requests.recv().await {
        octets.clear();
        request.write(&mut octets);
        if pipe.write_all(&octets).await.is_err() {
            return shared.lose();
        }
    }
}

async fn receive_reports(shared: Arc<Shared>, mut pipe: pipe::Receiver) {
    let mut room = [0; READ_OCTETS];
    let mut reader = ReportReader::default();
    loop {
        match pipe.read(&mut room).await {
            Ok(0) | Err(_) => return shared.lose(),
            Ok(count) => {
                let mut octets = &room[..count];
                while let Some(reported) = reader.receive(&mut octets) {
                    shared.end(reported);
                }
            }
        }
    }
}
