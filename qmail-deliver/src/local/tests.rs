#![expect(
    clippy::disallowed_methods,
    reason = "the tests look at what was really written"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use qmail_core::{CHUNK_OCTETS_MAX, MemoryContent, ReversePath};
use tempfile::TempDir;

use super::*;
use crate::{FixedUsers, Maildirs, User, UserError};

struct World {
    home: TempDir,
    local: LocalDelivery,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Maildirs::create(&home.path().join("Maildir")).unwrap();
        let joe = User::new("joe", home.path());
        let lists = User {
            dash: "-".into(),
            extension: "lists".into(),
            ..joe.clone()
        };
        let own = User {
            maildir: Some("own".into()),
            ..lists.clone()
        };
        let users = FixedUsers::new()
            .with("joe", joe)
            .with("joe-lists", lists)
            .with("joe-own", own);
        let maildirs = Maildirs::new("mx.test", 7, SystemTime::now);
        Self {
            home,
            local: LocalDelivery::new(Arc::new(users), LocalAgent::new(maildirs, SystemTime::now)),
        }
    }

    async fn deliver(&self, sender: &str, recipient: &str, text: impl Into<Bytes>) -> Outcome {
        let mut outcomes = self
            .local
            .deliver(Job {
                message: 0,
                content: Arc::new(MemoryContent(text.into())),
                sender: ReversePath::new(sender.to_owned()).unwrap(),
                recipients: vec![Address::new(recipient.to_owned()).unwrap()],
            })
            .await;
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    fn delivered(&self) -> Vec<String> {
        fs::read_dir(self.home.path().join("Maildir/new"))
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect()
    }
}

/// As the spawn protocol shows it: the letter, and the text.
fn shown(outcome: &Outcome) -> String {
    let text = String::from_utf8_lossy(outcome.report().as_bytes());
    format!("{}{text}", char::from(outcome.letter()))
}

#[tokio::test]
async fn who_gets_mail_and_who_does_not() {
    let world = World::new();
    for (recipient, expected) in [
        ("joe@here", "Kdid 1+0+0\n"),
        ("JOE@here", "Kdid 1+0+0\n"),
        (
            "ann@here",
            "DSorry, no mailbox here by that name. (#5.1.1)\n",
        ),
        (
            "joe-lists@here",
            "DSorry, no mailbox here by that name. (#5.1.1)\n",
        ),
        ("joe", "DSorry, address must include host name. (#5.1.3)\n"),
        ("@here", "K"),
        ("joe-own@here", "ZUnable to chdir to maildir. (#4.2.1)\n"),
    ] {
        let outcome = world.deliver("s@x", recipient, "A: b\n\nc\n").await;
        assert_eq!(shown(&outcome), expected, "{recipient}");
    }
    assert_eq!(world.delivered().len(), 2);
}

#[tokio::test]
async fn the_envelope_is_written_in_front() {
    for (sender, recipient, text, expected) in [
        (
            "s@x",
            "joe@here",
            "A: b\n\nc",
            "Return-Path: <s@x>\nDelivered-To: joe@here\nA: b\n\nc",
        ),
        (
            "",
            "joe@here",
            "",
            "Return-Path: <>\nDelivered-To: joe@here\n",
        ),
        (
            "a b\n@x\ny",
            "Joe@he\nre",
            "\n",
            "Return-Path: <\"a b\\_\"@x_y>\nDelivered-To: Joe@he_re\n\n",
        ),
    ] {
        let world = World::new();
        let outcome = world.deliver(sender, recipient, text).await;
        assert_eq!(shown(&outcome), "Kdid 1+0+0\n");
        assert_eq!(world.delivered(), [expected]);
    }
}

#[tokio::test]
async fn a_loop_is_broken() {
    const LOOPING: &str =
        "DThis message is looping: it already has my Delivered-To line. (#5.4.6)\n";
    let world = World::new();
    let seen = "A: b\nDelivered-To: joe@here\n\nc\n";
    assert_eq!(
        shown(&world.deliver("s@x", "joe@here", seen).await),
        LOOPING
    );
    let far = "X: y\n".repeat(CHUNK_OCTETS_MAX / 2) + seen;
    assert_eq!(shown(&world.deliver("s@x", "joe@here", far).await), LOOPING);
    assert!(world.delivered().is_empty());

    let other_case = world.deliver("s@x", "Joe@here", seen).await;
    assert_eq!(shown(&other_case), "Kdid 1+0+0\n");
    let long = "X: y\n".repeat(CHUNK_OCTETS_MAX / 2);
    let outcome = world.deliver("s@x", "joe@here", long.clone()).await;
    assert_eq!(shown(&outcome), "Kdid 1+0+0\n");
    let whole = |text: &String| text.ends_with(&format!("joe@here\n{long}"));
    assert!(world.delivered().iter().any(whole), "from its first octet");
}

#[tokio::test]
async fn a_home_in_disorder_defers() {
    let world = World::new();
    let mode = |mode| fs::set_permissions(world.home.path(), Permissions::from_mode(mode)).unwrap();
    mode(0o702);
    assert_eq!(
        shown(&world.deliver("", "joe@here", "x\n").await),
        "ZUh-oh: home directory is writable. (#4.7.0)\n"
    );
    mode(0o1700);
    assert_eq!(
        shown(&world.deliver("", "joe@here", "x\n").await),
        "ZHome directory is sticky: user is editing his .qmail file. (#4.2.1)\n"
    );
    mode(0o700);
    fs::remove_dir_all(world.home.path()).unwrap();
    let gone = shown(&world.deliver("", "joe@here", "x\n").await);
    assert!(gone.starts_with("ZUnable to switch to /"), "{gone}");
    assert!(gone.ends_with(" (#4.3.0)\n"), "{gone}");
}

#[tokio::test]
async fn a_directory_out_of_order_defers() {
    struct Broken;
    #[async_trait]
    impl UserDirectory for Broken {
        async fn find(&self, _: &Address) -> Result<Option<User>, UserError> {
            Err(UserError::Unavailable("no".into()))
        }
    }
    let mut world = World::new();
    world.local.users = Arc::new(Broken);
    assert_eq!(
        shown(&world.deliver("", "joe@here", "x\n").await),
        "ZTemporary failure in qmail-lspawn.\n"
    );
}

#[test]
fn every_mailbox_is_a_destination() {
    let world = World::new();
    let destination =
        |address: &'static str| world.local.destination(&Address::new(address).unwrap());
    assert_eq!(destination("Joe@here"), destination("joe@HERE"));
    assert_ne!(destination("joe@here"), destination("ann@here"));
    assert_eq!(destination("joe@here").recipients_max, 1);
}
