//! The bounces that qmail writes (QSBMF, "qmail-send bounce message format"), and reading them.
//!
//! A bounce is: a header, a paragraph that begins `Hi. This is the`, a paragraph for each recipient that begins with its
//! address in angle brackets, a paragraph that begins with `-`, the message. [`write_note`] makes the paragraph of a
//! recipient at the time it fails; [`Notice`] makes the rest when the message is finished.

use crate::header::date::write_date;
use crate::{Address, ReversePath, quote_local_part, verp};

/// What is to be done about the failed recipients of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Tell the sender, from the null sender.
    Single(Address),
    /// The message was a bounce: tell the postmaster of this host, from the sender [`Plan::DOUBLE_BOUNCE_SENDER`].
    Double,
    /// The message was a double bounce: log it and forget it.
    Discard,
}

impl Plan {
    /// The sender of double bounces, which itself gets none.
    pub const DOUBLE_BOUNCE_SENDER: &[u8] = b"#@[]";
}

/// Decides by the sender of a message what its bounce is.
///
/// ```
/// use qmail_core::{Address, ReversePath, bounce::{Plan, plan}};
/// assert_eq!(plan(&ReversePath::Null), Plan::Double);
/// assert_eq!(plan(&ReversePath::new("l-@h-@[]")?), Plan::Single(Address::new("l-@h")?));
/// # Ok::<(), qmail_core::AddressError>(())
/// ```
pub fn plan(sender: &ReversePath) -> Plan {
    if sender.as_bytes() == Plan::DOUBLE_BOUNCE_SENDER {
        return Plan::Discard;
    }
    match verp::unmarked(sender) {
        ReversePath::Null => Plan::Double,
        ReversePath::Address(address) => Plan::Single(address),
    }
}

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
        last = if octet == b'\n' && last == b'\n' {
            b'/'
        } else {
            octet
        };
        sink.push(last);
    }
    sink.extend_from_slice(if end == 0 { b"\n" } else { b"\n\n" });
}

/// All of a bounce but the notes and the copy of the message: write [`head`](Self::write_head), the notes,
/// [`separator`](Self::write_separator), then the message as it is in the queue.
///
/// ```
/// use qmail_core::{Address, ReversePath, bounce::{Notice, write_note}};
/// let sender = ReversePath::new("ann@example.net")?;
/// let notice = Notice {
///     from: b"MAILER-DAEMON",
///     host: b"mail.example.org",
///     to: &Address::new("ann@example.net")?,
///     sender: &sender,
///     double: false,
/// };
/// let mut text = Vec::new();
/// notice.write_head(0, &mut text);
/// write_note(b"joe@example.org", b"Sorry, no mailbox here by that name. (#5.1.1)\n", &mut text);
/// notice.write_separator(&mut text);
/// assert!(text.ends_with(b"\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <ann@example.net>\n"));
/// # Ok::<(), qmail_core::AddressError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// The user that bounces are from (control/bouncefrom, default `MAILER-DAEMON`).
    pub from: &'a [u8],
    /// The host that bounces are from (control/bouncehost).
    pub host: &'a [u8],
    /// Whom this one goes to: the address of [`Plan::Single`], or the one for double bounces.
    pub to: &'a Address,
    /// The sender of the message, as the envelope has it.
    pub sender: &'a ReversePath,
    /// Whether the message was a bounce itself.
    pub double: bool,
}

impl Notice<'_> {
    /// Appends the header and the first paragraph.
    pub fn write_head(&self, seconds: u64, sink: &mut Vec<u8>) {
        sink.extend_from_slice(b"Date: ");
        write_date(seconds, sink);
        sink.extend_from_slice(b"\nFrom: ");
        push_line(&self.quoted_from(), sink);
        sink.extend_from_slice(b"To: ");
        push_line(&self.to.quoted(), sink);
        sink.extend_from_slice(
            b"Subject: failure notice\n\nHi. This is the qmail-send program at ",
        );
        push_without_lf(self.host, sink);
        sink.extend_from_slice(b".\n");
        sink.extend_from_slice(if self.double {
            &b"I tried to deliver a bounce message to this address, but the bounce bounced!\n\n"[..]
        } else {
            b"I'm afraid I wasn't able to deliver your message to the following addresses.\n\
              This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
        });
    }

    /// Appends what stands between the notes and the message.
    pub fn write_separator(&self, sink: &mut Vec<u8>) {
        sink.extend_from_slice(if self.double {
            &b"--- Below this line is the original bounce.\n\nReturn-Path: <"[..]
        } else {
            b"--- Below this line is a copy of the message.\n\nReturn-Path: <"
        });
        push_without_lf(&verp::unmarked(self.sender).quoted(), sink);
        sink.extend_from_slice(b">\n");
    }

    fn quoted_from(&self) -> Vec<u8> {
        let mut from = Vec::new();
        quote_local_part(self.from, &mut from);
        from.push(b'@');
        from.extend_from_slice(self.host);
        from
    }
}

