//! A Maildir of the classic test set: message 1 is in `cur`, 2 and 3 are new.
#![expect(
    clippy::disallowed_methods,
    reason = "tests make the files that the maildrop is to see"
)]

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::{Config, End, Served, serve_maildrop};

/// Some moment; the clock of these tests stands still.
const NOW: u64 = 1_700_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn empty() -> TempDir {
    let home = TempDir::new().expect("a directory");
    for name in ["", "tmp", "new", "cur"] {
        fs::create_dir(home.path().join("Maildir").join(name)).expect("a directory");
    }
    home
}

fn put(home: &TempDir, name: &str, text: &[u8], age_seconds: i64) {
    let path = home.path().join("Maildir").join(name);
    fs::write(&path, text).expect("a file");
    let seconds = u64::try_from(NOW as i64 - age_seconds).expect("after 1970");
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_times(FileTimes::new().set_accessed(time).set_modified(time)))
        .expect("a time");
}

/// What was seen once is not asked for again: neither after a move to `cur` nor after other flags. What is new is.
#[tokio::test]
async fn a_large_maildir_is_remembered() {
    let home = empty();
    for number in 0..300 {
        put(
            &home,
            &format!("new/m{number}.host"),
            b"12345",
            1000 - number,
        );
    }
    let cache = MaildirCache::default();
    let maildir = home.path().join("Maildir");
    let list = async || {
        let maildrop = MaildirMaildrop::new(&maildir, MaildirOptions::default(), now());
        let mut maildrop = maildrop.with_cache(&cache);
        (maildrop.list().await.expect("it can be listed"), maildrop)
    };
    let (first, mut maildrop) = list().await;
    maildrop
        .commit(&Deletions::default())
        .await
        .expect("an update");
    while cache.facts(&maildir).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Nobody but a test changes a message; this shows where the size comes from.
    fs::write(maildir.join("cur/m7.host:2,"), b"changed size").expect("a file");
    fs::rename(
        maildir.join("cur/m8.host:2,"),
        maildir.join("cur/m8.host:2,S"),
    )
    .expect("flags");
    let (second, _) = list().await;
    assert_eq!(second, first);
    put(&home, "new/m300.host", b"1234567", 1);
    fs::remove_file(maildir.join("cur/m0.host:2,")).expect("a file");
    let (third, _) = list().await;
    assert_eq!((third.len(), third.octets()), (300, 299 * 5 + 7));
    assert_eq!(third.id(0), Some(&b"m1.host"[..]));
    assert_eq!(third.id(299), Some(&b"m300.host"[..]));
}

fn three() -> TempDir {
    let home = empty();
    put(
        &home,
        "new/m1.host",
        b"Subject: one\n\nfirst\n.dot\n..\nlast",
        500,
    );
    put(
        &home,
        "cur/m2.host:2,S",
        b"Subject: two\n\n1\n2\n3\n4\n",
        900,
    );
    put(&home, "new/m3.host", b"Subject: three\n", 100);
    home
}

fn maildrop(home: &TempDir, options: MaildirOptions) -> MaildirMaildrop {
    MaildirMaildrop::new(home.path().join("Maildir"), options, now())
}

/// The files of the Maildir, sorted.
fn files(home: &TempDir) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["cur", "new", "tmp"] {
        for entry in fs::read_dir(home.path().join("Maildir").join(folder)).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            names.push(format!("{folder}/{}", name.display()));
        }
    }
    names.sort();
    names
}

fn ids(listing: &Listing) -> Vec<String> {
    (0..listing.len())
        .map(|message| {
            let id = listing.id(message).expect("an id");
            String::from_utf8_lossy(id).into_owned()
        })
        .collect()
}

async fn listed(home: &TempDir) -> Vec<String> {
    let listing = maildrop(home, MaildirOptions::default()).list().await;
    ids(&listing.expect("a listing"))
}

