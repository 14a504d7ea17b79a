//! What a message in a journal takes in memory. Alone in its program, so that nothing else is measured.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use futures::executor::block_on;
use futures::future::join_all;
use qmail_core::{Address, Envelope, Origin};
use qmail_queue::{
    Channel, Entry, Found, JournalSpool, Limits, Routed, Scheduler, Spool, SpoolError, Workers,
};

const MESSAGES: usize = 200_000;
const WRITERS: usize = 500;

/// Resident memory of this process in octets.
#[expect(clippy::disallowed_methods, reason = "the kernel tells it in a file")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse().ok())
        .expect("the second number");
    pages * 4096
}

/// Where a sync costs nothing, if there is such a place: durability is not what is measured.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// A message that was tried, and waits for its time.
async fn put_off(spool: &dyn Spool, number: usize) -> Result<(), SpoolError> {
    let entry = Entry {
        origin: Origin::Network,
        uid: 1,
        pid: 1,
        now: SystemTime::UNIX_EPOCH,
    };
    let mut draft = spool.begin(entry).await?;
    draft.write("Subject: x\n\ny\n".into()).await?;
    let to = vec![Address::new(format!("you@host{number}.example")).expect("short")];
    let envelope = Envelope::new(
        Address::new("me@here.example").expect("short").into(),
        to.clone(),
    );
    let id = draft.commit(&envelope).await?.id;
    let routed = Routed {
        sender: envelope.sender,
        remote: to,
        birth_seconds: 1_000_000,
        ..Routed::default()
    };
    spool.route(id, routed).await?;
    let due =
        SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000 + number as u64 * 7_919 % 600_000);
    spool.put_off(id, Channel::Remote, due).await
}

fn filled(root: &Path) -> JournalSpool {
    let spool = JournalSpool::open(root, Workers::threads(2).expect("threads")).expect("a journal");
    let writers = (0..WRITERS).map(|writer| {
        let spool = &spool;
        async move {
            for number in (writer..MESSAGES).step_by(WRITERS) {
                put_off(spool, number).await.expect("room");
            }
        }
    });
    block_on(join_all(writers));
    spool
}

#[test]
fn a_waiting_message_takes_less_than_400_octets_with_its_schedule() {
    let home = scratch();
    let root = home.path().join("journal");
    JournalSpool::create(&root).expect("a new journal");
    let before = resident();
    // With whatever buffers it took to get there.
    let spool = filled(&root);
    let index = (resident().saturating_sub(before)) / MESSAGES;
    let mut scheduler = Scheduler::new(Limits::default());
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        since.expect("after 1970").as_secs()
    };
    let mut found = |found| match found {
        Found::Routed {
            id, birth, remote, ..
        } => scheduler.handle_found(id, seconds(birth), [None, remote.map(seconds)]),
        other => panic!("{other:?}"),
    };
    block_on(spool.scan(&mut found)).expect("a disk that works");
    let both = (resident().saturating_sub(before)) / MESSAGES;
    println!("{index} octets a message in the index, {both} with the schedule");
    assert_eq!(spool.count(), MESSAGES);
    assert_eq!(scheduler.waiting(Channel::Remote), MESSAGES);
    assert!(index < 400, "{index} octets a message in the index");
    assert!(both < 400, "{both} octets a message");
}
