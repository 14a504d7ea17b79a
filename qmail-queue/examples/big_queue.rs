//! What a queue with many waiting messages costs: its start, a new message meanwhile, memory.
//!
//! `cargo run --release -p qmail-queue --example big_queue -- [MESSAGES [DIRECTORY]]` makes a split-directory queue of so many
//! messages (1000 if not given) to hosts that are due tomorrow, in a fresh directory below DIRECTORY (that for temporary files if none
//! is named), starts an engine on it, and removes it again. A million messages take three million files and 8 GB.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement needs the real clock and disk"
)]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures::executor::block_on;
use qmail_core::control::Set;
use qmail_core::route::Tables;
use qmail_core::{Address, Delivery, Envelope, Job, Origin, Outcome, ReversePath, Submit};
use qmail_queue::split::layout::Directory;
use qmail_queue::{
    Channel, Config, Engine, MessageId, Parts, Queue, SplitSpool, SystemClock, Workers,
};

/// Numbers that no inode has.
const FIRST: u64 = 1 << 40;
const WORKERS: usize = 8;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let messages = match arguments.next() {
        None => Ok(1_000),
        Some(text) => text.to_str().unwrap_or_default().parse::<usize>(),
    };
    let Ok(messages) = messages else {
        eprintln!("usage: big_queue [MESSAGES [DIRECTORY]]");
        return ExitCode::from(100);
    };
    let directory = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let root = directory.join(format!("big_queue.{}", std::process::id()));
    let result = measure(&root, messages);
    let removed = std::fs::remove_dir_all(&root);
    match result.and(removed.map_err(Into::into)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("big_queue: {}: {error}", root.display());
            ExitCode::from(111)
        }
    }
}

fn measure(root: &Path, messages: usize) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    SplitSpool::create(root)?;
    fill(root, messages)?;
    println!("{messages} messages made in {:.1?}", begun.elapsed());

    let before = resident_octets()?;
    let begun = Instant::now();
    let (delivered, deliveries) = mpsc::channel();
    let queue = start(root, delivered)?;
    submit(&queue)?;
    deliveries.recv_timeout(Duration::from_secs(600))?;
    println!("a new message delivered after {:.1?}", begun.elapsed());
    let mut slowest = Duration::ZERO;
    while queue.counts().remote_waiting < messages {
        std::thread::sleep(Duration::from_millis(50));
        let sent = Instant::now();
        submit(&queue)?;
        deliveries.recv_timeout(Duration::from_secs(600))?;
        slowest = slowest.max(sent.elapsed());
    }
    println!(
        "all messages known after {:.1?}; the slowest new one meanwhile took {slowest:.1?}",
        begun.elapsed()
    );
    let grown = resident_octets()?.saturating_sub(before);
    println!("{} octets of memory for each", grown / messages.max(1));
    queue.stop();
    // The engine's end drops the other side.
    let _ = deliveries.recv_timeout(Duration::from_secs(60));
    Ok(())
}

/// An engine on its own thread.
fn start(root: &Path, delivered: mpsc::Sender<()>) -> Result<Queue, Box<dyn Error>> {
    let spool = SplitSpool::open(root, Workers::threads(WORKERS)?)?.keeping_spares();
    let mut tables = Tables::new("here.example");
    tables.locals = Set::parse(b"here.example\n");
    let delivery = Arc::new(Taking(delivered));
    let parts = Parts::new(
        Arc::new(spool),
        Arc::new(SystemClock::new()?),
        tables,
        delivery.clone(),
        delivery,
    );
    let (engine, queue) = Engine::new(parts, Config::new("here.example")?);
    std::thread::spawn(move || block_on(engine.run()));
    Ok(queue)
}

struct Taking(mpsc::Sender<()>);

#[async_trait]
impl Delivery for Taking {
    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        // Nobody listens at the end.
        let _ = self.0.send(());
        vec![Outcome::Delivered("taken\n".into()); job.recipients.len()]
    }
}

fn submit(queue: &Queue) -> Result<(), Box<dyn Error>> {
    block_on(async {
        let mut draft = Submit::begin(queue, Origin::Network).await?;
        draft.write("Subject: new\n\nnew\n".into()).await?;
        let to = Address::new("you@here.example")?;
        draft
            .commit(Envelope::new(ReversePath::Null, vec![to]))
            .await?;
        Ok(())
    })
}

/// Messages as an engine leaves them that could not deliver them.
fn fill(root: &Path, messages: usize) -> std::io::Result<()> {
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    for number in 0..messages as u64 {
        let id = MessageId(FIRST + number);
        let at = |directory: Directory| root.join(directory.file(id));
        File::create_new(at(Directory::mess(id)))?;
        File::create_new(at(Directory::info(id)))?.write_all(b"Fme@here.example\0")?;
        let mut remote = File::create_new(at(Directory::channel(Channel::Remote, id)))?;
        write!(remote, "Tyou@host{number}.example\0")?;
        remote.set_modified(tomorrow)?;
    }
    // What is measured must not wait for this.
    sync_whole(File::open(root)?)
}

#[cfg(target_os = "linux")]
fn sync_whole(directory: File) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(directory)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_whole(directory: File) -> std::io::Result<()> {
    directory.sync_all()
}

#[cfg(target_os = "linux")]
fn resident_octets() -> std::io::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    Ok(kilobytes.unwrap_or(0_usize) * 1024)
}

#[cfg(not(target_os = "linux"))]
fn resident_octets() -> std::io::Result<usize> {
    Ok(0)
}
