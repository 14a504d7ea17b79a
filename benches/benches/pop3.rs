//! The POP3 machine: messages out (issue: above 2 GB/s), listings, commands; and the listing of a Maildir.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qmail_core::Machine;
use qmail_pop3::{Config, Event, Greeting, Listing, RetrieveAnswer, Session};

fn listing(messages: usize) -> Listing {
    let mut listing = Listing::with_capacity(messages);
    for number in 0..messages {
        let id = format!("17000{number:05}.M{number:06}P4711.mail.example.org");
        listing.push(2048, id.as_bytes()).expect("an id");
    }
    listing
}

/// One RETR, in chunks of 64 KiB, the sink cleared as a socket would.
fn retrieve(session: &mut Session, now: Instant, message: &[u8], sink: &mut Vec<u8>) -> usize {
    session.receive(now, b"RETR 1\r\n");
    let mut chunks = message.chunks(64 * 1024);
    let mut sent = 0;
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Retrieve { question, .. } => {
                    session.answer_retrieve(now, question, RetrieveAnswer::Opened);
                }
                Event::BodyWanted => match chunks.next() {
                    Some(chunk) => {
                        let _ = session.body(now, chunk);
                    }
                    None => session.end_body(now),
                },
                event => panic!("{event:?}"),
            }
        }
        if !session.poll_transmit(sink) {
            return sent;
        }
        sent += black_box(&*sink).len();
        sink.clear();
    }
}

fn retr(criterion: &mut Criterion) {
    let line = b"Line of usual length, as most text in mail has it: seventy-two octets..\n";
    let base64 = b"TWFueSBoYW5kcyBtYWtlIGxpZ2h0IHdvcmsuIE1hbnkgaGFuZHMgbWFrZSBsaWdodCB3b3JrLi4u\n";
    let with_cr: Vec<u8> = [&line[..line.len() - 1], b"\r\n"].concat();
    let mut group = criterion.benchmark_group("pop3/retr");
    for (name, line) in [
        ("text", &line[..]),
        ("base64", base64),
        ("crlf", &with_cr),
        ("dots", b".short\n"),
        ("binary", &[0x80; 4096]),
    ] {
        let message = line.repeat((1 << 20) / line.len());
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &message, |b, message| {
            let now = Instant::now();
            let mut session = Session::logged_in(Arc::new(Config::default()), listing(1), now);
            let mut sink = Vec::new();
            b.iter(|| retrieve(&mut session, now, message, &mut sink));
        });
    }
    group.finish();
}

fn list(criterion: &mut Criterion) {
    const MESSAGES: usize = 20_000;
    let now = Instant::now();
    let mut group = criterion.benchmark_group("pop3/20,000 messages");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for command in ["LIST", "UIDL"] {
        let mut session = Session::logged_in(Arc::new(Config::default()), listing(MESSAGES), now);
        let line = format!("{command}\r\n");
        group.bench_function(command, |b| {
            let mut sink = Vec::new();
            b.iter(|| {
                session.receive(now, line.as_bytes());
                while session.poll_transmit(&mut sink) {
                    black_box(&sink);
                    sink.clear();
                }
            });
        });
    }
    group.finish();
}

fn commands(criterion: &mut Criterion) {
    let now = Instant::now();
    let commands = b"STAT\r\nLIST 3\r\nDELE 7\r\nRSET\r\nNOOP\r\n".repeat(20);
    let mut group = criterion.benchmark_group("pop3/commands");
    group.throughput(Throughput::Elements(100));
    group.bench_function("transaction", |b| {
        let mut session = Session::logged_in(Arc::new(Config::default()), listing(10), now);
        let mut sink = Vec::new();
        b.iter(|| {
            session.receive(now, &commands);
            session.poll_transmit(&mut sink);
            black_box(&sink);
            sink.clear();
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("session", |b| {
        let config = Arc::new(Config::default());
        let mut sink = Vec::new();
        b.iter(|| {
            let mut session = Session::new(Arc::clone(&config), Greeting::Plain, now);
            session.receive(now, b"USER joe\r\nQUIT\r\n");
            session.poll_transmit(&mut sink);
            black_box(&sink);
            sink.clear();
        });
    });
    group.finish();
}

fn maildir(criterion: &mut Criterion) {
    use qmail_pop3::{MaildirMaildrop, MaildirOptions, Maildrop};

    let home = tempfile::tempdir().expect("a directory");
    for name in ["tmp", "new", "cur"] {
        std::fs::create_dir(home.path().join(name)).expect("a directory");
    }
    for number in 0..20_000 {
        let name = format!("17000{number:05}.M{number:06}P4711.mail.example.org:2,S");
        std::fs::write(home.path().join("cur").join(name), b"x\n").expect("a file");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut group = criterion.benchmark_group("pop3/maildir");
    group.throughput(Throughput::Elements(20_000));
    group.sample_size(20);
    group.bench_function("list", |b| {
        b.iter(|| {
            let now = std::time::SystemTime::now();
            let mut maildrop = MaildirMaildrop::new(home.path(), MaildirOptions::default(), now);
            runtime
                .block_on(maildrop.list())
                .expect("a listing")
                .octets()
        });
    });
    group.finish();
}

criterion_group!(benches, retr, list, commands, maildir);
criterion_main!(benches);
