//! A mail queue inside a program, with deliveries of its own: recipients here get a line on standard output, everybody else
//! is busy the first time.
//!
//! ```text
//! cargo run -p qmail-queue --example custom_delivery
//! ```
//!
//! It needs no runtime, no files and no network, and ends by itself. A queue that is to survive the program has a spool on disk in
//! the place of [`MemorySpool`], and a [`SystemClock`](qmail_queue::SystemClock) in the place of [`ManualClock`].

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::executor::block_on;
use futures::future::join;
use qmail_core::control::Set;
use qmail_core::route::Tables;
use qmail_core::{Address, Delivery, Envelope, Job, Origin, Outcome, ReversePath, Submit};
use qmail_queue::{Config, Engine, LogEvent, ManualClock, MemorySpool, Parts, Queue};

/// Delivers to this program: here that means to show who got how much.
struct Show;

#[async_trait]
impl Delivery for Show {
    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        let octets = job.content.octets();
        let show = |recipient| {
            println!("  * {octets} octets for {recipient}");
            Outcome::Delivered("shown\n".into())
        };
        job.recipients.iter().map(show).collect()
    }
}

/// Plays a far host that takes mail at the second attempt.
struct Busy {
    attempts: AtomicUsize,
    clock: ManualClock,
}

#[async_trait]
impl Delivery for Busy {
    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        let outcome = match self.attempts.fetch_add(1, Ordering::Relaxed) {
            0 => {
                // The schedule says: again in 400 seconds. On this clock they pass at once.
                self.clock.advance(Duration::from_secs(400));
                Outcome::Deferred("busy, come back later (#4.3.2)\n".into())
            }
            _ => Outcome::Delivered("taken\n".into()),
        };
        vec![outcome; job.recipients.len()]
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut routes = Tables::new("mail.example.org");
    routes.locals = Set::parse(b"mail.example.org\nexample.org\n");
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let busy = Busy {
        attempts: AtomicUsize::new(0),
        clock: clock.clone(),
    };
    let mut parts = Parts::new(
        Arc::new(MemorySpool::new()),
        Arc::new(clock),
        routes,
        Arc::new(Show),
        Arc::new(busy),
    );
    // The log shows what happens, and here it also says when that is enough.
    let running: Arc<OnceLock<Queue>> = Arc::default();
    let logged = Arc::clone(&running);
    parts.log = Arc::new(move |event: &LogEvent<'_>| {
        println!("{event}");
        if let (LogEvent::MessageEnded { .. }, Some(queue)) = (event, logged.get()) {
            queue.stop();
        }
    });
    let (engine, queue) = Engine::new(parts, Config::new("mail.example.org")?);
    running.get_or_init(|| queue.clone());

    let send = async {
        let mut draft = Submit::begin(&queue, Origin::Network).await?;
        draft
            .write("Subject: hello\n\nMail without a mail server.\n".into())
            .await?;
        let envelope = Envelope::new(
            ReversePath::new("me@example.org")?,
            vec![
                Address::new("you@example.org")?,
                Address::new("friend@far.example")?,
            ],
        );
        // When this returns, the message is the queue's.
        draft.commit(envelope).await?;
        Ok::<(), Box<dyn Error>>(())
    };
    let (sent, ()) = block_on(join(send, engine.run()));
    sent
}
