//! How many messages a second a disk makes durable, by itself and under the spools.
//!
//! `cargo run --release -p qmail-queue --example spool_rate -- [DIRECTORY [SECONDS]]` measures in a fresh directory below
//! DIRECTORY (that for temporary files if none is named), which it removes again; SECONDS is for each figure, 0.2 if not given. Three
//! columns are the disk alone, with batches of as many messages of 2 KB as there are writers, one batch after the other: "syncfs" and
//! "fsync" make a file of each, durable by one `syncfs`, or by `fsync` on each and on their directory; "log" appends all to one file
//! whose room was made before, durable by one `fdatasync`. The others are spools, each writer waiting for its yes before it goes on:
//! "split" and "journal" accept, "split life" and "journal life" accept, route, read and close. The files of a measurement stay until the
//! end: ext4 is slow to create files where some were removed a moment ago.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement needs the real clock and disk"
)]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::join_all;
use qmail_core::{Address, Envelope, Origin};
use qmail_queue::{Channel, Entry, JournalSpool, Routed, SplitSpool, Spool, Workers};

const MESSAGE_OCTETS: usize = 2048;
const WRITERS: [usize; 3] = [1, 10, 50];
const WORKERS: usize = 8;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = match arguments.next() {
        None => Ok(0.2),
        Some(text) => text.to_str().unwrap_or_default().parse::<f64>(),
    };
    let Ok(Ok(time)) = seconds.map(Duration::try_from_secs_f64) else {
        eprintln!("usage: spool_rate [DIRECTORY [SECONDS]]");
        return ExitCode::from(100);
    };
    let root = directory.join(format!("spool_rate.{}", std::process::id()));
    let result = std::fs::create_dir(&root).and_then(|()| measure(&root, time));
    let removed = std::fs::remove_dir_all(&root);
    match result.and(removed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spool_rate: {}: {error}", root.display());
            ExitCode::from(111)
        }
    }
}

fn measure(root: &Path, time: Duration) -> std::io::Result<()> {
    println!("messages/s    syncfs   fsync   split  split life     log  journal  journal life");
    for writers in WRITERS {
        let at = |name: &str| root.join(format!("{name}{writers}"));
        let whole = raw(&at("whole"), writers, time, true)?;
        let each = raw(&at("each"), writers, time, false)?;
        let split = spooled(&*new_split(&at("split"))?, writers, time, false)?;
        let split_life = spooled(&*new_split(&at("split_life"))?, writers, time, true)?;
        let log = log(&at("log"), writers, time)?;
        let journal = spooled(&*new_journal(&at("journal"))?, writers, time, false)?;
        let journal_life = spooled(&*new_journal(&at("journal_life"))?, writers, time, true)?;
        println!(
            "{writers:>3} writers {whole:>9.0}{each:>8.0}{split:>8.0}{split_life:>12.0}{log:>8.0}{journal:>9.0}{journal_life:>14.0}"
        );
        let of_files = 100.0 * split / whole.max(each);
        let of_log = 100.0 * journal / log;
        println!(
            "            split: {of_files:.0} per cent of the files; journal: {of_log:.0} per cent of the log"
        );
    }
    Ok(())
}

fn new_split(root: &Path) -> std::io::Result<Box<dyn Spool>> {
    SplitSpool::create(root)?;
    let spool = SplitSpool::open(root, Workers::threads(WORKERS)?);
    Ok(Box::new(spool.map_err(std::io::Error::other)?))
}

fn new_journal(root: &Path) -> std::io::Result<Box<dyn Spool>> {
    JournalSpool::create(root)?;
    let spool = JournalSpool::open(root, Workers::threads(WORKERS)?);
    Ok(Box::new(spool.map_err(std::io::Error::other)?))
}

/// Messages a second that are appended to a file, over and over.
fn log(path: &Path, batch: usize, time: Duration) -> std::io::Result<f64> {
    const FILE_OCTETS: u64 = 64 << 20;
    let file = File::create_new(path)?;
    let zeros = vec![0; 1 << 20];
    for offset in (0..FILE_OCTETS).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset)?;
    }
    file.sync_all()?;
    let text = vec![b'x'; MESSAGE_OCTETS * batch];
    let (start, mut count, mut offset) = (Instant::now(), 0, 0);
    while start.elapsed() < time {
        if offset + text.len() as u64 > FILE_OCTETS {
            offset = 0;
        }
        file.write_all_at(&text, offset)?;
        file.sync_data()?;
        offset += text.len() as u64;
        count += batch;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Messages a second of the disk alone.
fn raw(root: &Path, batch: usize, time: Duration, whole: bool) -> std::io::Result<f64> {
    std::fs::create_dir(root)?;
    let directory = File::open(root)?;
    let (text, start, mut count) = ([b'x'; MESSAGE_OCTETS], Instant::now(), 0);
    while start.elapsed() < time {
        let mut files = Vec::with_capacity(batch);
        for _ in 0..batch {
            let mut file = File::create_new(root.join(count.to_string()))?;
            file.write_all(&text)?;
            files.push(file);
            count += 1;
        }
        if whole {
            sync_whole(&directory)?;
        } else {
            files.iter().try_for_each(File::sync_all)?;
            directory.sync_all()?;
        }
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

#[cfg(target_os = "linux")]
fn sync_whole(directory: impl AsFd) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(directory)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_whole(_directory: impl AsFd) -> std::io::Result<()> {
    Ok(())
}

/// Messages a second through a spool.
fn spooled(spool: &dyn Spool, writers: usize, time: Duration, life: bool) -> std::io::Result<f64> {
    let start = Instant::now();
    let counts = block_on(join_all((0..writers).map(|_| async {
        let mut count = 0;
        while start.elapsed() < time {
            one_message(spool, life).await?;
            count += 1;
        }
        Ok(count)
    })));
    let counts: Result<Vec<u32>, Box<dyn std::error::Error + Send + Sync>> =
        counts.into_iter().collect();
    let count: u32 = counts.map_err(std::io::Error::other)?.iter().sum();
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

async fn one_message(
    spool: &dyn Spool,
    life: bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let entry = Entry {
        origin: Origin::Network,
        uid: 0,
        pid: std::process::id(),
        now: SystemTime::now(),
    };
    let mut draft = spool.begin(entry).await?;
    draft
        .write(Bytes::from_static(&[b'x'; MESSAGE_OCTETS]))
        .await?;
    let to = Address::new("you@example.org")?;
    let envelope = Envelope::new(Address::new("me@example.org")?.into(), vec![to.clone()]);
    let id = draft.commit(&envelope).await?.id;
    if life {
        let routed = Routed {
            sender: envelope.sender,
            local: vec![to],
            birth_seconds: 1,
            ..Routed::default()
        };
        spool.route(id, routed).await?;
        spool
            .recipients(id, Channel::Local, qmail_queue::Position::START, 1)
            .await?;
        spool.close_channel(id, Channel::Local).await?;
    }
    Ok(())
}
