#![expect(
    clippy::disallowed_methods,
    reason = "the tests look at what was really written"
)]

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use qmail_core::{CHUNK_OCTETS_MAX, Content, MemoryContent};
use tempfile::TempDir;

use super::*;

struct World {
    scratch: TempDir,
    maildirs: Maildirs,
}

impl World {
    fn new() -> Self {
        let world = Self {
            scratch: tempfile::tempdir().unwrap(),
            maildirs: Maildirs::new("mx.test", 7, SystemTime::now),
        };
        Maildirs::create(&world.maildir()).unwrap();
        world
    }

    fn maildir(&self) -> PathBuf {
        self.scratch.path().join("Maildir")
    }

    async fn deliver(&self, text: impl Into<Bytes>) -> Result<PathBuf, MaildirError> {
        let mut body = MemoryContent(text.into()).open().await.unwrap();
        self.maildirs
            .deliver(&self.maildir(), "Delivered-To: x\n".into(), body.as_mut())
            .await
    }

    fn names(&self, part: &str) -> Vec<String> {
        fs::read_dir(self.maildir().join(part))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

fn text(error: &MaildirError) -> String {
    let outcome = error.outcome();
    assert!(matches!(outcome, Outcome::Deferred(_)));
    String::from_utf8_lossy(outcome.report().as_bytes()).into_owned()
}

#[tokio::test]
async fn what_was_sent_is_what_is_there() {
    let world = World::new();
    for size in [
        0,
        1,
        2048,
        CHUNK_OCTETS_MAX,
        BATCH_OCTETS - 1,
        BATCH_OCTETS,
        BATCH_OCTETS + 1,
        5 * BATCH_OCTETS + 77,
    ] {
        let sent: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let file = world.deliver(sent.clone()).await.unwrap();
        let read = fs::read(&file).unwrap();
        assert_eq!(read, [b"Delivered-To: x\n", &sent[..]].concat(), "{size}");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
            0o600
        );
    }
    assert_eq!(world.names("new").len(), 8);
    assert!(world.names("tmp").is_empty() && world.names("cur").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_have_a_thousand_names() {
    let world = Arc::new(World::new());
    let deliveries: Vec<_> = (0..1000)
        .map(|number| {
            let world = world.clone();
            tokio::spawn(async move { world.deliver(format!("{number}\n")).await.unwrap() })
        })
        .collect();
    let mut files = HashSet::new();
    for (number, delivery) in deliveries.into_iter().enumerate() {
        let file = delivery.await.unwrap();
        let expected = format!("Delivered-To: x\n{number}\n");
        assert_eq!(fs::read(&file).unwrap(), expected.as_bytes());
        assert!(files.insert(file));
    }
    assert_eq!(world.names("new").len(), 1000);
    assert!(world.names("tmp").is_empty());
}

#[tokio::test]
async fn a_missing_maildir_is_told_from_a_broken_one() {
    let world = World::new();
    fs::remove_dir(world.maildir().join("new")).unwrap();
    let error = world.deliver("x\n").await.unwrap_err();
    assert_eq!(
        text(&error),
        "Temporary error on maildir delivery. (#4.3.0)\n"
    );
    assert!(world.names("tmp").is_empty());

    fs::remove_dir(world.maildir().join("tmp")).unwrap();
    let error = world.deliver("x\n").await.unwrap_err();
    assert_eq!(
        text(&error),
        "Temporary error on maildir delivery. (#4.3.0)\n"
    );

    fs::remove_dir_all(world.maildir()).unwrap();
    let error = world.deliver("x\n").await.unwrap_err();
    assert_eq!(text(&error), "Unable to chdir to maildir. (#4.2.1)\n");

    fs::write(world.maildir(), "a file\n").unwrap();
    let error = world.deliver("x\n").await.unwrap_err();
    assert_eq!(text(&error), "Unable to chdir to maildir. (#4.2.1)\n");
}

#[tokio::test]
async fn no_right_to_write_leaves_nothing() {
    if rustix::process::geteuid().is_root() {
        return; // Nothing is forbidden to root.
    }
    let world = World::new();
    fs::set_permissions(world.maildir().join("new"), Permissions::from_mode(0o500)).unwrap();
    assert!(world.deliver("x\n").await.is_err());
    assert!(world.names("tmp").is_empty() && world.names("new").is_empty());
    fs::set_permissions(world.maildir(), Permissions::from_mode(0o000)).unwrap();
    let error = world.deliver("x\n").await.unwrap_err();
    assert_eq!(text(&error), "Unable to chdir to maildir. (#4.2.1)\n");
    fs::set_permissions(world.maildir(), Permissions::from_mode(0o700)).unwrap();
}

/// Fails after some chunks, as a queue file on a broken disk does.
struct Broken(u32);

#[async_trait::async_trait]
impl Body for Broken {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Ok(Some(Bytes::from(vec![b'x'; CHUNK_OCTETS_MAX])))
            }
            None => Err(io::Error::other("broken")),
        }
    }
}

