//! A lookup in an alias database of a million entries: in memory, where it lies on the disk (its pages being cached), and as
//! fastforward does it, with every way to find an address.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Cursor};
use std::os::unix::fs::FileExt as _;

use criterion::{Criterion, criterion_group, criterion_main};
use qmail_core::alias::expand;
use qmail_core::cdb::{Cdb, OnDisk, ReadAt, Table as _, Writer};

const ENTRIES: usize = 1_000_000;

fn alias(number: usize) -> String {
    format!(":user.number.{number}@list.example.org")
}

fn database() -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).expect("room");
    for number in 0..ENTRIES {
        let data = format!("&mailbox-{number}@host.example.org\0");
        writer
            .add(alias(number).as_bytes(), data.as_bytes())
            .expect("room");
    }
    writer.finish().expect("room").into_inner()
}

/// Numbers below [`ENTRIES`] without an order that a processor's caches could follow.
fn numbers() -> impl FnMut() -> usize {
    let mut state = 1u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % ENTRIES
    }
}

struct Disk(File);

impl ReadAt for Disk {
    fn read_exact_at(&self, octets: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(octets, at)
    }
}

fn lookups(criterion: &mut Criterion) {
    let octets = database();
    let mut file = tempfile::tempfile().expect("a file");
    io::Write::write_all(&mut file, &octets).expect("room");
    let disk = OnDisk::new(Disk(file), octets.len() as u64).expect("a database");
    let memory = Cdb::new(octets).expect("a database");
    // The keys are made beforehand: making one costs as much as finding it.
    let mut next = numbers();
    let keys: Vec<_> = (0..100_000).map(|_| alias(next())).collect();
    let mut group = criterion.benchmark_group("alias");
    let mut cycle = keys.iter().cycle();
    group.bench_function("in memory, found", |bencher| {
        bencher.iter(|| {
            let key = cycle.next().expect("it has no end").as_bytes();
            assert!(black_box(memory.get(key)).expect("whole").is_some());
        });
    });
    let mut cycle = keys.iter().cycle();
    group.bench_function("in memory, absent", |bencher| {
        bencher.iter(|| {
            let key = &cycle.next().expect("it has no end").as_bytes()[1..];
            assert!(black_box(memory.get(key)).expect("whole").is_none());
        });
    });
    let mut cycle = keys.iter().cycle();
    group.bench_function("on disk, found", |bencher| {
        bencher.iter(|| {
            let key = cycle.next().expect("it has no end").as_bytes();
            assert!(black_box(disk.first(key)).expect("whole").is_some());
        });
    });
    let mut cycle = keys.iter().cycle();
    group.bench_function("on disk, expanded to a recipient", |bencher| {
        bencher.iter(|| {
            let address = &cycle.next().expect("it has no end").as_bytes()[1..];
            let expansion = expand(&disk, address, |_| Err("no lists"));
            assert!(black_box(expansion).expect("whole").is_some());
        });
    });
    group.finish();
}

criterion_group!(benches, lookups);
criterion_main!(benches);
