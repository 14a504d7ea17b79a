//! The spool on a real directory, where files must be what the classic programs expect.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at the files themselves"
)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::executor::block_on;
use qmail_core::{Address, Envelope, Origin};
use tempfile::TempDir;

use super::*;
use crate::spool::Committed;

struct Queue {
    root: TempDir,
    spool: SplitSpool,
}

impl Queue {
    fn new() -> Self {
        Self::with_workers(Workers::inline())
    }

    fn with_workers(workers: Workers) -> Self {
        let root = tempfile::tempdir().unwrap();
        SplitSpool::create(root.path()).unwrap();
        let spool = SplitSpool::open(root.path(), workers).unwrap();
        Self { root, spool }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(path)
    }

    fn read(&self, directory: Directory, id: MessageId) -> Option<Vec<u8>> {
        fs::read(self.path(directory.file(id))).ok()
    }

    fn write(&self, path: impl AsRef<Path>, content: &[u8]) {
        fs::write(self.path(path), content).unwrap();
    }

    /// Every file below the directories of messages.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Directory::all()
            .flat_map(|directory| {
                let path = directory.path();
                fs::read_dir(self.path(&path))
                    .unwrap()
                    .map(move |entry| path.join(entry.unwrap().file_name()))
                    .collect::<Vec<_>>()
            })
            .collect();
        files.sort();
        files
    }

    async fn scan(&self) -> Vec<Found> {
        let mut all = Vec::new();
        self.spool.scan(&mut |found| all.push(found)).await.unwrap();
        all
    }

    async fn accept(&self, text: &'static str, recipients: &[&'static str]) -> Committed {
        let mut draft = self.spool.begin(entry()).await.unwrap();
        draft.write(text.into()).await.unwrap();
        draft.commit(&envelope(recipients)).await.unwrap()
    }
}

