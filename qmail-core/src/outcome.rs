//! What became of a recipient.

use bytes::Bytes;

use crate::EnhancedStatus;

/// Longest report in octets that is kept (qmail-send(8) cuts there); the rest is dropped.
pub const REPORT_OCTETS_MAX: usize = 10_000;

/// What a delivery attempt did for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the recipient's hands: durable, or accepted by the next host.
    Delivered(Report),
    /// Not now; the queue tries again.
    Deferred(Report),
    /// Never; the sender is told.
    Failed(Report),
}

impl Outcome {
    /// The text that goes into the log and the bounce.
    pub fn report(&self) -> &Report {
        match self {
            Self::Delivered(report) | Self::Deferred(report) | Self::Failed(report) => report,
        }
    }

    /// The letter of the spawn protocol: `K`, `Z` or `D` (qmail-send's internals).
    pub fn letter(&self) -> u8 {
        match self {
            Self::Delivered(_) => b'K',
            Self::Deferred(_) => b'Z',
            Self::Failed(_) => b'D',
        }
    }
}

/// The text of an [`Outcome`]: lines ending in LF, at most [`REPORT_OCTETS_MAX`] octets.
///
/// By custom it carries its status at the end of its own line: `Sorry, no mailbox here by that name. (#5.1.1)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    text: Bytes,
}

impl Report {
    /// Cuts `text` at [`REPORT_OCTETS_MAX`].
    pub fn new(text: impl Into<Bytes>) -> Self {
        let mut text = text.into();
        text.truncate(REPORT_OCTETS_MAX);
        Self { text }
    }

    /// The text as it was given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The first `(#c.s.d)` in the text (RFC 3463).
    pub fn status(&self) -> Option<EnhancedStatus> {
        status_in(&self.text)
    }
}

/// The first `(#c.s.d)` in a text (RFC 3463).
pub(crate) fn status_in(text: &[u8]) -> Option<EnhancedStatus> {
    memchr::memmem::find_iter(text, b"(#").find_map(|at| {
        let rest = &text[at + 2..];
        EnhancedStatus::parse(&rest[..memchr::memchr(b')', rest)?])
    })
}

impl From<&'static str> for Report {
    fn from(text: &'static str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_knows_its_status() {
        let report = Report::from("Sorry (#1), no mailbox. (#5.1.1)\n");
        assert_eq!(
            report.status().map(|status| status.to_string()),
            Some("5.1.1".to_owned())
        );
        assert_eq!(Report::from("no (# status").status(), None);
    }
}
