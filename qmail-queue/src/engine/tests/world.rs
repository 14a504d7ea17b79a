//! A queue in which everything is played: time, spool, deliveries.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use qmail_core::control::{Map, Set};
use qmail_core::route::Tables;
use qmail_core::{
    Address, Content, Delivery, Destination, Envelope, Job, Origin, Outcome, Receipt, ReversePath,
    Submit, SubmitError,
};

use super::super::{Config, Engine, Parts, Queue};
use super::faults::FaultySpool;
use crate::{Clock, Spool};
use crate::{LogEvent, ManualClock, MemorySpool};

/// When tests begin, in seconds since 1970.
pub(super) const START: u64 = 1_000_000_000;

pub(super) fn address(text: &str) -> Address {
    Address::new(text.to_owned()).unwrap()
}

pub(super) fn tables() -> Tables {
    let mut tables = Tables::new("here");
    tables.locals = Set::parse(b"here\n");
    tables.virtual_domains = Map::parse(b"virtual:joe\n", &mut Vec::new());
    tables
}

/// Deliveries by script, one for both channels.
#[derive(Default)]
pub(super) struct Script {
    /// What each recipient answers, in order; then it accepts.
    pub(super) outcomes: Mutex<BTreeMap<String, VecDeque<Outcome>>>,
    /// What every recipient answers that has no outcome of its own.
    pub(super) otherwise: Mutex<Option<Outcome>>,
    pub(super) jobs: Mutex<Vec<Seen>>,
    /// Most recipients of one job; 0 counts as 1.
    pub(super) recipients_max: AtomicUsize,
    /// While shut, no delivery ends.
    pub(super) shut: AtomicBool,
    pub(super) running: AtomicUsize,
    pub(super) running_max: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

/// A job as a delivery saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: u64,
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    pub(super) text: String,
}

impl Script {
    pub(super) fn answer(&self, recipient: &str, outcomes: &[Outcome]) {
        self.outcomes
            .lock()
            .unwrap()
            .insert(recipient.to_owned(), outcomes.iter().cloned().collect());
    }

    pub(super) fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        for waker in self.waiting.lock().unwrap().drain(..) {
            waker.wake();
        }
    }

    /// How often each recipient was tried.
    pub(super) fn tried(&self) -> BTreeMap<String, usize> {
        let mut tried = BTreeMap::new();
        for job in &*self.jobs.lock().unwrap() {
            for recipient in &job.recipients {
                *tried.entry(recipient.clone()).or_default() += 1;
            }
        }
        tried
    }
}

pub(super) fn delivered() -> Outcome {
    Outcome::Delivered("accepted\n".into())
}

pub(super) fn deferred() -> Outcome {
    Outcome::Deferred("busy now\n".into())
}

pub(super) fn failed() -> Outcome {
    Outcome::Failed("no such user\n".into())
}

struct Scripted {
    script: Arc<Script>,
    clock: ManualClock,
}

#[async_trait]
impl Delivery for Scripted {
    fn destination(&self, recipient: &Address) -> Destination {
        Destination {
            key: Bytes::copy_from_slice(recipient.domain().unwrap_or_default()),
            recipients_max: self.script.recipients_max.load(Ordering::SeqCst).max(1),
        }
    }

    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        let script = &self.script;
        let running = script.running.fetch_add(1, Ordering::SeqCst) + 1;
        script.running_max.fetch_max(running, Ordering::SeqCst);
        let recipients: Vec<String> = job.recipients.iter().map(Address::to_string).collect();
        let text = read(&*job.content).await;
        script.jobs.lock().unwrap().push(Seen {
            at: self.clock.now().seconds(),
            sender: job.sender.to_string(),
            recipients: recipients.clone(),
            text,
        });
        poll_fn(|context| {
            if !script.shut.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            script.waiting.lock().unwrap().push(context.waker().clone());
            Poll::Pending
        })
        .await;
        script.running.fetch_sub(1, Ordering::SeqCst);
        let mut outcomes = script.outcomes.lock().unwrap();
        let otherwise = script.otherwise.lock().unwrap().clone();
        let next = |recipient| {
            let own = outcomes.get_mut(recipient).and_then(VecDeque::pop_front);
            own.or_else(|| otherwise.clone()).unwrap_or_else(delivered)
        };
        recipients.iter().map(next).collect()
    }
}

