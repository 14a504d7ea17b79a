//! Remote delivery over loopback TCP to our own server session, both in one process: what one message costs in all.
//!
//! `cargo bench -p qmail-benches --bench relay`
#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qmail_core::pump::Pump;
use qmail_core::route::SmtpRoutes;
use qmail_core::{Address, Delivery, Job, MemoryContent, Outcome, ReversePath};
use qmail_deliver::{FixedResolver, RemoteConfig, RemoteDelivery, TcpConnect};
use qmail_smtp::server::{Config, Event, Session, Verdict};
use tokio::net::{TcpListener, TcpStream};

const RUN: Duration = Duration::from_secs(2);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    println!("octets senders recipients  messages/s  connections");
    for (octets, senders, recipients) in [
        (2048, 1, 1),
        (2048, 20, 1),
        (2048, 50, 1),
        (2048, 1, 100),
        (1024 * 1024, 4, 1),
    ] {
        let (messages, connections) = runtime.block_on(run(octets, senders, recipients));
        let rate = messages as f64 / RUN.as_secs_f64();
        println!("{octets:7} {senders:7} {recipients:10} {rate:11.0}  {connections}");
    }
}

/// Messages accepted, and connections that served them.
async fn run(octets: usize, senders: usize, recipients: usize) -> (usize, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = format!(":127.0.0.1:{}\n", listener.local_addr().unwrap().port());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let accepting = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream));
        }
    });
    let mut config = RemoteConfig::new("bench.example").unwrap();
    config.routes = SmtpRoutes::parse(route.as_bytes(), &mut Vec::new());
    let resolver = Arc::new(FixedResolver::new());
    let delivery = RemoteDelivery::new(config, resolver, Arc::new(TcpConnect), Instant::now, 1);
    let text = ("x".repeat(63) + "\n").repeat(octets / 64);
    let job = Job {
        message: 0,
        content: Arc::new(MemoryContent(text.into())),
        sender: ReversePath::new("sender@example.org").unwrap(),
        recipients: (0..recipients)
            .map(|number| Address::new(format!("r{number}@example.net")).unwrap())
            .collect(),
    };
    let until = Instant::now() + RUN;
    let tasks: Vec<_> = (0..senders)
        .map(|_| {
            let (delivery, job) = (delivery.clone(), job.clone());
            tokio::spawn(async move {
                let mut count = 0;
                while Instant::now() < until {
                    let outcomes = delivery.deliver(job.clone()).await;
                    assert!(matches!(outcomes[0], Outcome::Delivered(_)), "{outcomes:?}");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut messages = 0;
    for task in tasks {
        messages += task.await.unwrap();
    }
    delivery.close().await;
    accepting.abort();
    (messages, connections.load(Ordering::Relaxed))
}

async fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let config = Arc::new(Config::new("bench.example"));
    let mut pump = Pump::new(Session::new(config, Instant::now()), stream, Instant::now);
    while let Some(event) = pump.next_event().await? {
        let session = pump.machine();
        match event {
            Event::Mail { question, .. } => session.answer_mail(question, Verdict::Accept),
            Event::Rcpt { question, .. } => session.answer_rcpt(question, Verdict::Accept),
            Event::Data { question, .. } => session.answer_data(question, Verdict::Accept),
            Event::BodyEnd { question, .. } => session.answer_body_end(question, Verdict::Accept),
            _ => {}
        }
    }
    Ok(())
}
