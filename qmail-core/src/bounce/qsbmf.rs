//! The bounces that qmail writes (QSBMF, "qmail-send bounce message format"), and reading them.
//!
//! A bounce is: a header, a paragraph that begins `Hi. This is the`, a paragraph for each recipient that begins with its
//! address in angle brackets, a paragraph that begins with `-`, the message. [`write_note`] makes the paragraph of a
//! recipient at the time it fails; [`Notice`] makes the rest when the message is finished.

use super::notice::{Notice, push_without_lf};

/// Appends the paragraph of a recipient that failed for good: its address, the report, an empty line.
///
/// `recipient` is the address as the sender knows it, see [`Tables::strip_prefix`](crate::route::Tables::strip_prefix).
/// No line in between is empty, whatever the report holds: an LF that follows an LF becomes `/`. LFs at the end of the
/// report count as one.
///
/// ```
/// let mut notes = Vec::new();
/// qmail_core::bounce::write_note(b"joe@example.org", b"No such\n\nmailbox.\n", &mut notes);
/// assert_eq!(notes, b"<joe@example.org>:\nNo such\n/mailbox.\n\n");
/// ```
pub fn write_note(recipient: &[u8], report: &[u8], sink: &mut Vec<u8>) {
    sink.push(b'<');
    sink.extend(
        recipient
            .iter()
            .map(|&octet| if octet == b'\n' { b'_' } else { octet }),
    );
    sink.extend_from_slice(b">:\n");
    let end = report
        .iter()
        .rposition(|&octet| octet != b'\n')
        .map_or(0, |last| last + 1);
    let mut last = b'\n';
    for &octet in &report[..end] {
        let empty_line = octet == b'\n' && last == b'\n';
        sink.push(if empty_line { b'/' } else { octet });
        last = octet;
    }
    sink.extend_from_slice(if end == 0 { b"\n" } else { b"\n\n" });
}

/// Appends the header and the first paragraph.
pub(super) fn write_head(notice: &Notice<'_>, sink: &mut Vec<u8>) {
    notice.write_header(sink);
    sink.push(b'\n');
    write_opening(notice, sink);
}

/// Appends the first paragraph, and the empty line after it.
pub(super) fn write_opening(notice: &Notice<'_>, sink: &mut Vec<u8>) {
    sink.extend_from_slice(b"Hi. This is the qmail-send program at ");
    push_without_lf(notice.host, sink);
    sink.extend_from_slice(b".\n");
    sink.extend_from_slice(if notice.double {
        &b"I tried to deliver a bounce message to this address, but the bounce bounced!\n\n"[..]
    } else {
        b"I'm afraid I wasn't able to deliver your message to the following addresses.\n\
          This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
    });
}

/// Appends what stands between the notes and the message.
pub(super) fn write_separator(notice: &Notice<'_>, sink: &mut Vec<u8>) {
    sink.extend_from_slice(if notice.double {
        &b"--- Below this line is the original bounce.\n\n"[..]
    } else {
        b"--- Below this line is a copy of the message.\n\n"
    });
    notice.write_return_path(sink);
}

/// Appends what stands below a message of which only the beginning was copied.
pub(super) fn write_cut(notice: &Notice<'_>, sink: &mut Vec<u8>) {
    let octets = notice.message_octets;
    let line = format!("\n--- The message had {octets} bytes. The rest of it is left out here.\n");
    sink.extend_from_slice(line.as_bytes());
}

/// Reads the body of a bounce: address and report of each failed recipient.
///
/// `None` if it is no QSBMF bounce: its first paragraph does not begin `Hi. This is the`. LF and CR LF both end lines; the
/// report keeps its line ends.
///
/// ```
/// let body = b"Hi. This is the qmail-send program at x.\n\n<joe@y>:\nNo.\n\n--- Below\n\nReturn-Path: <a@b>\n";
/// let mut failures = qmail_core::bounce::parse(body).expect("a bounce");
/// assert_eq!(failures.next(), Some((&b"joe@y"[..], &b"No.\n"[..])));
/// assert_eq!(failures.next(), None);
/// assert_eq!(failures.original(), b"Return-Path: <a@b>\n");
/// ```
pub fn parse(body: &[u8]) -> Option<Failures<'_>> {
    let mut rest = body;
    let first = next_paragraph(&mut rest);
    first.starts_with(b"Hi. This is the").then_some(Failures {
        rest,
        broken: false,
    })
}