async fn text(maildrop: &mut MaildirMaildrop, message: usize) -> io::Result<Vec<u8>> {
    let mut body = maildrop.open(message).await?;
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await? {
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// Serves all of `input` at once, as to a classic program with its input from a file.
async fn served(home: &TempDir, input: &str) -> (Served, String) {
    let (mut client, server) = duplex(1 << 20);
    client.write_all(input.as_bytes()).await.expect("room");
    client.shutdown().await.expect("an end");
    let maildrop = Box::new(maildrop(home, MaildirOptions::classic()));
    let served = serve_maildrop(
        Arc::new(Config::classic()),
        server,
        std::time::Instant::now,
        maildrop,
    )
    .await;
    let mut output = String::new();
    client.read_to_string(&mut output).await.expect("text");
    (served, output)
}

#[tokio::test]
async fn a_session_of_the_classic_program() {
    let home = three();
    let (served, output) = served(&home, "STAT\r\nLIST\r\nUIDL\r\nDELE 1\r\nQUIT\r\n").await;
    assert_eq!(
        output,
        "+OK \r\n+OK 3 69\r\n+OK \r\n1 22\r\n2 32\r\n3 15\r\n.\r\n\
        +OK \r\n1 m2.host\r\n2 m1.host\r\n3 m3.host\r\n.\r\n+OK \r\n+OK \r\n"
    );
    assert_eq!((served.end, served.deleted), (End::Updated, 1));
    assert_eq!(files(&home), ["cur/m1.host:2,", "cur/m3.host:2,"]);
}

#[tokio::test]
async fn without_quit_nothing_changes() {
    let home = three();
    let before = files(&home);
    let (served, output) = served(&home, "DELE 1\r\nRETR 2\r\n").await;
    assert_eq!(
        output,
        "+OK \r\n+OK \r\n+OK \r\nSubject: one\r\n\r\nfirst\r\n..dot\r\n...\r\nlast\r\n\r\n.\r\n"
    );
    assert_eq!((served.end, served.retrieved), (End::Disconnected, 1));
    assert_eq!(files(&home), before);
}

#[tokio::test]
async fn what_is_no_maildir_is_told() {
    let home = TempDir::new().expect("a directory");
    let (_, output) = served(&home, "QUIT\r\n").await;
    assert_eq!(output, "-ERR this user has no $HOME/Maildir\r\n");
    fs::create_dir_all(home.path().join("Maildir/tmp")).expect("a directory");
    let (end, output) = served(&home, "QUIT\r\n").await;
    assert_eq!(output, "-ERR unable to scan $HOME/Maildir\r\n");
    assert_eq!(end.end, End::LoginFailed);
    assert!(end.trouble.is_some());
}

#[tokio::test]
async fn accounts_have_their_homes() {
    let home = three();
    let maildrops = HomeMaildirs::new("Maildir", MaildirOptions::default(), now);
    let mut account = Account::new("joe");
    assert!(matches!(
        maildrops.open(&account).await.map(drop),
        Err(MaildropError::Missing(_))
    ));
    account.home = Some(home.path().to_owned());
    let mut maildrop = maildrops.open(&account).await.expect("a maildrop");
    assert_eq!(
        maildrop.list().await.map(|listing| listing.len()).ok(),
        Some(3)
    );
}

#[tokio::test]
async fn only_messages_are_listed_by_time_and_name() {
    let home = empty();
    put(&home, "new/.hidden", b"x", 50);
    put(&home, "new/b", b"x", 50);
    put(&home, "cur/a:2,S", b"x", 50);
    put(&home, "new/c", b"x", 60);
    put(&home, "tmp/t", b"x", 60);
    put(&home, "outside", b"x", 60);
    let maildir = home.path().join("Maildir");
    fs::create_dir(maildir.join("cur/directory")).expect("a directory");
    std::os::unix::fs::symlink("../outside", maildir.join("new/link")).expect("a link");
    assert_eq!(listed(&home).await, ["c", "a", "b"]);
}

#[tokio::test]
async fn the_current_second_is_hidden_on_request() {
    let home = empty();
    for (name, age) in [("old", 1), ("now", 0), ("future", -5)] {
        put(&home, &format!("new/{name}"), b"x", age);
    }
    assert_eq!(listed(&home).await, ["old", "now", "future"]);
    let listing = maildrop(&home, MaildirOptions::classic()).list().await;
    assert_eq!(ids(&listing.expect("a listing")), ["old"]);
}

#[tokio::test]
async fn no_unique_id_comes_twice() {
    let home = empty();
    put(&home, "new/1.a", b"new", 50);
    put(&home, "cur/1.a:2,S", b"seen", 40);
    put(&home, "cur/1.a:2,RS", b"replied", 60);
    put(&home, "cur/1.b:2,", b"other", 30);
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    let listing = maildrop.list().await.expect("a listing");
    assert_eq!(ids(&listing), ["1.a", "1.b"]);
    assert_eq!(text(&mut maildrop, 0).await.expect("a text"), b"replied");
}

#[tokio::test]
async fn names_that_are_no_ids_are_hashed() {
    let home = empty();
    let long = "x".repeat(71);
    put(&home, &format!("cur/{}:2,", &long[1..]), b"x", 30);
    put(&home, &format!("cur/{long}:2,"), b"x", 20);
    put(&home, "new/a b\r\n.", b"x", 10);
    let ids = listed(&home).await;
    assert_eq!(ids[0], "x".repeat(70));
    assert_eq!(ids[1], "522966f2ff9ab1543c945d48ee25045b");
    assert!(ids[2].len() == 32 && ids[1] != ids[2]);
}

#[tokio::test]
async fn tmp_is_cleaned_after_36_hours() {
    let home = empty();
    put(&home, "tmp/old", b"x", 129_601);
    put(&home, "tmp/young", b"x", 129_599);
    put(&home, "tmp/.keep", b"x", 140_000);
    listed(&home).await;
    assert_eq!(files(&home), ["tmp/.keep", "tmp/young"]);
}

#[tokio::test]
async fn texts_of_any_length_are_read() {
    let home = empty();
    let chunk = qmail_core::CHUNK_OCTETS_MAX;
    let lengths = [0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 3 * chunk + 1];
    for (number, &length) in lengths.iter().enumerate() {
        put(&home, &format!("new/{number}"), &vec![b'x'; length], 60);
    }
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    let listing = maildrop.list().await.expect("a listing");
    for (number, &length) in lengths.iter().enumerate() {
        assert_eq!(listing.size(number), Some(length as u64));
        let text = text(&mut maildrop, number).await.expect("a text");
        assert_eq!(text.len(), length);
    }
}

#[tokio::test]
async fn a_message_that_becomes_shorter_breaks_off() {
    let home = empty();
    put(&home, "new/a", &[b'x'; 200_000], 60);
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    maildrop.list().await.expect("a listing");
    let mut body = maildrop.open(0).await.expect("a message");
    put(&home, "new/a", &[b'x'; 100_000], 60);
    assert!(body.next().await.is_ok());
    assert!(body.next().await.is_err());
}

#[tokio::test]
async fn what_others_rename_or_remove_is_found_or_gone() {
    let home = three();
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    maildrop.list().await.expect("a listing");
    let maildir = home.path().join("Maildir");
    let rename = |from: &str, to: &str| {
        fs::rename(maildir.join(from), maildir.join(to)).expect("a file");
    };
    rename("cur/m2.host:2,S", "cur/m2.host:2,RS");
    rename("new/m1.host", "cur/m1.host:2,S");
    fs::remove_file(maildir.join("new/m3.host")).expect("a file");
    assert_eq!(text(&mut maildrop, 0).await.expect("a text").len(), 22);
    assert_eq!(text(&mut maildrop, 1).await.expect("a text").len(), 32);
    assert!(text(&mut maildrop, 2).await.is_err());
    assert!(text(&mut maildrop, 3).await.is_err());
    let deleted = [0, 2].into_iter().collect();
    maildrop.commit(&deleted).await.expect("an update");
    assert_eq!(files(&home), ["cur/m1.host:2,S"]);
}

#[tokio::test]
async fn searches_are_bounded() {
    let home = three();
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    maildrop.list().await.expect("a listing");
    let maildir = home.path().join("Maildir");
    fs::rename(maildir.join("new/m1.host"), maildir.join("cur/m1.host:2,S")).expect("a file");
    for _ in 0..SEARCHES_MAX {
        assert!(maildrop.open(1).await.is_ok());
    }
    assert!(maildrop.open(1).await.is_err());
    assert!(maildrop.open(0).await.is_ok());
}

#[tokio::test]
async fn a_link_is_never_followed() {
    let home = three();
    let maildir = home.path().join("Maildir");
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    maildrop.list().await.expect("a listing");
    fs::remove_file(maildir.join("new/m1.host")).expect("a file");
    put(&home, "outside", b"secret", 60);
    std::os::unix::fs::symlink("../outside", maildir.join("new/m1.host")).expect("a link");
    assert!(maildrop.open(1).await.is_err());

    fs::rename(maildir.join("cur"), maildir.join("elsewhere")).expect("a directory");
    std::os::unix::fs::symlink("elsewhere", maildir.join("cur")).expect("a link");
    assert!(matches!(
        MaildirMaildrop::new(&maildir, MaildirOptions::default(), now())
            .list()
            .await,
        Err(MaildropError::Unreadable(_))
    ));
}

#[tokio::test]
async fn nothing_is_overwritten_on_the_way_to_cur() {
    let home = three();
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    maildrop.list().await.expect("a listing");
    put(&home, "cur/m3.host:2,", b"another", 60);
    maildrop
        .commit(&Deletions::default())
        .await
        .expect("an update");
    assert_eq!(
        files(&home),
        [
            "cur/m1.host:2,",
            "cur/m2.host:2,S",
            "cur/m3.host:2,",
            "new/m3.host"
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_removed_is_told() {
    let home = three();
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    maildrop.list().await.expect("a listing");
    // A directory is not unlinked, not even by root.
    let path: &Path = &home.path().join("Maildir/new/m1.host");
    fs::remove_file(path).expect("a file");
    fs::create_dir(path).expect("a directory");
    let deleted = [0, 1].into_iter().collect();
    assert!(maildrop.commit(&deleted).await.is_err());
    assert_eq!(files(&home), ["cur/m3.host:2,", "new/m1.host"]);
}

#[tokio::test]
async fn before_the_listing_there_is_nothing() {
    let home = three();
    let mut maildrop = maildrop(&home, MaildirOptions::default());
    assert!(maildrop.open(0).await.is_err());
    assert!(maildrop.commit(&[0].into_iter().collect()).await.is_err());
    assert_eq!(files(&home).len(), 3);
}
