//! Names that no other delivery has: `TIME.M<usec>P<pid>Q<count>.HOST`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes unique file names for Maildirs.
#[derive(Debug)]
pub(super) struct Names {
    host: String,
    pid: u32,
    now: fn() -> SystemTime,
}

impl Names {
    pub(super) fn new(host: &[u8], pid: u32, now: fn() -> SystemTime) -> Self {
        Self {
            host: safe_host(host),
            pid,
            now,
        }
    }

    pub(super) fn next(&self) -> String {
        let since = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!(
            "{}.M{:06}P{}Q{count}.{}",
            since.as_secs(),
            since.subsec_micros(),
            self.pid,
            self.host
        )
    }
}

/// Counts for the whole process: the pid in a name stands for the process, not for one [`Names`] in it.
static COUNT: AtomicU64 = AtomicU64::new(1);

/// Writes the octets that may not be in a name, and all that would be hard to type, as `\ooo`.
fn safe_host(host: &[u8]) -> String {
    let mut safe = String::new();
    for &octet in &host[..host.len().min(HOST_OCTETS_MAX)] {
        if octet.is_ascii_graphic() && octet != b'/' && octet != b':' {
            safe.push(char::from(octet));
        } else {
            safe.push_str(&format!("\\{octet:03o}"));
        }
    }
    safe
}

/// So much of the host's name is used: with everything escaped, a name stays below 255 octets.
const HOST_OCTETS_MAX: usize = 48;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the real clock makes the names unique"
)]
mod tests {
    use super::*;

    #[test]
    fn hosts_cannot_leave_the_directory() {
        for (host, safe) in [
            (&b"mx.example.org"[..], "mx.example.org"),
            (b"../a:b", "..\\057a\\072b"),
            (b"a b\n\xff\0", "a\\040b\\012\\377\\000"),
            (b"", ""),
        ] {
            assert_eq!(safe_host(host), safe);
        }
        let names = Names::new(&[b'/'; 300], u32::MAX, SystemTime::now);
        assert!(names.next().len() < 255);
    }

    #[test]
    fn a_name_tells_when_and_who() {
        let names = Names::new(b"h", 77, || {
            UNIX_EPOCH + std::time::Duration::from_micros(1_700_000_000_000_042)
        });
        let name = names.next();
        assert!(name.starts_with("1700000000.M000042P77Q"), "{name}");
        assert!(name.ends_with(".h"), "{name}");
        assert_ne!(name, names.next());
    }
}
