//! The header library on headers of three sizes: splitting, rewriting of address lists, completing; and the crate
//! mail-parser on the same octets.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mail_parser::MessageParser;
use qmail_core::header::{Part, Qualifier, Splitter, address_list, mailbox};
use qmail_core::message::inject::{Identity, Injection, Settings};
use qmail_core::message::{Options, Stamp};

/// A header as mail programs write it.
const HEADER: &str = "Received: from mx.example.net (HELO mx.example.net) (192.0.2.25)\n  by mail.example.org with SMTP; 14 Nov 2023 22:13:20 -0000\n\
Received: from localhost (unknown [127.0.0.1])\n\tby mx.example.net (Postfix) with ESMTP id 4SVkQd0c1Mz9sWK\n\tfor <ann@example.org>; Tue, 14 Nov 2023 23:13:19 +0100 (CET)\n\
Date: Tue, 14 Nov 2023 23:13:18 +0100\n\
From: \"Joe Q. Public\" <joe@example.net>\n\
To: Ann Other <ann@example.org>, bob@example.org (Bob),\n \"Smith, J.\" <j.smith@sales.example.com>,\n =?utf-8?q?J=C3=B6rg?= <joerg@example.de>\n\
Cc: team@lists.example.org, undisclosed: eve@example.com, mallory@example.com;\n\
Subject: Minutes of the meeting of the working group, second draft\n\
Message-ID: <20231114221318.GA77@example.net>\n\
In-Reply-To: <65534A11.3050605@example.org>\n\
References: <65530D01.1050301@example.org> <20231113080000.GB12@example.net>\n\t<65534A11.3050605@example.org>\n\
MIME-Version: 1.0\n\
Content-Type: multipart/signed; micalg=pgp-sha256;\n\tprotocol=\"application/pgp-signature\"; boundary=\"qDbXVdCdHGoSgWSk\"\n\
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=2023;\n\tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\n\tb=dGhpcyBpcyBub3QgYSBzaWduYXR1cmUgYnV0IGl0IGxvb2tzIGxpa2Ugb25lIGFuZCBoYXMg\n";

/// A header of about this size, by repeating one and lengthening its list of addresses.
fn header(octets: usize) -> Vec<u8> {
    HEADER.repeat(octets.div_ceil(HEADER.len())).into_bytes()
}

/// A list of about this size.
fn list(octets: usize) -> Vec<u8> {
    let part = " Ann Other <ann@example.org>, bob@example.org (Bob),\n \"Smith, J.\" <j.smith@sales.example.com>,";
    part.repeat(octets.div_ceil(part.len())).into_bytes()
}

fn qualifier() -> Qualifier {
    Qualifier::new(b"example.org", b"example.org", b"example.org").expect("good hosts")
}

fn split(header: &[u8]) -> usize {
    let mut splitter = Splitter::new(usize::MAX);
    let mut rest = header;
    let mut octets = 0;
    while let Ok(Some(Part::Field(field))) = splitter.next(&mut rest) {
        octets += field.name().len();
    }
    octets
}

fn complete(header: &[u8], settings: &Settings) -> usize {
    let mut splitter = Splitter::new(usize::MAX);
    let mut injection = Injection::new(settings);
    let mut rest = header;
    while let Ok(Some(Part::Field(field))) = splitter.next(&mut rest) {
        injection.field(&field).expect("good fields");
    }
    injection
        .finish(Stamp::new(0, 1))
        .expect("a message")
        .header
        .len()
}

fn headers(criterion: &mut Criterion) {
    let settings = Settings::new(
        qualifier(),
        Options::new("example.org"),
        Identity::new("joe"),
    );
    for octets in [1 << 10, 10 << 10, 1 << 20, 10 << 20] {
        let header = [header(octets), b"\n".to_vec()].concat();
        let mut group = criterion.benchmark_group("header");
        group
            .throughput(Throughput::Bytes(header.len() as u64))
            .sample_size(10);
        group.bench_with_input(
            BenchmarkId::new("split", octets),
            &header,
            |bench, header| {
                bench.iter(|| split(black_box(header)));
            },
        );
        group.bench_with_input(
            BenchmarkId::new("complete", octets),
            &header,
            |bench, header| {
                bench.iter(|| complete(black_box(header), &settings));
            },
        );
        group.bench_with_input(
            BenchmarkId::new("mail-parser", octets),
            &header,
            |bench, header| {
                bench.iter(|| {
                    MessageParser::default()
                        .parse_headers(black_box(&header[..]))
                        .map(|message| message.headers().len())
                });
            },
        );
        group.finish();
    }
}

fn lists(criterion: &mut Criterion) {
    let qualifier = qualifier();
    for octets in [1 << 10, 10 << 10, 1 << 20] {
        let list = list(octets);
        let message = [&b"To:"[..], &list, b"\n\n"].concat();
        let mut group = criterion.benchmark_group("address list");
        group
            .throughput(Throughput::Bytes(list.len() as u64))
            .sample_size(10);
        group.bench_with_input(BenchmarkId::new("rewrite", octets), &list, |bench, list| {
            bench.iter(|| {
                let mut sink = b"To:".to_vec();
                let mut addresses = 0;
                address_list::rewrite(black_box(list), &qualifier, &mut sink, |_| addresses += 1)
                    .expect("a good list");
                (sink.len(), addresses)
            });
        });
        group.bench_with_input(
            BenchmarkId::new("mailboxes", octets),
            &list,
            |bench, list| {
                bench.iter(|| {
                    let mut mailboxes = Vec::new();
                    mailbox::read(black_box(list), &mut mailboxes);
                    mailboxes.len()
                });
            },
        );
        group.bench_with_input(
            BenchmarkId::new("mail-parser", octets),
            &message,
            |bench, message| {
                bench.iter(|| {
                    MessageParser::default()
                        .parse_headers(black_box(&message[..]))
                        .map(|message| message.headers().len())
                });
            },
        );
        group.finish();
    }
}

criterion_group!(benches, headers, lists);
criterion_main!(benches);
