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
    /// Hops still to come until it is a loop.
    left: u32,
    /// The header is over, or the loop is found.
    ended: bool,
}

/// Octets of a line that tell whether it counts.
const START: usize = b"delivered".len();

impl HopCounter {
    /// So many hops make a loop; 0 is as 1.
    pub(super) fn new(hops_max: u32) -> Self {
        Self {
            start: [0; START],
            filled: 0,
            left: hops_max.max(1),
            ended: false,
        }
    }

    /// Whether nothing needs to be shown any more.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Further octets of the current line, without its end.
    pub(super) fn text(&mut self, octets: &[u8]) {
        let filled = usize::from(self.filled);
        let taken = octets.len().min(START - filled);
        self.start[filled..filled + taken].copy_from_slice(&octets[..taken]);
        self.filled += taken as u8;
    }

    /// The current line ends. `true` once, when it makes the loop complete.
    pub(super) fn line_end(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let start = &self.start[..usize::from(self.filled)];
        let begins_with = |name: &[u8]| {
            start
                .get(..name.len())
                .is_some_and(|octets| octets.eq_ignore_ascii_case(name))
        };
        if begins_with(b"received") || begins_with(b"delivered") {
            self.left -= 1;
        }
        let looping = self.left == 0;
        self.ended = looping || start.is_empty();
        self.filled = 0;
        looping
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
            for hops_max in 1..4 {
                let mut counter = HopCounter::new(hops_max);
                let mut found = 0;
                for line in header.split('|') {
                    for octet in line.as_bytes() {
                        counter.text(&[*octet]);
                    }
                    found += u32::from(counter.line_end());
                }
                assert_eq!(found, u32::from(hops >= hops_max), "{header}, {hops_max}");
            }
        }
    }
}
