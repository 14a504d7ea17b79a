//! What the engine costs a message: a spool in memory, deliveries that do nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use futures::future::join;
use qmail_core::route::Tables;
use qmail_core::{
    Address, Delivery, Destination, Envelope, Job, Origin, Outcome, ReversePath, Submit,
};
use qmail_queue::{Config, Engine, MemorySpool, Parts, Queue, SystemClock};

const MESSAGES: usize = 1_000;

/// Accepts everything, and stops the queue after so many recipients.
struct NoOp {
    left: AtomicUsize,
    queue: std::sync::OnceLock<Queue>,
}

#[async_trait]
impl Delivery for NoOp {
    fn destination(&self, recipient: &Address) -> Destination {
        Destination {
            key: recipient.domain().unwrap_or_default().to_vec().into(),
            recipients_max: 100,
        }
    }

    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        let count = job.recipients.len();
        if self.left.fetch_sub(count, Ordering::Relaxed) == count {
            self.queue.get().expect("set before the run").stop();
        }
        vec![Outcome::Delivered("done\n".into()); count]
    }
}

/// One queue's life: `messages` to `recipients` each.
fn run(messages: usize, recipients: usize) {
    let delivery = Arc::new(NoOp {
        left: AtomicUsize::new(messages * recipients),
        queue: std::sync::OnceLock::new(),
    });
    let parts = Parts::new(
        Arc::new(MemorySpool::new()),
        Arc::new(SystemClock::new().expect("a thread")),
        Tables::new("here"),
        Arc::clone(&delivery) as Arc<dyn Delivery>,
        Arc::clone(&delivery) as Arc<dyn Delivery>,
    );
    let (engine, queue) = Engine::new(parts, Config::new("here").expect("a short name"));
    assert!(delivery.queue.set(queue.clone()).is_ok());
    let to: Vec<Address> = (0..recipients)
        .map(|number| Address::new(format!("r{number}@far")).expect("short"))
        .collect();
    let envelope = Envelope::new(ReversePath::new("s@far").expect("short"), to);
    let feed = async {
        for _ in 0..messages {
            let mut draft = Submit::begin(&queue, Origin::Network).await.expect("room");
            draft.write("text\n".into()).await.expect("room");
            draft.commit(envelope.clone()).await.expect("room");
        }
    };
    block_on(join(feed, engine.run()));
}

fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("messages to one recipient", |bencher| {
        bencher.iter(|| run(MESSAGES, 1));
    });
    group.bench_function("one message to a thousand recipients", |bencher| {
        bencher.iter(|| run(1, MESSAGES));
    });
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
