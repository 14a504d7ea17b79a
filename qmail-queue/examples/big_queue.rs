//! What a queue with many waiting messages costs: counting them, its start, a new message meanwhile, memory.
//!
//! `cargo run --release -p qmail-queue --example big_queue -- [MESSAGES [DIRECTORY [split|journal]]]` makes a queue of so many messages
//! (1000 if not given) to hosts that are due tomorrow, in a fresh directory below DIRECTORY (that for temporary files if none is named),
//! starts an engine on it, and removes it again. With `keep` after all that, it only makes `DIRECTORY/queue` and leaves it there, for another
//! program to be started on. A million messages take three million files and 8 GB, or 500 MB of journal.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement needs the real clock and disk"
)]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures::executor::block_on;
use futures::future::try_join_all;
use qmail_core::control::Set;
use qmail_core::route::Tables;
use qmail_core::{Address, Delivery, Envelope, Job, Origin, Outcome, ReversePath, Submit};
use qmail_queue::split::create_locks;
use qmail_queue::split::layout::Directory;
use qmail_queue::{
    Channel, Config, Engine, Entry, Form, JournalSpool, MessageId, Parts, Queue, RealDisk, Routed,
    SplitSpool, Spool, SystemClock, Workers, count_names,
};

/// Numbers that no inode has.
const FIRST: u64 = 1 << 40;
const WORKERS: usize = 8;

/// Writers that fill a journal.
const WRITERS: usize = 500;

const USAGE: &str = "usage: big_queue [MESSAGES [DIRECTORY [split|journal [keep]]]]";

/// What the command line says.
struct Plan {
    messages: usize,
    directory: PathBuf,
    form: Form,
    keep: bool,
}

fn plan() -> Option<Plan> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut arguments = arguments.iter().map(String::as_str);
    let messages = arguments.next().unwrap_or("1000").parse().ok()?;
    let directory = arguments.next();
    let form = match arguments.next() {
        None | Some("split") => Form::Split,
        Some("journal") => Form::Journal,
        Some(_) => return None,
    };
    let keep = match arguments.next() {
        None => false,
        Some("keep") => true,
        Some(_) => return None,
    };
    Some(Plan {
        messages,
        directory: directory.map_or_else(std::env::temp_dir, PathBuf::from),
        form,
        keep,
    })
}

fn main() -> ExitCode {
    let Some(plan) = plan() else {
        eprintln!("{USAGE}");
        return ExitCode::from(100);
    };
    let result = if plan.keep {
        make(&plan.directory.join("queue"), &plan)
    } else {
        let root = plan
            .directory
            .join(format!("big_queue.{}", std::process::id()));
        let result = std::fs::create_dir(&root)
            .map_err(Into::into)
            .and_then(|()| measure(&root, &plan));
        let removed = std::fs::remove_dir_all(&root);
        result.and(removed.map_err(Into::into))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("big_queue: {}: {error}", plan.directory.display());
            ExitCode::from(111)
        }
    }
}

fn measure(root: &Path, plan: &Plan) -> Result<(), Box<dyn Error>> {
    let messages = plan.messages;
    // By another process, so that what that took of memory counts for nothing here.
    let made = Command::new(std::env::current_exe()?)
        .arg(messages.to_string())
        .arg(root)
        .args([plan.form.name(), "keep"])
        .status()?;
    if !made.success() {
        return Err("the queue could not be made".into());
    }
    let queue_root = root.join("queue");
    if plan.form == Form::Split {
        // What qmail-qstat does.
        let begun = Instant::now();
        let names = count_names(&RealDisk::open(&queue_root)?)?;
        println!("{} counted after {:.1?}", names.texts, begun.elapsed());
    }
    let before = resident_octets()?;
    let begun = Instant::now();
    let (delivered, deliveries) = mpsc::channel();
    let queue = start(&queue_root, plan.form, delivered)?;
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
fn start(root: &Path, form: Form, delivered: mpsc::Sender<()>) -> Result<Queue, Box<dyn Error>> {
    let workers = Workers::threads(WORKERS)?;
    let spool: Arc<dyn Spool> = match form {
        Form::Split => Arc::new(SplitSpool::open(root, workers)?.keeping_spares()),
        Form::Journal => Arc::new(JournalSpool::open(root.join("journal"), workers)?),
    };
    let mut tables = Tables::new("here.example");
    tables.locals = Set::parse(b"here.example\n");
    let delivery = Arc::new(Taking(delivered));
    let parts = Parts::new(
        spool,
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

/// Makes a queue of messages as an engine leaves them that could not deliver them.
fn make(queue: &Path, plan: &Plan) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    create_locks(queue)?;
    match plan.form {
        Form::Split => {
            SplitSpool::create(queue)?;
            fill_split(queue, plan.messages)?;
        }
        Form::Journal => {
            let journal = queue.join("journal");
            JournalSpool::create(&journal)?;
            let spool = JournalSpool::open(journal, Workers::threads(WORKERS)?)?;
            block_on(fill(&spool, plan.messages))?;
        }
    }
    // What is measured must not wait for this.
    sync_whole(File::open(queue)?)?;
    let (messages, form) = (plan.messages, plan.form.name());
    println!(
        "{messages} messages made in {:.1?}, {form}",
        begun.elapsed()
    );
    Ok(())
}

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}

/// File by file, which is much faster than the spool is.
fn fill_split(root: &Path, messages: usize) -> std::io::Result<()> {
    let tomorrow = tomorrow();
    for number in 0..messages as u64 {
        let id = MessageId(FIRST + number);
        let at = |directory: Directory| root.join(directory.file(id));
        File::create_new(at(Directory::mess(id)))?;
        File::create_new(at(Directory::info(id)))?.write_all(b"Fme@here.example\0")?;
        let mut remote = File::create_new(at(Directory::channel(Channel::Remote, id)))?;
        write!(remote, "Tyou@host{number}.example\0")?;
        remote.set_modified(tomorrow)?;
    }
    Ok(())
}

async fn fill(spool: &dyn Spool, messages: usize) -> Result<(), Box<dyn Error>> {
    let writers = (0..WRITERS).map(|writer| async move {
        for number in (writer..messages).step_by(WRITERS) {
            put_off(spool, number).await?;
        }
        Ok::<_, Box<dyn Error>>(())
    });
    try_join_all(writers).await?;
    Ok(())
}

async fn put_off(spool: &dyn Spool, number: usize) -> Result<(), Box<dyn Error>> {
    let now = SystemTime::now();
    let entry = Entry {
        origin: Origin::Network,
        uid: 0,
        pid: std::process::id(),
        now,
    };
    let mut draft = spool.begin(entry).await?;
    draft.write("Subject: old\n\nold\n".into()).await?;
    let to = vec![Address::new(format!("you@host{number}.example"))?];
    let envelope = Envelope::new(Address::new("me@here.example")?.into(), to.clone());
    let id = draft.commit(&envelope).await?.id;
    let routed = Routed {
        sender: envelope.sender,
        remote: to,
        birth_seconds: now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
        ..Routed::default()
    };
    spool.route(id, routed).await?;
    Ok(spool.put_off(id, Channel::Remote, tomorrow()).await?)
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