fn entry() -> Entry {
    Entry {
        origin: Origin::Uid(500),
        uid: 500,
        pid: 77,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}

fn address(text: &'static str) -> Address {
    Address::new(text).unwrap()
}

fn envelope(recipients: &[&'static str]) -> Envelope {
    Envelope::new(
        address("me@here").into(),
        recipients.iter().map(|to| address(to)).collect(),
    )
}

async fn read_all(content: &dyn Content) -> Vec<u8> {
    let mut body = content.open().await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.unwrap() {
        assert!((1..=qmail_core::CHUNK_OCTETS_MAX).contains(&chunk.len()));
        text.extend_from_slice(&chunk);
    }
    assert_eq!(text.len() as u64, content.octets());
    text
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_tree_has_the_classic_modes() {
    let queue = Queue::new();
    for (path, expected) in [
        ("pid", 0o700),
        ("mess", 0o750),
        ("mess/0", 0o750),
        ("mess/22", 0o750),
        ("intd", 0o700),
        ("todo", 0o750),
        ("info", 0o700),
        ("info/0", 0o700),
        ("local/13", 0o700),
        ("remote/22", 0o700),
        ("bounce", 0o700),
        ("lock", 0o750),
        ("lock/sendmutex", 0o600),
        ("lock/trigger", 0o622),
        ("lock/tcpto", 0o644),
    ] {
        assert_eq!(mode(&queue.path(path)), expected, "{path}");
    }
    assert_eq!(fs::metadata(queue.path("lock/tcpto")).unwrap().len(), 1024);
    assert_eq!(fs::metadata(queue.path("lock/sendmutex")).unwrap().len(), 0);
    let trigger = fs::metadata(queue.path("lock/trigger")).unwrap();
    assert!(trigger.file_type().is_fifo());
    assert!(!queue.path("mess/23").exists());

    // Making it again changes nothing, and adds what is missing.
    queue.write("lock/tcpto", b"kept");
    fs::remove_dir(queue.path("info/5")).unwrap();
    let error = SplitSpool::open(queue.root.path(), Workers::inline())
        .err()
        .unwrap();
    assert!(error.to_string().ends_with("info/5"), "{error}");
    SplitSpool::create(queue.root.path()).unwrap();
    assert_eq!(fs::read(queue.path("lock/tcpto")).unwrap(), b"kept");
    assert_eq!(mode(&queue.path("info/5")), 0o700);

    let fresh = queue.path("fresh");
    SplitSpool::create(&fresh).unwrap();
    assert_eq!(mode(&fresh), 0o750);
}

#[test]
fn an_accepted_message_is_as_qmail_queue_leaves_it() {
    block_on(async {
        let queue = Queue::new();
        let committed = queue.accept("Subject: x\n\ntext\n", &["a@b", "c"]).await;
        let id = committed.id;
        let text = b"Received: (qmail 77 invoked by uid 500); 14 Nov 2023 22:13:20 -0000\n\
            Subject: x\n\ntext\n";
        let mess = Directory::mess(id);
        assert_eq!(queue.read(mess, id).unwrap(), text);
        assert_eq!(committed.octets, text.len() as u64);
        let todo = b"u500\0p77\0Fme@here\0Ta@b\0Tc\0";
        assert_eq!(queue.read(Directory::Todo, id).unwrap(), todo);

        let path = queue.path(mess.file(id));
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.ino(), id.0, "its number is its inode");
        assert_eq!(metadata.nlink(), 1);
        assert_eq!(mode(&path), 0o644);
        let todo = fs::metadata(queue.path(Directory::Todo.file(id))).unwrap();
        let intd = fs::metadata(queue.path(Directory::Intd.file(id))).unwrap();
        assert_eq!(todo.ino(), intd.ino(), "one file of two names");
        assert_eq!(mode(&queue.path(Directory::Todo.file(id))), 0o644);
        assert_eq!(queue.files().len(), 3, "nothing else is left");

        assert_eq!(queue.spool.incoming_ids().await.unwrap(), [id]);
        assert_eq!(queue.scan().await, [Found::Incoming(id)]);
        let incoming = queue.spool.incoming(id).await.unwrap();
        assert_eq!(incoming.envelope, envelope(&["a@b", "c"]));
        assert_eq!((incoming.uid, incoming.pid), (500, 77));
        assert_eq!(incoming.octets, text.len() as u64);
        let content = queue.spool.content(id).await.unwrap();
        assert_eq!(read_all(&*content).await, text);
    });
}

#[test]
fn a_message_goes_through_its_states() {
    block_on(async {
        let queue = Queue::new();
        let id = queue.accept("text\n", &["a@b"]).await.id;
        let routed = Routed {
            sender: address("me@here").into(),
            local: vec![address("x-a@b")],
            remote: vec![address("c@d"), address("e@f")],
            birth_seconds: 1_700_000_005,
            failures: b"none\n".to_vec(),
        };
        queue.spool.route(id, routed.clone()).await.unwrap();
        let [local, remote] = Channel::ALL.map(|channel| Directory::channel(channel, id));
        assert_eq!(queue.read(Directory::info(id), id).unwrap(), b"Fme@here\0");
        assert_eq!(queue.read(local, id).unwrap(), b"Tx-a@b\0");
        assert_eq!(queue.read(remote, id).unwrap(), b"Tc@d\0Te@f\0");
        for directory in [Directory::info(id), local, remote] {
            assert_eq!(mode(&queue.path(directory.file(id))), 0o600);
        }
        assert_eq!(queue.files().len(), 5, "todo and intd are gone");
        assert!(queue.spool.incoming(id).await.is_err());
        assert!(queue.spool.route(id, routed).await.is_err());
        assert_eq!(queue.files().len(), 5, "a second try harms nothing");
        let sender = queue.spool.sender(id).await.unwrap();
        assert_eq!(sender.as_bytes(), b"me@here");

        let page = |from, max| queue.spool.recipients(id, Channel::Remote, from, max);
        let first = page(Position::START, 1).await.unwrap();
        assert_eq!(first.len(), 1);
        let second = page(first[0].next, 5).await.unwrap();
        assert_eq!(second.len(), 1);
        assert_eq!(second[0].address, address("e@f"));
        let marks = [second[0].position];
        queue
            .spool
            .mark_done(id, Channel::Remote, &marks)
            .await
            .unwrap();
        assert_eq!(queue.read(remote, id).unwrap(), b"Tc@d\0De@f\0");
        let all = page(Position::START, 5).await.unwrap();
        assert_eq!(
            all.iter().map(|to| to.done).collect::<Vec<_>>(),
            [false, true]
        );
        for wrong in [1, 10, 100] {
            let marks = [Position(wrong)];
            let error = queue.spool.mark_done(id, Channel::Remote, &marks).await;
            assert!(matches!(error, Err(SpoolError::Damaged { .. })), "{wrong}");
        }

        let due = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        queue.spool.put_off(id, Channel::Remote, due).await.unwrap();
        queue.spool.close_channel(id, Channel::Local).await.unwrap();
        queue.spool.close_channel(id, Channel::Local).await.unwrap();
        queue.spool.put_off(id, Channel::Local, due).await.unwrap();
        queue
            .spool
            .mark_done(id, Channel::Local, &marks)
            .await
            .unwrap();
        let none = queue
            .spool
            .recipients(id, Channel::Local, Position::START, 5);
        assert!(none.await.unwrap().is_empty());
        let birth = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_005);
        let (local, remote) = (None, Some(due));
        let found = Found::Routed {
            id,
            birth,
            local,
            remote,
        };
        assert_eq!(queue.scan().await, [found]);

        queue.spool.note_failure(id, b"one\n").await.unwrap();
        queue.spool.note_failure(id, b"two\n").await.unwrap();
        assert_eq!(mode(&queue.path(Directory::Bounce.file(id))), 0o600);
        let failures = queue.spool.failures(id).await.unwrap().unwrap();
        assert_eq!(read_all(&*failures).await, b"none\none\ntwo\n");
        queue.spool.clear_failures(id).await.unwrap();
        queue.spool.clear_failures(id).await.unwrap();
        assert!(queue.spool.failures(id).await.unwrap().is_none());

        // A channel may be open: what is removed is done with.
        let content = queue.spool.content(id).await.unwrap();
        queue.spool.remove(Settled::new(id)).await.unwrap();
        assert!(queue.files().is_empty());
        assert!(queue.spool.content(id).await.is_err());
        assert!(read_all(&*content).await.ends_with(b"\ntext\n"));
        queue.spool.remove(Settled::new(id)).await.unwrap();
    });
}

#[test]
fn text_spills_and_comes_back_in_chunks() {
    block_on(async {
        for workers in [Workers::inline(), Workers::threads(2).unwrap()] {
            let queue = Queue::with_workers(workers);
            let text: Vec<u8> = (0..1_500_000_u32).map(|at| (at / 7) as u8).collect();
            for chunk in [1_500_000, 200_000, 65_536, 999] {
                let mut draft = queue.spool.begin(entry()).await.unwrap();
                for piece in text.chunks(chunk) {
                    draft.write(Bytes::copy_from_slice(piece)).await.unwrap();
                }
                assert_eq!(fs::read_dir(queue.path("pid")).unwrap().count(), 1);
                let id = draft.commit(&envelope(&["a@b"])).await.unwrap().id;
                let content = queue.spool.content(id).await.unwrap();
                assert!(read_all(&*content).await.ends_with(&text));
                queue.spool.remove(Settled::new(id)).await.unwrap();
            }
            // One that is dropped leaves nothing, but soon only: a worker removes it.
            let mut draft = queue.spool.begin(entry()).await.unwrap();
            draft.write(text.into()).await.unwrap();
            drop(draft);
            queue.spool.run(|_| ()).await;
            let todo = queue.spool.incoming_ids().await.unwrap();
            assert_eq!(queue.files().len(), 2 * todo.len());
            assert_eq!(fs::read_dir(queue.path("pid")).unwrap().count(), 0);
        }
    });
}

#[test]
fn many_commit_at_once() {
    let queue = Queue::with_workers(Workers::threads(3).unwrap());
    let ids = block_on(futures::future::join_all((0..200).map(|_| async {
        let id = queue.accept("text\n", &["a@b"]).await.id;
        let routed = Routed {
            sender: address("me@here").into(),
            local: vec![address("a@b")],
            ..Routed::default()
        };
        queue.spool.route(id, routed).await.unwrap();
        queue.spool.close_channel(id, Channel::Local).await.unwrap();
        id
    })));
    let unique: BTreeSet<MessageId> = ids.iter().copied().collect();
    assert_eq!(unique.len(), 200);
    block_on(futures::future::join_all(
        ids.iter().map(|&id| queue.spool.remove(Settled::new(id))),
    ));
    assert!(queue.files().is_empty());
}

#[test]
fn leftovers_do_not_stand_in_the_way() {
    block_on(async {
        let queue = Queue::new();
        let id = queue.accept("text\n", &["a@b"]).await.id;
        // A broken-off preprocessing, and a note of a former message of that number.
        for directory in [
            Directory::info(id),
            Directory::channel(Channel::Local, id),
            Directory::channel(Channel::Remote, id),
            Directory::Bounce,
        ] {
            queue.write(directory.file(id), b"Told\0");
        }
        assert_eq!(queue.scan().await, [Found::Incoming(id)], "todo beats info");
        let routed = Routed {
            sender: ReversePath::Null,
            remote: vec![address("a@b")],
            ..Routed::default()
        };
        queue.spool.route(id, routed).await.unwrap();
        let local = Directory::channel(Channel::Local, id);
        assert_eq!(queue.read(Directory::info(id), id).unwrap(), b"F\0");
        assert_eq!(queue.read(local, id), None);
        assert_eq!(queue.read(Directory::Bounce, id), None);
        assert_eq!(queue.files().len(), 3);
    });
}

#[test]
fn a_number_that_is_taken_is_not_taken_again() {
    block_on(async {
        let queue = Queue::new();
        // As in a queue that was copied: messages whose inodes have other numbers. All near numbers are taken.
        let probe = queue.accept("probe\n", &[]).await.id;
        let near: Vec<MessageId> = (probe.0..probe.0 + 4).map(MessageId).collect();
        for &id in &near {
            queue.write(Directory::mess(id).file(id), b"copied");
        }
        queue.write(Directory::Intd.file(MessageId(probe.0 + 9)), b"stale");
        for _ in 0..5 {
            let id = queue.accept("new\n", &["a@b"]).await.id;
            assert!(!near.contains(&id));
            assert!(
                queue
                    .read(Directory::mess(id), id)
                    .unwrap()
                    .ends_with(b"new\n")
            );
        }
        for id in near {
            assert_eq!(queue.read(Directory::mess(id), id).unwrap(), b"copied");
        }
        assert_eq!(fs::read_dir(queue.path("pid")).unwrap().count(), 0);
    });
}

#[test]
fn foreign_files_are_told_and_left_alone() {
    block_on(async {
        let queue = Queue::new();
        for path in [
            "todo/core",
            "todo/007",
            "info/3/x",
            "info/4/3",
            "mess/2/x",
            "intd/x",
        ] {
            queue.write(path, b"");
        }
        fs::create_dir(queue.path("info/5/5")).unwrap();
        symlink("/etc/passwd", queue.path("info/6/6")).unwrap();
        let mut told: Vec<String> = queue
            .scan()
            .await
            .into_iter()
            .map(|found| match found {
                Found::Damaged { path, .. } => path.display().to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        told.sort();
        let expected = [
            "info/3/x",
            "info/4/3",
            "info/5/5",
            "info/6/6",
            "todo/007",
            "todo/core",
        ];
        assert_eq!(told, expected);
        assert!(queue.spool.incoming_ids().await.unwrap().is_empty());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        queue.spool.clean_up(now).await.unwrap();
        assert_eq!(queue.files().len(), 8);
    });
}

#[test]
fn damaged_files_are_told() {
    block_on(async {
        let queue = Queue::new();
        let id = MessageId(23);
        for torn in [
            &b""[..],
            b"u1\0p1\0",
            b"u1\0p1\0Fa",
            b"u1\0p1\0Fa\0Tb",
            b"\0\0\0",
        ] {
            queue.write("mess/0/23", b"");
            queue.write("todo/23", torn);
            let error = queue.spool.incoming(id).await.unwrap_err();
            assert!(matches!(error, SpoolError::Damaged { .. }), "{error}");
        }
        queue.write("todo/46", b"u1\0p1\0Fa\0Tb\0");
        let error = queue.spool.incoming(MessageId(46)).await.unwrap_err();
        assert!(error.to_string().starts_with("mess/0/46 is damaged"));
        queue.write("info/0/23", b"Fa\0Fb\0");
        assert!(queue.spool.sender(id).await.is_err());
        queue.write("info/0/23", &[b'F'; 5000]);
        assert!(queue.spool.sender(id).await.is_err());
        for torn in [&b"Ta\0Tb"[..], b"Ta\0\0", b"Ta\0Xb\0", &[b'T'; 5000]] {
            queue.write("local/0/23", torn);
            let all = queue
                .spool
                .recipients(id, Channel::Local, Position::START, 9);
            let error = all.await.unwrap_err();
            assert!(matches!(error, SpoolError::Damaged { .. }), "{error}");
        }
        assert!(queue.spool.content(MessageId(46)).await.is_err());
    });
}

#[test]
fn recipients_come_in_pages_of_any_size() {
    block_on(async {
        let queue = Queue::new();
        let id = queue.accept("text\n", &["a@b"]).await.id;
        let remote: Vec<Address> = (0..5_000)
            .map(|number| Address::new(format!("{}@{number}", "x".repeat(number % 60))).unwrap())
            .collect();
        let routed = Routed {
            remote: remote.clone(),
            ..Routed::default()
        };
        queue.spool.route(id, routed).await.unwrap();
        for max in [1, 7, 1000, 4999, 5000, 9999] {
            let (mut from, mut all) = (Position::START, Vec::new());
            loop {
                let page = queue.spool.recipients(id, Channel::Remote, from, max);
                let page = page.await.unwrap();
                let last = page.len() < max;
                from = page.last().map_or(from, |to| to.next);
                all.extend(page.into_iter().map(|to| to.address));
                if last {
                    break;
                }
            }
            assert!(all == remote, "pages of {max}");
        }
    });
}

#[test]
fn old_leftovers_are_swept_up() {
    block_on(async {
        let queue = Queue::new();
        let accepted = queue.accept("accepted\n", &["a@b"]).await.id;
        let routed = queue.accept("routed\n", &["a@b"]).await.id;
        queue.spool.route(routed, Routed::default()).await.unwrap();
        let leftovers = [
            "pid/1.2.3",
            "mess/1/1",
            "intd/1",
            "local/1/1",
            "bounce/1",
            "intd/2",
            "remote/3/3",
            "bounce/4",
        ];
        for path in leftovers {
            queue.write(path, b"");
        }
        let stale = Directory::Intd.file(routed);
        queue.write(&stale, b"");
        let now = fs::metadata(queue.path("pid/1.2.3"))
            .unwrap()
            .accessed()
            .unwrap();

        queue
            .spool
            .clean_up(now - Duration::from_secs(1))
            .await
            .unwrap();
        queue
            .spool
            .clean_up(now + Duration::from_secs(129_500))
            .await
            .unwrap();
        assert_eq!(queue.files().len(), 3 + 2 + leftovers.len() + 1);
        queue
            .spool
            .clean_up(now + Duration::from_secs(129_700))
            .await
            .unwrap();
        let mut left: Vec<PathBuf> = vec![
            Directory::mess(accepted).file(accepted),
            Directory::Intd.file(accepted),
            Directory::Todo.file(accepted),
            Directory::mess(routed).file(routed),
            Directory::info(routed).file(routed),
        ];
        left.sort();
        assert_eq!(queue.files(), left);
    });
}

#[test]
fn one_process_runs_a_queue() {
    let queue = Queue::new();
    let root = queue.root.path();
    let lock = SendMutex::lock(root).unwrap();
    let error = SendMutex::lock(root).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    SendMutex::lock(root).unwrap();
}

#[test]
fn a_pull_wakes_and_none_is_lost() {
    let queue = Queue::new();
    let root = queue.root.path();
    Trigger::pull(root);
    let trigger = Trigger::open(root).unwrap();
    for _ in 0..3 {
        Trigger::pull(root);
        block_on(trigger.pulled());
    }
    // A classic writer opens, writes and closes; many at once are one pull or more.
    for _ in 0..100 {
        fs::OpenOptions::new()
            .write(true)
            .open(queue.path("lock/trigger"))
            .and_then(|mut fifo| io::Write::write_all(&mut fifo, &[0]))
            .unwrap();
    }
    block_on(trigger.pulled());
    drop(trigger);
    assert!(Trigger::open(root.join("none")).is_err());
    fs::remove_file(queue.path("lock/trigger")).unwrap();
    queue.write("lock/trigger", b"");
    let error = Trigger::open(root).unwrap_err();
    assert!(error.to_string().ends_with("is no FIFO: remove it"));
}

#[test]
fn closed_texts_tell_their_size_and_no_more() {
    let queue = Queue::new();
    block_on(async {
        let committed = queue.accept("Subject: x\n", &["a@b"]).await;
        let disk = Arc::new(RealDisk::open(queue.root.path()).unwrap());
        let keeper = Arc::new(queue.spool.clone());
        let manager = SplitSpool::managing(disk, Workers::inline(), keeper);
        let octets = queue.spool.content(committed.id).await.unwrap().octets();
        let text = manager.content(committed.id).await.unwrap();
        assert_eq!(text.octets(), octets);
        let refused = text.open().await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(manager.content(MessageId(u64::MAX)).await.is_err());
    });
}
