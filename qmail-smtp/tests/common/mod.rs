//! Owners for both machines, and transcripts of what they see.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "each test file uses a part of this; any instant serves as a start"
)]

pub mod client;
pub mod pair;
pub mod server;

use std::time::Instant;

/// An instant to count from.
pub fn start() -> Instant {
    Instant::now()
}

/// Octets as a transcript shows them, line by line, each after `mark`.
pub fn show(mark: &str, octets: &[u8]) -> String {
    let mut shown = String::new();
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        let (line, end) = match line {
            [line @ .., b'\r', b'\n'] => (line, ""),
            [line @ .., b'\n'] => (line, "\\n"),
            line => (line, "..."),
        };
        shown.push_str(&format!("{mark} {}{end}\n", qmail_core::Escaped(line)));
    }
    shown
}
