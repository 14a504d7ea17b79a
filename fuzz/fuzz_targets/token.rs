//! Tokens of any octets, in both grammars: a written token reads as itself, whatever it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmail_core::header::token::{Grammar, Kind, Lexer};

fuzz_target!(|value: &[u8]| {
    for grammar in [Grammar::Strict, Grammar::Lenient] {
        let mut tokens = 0;
        for token in Lexer::new(value, grammar).map_while(Result::ok) {
            tokens += 1;
            let mut written = Vec::new();
            token.write_header(&mut written);
            assert!(!written.contains(&b'\n') || token.kind == Kind::Blank);
            if token.kind == Kind::Blank || written.is_empty() {
                continue;
            }
            let mut again = Lexer::new(&written, Grammar::Strict);
            let second = again.next().expect("a token").expect("a good one");
            assert!(again.next().is_none());
            assert_eq!(second.kind, token.kind);
            // What would break a line became a blank.
            let harmless = |octet| {
                if b"\r\n\0".contains(&octet) {
                    b' '
                } else {
                    octet
                }
            };
            assert!(second.value().eq(token.value().map(harmless)));
        }
        assert!(tokens <= value.len());
    }
});
