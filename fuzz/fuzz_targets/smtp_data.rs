//! A text that is encoded and decoded, in any pieces, is itself with all line ends LF.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmail_smtp::client::{Encoder, PartialLine};
use qmail_smtp::server::{BareCr, BareLf, Decoder, Progress};

fuzz_target!(|input: &[u8]| {
    let [sizes, text @ ..] = input else { return };
    // Blocks of 64 octets are looked at together: some pieces are smaller, some hold several.
    let (encode_size, decode_size) = (
        usize::from(sizes >> 4) * 13 + 1,
        usize::from(sizes & 15) * 13 + 1,
    );
    let mut encoder = Encoder::default();
    let mut sent = Vec::new();
    for piece in text.chunks(encode_size) {
        encoder.encode(piece, &mut sent);
    }
    encoder
        .finish(PartialLine::Complete, &mut sent)
        .expect("lines are completed");
    assert!(
        !sent[..sent.len() - 3]
            .windows(5)
            .any(|it| it == b"\r\n.\r\n")
    );
    let end = sent.len();
    sent.extend_from_slice(b"QUIT\r\n");

    let mut decoder = Decoder::new(BareLf::Refuse, BareCr::Refuse, u32::MAX);
    let (mut found, mut taken) = (Vec::new(), 0);
    for piece in sent.chunks(decode_size) {
        let (octets, progress) = decoder.decode(piece, &mut found);
        taken += octets;
        if progress != Progress::More {
            assert_eq!(progress, Progress::End);
            break;
        }
    }
    assert_eq!(taken, end);
    assert_eq!(found, normalized(text));

    // The raw input as text on the wire: whatever it is, pieces change nothing.
    for (bare_lf, bare_cr) in [
        (BareLf::Refuse, BareCr::Refuse),
        (BareLf::Keep, BareCr::Keep),
    ] {
        let run = |size| {
            let mut decoder = Decoder::new(bare_lf, bare_cr, u32::MAX);
            let (mut found, mut taken) = (Vec::new(), 0);
            for piece in text.chunks(size) {
                let (octets, progress) = decoder.decode(piece, &mut found);
                taken += octets;
                if progress != Progress::More {
                    return (found, taken, progress);
                }
            }
            (found, taken, Progress::More)
        };
        assert_eq!(run(decode_size), run(usize::MAX));
    }
});

fn normalized(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + 1);
    let mut octets = text.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        if octet == b'\r' {
            octets.next_if_eq(&b'\n');
            lines.push(b'\n');
        } else {
            lines.push(octet);
        }
    }
    if lines.last().is_some_and(|&octet| octet != b'\n') {
        lines.push(b'\n');
    }
    lines
}
