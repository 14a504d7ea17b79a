//! What each step of a message costs in each spool, at 1, 10 and 50 writers that wait for their own answers: accepting a text of 2 KB,
//! routing it, marking a recipient, removing it. The spools with files are in the directory for temporary files: set `TMPDIR` to have
//! another disk measured.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use futures::future::join_all;
use qmail_core::{Address, Envelope, Origin};
use qmail_queue::{
    Channel, Entry, JournalSpool, MemorySpool, MessageId, Position, Routed, Settled, SplitSpool,
    Spool, Workers,
};

const MESSAGE_OCTETS: usize = 2048;
const WRITERS: [usize; 3] = [1, 10, 50];
const WORKERS: usize = 8;

/// The steps, each of which needs those before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Commit,
    Route,
    Mark,
    Settle,
}

const STEPS: [(Step, &str); 4] = [
    (Step::Commit, "commit"),
    (Step::Route, "route"),
    (Step::Mark, "mark"),
    (Step::Settle, "settle"),
];

/// A spool, and the directory that goes when it does.
type Fresh = (Arc<dyn Spool>, Option<tempfile::TempDir>);

fn split() -> Fresh {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().join("queue");
    SplitSpool::create(&root).expect("a new queue");
    let workers = Workers::threads(WORKERS).expect("threads");
    let spool = SplitSpool::open(root, workers).expect("a queue");
    (Arc::new(spool), Some(home))
}

fn journal() -> Fresh {
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().join("journal");
    JournalSpool::create(&root).expect("a new journal");
    let workers = Workers::threads(WORKERS).expect("threads");
    let spool = JournalSpool::open(root, workers).expect("a journal");
    (Arc::new(spool), Some(home))
}

fn memory() -> Fresh {
    (Arc::new(MemorySpool::new()), None)
}

fn address(text: &'static str) -> Address {
    Address::new(text).expect("short")
}

async fn commit(spool: &dyn Spool) -> MessageId {
    let entry = Entry {
        origin: Origin::Network,
        uid: 0,
        pid: 1,
        now: SystemTime::UNIX_EPOCH,
    };
    let mut draft = spool.begin(entry).await.expect("room");
    let text = Bytes::from_static(&[b'x'; MESSAGE_OCTETS]);
    draft.write(text).await.expect("room");
    let to = vec![address("you@example.org"), address("me@example.org")];
    let envelope = Envelope::new(address("me@example.org").into(), to);
    draft.commit(&envelope).await.expect("room").id
}

async fn take(spool: &dyn Spool, step: Step, id: MessageId) {
    let done = match step {
        Step::Commit => return,
        Step::Route => {
            let routed = Routed {
                sender: address("me@example.org").into(),
                remote: vec![address("you@example.org"), address("me@example.org")],
                birth_seconds: 1,
                ..Routed::default()
            };
            spool.route(id, routed).await
        }
        Step::Mark => {
            let first = [Position::START];
            spool.mark_done(id, Channel::Remote, &first).await
        }
        Step::Settle => spool.remove(Settled::of_a_test(id)).await,
    };
    done.expect("a disk that works");
}

/// Takes `step` of `count` messages by so many writers; what comes before it is not in the time.
fn measure(new: fn() -> Fresh, step: Step, writers: usize, count: u64) -> Duration {
    let (spool, _home) = new();
    let spool = &*spool;
    let shares = (0..writers as u64).map(|writer| {
        let share = count / writers as u64;
        share + u64::from(writer < count % writers as u64)
    });
    let shares: Vec<u64> = shares.collect();
    if step == Step::Commit {
        let start = Instant::now();
        block_on(join_all(shares.iter().map(|&share| async move {
            for _ in 0..share {
                commit(spool).await;
            }
        })));
        return start.elapsed();
    }
    let prepared = block_on(join_all(shares.iter().map(|&share| async move {
        let mut ids = Vec::new();
        for _ in 0..share {
            let id = commit(spool).await;
            for (before, _) in STEPS.iter().take_while(|(before, _)| *before != step) {
                take(spool, *before, id).await;
            }
            ids.push(id);
        }
        ids
    })));
    let start = Instant::now();
    block_on(join_all(prepared.into_iter().map(|ids| async move {
        for id in ids {
            take(spool, step, id).await;
        }
    })));
    start.elapsed()
}

fn spools(criterion: &mut Criterion) {
    type Make = fn() -> Fresh;
    let spools: [(&str, Make); 3] = [("split", split), ("journal", journal), ("memory", memory)];
    for (name, new) in spools {
        let mut group = criterion.benchmark_group(format!("spool/{name}"));
        group.throughput(Throughput::Elements(1));
        group.sample_size(10);
        group.measurement_time(Duration::from_secs(2));
        group.warm_up_time(Duration::from_millis(300));
        for (step, step_name) in STEPS {
            for writers in WRITERS {
                group.bench_with_input(
                    BenchmarkId::new(step_name, writers),
                    &writers,
                    |bencher, &writers| {
                        bencher.iter_custom(|count| measure(new, step, writers, count));
                    },
                );
            }
        }
        group.finish();
    }
}

criterion_group!(benches, spools);
criterion_main!(benches);