fn push_line(octets: &[u8], sink: &mut Vec<u8>) {
    push_without_lf(octets, sink);
    sink.push(b'\n');
}

/// An address may hold an LF, quoted; a header line may not.
fn push_without_lf(octets: &[u8], sink: &mut Vec<u8>) {
    sink.extend(
        octets
            .iter()
            .map(|&octet| if octet == b'\n' { b'_' } else { octet }),
    );
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
fn split_failure(paragraph: &[u8]) -> Option<(&[u8], &[u8])> {
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

    #[test]
    fn notes_have_no_empty_line_inside() {
        for (recipient, report, note) in [
            ("joe@x", "No.\n", "<joe@x>:\nNo.\n\n"),
            ("joe@x", "No.", "<joe@x>:\nNo.\n\n"),
            ("joe@x", "No.\n\n\n", "<joe@x>:\nNo.\n\n"),
            ("joe@x", "a\n\nb\n", "<joe@x>:\na\n/b\n\n"),
            ("joe@x", "a\n\n\nb\n", "<joe@x>:\na\n/\nb\n\n"),
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
    fn the_sender_decides() {
        for (sender, want) in [
            ("", Plan::Double),
            ("-@[]", Plan::Double),
            ("#@[]", Plan::Discard),
            ("joe@x", Plan::Single(Address::new("joe@x").unwrap())),
            ("l-@h-@[]", Plan::Single(Address::new("l-@h").unwrap())),
        ] {
            assert_eq!(plan(&ReversePath::new(sender).unwrap()), want, "{sender}");
        }
    }

    fn written(sender: &str, to: &str, double: bool) -> String {
        let notice = Notice {
            from: b"MAILER DAEMON",
            host: b"mail.example.org",
            to: &Address::new(to.to_owned()).unwrap(),
            sender: &ReversePath::new(sender.to_owned()).unwrap(),
            double,
        };
        let mut sink = Vec::new();
        notice.write_head(1_700_000_000, &mut sink);
        write_note(b"joe@x", b"No.\n", &mut sink);
        notice.write_separator(&mut sink);
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn a_single_bounce() {
        insta::assert_snapshot!(written("a b@y-@[]", "a b@y", false), @r#"
        Date: 14 Nov 2023 22:13:20 -0000
        From: "MAILER DAEMON"@mail.example.org
        To: "a b"@y
        Subject: failure notice

        Hi. This is the qmail-send program at mail.example.org.
        I'm afraid I wasn't able to deliver your message to the following addresses.
        This is a permanent error; I've given up. Sorry it didn't work out.

        <joe@x>:
        No.

        --- Below this line is a copy of the message.

        Return-Path: <"a b"@y>
        "#);
    }

    #[test]
    fn a_double_bounce() {
        insta::assert_snapshot!(written("", "postmaster@mail.example.org", true), @r#"
        Date: 14 Nov 2023 22:13:20 -0000
        From: "MAILER DAEMON"@mail.example.org
        To: postmaster@mail.example.org
        Subject: failure notice

        Hi. This is the qmail-send program at mail.example.org.
        I tried to deliver a bounce message to this address, but the bounce bounced!

        <joe@x>:
        No.

        --- Below this line is the original bounce.

        Return-Path: <>
        "#);
    }

    #[test]
    fn what_was_written_is_read() {
        let text = written("a@y", "a@y", false)
            .replace("\n--- ", "\n<eve>:>:\r\nc\r\nd\r\n\r\n--- ")
            + "Subject: x\n\nbody\n";
        let body = text.split_once("\n\n").unwrap().1;
        let mut failures = parse(body.as_bytes()).unwrap();
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
