//! Address lists of any octets: what is written reads as what was read, and adds no line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmail_core::header::mailbox::Mailbox;
use qmail_core::header::{Qualifier, address_list, mailbox};

fuzz_target!(|value: &[u8]| {
    let qualifier = Qualifier::new(b"h.example", b"d.example", b"p.example").expect("good hosts");
    rewrite_twice(value, &qualifier);
    read_twice(value);
});

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

/// A written list of mailboxes reads as the same mailboxes, but for names that were written with odd blanks.
fn read_twice(value: &[u8]) {
    let write = |mailboxes: &[Mailbox<'_>]| {
        let mut list = Vec::new();
        mailbox::write(b"To", mailboxes, &mut list);
        list
    };
    let mut first = Vec::new();
    mailbox::read(value, &mut first);
    let list = write(&first);
    let mut second = Vec::new();
    mailbox::read(list.get(3..).unwrap_or_default(), &mut second);
    let again = write(&second);
    let mut third = Vec::new();
    mailbox::read(again.get(3..).unwrap_or_default(), &mut third);
    assert_eq!(third, second);
    assert_eq!(write(&third), again);
}
