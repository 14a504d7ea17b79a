//! Counts the lines of a header by which a message shows how often it was passed on.

/// Sees the lines of a message as they came over the wire, until the header ends.
///
/// As qmail-smtpd(8): a line counts if it begins with `received` or `delivered` in any case, whatever follows; the header
/// ends with the first empty line.
#[derive(Debug)]
pub(super) struct HopCounter {
    start: [u8; START],
    /// How much of `start` is filled.
    filled: u8,
    /// Hops so far; `None` of the lines still to come matters once `ended`.
    hops: u32,
    ended: bool,
}

/// Octets of a line that tell whether it counts.
const START: usize = b"delivered".len();

impl HopCounter {
    pub(super) fn new() -> Self {
        Self {
            start: [0; START],
            filled: 0,
            hops: 0,
            ended: false,
        }
    }

    /// Whether the header is over: nothing needs to be shown any more.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn hops(&self) -> u32 {
        self.hops
    }

    /// Further octets of the current line, without its end.
    pub(super) fn text(&mut self, octets: &[u8]) {
        let filled = usize::from(self.filled);
        let taken = octets.len().min(START - filled);
        self.start[filled..filled + taken].copy_from_slice(&octets[..taken]);
        self.filled += taken as u8;
    }

    /// The current line ends.
    pub(super) fn line_end(&mut self) {
        let start = &self.start[..usize::from(self.filled)];
        if start.is_empty() {
            self.ended = true;
        }
        let begins_with = |name: &[u8]| {
            start
                .get(..name.len())
                .is_some_and(|octets| octets.eq_ignore_ascii_case(name))
        };
        if begins_with(b"received") || begins_with(b"delivered") {
            self.hops = self.hops.saturating_add(1);
        }
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_by_their_start() {
        for (header, hops) in [
            ("Received: x", 1),
            ("received", 1),
            ("RECEIVEDandmore", 1),
            ("Delivered-To: x", 1),
            ("Deliver", 0),
            (" Received: x", 0),
            ("X-Received: x", 0),
            ("Received: x|Subject: y|DELIVERED-to: z", 2),
            ("Received: x||Received: y", 1),
        ] {
            let mut counter = HopCounter::new();
            for line in header.split('|') {
                if counter.ended() {
                    break;
                }
                for octet in line.as_bytes() {
                    counter.text(&[*octet]);
                }
                counter.line_end();
            }
            assert_eq!(counter.hops(), hops, "{header}");
        }
    }
}
