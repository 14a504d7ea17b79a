//! Header fields of any octets: splitting is the same wherever the input is cut, rewriting is stable and adds no line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmail_core::header::{Part, Qualifier, Splitter, address_list, mailbox};
use qmail_core::message::inject::{Identity, Injection, Settings};
use qmail_core::message::{Options, Stamp};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece_octets, message) = input;
    assert_eq!(
        split(message, usize::MAX),
        split(message, usize::from(piece_octets).max(1))
    );
    let qualifier = Qualifier::new(b"h.example", b"d.example", b"p.example").expect("good hosts");
    rewrite_twice(message, &qualifier);
    read_twice(message);
    inject(message, qualifier);
});

fn split(message: &[u8], piece_octets: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut splitter = Splitter::with_mbox_lines(1 << 20);
    let mut fields = Vec::new();
    let mut body = None::<Vec<u8>>;
    for mut piece in message.chunks(piece_octets.min(message.len().max(1))) {
        while body.is_none()
            && let Ok(Some(part)) = splitter.next(&mut piece)
        {
            match part {
                Part::Field(field) => fields.push(field.raw().to_vec()),
                Part::Body { start, .. } => body = Some(start.to_vec()),
            }
        }
        if let Some(body) = &mut body {
            body.extend_from_slice(piece);
        }
    }
    while body.is_none()
        && let Some(part) = splitter.finish()
    {
        match part {
            Part::Field(field) => fields.push(field.raw().to_vec()),
            Part::Body { start, .. } => body = Some(start.to_vec()),
        }
    }
    (fields, body.expect("a message has a body"))
}

/// A rewritten list is rewritten to itself, and every line of it is a continuation.
fn rewrite_twice(value: &[u8], qualifier: &Qualifier) {
    let once = |value: &[u8]| {
        let mut list = b"To:".to_vec();
        let mut addresses = Vec::new();
        address_list::rewrite(value, qualifier, &mut list, |address| {
            addresses.push(address.to_vec());
        })
        .map(|()| (list, addresses))
    };
    if let Ok((list, addresses)) = once(value) {
        assert!(
            list.split(|&octet| octet == b'\n')
                .skip(1)
                .all(|line| line.starts_with(b"  ") && line.len() > 2)
        );
        assert!(
            addresses
                .iter()
                .flatten()
                .all(|octet| !b"\r\n\0".contains(octet))
        );
        assert_eq!(once(&list[3..]), Ok((list, addresses)));
    }
}

fn read_twice(value: &[u8]) {
    let once = |value: &[u8]| {
        let mut mailboxes = Vec::new();
        mailbox::read(value, &mut mailboxes);
        let mut list = Vec::new();
        mailbox::write(b"To", &mailboxes, &mut list);
        list
    };
    let list = once(value);
    let again = once(list.get(3..).unwrap_or_default());
    assert_eq!(once(again.get(3..).unwrap_or_default()), again);
}

fn inject(message: &[u8], qualifier: Qualifier) {
    let settings = Settings::new(qualifier, Options::new("id.example"), Identity::new("joe"));
    let mut injection = Injection::new(&settings);
    let mut splitter = Splitter::with_mbox_lines(1 << 20);
    let mut rest = message;
    while let Ok(Some(Part::Field(field))) = splitter.next(&mut rest) {
        if injection.field(&field).is_err() {
            return;
        }
    }
    let done = injection
        .finish(Stamp::new(0, 1))
        .expect("a complete message");
    assert!(done.header.ends_with(b"\n"));
    assert!(done.recipients.iter().all(|address| !address.is_empty()));
}