/// The failed recipients of a bounce, from [`parse`].
#[derive(Clone, Debug)]
pub struct Failures<'a> {
    rest: &'a [u8],
    /// The break paragraph was seen: what is left is the message.
    broken: bool,
}

impl<'a> Failures<'a> {
    /// The message that bounced, or as much of it as there is. To be called after the last recipient.
    pub fn original(&self) -> &'a [u8] {
        if self.broken { self.rest } else { b"" }
    }
}

impl<'a> Iterator for Failures<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.broken && !self.rest.is_empty() {
            let paragraph = next_paragraph(&mut self.rest);
            self.broken = paragraph.first() == Some(&b'-');
            if let Some(failure) = split_failure(paragraph) {
                return Some(failure);
            }
        }
        None
    }
}

/// `<address>:` on a line of its own, then the report. The address may hold `>:` itself, but no line end.
pub(super) fn split_failure(paragraph: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', paragraph).unwrap_or(paragraph.len());
    let first = &paragraph[..end];
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    let address = first.strip_prefix(b"<")?.strip_suffix(b">:")?;
    Some((address, paragraph.get(end + 1..).unwrap_or_default()))
}

/// Takes the lines up to an empty one, and the empty one; the latter is not part of the result.
fn next_paragraph<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let all = *rest;
    let mut start = 0;
    for lf in memchr::memchr_iter(b'\n', all) {
        let line = &all[start..lf];
        if line.is_empty() || line == b"\r" {
            *rest = &all[lf + 1..];
            return &all[..start];
        }
        start = lf + 1;
    }
    *rest = b"";
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, ReversePath};

    #[test]
    fn notes_have_no_empty_line_inside() {
        for (recipient, report, note) in [
            ("joe@x", "No.\n", "<joe@x>:\nNo.\n\n"),
            ("joe@x", "No.", "<joe@x>:\nNo.\n\n"),
            ("joe@x", "No.\n\n\n", "<joe@x>:\nNo.\n\n"),
            ("joe@x", "a\n\nb\n", "<joe@x>:\na\n/b\n\n"),
            ("joe@x", "a\n\n\nb\n", "<joe@x>:\na\n//b\n\n"),
            ("joe@x", "\nb\n", "<joe@x>:\n/b\n\n"),
            ("joe@x", "", "<joe@x>:\n\n"),
            ("joe@x", "\n\n", "<joe@x>:\n\n"),
            ("a\nb@x", "No.\n", "<a_b@x>:\nNo.\n\n"),
        ] {
            let mut sink = Vec::new();
            write_note(recipient.as_bytes(), report.as_bytes(), &mut sink);
            assert_eq!(String::from_utf8(sink).unwrap(), note, "{report:?}");
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let sender = ReversePath::new("a@y").unwrap();
        let to = Address::new("a@y").unwrap();
        let notice = Notice::new(b"h", &to, &sender);
        let mut body = Vec::new();
        write_opening(&notice, &mut body);
        write_note(b"joe@x", b"No.\n", &mut body);
        body.extend_from_slice(b"<eve>:>:\r\nc\r\nd\r\n\r\n");
        write_separator(&notice, &mut body);
        body.extend_from_slice(b"Subject: x\n\nbody\n");
        let mut failures = parse(&body).unwrap();
        assert_eq!(failures.next(), Some((&b"joe@x"[..], &b"No.\n"[..])));
        assert_eq!(failures.next(), Some((&b"eve>:"[..], &b"c\r\nd\r\n"[..])));
        assert_eq!(failures.next(), None);
        assert_eq!(
            failures.original(),
            b"Return-Path: <a@y>\nSubject: x\n\nbody\n"
        );
    }

    #[test]
    fn what_is_no_bounce_is_not_read() {
        assert!(parse(b"Hello.\n\n<joe@x>:\nNo.\n").is_none());
        assert!(parse(b"").is_none());
        let cut = parse(b"Hi. This is the end").unwrap();
        assert_eq!(cut.original(), b"");
        assert_eq!(cut.count(), 0);
        let cut = parse(b"Hi. This is the\n\ntext\n\n<joe@x>:").unwrap();
        assert_eq!(cut.collect::<Vec<_>>(), [(&b"joe@x"[..], &b""[..])]);
    }
}
