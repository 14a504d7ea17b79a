//! Whole headers of any octets: splitting is the same wherever the input is cut, a finished header splits into fields again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmail_core::header::{HostRules, Part, Qualifier, Splitter};
use qmail_core::message::compose::{ComposeSettings, Composition};
use qmail_core::message::inject::{Identity, Injection, Settings};
use qmail_core::message::{Addresses, Options, Stamp};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece_octets, message) = input;
    assert_eq!(
        split(message, usize::MAX),
        split(message, usize::from(piece_octets).max(1))
    );
    inject(message);
    compose(message);
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

fn inject(message: &[u8]) {
    let qualifier = Qualifier::new(b"h.example", b"d.example", b"p.example").expect("good hosts");
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
    check(&done.header, &done.recipients);
}

fn compose(message: &[u8]) {
    let rules = HostRules::standard(b"h.example", b"d.example", b"p.example");
    let settings = ComposeSettings::new(rules, Options::new("id.example"));
    let mut composition = Composition::new(&settings);
    let mut splitter = Splitter::new(1 << 20);
    let mut rest = message;
    while let Ok(Some(Part::Field(field))) = splitter.next(&mut rest) {
        composition.field(&field);
    }
    if let Ok(done) = composition.finish(Stamp::new(0, 1)) {
        check(&done.header, &done.recipients);
    }
}

/// A finished header is all header, and no recipient can break an envelope or an SMTP command.
fn check(header: &[u8], recipients: &Addresses) {
    assert!(header.ends_with(b"\n"));
    let mut splitter = Splitter::with_mbox_lines(usize::MAX);
    let mut rest = header;
    while let Some(part) = splitter.next(&mut rest).expect("no limit") {
        assert!(matches!(part, Part::Field(_)), "{part:?}");
    }
    for recipient in recipients.iter() {
        assert!(!recipient.is_empty());
        assert!(!recipient.iter().any(|octet| b"\r\n\0".contains(octet)));
    }
}