pub(super) async fn read(content: &dyn Content) -> String {
    let mut body = content.open().await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The whole of it.
pub(super) struct World {
    pub(super) clock: ManualClock,
    pub(super) spool: FaultySpool,
    pub(super) script: Arc<Script>,
    delivery: Arc<dyn Delivery>,
    /// Where bounces go, if not into the queue.
    bounces: Option<Arc<dyn Submit>>,
    pub(super) lines: Arc<Mutex<Vec<String>>>,
    pub(super) config: Config,
    pub(super) tables: Tables,
    pub(super) queue: Queue,
    run: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::make(change, None, None)
    }

    /// With a place of its own for bounces.
    pub(super) fn bouncing_to(bounces: Arc<dyn Submit>, change: impl FnOnce(&mut Config)) -> Self {
        Self::make(change, None, Some(bounces))
    }

    /// With a delivery instead of the script.
    pub(super) fn with_delivery(
        change: impl FnOnce(&mut Config),
        delivery: impl Delivery + 'static,
    ) -> Self {
        Self::make(change, Some(Arc::new(delivery)), None)
    }

    fn make(
        change: impl FnOnce(&mut Config),
        delivery: Option<Arc<dyn Delivery>>,
        bounces: Option<Arc<dyn Submit>>,
    ) -> Self {
        let mut config = Config::new("here").unwrap();
        config.pid = 99;
        config.uid = 7;
        config.limits.local_max = 1;
        config.limits.remote_max = 1;
        change(&mut config);
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(START));
        let spool = FaultySpool::new(Arc::new(MemorySpool::new()));
        let script = Arc::new(Script::default());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let delivery = delivery.unwrap_or_else(|| {
            Arc::new(Scripted {
                script: Arc::clone(&script),
                clock: clock.clone(),
            })
        });
        let (engine, queue) = engine(
            &clock,
            &spool,
            (&delivery, &bounces),
            &lines,
            &config,
            &tables(),
        );
        Self {
            clock,
            delivery,
            bounces,
            spool,
            script,
            lines,
            config,
            tables: tables(),
            queue,
            run: Some(Box::pin(engine.run())),
            woken: Arc::new(Woken(AtomicBool::new(true))),
        }
    }

    /// Messages in the spool.
    pub(super) fn count(&self) -> usize {
        let mut count = 0;
        let scan = self.spool.inner.scan(&mut |_| count += 1).now_or_never();
        scan.expect("nothing waits").expect("nothing fails");
        count
    }

    /// Polls until nothing moves any more.
    pub(super) fn settle(&mut self) {
        while self.step() {}
    }

    /// Polls once; `false` if nothing would come of another time.
    pub(super) fn step(&mut self) -> bool {
        let Some(run) = &mut self.run else {
            return false;
        };
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        if run
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            self.run = None;
        }
        self.woken.0.load(Ordering::SeqCst)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.run.is_none()
    }

    pub(super) fn advance(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.settle();
    }

    /// Lets time pass, alarm by alarm, until nobody waits for it or the queue is empty.
    pub(super) fn drain(&mut self) {
        self.settle();
        for _ in 0..1_000_000 {
            if self.count() == 0 {
                return;
            }
            let Some(next) = self.clock.next_alarm() else {
                return;
            };
            self.clock.advance(next - self.clock.now().monotonic);
            self.settle();
        }
        panic!("the queue does not drain");
    }

    /// The engine is gone as by a power cut, and another one starts on the same spool.
    pub(super) fn restart(&mut self) {
        self.run = None;
        self.script.running.store(0, Ordering::SeqCst);
        let (engine, queue) = engine(
            &self.clock,
            &self.spool,
            (&self.delivery, &self.bounces),
            &self.lines,
            &self.config,
            &self.tables,
        );
        self.queue = queue;
        self.run = Some(Box::pin(engine.run()));
        self.woken.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn submit(&mut self, sender: &str, recipients: &[&str]) -> Receipt {
        let recipients = recipients.iter().map(|text| address(text)).collect();
        let sender = ReversePath::new(sender.to_owned()).unwrap();
        self.submit_envelope(Envelope::new(sender, recipients))
    }

    pub(super) fn submit_envelope(&mut self, envelope: Envelope) -> Receipt {
        self.try_submit(envelope).unwrap()
    }

    pub(super) fn try_submit(&mut self, envelope: Envelope) -> Result<Receipt, SubmitError> {
        let queue = self.queue.clone();
        futures::executor::block_on(async move {
            let mut draft = Submit::begin(&queue, Origin::Network).await?;
            let text = Bytes::from_static(b"Subject: test\n\nbody\n");
            draft.write(text).await?;
            draft.commit(envelope).await
        })
    }

    /// The log so far, without status lines; it is empty afterwards.
    pub(super) fn log(&self) -> String {
        let mut lines = std::mem::take(&mut *self.lines.lock().unwrap());
        lines.retain(|line| !line.starts_with("status: local"));
        lines.join("\n")
    }
}

fn engine(
    clock: &ManualClock,
    spool: &FaultySpool,
    (delivery, bounces): (&Arc<dyn Delivery>, &Option<Arc<dyn Submit>>),
    lines: &Arc<Mutex<Vec<String>>>,
    config: &Config,
    tables: &Tables,
) -> (Engine, Queue) {
    let lines = Arc::clone(lines);
    let mut parts = Parts::new(
        Arc::new(spool.clone()) as Arc<dyn Spool>,
        Arc::new(clock.clone()),
        tables.clone(),
        Arc::clone(delivery),
        Arc::clone(delivery),
    );
    parts.bounces = bounces.clone();
    parts.log = Arc::new(move |event: &LogEvent<'_>| lines.lock().unwrap().push(event.to_string()));
    Engine::new(parts, config.clone())
}
