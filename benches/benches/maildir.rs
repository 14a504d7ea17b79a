//! Maildir delivery beside what the disk itself can do: create, write, sync, rename, sync the directory, from as many threads.
//!
//! `cargo bench -p qmail-benches --bench maildir [-- DIRECTORY]` measures the file system of DIRECTORY, by default the one that
//! holds the build. Runs alternate, and the medians are compared.
#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use qmail_core::{Content, MemoryContent};
use qmail_deliver::Maildirs;

const HEAD: &str = "Return-Path: <sender@example.org>\nDelivered-To: joe@example.net\n";
const RUN: Duration = Duration::from_secs(1);
const ROUNDS: usize = 3;

fn main() {
    let place = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .map_or_else(|| std::env::current_exe().unwrap(), PathBuf::from);
    let place = if place.is_dir() {
        place
    } else {
        place.parent().unwrap().to_owned()
    };
    println!("octets writers maildirs   disk/s   ours/s  ratio");
    for (octets, writers, maildirs) in [
        (2048, 1, 1),
        (2048, 20, 1),
        (2048, 20, 20),
        (2048, 50, 1),
        (100 * 1024, 20, 1),
        (1024 * 1024, 4, 1),
    ] {
        let text = "x".repeat(63) + "\n";
        let text = text.repeat(octets / 64);
        let (mut disk, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            disk.push(in_fresh_maildirs(&place, maildirs, |dirs| {
                by_disk(dirs, writers, &text)
            }));
            ours.push(in_fresh_maildirs(&place, maildirs, |dirs| {
                by_us(dirs, writers, &text)
            }));
        }
        let (disk, ours) = (median(disk), median(ours));
        println!(
            "{octets:7} {writers:6} {maildirs:8} {disk:8.0} {ours:8.0}  {:5.2}",
            ours / disk
        );
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn in_fresh_maildirs(place: &Path, count: usize, run: impl FnOnce(&[PathBuf]) -> usize) -> f64 {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let scratch = place.join(format!("maildir-bench.{}.{number}", std::process::id()));
    fs::create_dir(&scratch).unwrap();
    let maildirs: Vec<_> = (0..count)
        .map(|number| scratch.join(number.to_string()))
        .collect();
    for maildir in &maildirs {
        Maildirs::create(maildir).unwrap();
    }
    let start = Instant::now();
    let delivered = run(&maildirs);
    let seconds = start.elapsed().as_secs_f64();
    let found: usize = maildirs
        .iter()
        .map(|maildir| fs::read_dir(maildir.join("new")).unwrap().count())
        .sum();
    assert_eq!(found, delivered);
    fs::remove_dir_all(&scratch).unwrap();
    delivered as f64 / seconds
}

fn by_disk(maildirs: &[PathBuf], writers: usize, text: &str) -> usize {
    let until = Instant::now() + RUN;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let maildir = &maildirs[writer % maildirs.len()];
                scope.spawn(move || {
                    let new = File::open(maildir.join("new")).unwrap();
                    let mut count = 0;
                    while Instant::now() < until {
                        let name = format!("{writer}.{count}");
                        let tmp = maildir.join("tmp").join(&name);
                        let mut options = OpenOptions::new();
                        let mut file = options
                            .write(true)
                            .create_new(true)
                            .mode(0o600)
                            .open(&tmp)
                            .unwrap();
                        file.write_all([HEAD, text].concat().as_bytes()).unwrap();
                        file.sync_all().unwrap();
                        drop(file);
                        fs::rename(&tmp, maildir.join("new").join(&name)).unwrap();
                        new.sync_all().unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

fn by_us(maildirs: &[PathBuf], writers: usize, text: &str) -> usize {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .unwrap();
    let ours = Maildirs::new("mx.example.net", std::process::id(), SystemTime::now);
    let content = Arc::new(MemoryContent(text.to_owned().into()));
    runtime.block_on(async {
        let until = Instant::now() + RUN;
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let (ours, content) = (ours.clone(), content.clone());
                let maildir = maildirs[writer % maildirs.len()].clone();
                tokio::spawn(async move {
                    let mut count = 0;
                    while Instant::now() < until {
                        let mut body = content.open().await.unwrap();
                        let delivered = ours.deliver(&maildir, HEAD.into(), body.as_mut()).await;
                        delivered.unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    })
}
