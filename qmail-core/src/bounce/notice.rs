//! What a bounce consists of.

use super::{dsn, qsbmf};
use crate::header::date::write_date;
use crate::{Address, ReversePath, quote_local_part, verp};

/// What a bounce looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A text for people that programs can read: the bounce that qmail always wrote (QSBMF).
    #[default]
    Qsbmf,
    /// A multipart/report of the same text, delivery-status fields for programs, and the message (RFC 3462, RFC 3464).
    DeliveryStatus,
}

/// A bounce, without the notes of what failed and the message itself, which its owner has.
///
/// ```
/// use qmail_core::{Address, ReversePath, bounce::{Notice, Piece, write_note}};
/// let sender = ReversePath::new("ann@example.net")?;
/// let to = Address::new("ann@example.net")?;
/// let mut text = Vec::new();
/// for piece in Notice::new(b"mail.example.org", &to, &sender).pieces() {
///     match piece {
///         Piece::Text(octets) => text.extend(octets),
///         Piece::Notes => write_note(b"joe@example.org", b"No mailbox here by that name. (#5.1.1)\n", &mut text),
///         Piece::Message => text.extend(b"Subject: hello\n\nHello.\n"),
///         Piece::Statuses => {} // Only in the other form.
///     }
/// }
/// assert!(text.ends_with(b"a copy of the message.\n\nReturn-Path: <ann@example.net>\nSubject: hello\n\nHello.\n"));
/// # Ok::<(), qmail_core::AddressError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Notice<'a> {
    /// What it looks like. Default: [`Form::Qsbmf`].
    pub form: Form,
    /// The user that bounces are from (control/bouncefrom). Default: `MAILER-DAEMON`.
    pub from: &'a [u8],
    /// The host that bounces are from (control/bouncehost).
    pub host: &'a [u8],
    /// Whom this one goes to: the address of [`Plan::Single`](super::Plan::Single), or the one for double bounces.
    pub to: &'a Address,
    /// The sender of the message, as the envelope has it.
    pub sender: &'a ReversePath,
    /// Whether the message was a bounce itself. Default: no.
    pub double: bool,
    /// When the bounce is made, in seconds since 1970. Default: 0.
    pub seconds: u64,
    /// Size of the message. Default: 0.
    pub message_octets: u64,
    /// Whether only the beginning of the message is copied. Default: no.
    pub is_cut: bool,
    /// What nobody can guess, of letters and digits: no line of the message is to be taken for the end of a part. Only looked
    /// at in the form of a report. Default: `bounce`.
    pub word: &'a str,
}

/// A part of a bounce, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These octets.
    Text(Vec<u8>),
    /// The notes, as [`write_note`](super::write_note) made them.
    Notes,
    /// What a [`StatusWriter`](super::StatusWriter) makes of the notes.
    Statuses,
    /// The message, or its beginning ([`Excerpt`](super::Excerpt)) if that is all that is copied.
    Message,
}

impl<'a> Notice<'a> {
    /// A bounce of the host `host` that tells `to` about a message from `sender`.
    pub fn new(host: &'a [u8], to: &'a Address, sender: &'a ReversePath) -> Self {
        Self {
            form: Form::default(),
            from: b"MAILER-DAEMON",
            host,
            to,
            sender,
            double: false,
            seconds: 0,
            message_octets: 0,
            is_cut: false,
            word: "bounce",
        }
    }

    /// All of it, in order.
    pub fn pieces(&self) -> Vec<Piece> {
        let text = |write: fn(&Self, &mut Vec<u8>)| {
            let mut octets = Vec::new();
            write(self, &mut octets);
            Piece::Text(octets)
        };
        match (self.form, self.is_cut) {
            (Form::Qsbmf, false) => vec![
                text(qsbmf::write_head),
                Piece::Notes,
                text(qsbmf::write_separator),
                Piece::Message,
            ],
            (Form::Qsbmf, true) => vec![
                text(qsbmf::write_head),
                Piece::Notes,
                text(qsbmf::write_separator),
                Piece::Message,
                text(qsbmf::write_cut),
            ],
            (Form::DeliveryStatus, _) => vec![
                text(dsn::write_head),
                Piece::Notes,
                text(dsn::write_status_head),
                Piece::Statuses,
                text(dsn::write_message_head),
                Piece::Message,
                text(dsn::write_end),
            ],
        }
    }