#[tokio::test]
async fn a_text_that_cannot_be_read_to_its_end_is_not_delivered() {
    let world = World::new();
    for chunks in [0, 1, 9] {
        let error = world
            .maildirs
            .deliver(&world.maildir(), Bytes::new(), &mut Broken(chunks))
            .await
            .unwrap_err();
        assert_eq!(text(&error), "Unable to read message. (#4.3.0)\n");
        assert!(world.names("tmp").is_empty() && world.names("new").is_empty());
    }
}

#[tokio::test]
async fn a_dropped_delivery_leaves_nothing() {
    struct Stalled(bool);
    #[async_trait::async_trait]
    impl Body for Stalled {
        async fn next(&mut self) -> io::Result<Option<Bytes>> {
            if std::mem::replace(&mut self.0, true) {
                std::future::pending::<()>().await;
            }
            Ok(Some(Bytes::from(vec![b'x'; BATCH_OCTETS])))
        }
    }
    let world = World::new();
    let maildir = world.maildir();
    let mut body = Stalled(false);
    let delivery = world.maildirs.deliver(&maildir, Bytes::new(), &mut body);
    let waited = tokio::time::timeout(Duration::from_millis(300), delivery).await;
    assert!(waited.is_err(), "the body never ends");
    assert!(world.names("tmp").is_empty() && world.names("new").is_empty());
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let world = World::new();
    let names = Arc::new(Names::new(b"h", 1, SystemTime::now));
    // The next name is known but for its microsecond, so what is in the way is made at the moment of the rename.
    let draft = Draft::create(world.maildir(), names).unwrap();
    let place = draft.place_for_tests();
    let taken = world.maildir().join(place.replacen("tmp/", "new/", 1));
    fs::write(&taken, "another's\n").unwrap();
    let mut draft = draft;
    draft.write(&["mine\n".into()]).unwrap();
    let file = draft.commit(&DirectorySyncs::default()).unwrap();
    assert_ne!(file, taken);
    assert_eq!(fs::read(&taken).unwrap(), b"another's\n");
    assert_eq!(fs::read(&file).unwrap(), b"mine\n");
    assert!(world.names("tmp").is_empty());
}

#[tokio::test]
async fn a_maildir_may_be_a_link_but_a_message_never_is() {
    let world = World::new();
    let link = world.scratch.path().join("link");
    symlink(world.maildir(), &link).unwrap();
    let mut body = MemoryContent("x\n".into()).open().await.unwrap();
    let file = world
        .maildirs
        .deliver(&link, Bytes::new(), body.as_mut())
        .await
        .unwrap();
    assert!(fs::symlink_metadata(file).unwrap().is_file());
}

/// A full disk, as the system reports it: /dev/full takes no octet.
#[test]
fn a_full_disk_leaves_nothing() {
    let world = World::new();
    let names = Arc::new(Names::new(b"h", 1, SystemTime::now));
    let mut draft = Draft::create(world.maildir(), names).unwrap();
    draft.write(&["some\n".into()]).unwrap();
    draft.fill_disk_for_tests();
    let error = draft.write(&["more\n".into()]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(28));
    assert_eq!(
        text(&MaildirError::Temporary(error)),
        "Temporary error on maildir delivery. (#4.3.0)\n"
    );
    drop(draft);
    assert!(world.names("tmp").is_empty() && world.names("new").is_empty());
}

#[test]
fn making_a_maildir_twice_is_harmless() {
    let world = World::new();
    fs::write(world.maildir().join("new/1.x.y"), "kept\n").unwrap();
    Maildirs::create(&world.maildir()).unwrap();
    assert_eq!(world.names("new").len(), 1);
    let mode = fs::metadata(world.maildir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert!(Maildirs::create(&world.scratch.path().join("a/b")).is_err());
}
