//! A QMTP or QMQP server that says anything: whole and in pieces it means the same, and no package has more answers than
//! recipients.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use qmail_core::Machine;
use qmail_smtp::qmtp::{Client, ClientEvent, ClientTimeouts, Protocol};

const RECIPIENTS: [&[u8]; 2] = [b"a@b", b"c@d"];

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (qmqp, size, octets) = input;
    let protocol = if qmqp { Protocol::Qmqp } else { Protocol::Qmtp };
    let now = Instant::now();
    let whole = talk(now, protocol, usize::MAX, octets);
    assert_eq!(whole, talk(now, protocol, usize::from(size) + 1, octets));
    let answers_max = if qmqp { 1 } else { RECIPIENTS.len() };
    for package in 0..3 {
        let answers = whole.iter().filter(
            |event| matches!(event, ClientEvent::Answer { package: of, .. } if *of == package),
        );
        assert!(answers.count() <= answers_max);
    }
    assert!(matches!(whole.last(), Some(ClientEvent::Closed { .. })));
});

/// Everything that happens while three packages are sent, once all of them are.
fn talk(now: Instant, protocol: Protocol, size: usize, octets: &[u8]) -> Vec<ClientEvent> {
    let mut client = Client::new(protocol, ClientTimeouts::default(), now);
    let (mut packages, mut seen) = (0, Vec::new());
    drain(&mut client, &mut packages, &mut seen);
    for mut piece in octets.chunks(size) {
        while !piece.is_empty() {
            let taken = client.receive(now, piece);
            piece = &piece[taken..];
            drain(&mut client, &mut packages, &mut seen);
        }
    }
    client.handle_eof(now);
    drain(&mut client, &mut packages, &mut seen);
    assert!(client.is_closed());
    seen
}

fn drain(client: &mut Client, packages: &mut u32, seen: &mut Vec<ClientEvent>) {
    let mut sink = Vec::new();
    loop {
        match client.poll_event() {
            Some(ClientEvent::Ready) if *packages == 3 => client.finish(),
            Some(ClientEvent::Ready) => {
                *packages += 1;
                client.start(3, b"s@t", &RECIPIENTS).expect("it is ready");
            }
            Some(ClientEvent::BodyWanted) => client.body(b"hi"),
            Some(event) => seen.push(event),
            None if client.poll_transmit(&mut sink) => {}
            None => return,
        }
    }
}