    /// Appends Date, From, To and Subject.
    pub(super) fn write_header(&self, sink: &mut Vec<u8>) {
        sink.extend_from_slice(b"Date: ");
        write_date(self.seconds, sink);
        sink.extend_from_slice(b"\nFrom: ");
        let mut from = Vec::new();
        quote_local_part(self.from, &mut from);
        from.push(b'@');
        from.extend_from_slice(self.host);
        push_without_lf(&from, sink);
        sink.extend_from_slice(b"\nTo: ");
        push_without_lf(&self.to.quoted(), sink);
        sink.extend_from_slice(b"\nSubject: failure notice\n");
    }

    /// Appends the field that stands above the copy of the message.
    pub(super) fn write_return_path(&self, sink: &mut Vec<u8>) {
        sink.extend_from_slice(b"Return-Path: <");
        push_without_lf(&verp::unmarked(self.sender).quoted(), sink);
        sink.extend_from_slice(b">\n");
    }
}

/// An address may hold an LF, quoted; a header line may not.
pub(super) fn push_without_lf(octets: &[u8], sink: &mut Vec<u8>) {
    sink.extend(
        octets
            .iter()
            .map(|&octet| if octet == b'\n' { b'_' } else { octet }),
    );
}

#[cfg(test)]
mod tests {
    use super::super::{StatusWriter, write_note};
    use super::*;

