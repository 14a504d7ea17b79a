//! The hot paths of qmail-smtp: the text of messages in and out, and commands.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use memchr::memmem;
use qmail_core::{CHUNK_OCTETS_MAX, Machine};
use qmail_smtp::client::{Encoder, PartialLine};
use qmail_smtp::server::{BareCr, BareLf, Config, Decoder, Event, Session, Verdict};
use smtp_proto::Request;
use smtp_proto::request::receiver::DataReceiver;

/// A text of about this many octets with lines as mail has them: mostly 60 to 76 octets, some empty, one in 200 with a dot.
fn text(octets: usize) -> Vec<u8> {
    let mut text = b"Received: by a.example; 1 Jan 2026 00:00:00 -0000\nSubject: x\n\n".to_vec();
    let mut line = 0_usize;
    while text.len() < octets {
        line += 1;
        if line.is_multiple_of(200) {
            text.push(b'.');
        }
        if !line.is_multiple_of(12) {
            let length = 60 + line % 17;
            text.extend((0..length).map(|column| b'a' + ((line + column) % 26) as u8));
        }
        text.push(b'\n');
    }
    text
}

fn encoded(text: &[u8]) -> Vec<u8> {
    let mut sink = Vec::new();
    let mut encoder = Encoder::default();
    encoder.encode(text, &mut sink);
    encoder
        .finish(PartialLine::Complete, &mut sink)
        .expect("lines are completed");
    sink
}

fn data(criterion: &mut Criterion) {
    let text = text(1024 * 1024);
    let sent = encoded(&text);
    let mut group = criterion.benchmark_group("smtp_data");
    group.throughput(Throughput::Bytes(sent.len() as u64));
    group.bench_function("decode", |bencher| {
        let mut sink = Vec::with_capacity(CHUNK_OCTETS_MAX + 1);
        bencher.iter(|| {
            let mut decoder = Decoder::new(BareLf::Refuse, BareCr::Refuse, 100);
            for piece in black_box(&sent).chunks(CHUNK_OCTETS_MAX) {
                sink.clear();
                black_box(decoder.decode(piece, &mut sink));
            }
        });
    });
    // The peer, on the same octets in the same pieces. It keeps CR LF, so it has little more to do than to copy; it counts no
    // hops and takes any line end.
    group.bench_function("decode_smtp_proto", |bencher| {
        let mut sink = Vec::with_capacity(CHUNK_OCTETS_MAX + 1);
        bencher.iter(|| {
            let mut receiver = DataReceiver::new();
            for piece in black_box(&sent).chunks(CHUNK_OCTETS_MAX) {
                sink.clear();
                black_box(receiver.ingest(&mut piece.iter(), &mut sink));
            }
        });
    });
    // The same, and then the text as it is stored, as its owner would make it.
    group.bench_function("decode_smtp_proto_to_lf", |bencher| {
        let mut sink = Vec::with_capacity(CHUNK_OCTETS_MAX + 1);
        let mut stored = Vec::with_capacity(CHUNK_OCTETS_MAX + 1);
        bencher.iter(|| {
            let mut receiver = DataReceiver::new();
            for piece in black_box(&sent).chunks(CHUNK_OCTETS_MAX) {
                sink.clear();
                stored.clear();
                receiver.ingest(&mut piece.iter(), &mut sink);
                let mut start = 0;
                for end in memmem::find_iter(&sink, b"\r\n") {
                    stored.extend_from_slice(&sink[start..end]);
                    start = end + 1;
                }
                stored.extend_from_slice(&sink[start..]);
                black_box(&stored);
            }
        });
    });
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("encode", |bencher| {
        let mut sink = Vec::with_capacity(2 * CHUNK_OCTETS_MAX);
        bencher.iter(|| {
            let mut encoder = Encoder::default();
            for piece in black_box(&text).chunks(CHUNK_OCTETS_MAX) {
                sink.clear();
                encoder.encode(piece, &mut sink);
            }
            black_box(&sink);
        });
    });
    group.finish();
}

/// Drives a session as a pump does, with an owner who says yes; gives how many octets of text came.
fn drive(session: &mut Session, now: Instant, mut input: &[u8], sink: &mut Vec<u8>) -> usize {
    let mut octets = 0;
    loop {
        let taken = session.receive(now, input);
        input = &input[taken..];
        while let Some(event) = session.poll_event() {
            match event {
                Event::Mail { question, .. } => session.answer_mail(question, Verdict::Accept),
                Event::Rcpt { question, .. } => session.answer_rcpt(question, Verdict::Accept),
                Event::Data { question, .. } => session.answer_data(question, Verdict::Accept),
                Event::BodyEnd { question, .. } => {
                    session.answer_body_end(question, Verdict::Accept);
                }
                Event::Body(chunk) => octets += chunk.len(),
                _ => {}
            }
        }
        sink.clear();
        session.poll_transmit(sink);
        if input.is_empty() {
            return octets;
        }
    }
}

fn session() -> (Session, Instant) {
    let now = Instant::now();
    let mut config = Config::new("mx.example.org");
    config.idle_commands_max = u32::MAX;
    (Session::new(Arc::new(config), now), now)
}

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("smtp_server");
    let mut sink = Vec::new();

    let message = [
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n".to_vec(),
        encoded(&text(1024 * 1024)),
    ]
    .concat();
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("message_of_1_MiB", |bencher| {
        let (mut session, now) = session();
        bencher.iter(|| {
            for piece in black_box(&message).chunks(32 * 1024) {
                black_box(drive(&mut session, now, piece, &mut sink));
            }
        });
    });

    let noops = b"NOOP\r\n".repeat(1000);
    group.throughput(Throughput::Elements(1000));
    group.bench_function("noop", |bencher| {
        let (mut session, now) = session();
        bencher.iter(|| drive(&mut session, now, black_box(&noops), &mut sink));
    });

    let mut recipients = b"MAIL FROM:<a@b.example>\r\n".to_vec();
    for number in 0..999 {
        recipients.extend(format!("RCPT TO:<user{number}@host.example.org>\r\n").bytes());
    }
    group.throughput(Throughput::Elements(1000));
    group.bench_function("rcpt", |bencher| {
        bencher.iter_batched(
            session,
            |(mut session, now)| drive(&mut session, now, black_box(&recipients), &mut sink),
            BatchSize::SmallInput,
        );
    });
    // The peer only parses: no session, no question, no reply.
    group.bench_function("rcpt_smtp_proto", |bencher| {
        bencher.iter(|| {
            let mut octets = black_box(&recipients).iter();
            while !octets.as_slice().is_empty() {
                let _ = black_box(Request::parse(&mut octets));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, data, sessions);
criterion_main!(benches);
