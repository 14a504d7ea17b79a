//! What others say of a client, in any pieces: an ident answer means the same, and no text of a DNS list breaks a reply.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use qmail_smtp::{dnsbl, ident};

fuzz_target!(|input: (u8, u16, [u8; 16], &[u8])| {
    let (size, octets_max, address, octets) = input;
    let octets_max = usize::from(octets_max);
    let read = |size: usize| {
        let mut answer = ident::Answer::new(octets_max);
        octets.chunks(size).find_map(|piece| answer.receive(piece))
    };
    let whole = read(usize::MAX);
    assert_eq!(read(usize::from(size) + 1), whole);
    if let Some(user) = whole {
        assert!(user.len() <= octets_max);
        let blanks = [b' ', b'\t', b'\r', b'\n'];
        assert!(!user.iter().any(|octet| blanks.contains(octet)));
    }

    let text = dnsbl::reply_text(octets);
    assert!(text.len() <= dnsbl::TEXT_OCTETS_MAX);
    assert!(text.iter().all(|octet| matches!(octet, b' '..=b'~')));
    let name = dnsbl::query_name(IpAddr::from(address), b"list.test");
    assert!(name.ends_with(b".list.test"));
    assert!(
        name.split(|&octet| octet == b'.')
            .all(|label| !label.is_empty())
    );
});