    /// A bounce of two failures, put together.
    fn written(change: impl FnOnce(&mut Notice<'_>), sender: &str, to: &str) -> String {
        let (to, sender) = (
            Address::new(to.to_owned()).unwrap(),
            ReversePath::new(sender.to_owned()).unwrap(),
        );
        let mut notice = Notice::new(b"mail.example.org", &to, &sender);
        notice.seconds = 1_700_000_000;
        change(&mut notice);
        let mut notes = Vec::new();
        write_note(b"joe@x", b"No.\n", &mut notes);
        let report = b"192.0.2.1 does not like recipient.\nRemote host said: 550 5.7.1 no, not you\nGiving up on 192.0.2.1.\n";
        write_note(b"a b@y", report, &mut notes);
        let mut sink = Vec::new();
        for piece in notice.pieces() {
            match piece {
                Piece::Text(octets) => sink.extend(octets),
                Piece::Notes => sink.extend_from_slice(&notes),
                Piece::Statuses => {
                    let mut writer = StatusWriter::default();
                    writer.push(&notes, &mut sink);
                    writer.end(&mut sink);
                }
                Piece::Message => sink.extend_from_slice(b"Subject: hello\n\nHello.\n"),
            }
        }
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn a_single_bounce() {
        let bounce = written(
            |notice| notice.from = b"MAILER DAEMON",
            "a b@y-@[]",
            "a b@y",
        );
        insta::assert_snapshot!(bounce, @r#"
        Date: 14 Nov 2023 22:13:20 -0000
        From: "MAILER DAEMON"@mail.example.org
        To: "a b"@y
        Subject: failure notice

        Hi. This is the qmail-send program at mail.example.org.
        I'm afraid I wasn't able to deliver your message to the following addresses.
        This is a permanent error; I've given up. Sorry it didn't work out.

        <joe@x>:
        No.

        <a b@y>:
        192.0.2.1 does not like recipient.
        Remote host said: 550 5.7.1 no, not you
        Giving up on 192.0.2.1.

        --- Below this line is a copy of the message.

        Return-Path: <"a b"@y>
        Subject: hello

        Hello.
        "#);
    }

    #[test]
    fn a_double_bounce() {
        let bounce = written(
            |notice| notice.double = true,
            "",
            "postmaster@mail.example.org",
        );
        insta::assert_snapshot!(bounce, @"
        Date: 14 Nov 2023 22:13:20 -0000
        From: MAILER-DAEMON@mail.example.org
        To: postmaster@mail.example.org
        Subject: failure notice

        Hi. This is the qmail-send program at mail.example.org.
        I tried to deliver a bounce message to this address, but the bounce bounced!

        <joe@x>:
        No.

        <a b@y>:
        192.0.2.1 does not like recipient.
        Remote host said: 550 5.7.1 no, not you
        Giving up on 192.0.2.1.

        --- Below this line is the original bounce.

        Return-Path: <>
        Subject: hello

        Hello.
        ");
    }

    #[test]
    fn a_bounce_with_the_beginning_of_a_message() {
        let bounce = written(
            |notice| {
                notice.is_cut = true;
                notice.message_octets = 50_000_000;
            },
            "ann@example.net",
            "ann@example.net",
        );
        insta::assert_snapshot!(bounce, @"
        Date: 14 Nov 2023 22:13:20 -0000
        From: MAILER-DAEMON@mail.example.org
        To: ann@example.net
        Subject: failure notice

        Hi. This is the qmail-send program at mail.example.org.
        I'm afraid I wasn't able to deliver your message to the following addresses.
        This is a permanent error; I've given up. Sorry it didn't work out.

        <joe@x>:
        No.

        <a b@y>:
        192.0.2.1 does not like recipient.
        Remote host said: 550 5.7.1 no, not you
        Giving up on 192.0.2.1.

        --- Below this line is a copy of the message.

        Return-Path: <ann@example.net>
        Subject: hello

        Hello.

        --- The message had 50000000 bytes. The rest of it is left out here.
        ");
    }

    #[test]
    fn a_report() {
        let bounce = written(
            |notice| {
                notice.form = Form::DeliveryStatus;
                notice.word = "0123456789abcdef";
            },
            "ann@example.net",
            "ann@example.net",
        );
        insta::assert_snapshot!(bounce, @r#"
        Date: 14 Nov 2023 22:13:20 -0000
        From: MAILER-DAEMON@mail.example.org
        To: ann@example.net
        Subject: failure notice
        Message-ID: <1700000000.0123456789abcdef@mail.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type=delivery-status;
        	boundary="0123456789abcdef"
        Content-Transfer-Encoding: 8bit

        --0123456789abcdef
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: 8bit

        Hi. This is the qmail-send program at mail.example.org.
        I'm afraid I wasn't able to deliver your message to the following addresses.
        This is a permanent error; I've given up. Sorry it didn't work out.

        <joe@x>:
        No.

        <a b@y>:
        192.0.2.1 does not like recipient.
        Remote host said: 550 5.7.1 no, not you
        Giving up on 192.0.2.1.


        --0123456789abcdef
        Content-Type: message/delivery-status

        Reporting-MTA: dns; mail.example.org

        Final-Recipient: rfc822; joe@x
        Action: failed
        Status: 5.0.0
        Diagnostic-Code: x-qmail; No.

        Final-Recipient: rfc822; "a b"@y
        Action: failed
        Status: 5.7.1
        Diagnostic-Code: smtp; 550 5.7.1 no, not you

        --0123456789abcdef
        Content-Type: message/rfc822
        Content-Transfer-Encoding: 8bit

        Return-Path: <ann@example.net>
        Subject: hello

        Hello.

        --0123456789abcdef--
        "#);
    }

    #[test]
    fn a_report_of_a_bounce_with_the_beginning_of_it() {
        let bounce = written(
            |notice| {
                notice.form = Form::DeliveryStatus;
                notice.double = true;
                notice.is_cut = true;
                notice.message_octets = 50_000_000;
            },
            "",
            "postmaster@mail.example.org",
        );
        insta::assert_snapshot!(bounce, @r#"
        Date: 14 Nov 2023 22:13:20 -0000
        From: MAILER-DAEMON@mail.example.org
        To: postmaster@mail.example.org
        Subject: failure notice
        Message-ID: <1700000000.bounce@mail.example.org>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type=delivery-status;
        	boundary="bounce"
        Content-Transfer-Encoding: 8bit

        --bounce
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: 8bit

        Hi. This is the qmail-send program at mail.example.org.
        I tried to deliver a bounce message to this address, but the bounce bounced!

        <joe@x>:
        No.

        <a b@y>:
        192.0.2.1 does not like recipient.
        Remote host said: 550 5.7.1 no, not you
        Giving up on 192.0.2.1.

        The message had 50000000 bytes. Only its beginning is attached.

        --bounce
        Content-Type: message/delivery-status

        Reporting-MTA: dns; mail.example.org

        Final-Recipient: rfc822; joe@x
        Action: failed
        Status: 5.0.0
        Diagnostic-Code: x-qmail; No.

        Final-Recipient: rfc822; "a b"@y
        Action: failed
        Status: 5.7.1
        Diagnostic-Code: smtp; 550 5.7.1 no, not you

        --bounce
        Content-Type: message/rfc822
        Content-Transfer-Encoding: 8bit

        Return-Path: <>
        Subject: hello

        Hello.

        --bounce--
        "#);
    }
}
