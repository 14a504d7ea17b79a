//! Any octets in any pieces as a PROXY header: the same is found, and never more than the header is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmail_smtp::proxy::{BadHeader, HEADER_OCTETS_MAX, Header, Origin};

fuzz_target!(|input: &[u8]| {
    let [size, input @ ..] = input else { return };
    let whole = read(input, usize::MAX);
    assert_eq!(read(input, usize::from(*size) + 1), whole);
    if let Some(Ok((_, taken))) = whole {
        assert!(taken <= HEADER_OCTETS_MAX);
        assert_eq!(
            read(&input[..taken], usize::MAX),
            whole,
            "what follows counts"
        );
    }
});

/// `None`: more is wanted than there is.
fn read(input: &[u8], size: usize) -> Option<Result<(Option<Origin>, usize), BadHeader>> {
    let mut header = Header::default();
    let mut taken = 0;
    loop {
        let rest = &input[taken..];
        let piece = &rest[..rest.len().min(header.wants()).min(size)];
        if piece.is_empty() {
            return None;
        }
        taken += piece.len();
        match header.receive(piece) {
            Ok(None) => {}
            Ok(Some(origin)) => return Some(Ok((origin, taken))),
            Err(error) => return Some(Err(error)),
        }
    }
}
