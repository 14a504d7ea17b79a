//! Client and server session joined in memory, cut at every octet.

mod common;

use common::client::{Owner as ClientOwner, Sending, config as client_config, message};
use common::pair::Pair;
use common::server::{Owner as ServerOwner, Served};
use proptest::prelude::*;
use qmail_smtp::client::{Encoder, PartialLine, Transaction};
use qmail_smtp::server::{BareCr, BareLf, Config, Decoder, Progress};

fn messages() -> Vec<(Transaction, Vec<u8>)> {
    vec![
        message(
            "a@b",
            &["c@d", "nobody@d", "busy@d", "q r@d"],
            "Subject: 1\n\n.\n..\nend\n",
        ),
        message("", &["nobody@d"], "never seen\n"),
        message("a@b", &["c@d"], ""),
        message("a@b", &["c@d"], "\u{e9}\0\r\n.\rx\ry"),
    ]
}

fn pair(pipelining: bool) -> Pair {
    let mut client = client_config();
    client.pipelining = pipelining;
    let mut owner = ClientOwner::new(messages());
    owner.piece = 5;
    Pair::new(
        Sending::new(client, owner),
        Served::new(Config::new("mx.example.org"), ServerOwner::default()),
    )
}

/// What both owners saw, and the accepted texts.
fn result(pair: Pair) -> (Vec<String>, common::server::Seen) {
    assert!(pair.both_closed());
    (pair.client.owner.events, pair.server.owner.seen)
}

#[test]
fn messages_arrive_as_they_were_sent() {
    let mut pair = pair(true);
    pair.run(|| usize::MAX);
    let (client, server) = result(pair);
    let texts: Vec<&[u8]> = server.messages.iter().map(|(_, text)| &text[..]).collect();
    assert_eq!(
        texts,
        [
            &b"Subject: 1\n\n.\n..\nend\n"[..],
            b"",
            b"\xc3\xa9\0\n.\nx\ny\n",
        ]
    );
    let (envelope, _) = &server.messages[0];
    assert_eq!(envelope.sender.as_bytes(), b"a@b");
    let recipients: Vec<&[u8]> = envelope
        .recipients
        .iter()
        .map(|recipient| recipient.as_bytes())
        .collect();
    assert_eq!(recipients, [&b"c@d"[..], b"q r@d"]);
    insta::assert_snapshot!(client.join("\n"), @r#"
    recipient 0: 250 2.1.5 ok
    recipient 1: 550 5.1.1 no such mailbox
    recipient 2: 450 4.2.1 come back later
    recipient 3: 250 2.1.5 ok
    done: 250 2.0.0 ok
    recipient 0: 550 5.1.1 no such mailbox
    failed at Rcpt, Permanent 5.1.0: the server accepted no recipient
    recipient 0: 250 2.1.5 ok
    done: 250 2.0.0 ok
    recipient 0: 250 2.1.5 ok
    done: 250 2.0.0 ok
    closed
    "#);
}

#[test]
fn pieces_and_pipelining_change_nothing() {
    let mut whole = pair(true);
    whole.run(|| usize::MAX);
    let whole = result(whole);
    for pipelining in [true, false] {
        for size in 1..60 {
            let mut pair = pair(pipelining);
            pair.run(|| size);
            assert_eq!(result(pair), whole, "pieces of {size}, {pipelining}");
        }
    }
}

/// The connection breaks after every number of octets from client to server: what was accepted is whole, and what was not
/// reported done is either not there or a possible duplicate.
#[test]
fn a_broken_connection_never_halves_a_message() {
    let body = "Subject: x\n\n..\nbody\n";
    let sent_whole = {
        let mut pair = one_message(body);
        pair.run(|| usize::MAX);
        pair.client.sent.len()
    };
    for cut in 0..=sent_whole {
        let mut pair = one_message(body);
        let mut left = cut;
        let mut given = 0;
        loop {
            pair.client.drain();
            pair.server.drain();
            let news = pair.client.sent[given..].to_vec();
            let news = &news[..news.len().min(left)];
            pair.server.give(news);
            given += news.len();
            left -= news.len();
            let replies = std::mem::take(&mut pair.server.sent);
            if news.is_empty() && replies.is_empty() {
                break;
            }
            pair.client.give(&replies);
        }
        pair.server.eof();
        pair.client.eof();
        let seen = &pair.server.owner.seen;
        for (_, text) in &seen.messages {
            assert_eq!(text, body.as_bytes(), "cut at {cut}");
        }
        let done = pair
            .client
            .owner
            .events
            .iter()
            .any(|event| event.starts_with("done"));
        assert_eq!(done, !seen.messages.is_empty(), "cut at {cut}");
    }
}

fn one_message(body: &str) -> Pair {
    Pair::new(
        Sending::new(
            client_config(),
            ClientOwner::new([message("a@b", &["c@d"], body)]),
        ),
        Served::new(Config::new("mx.example.org"), ServerOwner::default()),
    )
}

/// What a text becomes on its way: every CR LF, LF and lone CR is one LF, and the last line has an end.
fn normalized(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + 1);
    let mut octets = text.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&b'\n');
                lines.push(b'\n');
            }
            octet => lines.push(octet),
        }
    }
    if lines.last().is_some_and(|&octet| octet != b'\n') {
        lines.push(b'\n');
    }
    lines
}

fn encode(text: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut sink = Vec::new();
    for piece in pieces(text, sizes) {
        encoder.encode(piece, &mut sink);
    }
    encoder
        .finish(PartialLine::Complete, &mut sink)
        .expect("lines are completed");
    sink
}

fn pieces<'a>(mut input: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().copied().cycle();
    std::iter::from_fn(move || {
        let length = sizes.next().unwrap_or(1).min(input.len());
        let (piece, rest) = input.split_at(length);
        input = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes(
        text in prop::collection::vec(
            prop_oneof![3 => Just(b'\n'), 2 => Just(b'\r'), 3 => Just(b'.'), 2 => any::<u8>()],
            0..200,
        ),
        sizes in prop::collection::vec(1_usize..20, 1..6),
        trailer in any::<bool>(),
    ) {
        let mut sent = encode(&text, &sizes);
        prop_assert_eq!(&sent, &encode(&text, &[usize::MAX]));
        let end = sent.len();
        if trailer {
            sent.extend_from_slice(b"QUIT\r\n");
        }
        for sizes in [&sizes[..], &[usize::MAX], &[1]] {
            let mut decoder = Decoder::new(BareLf::Refuse, BareCr::Refuse, u32::MAX);
            let mut found = Vec::new();
            let mut taken = 0;
            for piece in pieces(&sent, sizes) {
                let (octets, progress) = decoder.decode(piece, &mut found);
                taken += octets;
                if progress != Progress::More {
                    prop_assert_eq!(progress, Progress::End);
                    break;
                }
            }
            prop_assert_eq!(taken, end);
            prop_assert_eq!(&found, &normalized(&text));
        }
    }
}
