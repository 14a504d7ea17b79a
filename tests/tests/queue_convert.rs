//! `qmail queue convert`: killed at random moments it loses nothing; refused where somebody runs the queue; told what it did.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use futures::executor::block_on;
use qmail_core::{Address, Content, Envelope, Origin};
use qmail_queue::split::{SendMutex, create_locks};
use qmail_queue::{
    Channel, Entry, Form, Found, JournalSpool, Position, Routed, SplitSpool, Spool, SpoolError,
    Workers,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// Enough that a conversion can be killed in its middle.
const MESSAGES: usize = 400;

fn start(home: &Path, arguments: &[&str]) -> Child {
    Command::new(PROGRAM)
        .args(["queue", "convert", "--home"])
        .arg(home)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn convert(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = start(home, arguments).wait_with_output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn address(text: String) -> Address {
    Address::new(text).unwrap()
}

/// A split queue with messages of all kinds.
fn fill(queue: &Path) {
    create_locks(queue).unwrap();
    SplitSpool::create(queue).unwrap();
    let spool = SplitSpool::open(queue, Workers::threads(4).unwrap()).unwrap();
    let all = (0..MESSAGES).map(|number| message(&spool, number));
    let all = block_on(futures::future::join_all(all));
    all.into_iter().for_each(Result::unwrap);
}

async fn message(spool: &dyn Spool, number: usize) -> Result<(), SpoolError> {
    let entry = Entry {
        origin: Origin::Uid(7),
        uid: 7,
        pid: number as u32,
        now: SystemTime::now(),
    };
    let mut draft = spool.begin(entry).await?;
    // Every fiftieth has a file of its own in a journal.
    let octets = if number.is_multiple_of(50) {
        300_000
    } else {
        number * 10
    };
    let text = format!("Subject: {number}\n\n{}\n", "x".repeat(octets));
    draft.write(text.into()).await?;
    let to = |name: &str| address(format!("{name}{number}@there"));
    let sender = address(format!("s{number}@here"));
    let envelope = Envelope::new(sender.into(), vec![to("a"), to("b"), to("c")]);
    let id = draft.commit(&envelope).await?.id;
    if number.is_multiple_of(3) {
        return Ok(());
    }
    let routed = Routed {
        sender: envelope.sender,
        local: vec![to("l-a")],
        remote: vec![to("b"), to("c")],
        birth_seconds: 1_000_000 + number as u64,
        failures: Vec::new(),
    };
    spool.route(id, routed).await?;
    if number.is_multiple_of(2) {
        let all = spool
            .recipients(id, Channel::Remote, Position::START, 9)
            .await?;
        spool
            .mark_done(id, Channel::Remote, &[all[number % 4 / 2].position])
            .await?;
        spool
            .note_failure(id, format!("<b{number}@there>:\nno\n\n").as_bytes())
            .await?;
    }
    if number.is_multiple_of(5) {
        spool.close_channel(id, Channel::Local).await?;
    }
    // Last: in qmail's form a mark is another time.
    let due = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000 + number as u64);
    spool.put_off(id, Channel::Remote, due).await?;
    if number.is_multiple_of(7) {
        spool.set_held(id, true).await?;
    }
    Ok(())
}

/// All that a queue knows, but for its numbers. The lock is taken as whoever runs the queue takes it.
fn known(queue: &Path) -> Vec<String> {
    let _lock = SendMutex::lock(queue).unwrap();
    let workers = Workers::inline();
    let spool: Box<dyn Spool> = match Form::of(queue).unwrap() {
        Form::Split => Box::new(SplitSpool::open(queue, workers).unwrap()),
        Form::Journal => Box::new(JournalSpool::open(queue.join("journal"), workers).unwrap()),
    };
    let mut known = block_on(all(&*spool)).unwrap();
    known.sort();
    known
}

async fn all(spool: &dyn Spool) -> Result<Vec<String>, SpoolError> {
    let mut all = Vec::new();
    spool.scan(&mut |found| all.push(found)).await?;
    let held = spool.held().await?;
    let mut known = Vec::new();
    for found in all {
        let (id, state) = match found {
            Found::Incoming(id) => (id, format!("{:?}", spool.incoming(id).await?)),
            Found::Routed {
                id,
                birth,
                local,
                remote,
            } => {
                let mut state = format!("{birth:?} {remote:?} held {} ", held.contains(&id));
                // When a local channel is due is when it was written: now.
                state.push_str(&format!(
                    "{} {:?}",
                    local.is_some(),
                    spool.sender(id).await?
                ));
                for channel in Channel::ALL {
                    for to in spool.recipients(id, channel, Position::START, 9).await? {
                        state.push_str(&format!(" {} {}", to.address, to.done));
                    }
                }
                if let Some(failures) = spool.failures(id).await? {
                    state.push_str(&whole(&*failures).await);
                }
                (id, state)
            }
            other => panic!("{other:?}"),
        };
        known.push(format!(
            "{state} {}",
            whole(&*spool.content(id).await?).await
        ));
    }
    Ok(known)
}

async fn whole(content: &dyn Content) -> String {
    let mut body = content.open().await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn killed_at_random_moments_it_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let queue = home.path().join("queue");
    fill(&queue);
    let before = known(&queue);
    assert_eq!(before.len(), MESSAGES);
    let mut killed = 0;
    let mut random = 1_u64;
    for form in [Form::Journal, Form::Split, Form::Journal, Form::Split] {
        let begun = Instant::now();
        let mut whole_time = Duration::from_millis(300);
        for attempt in 0..12 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let mut child = start(home.path(), &["--to", form.name()]);
            thread::sleep(whole_time.mul_f64((random >> 40) as f64 / (1 << 24) as f64));
            let ended = child.try_wait().unwrap();
            child.kill().unwrap();
            let status = child.wait().unwrap();
            killed += usize::from(ended.is_none());
            assert!(ended.is_none_or(|status| status.success()), "{status:?}");
            assert!(known(&queue) == before, "{form:?}, attempt {attempt}");
            if Form::of(&queue) == Some(form) {
                // It came to its end before it was killed: that is how long it takes.
                whole_time = begun.elapsed() / (attempt + 2);
                break;
            }
        }
        let (code, out, error) = convert(home.path(), &["--to", form.name()]);
        assert_eq!(code, 0, "{out}{error}");
        assert_eq!(Form::of(&queue), Some(form));
        assert!(known(&queue) == before, "{form:?}");
        let left: Vec<_> = fs::read_dir(&queue).unwrap().collect();
        assert_eq!(
            left.len(),
            if form == Form::Journal { 2 } else { 10 },
            "{left:?}"
        );
    }
    assert!(killed > 0);
}

#[test]
fn it_says_what_it_did_and_what_is_to_be_done() {
    let home = tempfile::tempdir().unwrap();
    let queue = home.path().join("queue");
    let (code, _, error) = convert(home.path(), &["--to", "split"]);
    assert_eq!(code, 111);
    assert!(error.contains("there is no queue in "), "{error}");
    assert!(error.contains("name the home with --home"), "{error}");
    fill(&queue);
    let lock = SendMutex::lock(&queue).unwrap();
    let (code, _, error) = convert(home.path(), &["--to", "journal"]);
    assert_eq!(code, 111);
    assert!(
        error.ends_with("a program runs it: stop that first\n"),
        "{error}"
    );
    drop(lock);
    fs::write(queue.join("todo/README"), "not mail").unwrap();
    let (code, _, error) = convert(home.path(), &["--to", "journal"]);
    assert_eq!((code, error.lines().count()), (111, 1), "{error}");
    assert!(error.contains("todo/README is no message"), "{error}");
    fs::remove_file(queue.join("todo/README")).unwrap();
    let done = (
        0,
        "400 messages, now in the form `journal`\n".to_owned(),
        String::new(),
    );
    assert_eq!(convert(home.path(), &["--to", "journal"]), done);
    let again = (
        0,
        "in the form `journal` already\n".to_owned(),
        String::new(),
    );
    assert_eq!(convert(home.path(), &["--to", "journal"]), again);
}

#[test]
fn a_full_disk_is_told_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let queue = home.path().join("queue");
    fill(&queue);
    let before = known(&queue);
    // The limit of a file's size is met as a full disk is: by a write that fails.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" queue convert --home \"$1\" --to journal";
    let output = Command::new("sh")
        .args(["-c", script, PROGRAM])
        .arg(home.path())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(111), "{error}");
    assert!(
        error.contains(": cannot write ") || error.contains(": cannot create "),
        "{error}"
    );
    assert!(
        error.ends_with("nothing was changed; mend that, and run this again\n"),
        "{error}"
    );
    assert_eq!(Form::of(&queue), Some(Form::Split));
    assert!(!queue.join("converting").exists());
    assert!(known(&queue) == before);
}
