//! Works on a spool until it is stopped or the disk fails, and tells what it was promised; or tells what a spool holds. For
//! `tests/system/powercut.py`.
//!
//! `spool-load run journal|split DIRECTORY FIRST` handles messages FIRST, FIRST + 1, ... through all their states, and prints a line
//! for each step: `? N` before a message is written, `a N` accepted, `r N` routed, `n N` failure noted, `m N` recipient marked,
//! `! N` before it is removed, `d N` gone. `spool-load check journal|split DIRECTORY` prints `N STATE` for each message that is there:
//! `incoming` or `routed`, with `marked` and `noted`; `bad TEXT` for what should not be.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::join_all;
use qmail_core::{Address, Content, Envelope, Origin};
use qmail_queue::{
    Channel, Entry, Found, JournalConfig, JournalSpool, MessageId, Position, Routed, SplitSpool,
    Spool, SpoolError, Workers,
};

/// Messages that are handled at the same time.
const WRITERS: u64 = 20;

/// Small, so that they come and go while the test watches.
const CONFIG: JournalConfig = JournalConfig {
    segment_octets: 1 << 20,
    text_octets_max: 64 << 10,
};

const NOTE: &[u8] = b"<b@there>:\nnever\n\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["run", kind, directory, first] => {
            open(kind, directory).map(|spool| run(&*spool, first.parse().unwrap()))
        }
        ["check", kind, directory] => {
            open(kind, directory).and_then(|spool| block_on(check(&*spool)))
        }
        _ => {
            eprintln!("usage: spool-load run KIND DIRECTORY FIRST | check KIND DIRECTORY");
            return ExitCode::from(100);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spool-load: {error:?}");
            ExitCode::from(111)
        }
    }
}

fn open(kind: &str, directory: &str) -> Result<Arc<dyn Spool>, SpoolError> {
    let workers = Workers::threads(4).unwrap();
    if kind == "journal" {
        JournalSpool::create(directory).unwrap();
        return Ok(Arc::new(JournalSpool::open_with(
            directory, workers, CONFIG,
        )?));
    }
    SplitSpool::create(directory).unwrap();
    Ok(Arc::new(SplitSpool::open(directory, workers)?))
}

/// One line, at once: the process may be gone before the next.
fn tell(letter: char, number: u64) {
    let line = format!("{letter} {number}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn run(spool: &dyn Spool, first: u64) {
    let next = AtomicU64::new(first);
    let writers = (0..WRITERS).map(|_| async {
        // The first error is that of a disk that is gone.
        while handle(spool, next.fetch_add(1, Ordering::Relaxed))
            .await
            .is_ok()
        {}
    });
    block_on(join_all(writers));
}

/// What becomes of a message: a bit for each step that it goes through.
async fn handle(spool: &dyn Spool, number: u64) -> Result<(), SpoolError> {
    let mixed = mix(number);
    tell('?', number);
    let mut draft = spool.begin(entry()).await?;
    draft.write(text(number)).await?;
    let envelope = Envelope::new(
        address("me@here").into(),
        vec![address("a@here"), address("b@there")],
    );
    let id = draft.commit(&envelope).await?.id;
    tell('a', number);
    let routed = Routed {
        sender: envelope.sender,
        local: vec![address("a@here")],
        remote: vec![address("b@there")],
        birth_seconds: 1,
        failures: Vec::new(),
    };
    if mixed & 1 == 1 {
        spool.route(id, routed).await?;
        tell('r', number);
        if mixed & 2 == 2 {
            spool.note_failure(id, NOTE).await?;
            tell('n', number);
            let all = spool
                .recipients(id, Channel::Remote, Position::START, 9)
                .await?;
            spool
                .mark_done(id, Channel::Remote, &[all[0].position])
                .await?;
            tell('m', number);
        }
    }
    // A few stay.
    if mixed & 60 == 0 {
        return Ok(());
    }
    tell('!', number);
    remove(spool, id).await?;
    tell('d', number);
    Ok(())
}

async fn remove(spool: &dyn Spool, id: MessageId) -> Result<(), SpoolError> {
    spool.remove(qmail_queue::Settled::of_a_test(id)).await
}

async fn check(spool: &dyn Spool) -> Result<(), SpoolError> {
    let mut all = Vec::new();
    spool.scan(&mut |found| all.push(found)).await?;
    let mut lines = String::new();
    for found in all {
        let (id, is_routed) = match found {
            Found::Incoming(id) => (id, false),
            Found::Routed { id, .. } => (id, true),
            other => {
                lines.push_str(&format!("bad {other:?}\n"));
                continue;
            }
        };
        match state(spool, id, is_routed).await {
            Ok(state) => lines.push_str(&format!("{state}\n")),
            Err(error) => lines.push_str(&format!("bad message {id}: {error}\n")),
        }
    }
    std::io::stdout().write_all(lines.as_bytes()).unwrap();
    Ok(())
}

async fn state(
    spool: &dyn Spool,
    id: MessageId,
    is_routed: bool,
) -> Result<String, Box<dyn std::error::Error>> {
    let seen = whole(&*spool.content(id).await?).await?;
    let start = seen
        .windows(SUBJECT.len())
        .position(|window| window == SUBJECT)
        .ok_or("it has no number")?;
    let number = seen[start + SUBJECT.len()..]
        .split(|&octet| octet == b'\n')
        .next();
    let number: u64 = std::str::from_utf8(number.unwrap_or_default())?.parse()?;
    if seen[start..] != text(number)[..] {
        return Err(format!("the text of {number} is not whole").into());
    }
    if !is_routed {
        let incoming = spool.incoming(id).await?;
        if incoming.envelope.recipients != [address("a@here"), address("b@there")] {
            return Err(format!("the envelope of {number} is not whole").into());
        }
        return Ok(format!("{number} incoming"));
    }
    let mut state = format!("{number} routed");
    let all = spool
        .recipients(id, Channel::Remote, Position::START, 9)
        .await?;
    if all.iter().any(|recipient| recipient.done) {
        state.push_str(" marked");
    }
    if let Some(notes) = spool.failures(id).await? {
        // Of a note that was cut short a part may be there.
        if whole(&*notes).await? == NOTE {
            state.push_str(" noted");
        }
    }
    Ok(state)
}

async fn whole(content: &dyn Content) -> std::io::Result<Vec<u8>> {
    let mut body = content.open().await?;
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await? {
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

const SUBJECT: &[u8] = b"Subject: ";

/// The text of a message; one in 64 is large.
fn text(number: u64) -> Bytes {
    let mixed = mix(number);
    let octets = if mixed >> 8 & 63 == 0 {
        200_000
    } else {
        (mixed >> 16 & 4095) as usize
    };
    let mut text = format!("Subject: {number}\n\n").into_bytes();
    let line = format!("{mixed:016x}\n");
    text.extend(line.bytes().cycle().take(octets));
    text.into()
}

/// SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn address(text: &'static str) -> Address {
    Address::new(text).unwrap()
}

fn entry() -> Entry {
    Entry {
        origin: Origin::Network,
        uid: 0,
        pid: std::process::id(),
        now: SystemTime::now(),
    }
}
