//! Bounces as delivery status notifications: multipart/report (RFC 3462, RFC 6522) with message/delivery-status (RFC 3464).
//!
//! The parts are: the text of the other form, for people; the fields, for programs; the message. What the fields say is read
//! from the notes, so both forms tell the same, and a queue can change its form at any time.

use std::fmt::Write as _;

use super::notice::{Notice, push_without_lf};
use super::qsbmf::{split_failure, write_opening};
use crate::outcome::status_in;
use crate::{EnhancedStatus, StatusClass, quote_address};

/// Appends the header, and the first part up to the notes.
pub(super) fn write_head(notice: &Notice<'_>, sink: &mut Vec<u8>) {
    notice.write_header(sink);
    let (seconds, word) = (notice.seconds, notice.word);
    sink.extend_from_slice(format!("Message-ID: <{seconds}.{word}@").as_bytes());
    push_without_lf(notice.host, sink);
    let rest = format!(
        ">\n\
         Auto-Submitted: auto-replied\n\
         MIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status;\n\
         \tboundary=\"{word}\"\n\
         Content-Transfer-Encoding: 8bit\n\
         \n\
         --{word}\n\
         Content-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\
         \n"
    );
    sink.extend_from_slice(rest.as_bytes());
    write_opening(notice, sink);
}

/// Appends the end of the first part, and the fields that concern the message.
pub(super) fn write_status_head(notice: &Notice<'_>, sink: &mut Vec<u8>) {
    if notice.is_cut {
        let octets = notice.message_octets;
        let line = format!("The message had {octets} bytes. Only its beginning is attached.\n");
        sink.extend_from_slice(line.as_bytes());
    }
    let head = format!(
        "\n--{}\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; ",
        notice.word
    );
    sink.extend_from_slice(head.as_bytes());
    push_visible(notice.host, sink);
    sink.push(b'\n');
}

/// Appends the head of the last part, and the field that the message gets in both forms.
pub(super) fn write_message_head(notice: &Notice<'_>, sink: &mut Vec<u8>) {
    // The message may have octets beyond ASCII; saying so of one that has none is no lie.
    let head = format!(
        "\n--{}\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\n",
        notice.word
    );
    sink.extend_from_slice(head.as_bytes());
    notice.write_return_path(sink);
}

/// Appends what ends the last part.
pub(super) fn write_end(notice: &Notice<'_>, sink: &mut Vec<u8>) {
    sink.extend_from_slice(format!("\n--{}--\n", notice.word).as_bytes());
}

/// Makes delivery-status fields of notes, which come in any pieces.
///
/// Each recipient gets Final-Recipient, Action, Status, and the report as Diagnostic-Code: of type `smtp` if it tells what a
/// remote host said, else `x-qmail`. Without a status in the report or that reply it is 5.0.0. An address beyond ASCII is of type `utf-8`
/// (RFC 6533). Of the note of a recipient, 16 KiB are looked at.
///
/// ```
/// use qmail_core::bounce::{StatusWriter, write_note};
/// let mut notes = Vec::new();
/// write_note(b"joe@example.org", b"No mailbox here by that name. (#5.1.1)\n", &mut notes);
/// let (mut writer, mut fields) = (StatusWriter::default(), Vec::new());
/// writer.push(&notes, &mut fields);
/// writer.end(&mut fields);
/// assert_eq!(
///     String::from_utf8_lossy(&fields),
///     "\nFinal-Recipient: rfc822; joe@example.org\nAction: failed\nStatus: 5.1.1\n\
///      Diagnostic-Code: x-qmail; No mailbox here by that name. (#5.1.1)\n"
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct StatusWriter {
    note: Vec<u8>,
    /// The last octet was an LF: another one ends the note.
    at_line_start: bool,
}

impl StatusWriter {
    /// Takes the next octets of the notes; appends the fields of those that are complete.
    pub fn push(&mut self, mut octets: &[u8], sink: &mut Vec<u8>) {
        while let Some(lf) = memchr::memchr(b'\n', octets) {
            let (line, rest) = octets.split_at(lf + 1);
            octets = rest;
            if lf == 0 && self.at_line_start {
                self.write_note(sink);
            } else {
                self.keep(line);
            }
            self.at_line_start = true;
        }
        if !octets.is_empty() {
            self.keep(octets);
            self.at_line_start = false;
        }
    }

    /// Ends the notes.
    pub fn end(mut self, sink: &mut Vec<u8>) {
        self.write_note(sink);
    }

    fn keep(&mut self, octets: &[u8]) {
        let room = NOTE_OCTETS_MAX - self.note.len();
        self.note
            .extend_from_slice(&octets[..octets.len().min(room)]);
    }

    fn write_note(&mut self, sink: &mut Vec<u8>) {
        if let Some((recipient, report)) = split_failure(&self.note) {
            write_recipient(recipient, report, sink);
        }
        self.note.clear();
    }
}

/// As much of a note as is looked at: an address and a report of the longest kind fit.
const NOTE_OCTETS_MAX: usize = 16 * 1024;

fn write_recipient(recipient: &[u8], report: &[u8], sink: &mut Vec<u8>) {
    sink.extend_from_slice(b"\nFinal-Recipient: ");
    write_address(recipient, sink);
    sink.extend_from_slice(b"\nAction: failed\nStatus: ");
    let reply = said_by_remote_host(report);
    let status = status_in(report).or_else(|| status_of(reply?));
    // A status of success is about something else.
    let status = status.filter(|status| status.class != StatusClass::Success);
    let status = status.unwrap_or(EnhancedStatus::permanent(0, 0));
    sink.extend_from_slice(status.to_string().as_bytes());
    sink.extend_from_slice(b"\nDiagnostic-Code: ");
    match reply {
        Some(reply) => write_folded(b"smtp;", reply, sink),
        None => write_folded(b"x-qmail;", report, sink),
    }
    sink.push(b'\n');
}

/// The reply that a report of qmail-remote quotes: one line.
fn said_by_remote_host(report: &[u8]) -> Option<&[u8]> {
    let start = memchr::memmem::find(report, REMOTE_HOST_SAID)? + REMOTE_HOST_SAID.len();
    let reply = &report[start..];
    let reply = &reply[..memchr::memchr(b'\n', reply).unwrap_or(reply.len())];
    let code = reply.get(..3)?;
    code.iter().all(u8::is_ascii_digit).then_some(reply)
}

/// The status that follows the code of an SMTP reply (RFC 2034).
fn status_of(reply: &[u8]) -> Option<EnhancedStatus> {
    let text = reply.get(4..)?;
    EnhancedStatus::parse(text.split(|&octet| octet == b' ').next()?)
}

const REMOTE_HOST_SAID: &[u8] = b"Remote host said: ";

/// Type and address. Beyond ASCII, and in that form `+`, `=`, `\` and blanks, octets are written as `\x{HEX}`.
fn write_address(address: &[u8], sink: &mut Vec<u8>) {
    match std::str::from_utf8(address) {
        Ok(text) if !text.is_ascii() => {
            sink.extend_from_slice(b"utf-8; ");
            for letter in text.chars() {
                match letter {
                    '+' | '=' | '\\' => push_embedded(letter, sink),
                    '!'..='~' => sink.push(letter as u8),
                    _ => push_embedded(letter, sink),
                }
            }
        }
        _ => {
            sink.extend_from_slice(b"rfc822; ");
            let mut quoted = Vec::new();
            quote_address(address, &mut quoted);
            push_visible(&quoted, sink);
        }
    }
}

fn push_embedded(letter: char, sink: &mut Vec<u8>) {
    let mut embedded = String::new();
    let _ = write!(embedded, "\\x{{{:X}}}", u32::from(letter));
    sink.extend_from_slice(embedded.as_bytes());
}

/// Appends the words of a text as the rest of a header field whose type is `first`.
fn write_folded(first: &[u8], text: &[u8], sink: &mut Vec<u8>) {
    sink.extend_from_slice(first);
    let mut column = "Diagnostic-Code: ".len() + first.len();
    let words = text.split(u8::is_ascii_whitespace);
    // A word may be longer than a line may be.
    let words = words.flat_map(|word| word.chunks(WORD_OCTETS_MAX));
    for word in words {
        if column + 1 + word.len() > COLUMNS {
            sink.push(b'\n');
            column = 0;
        }
        sink.push(b' ');
        push_visible(word, sink);
        column += 1 + word.len();
    }
}

/// Where lines are folded.
const COLUMNS: usize = 76;

/// Longer words are cut in two.
const WORD_OCTETS_MAX: usize = 900;

/// What is neither visible ASCII nor a blank is not allowed in these fields.
fn push_visible(octets: &[u8], sink: &mut Vec<u8>) {
    sink.extend(octets.iter().map(|&octet| match octet {
        b' '..=b'~' => octet,
        _ => b'?',
    }));
}

#[cfg(test)]
mod tests {
    use super::super::write_note;
    use super::*;

    fn fields(notes: &[u8], cut: usize) -> String {
        let (mut writer, mut sink) = (StatusWriter::default(), Vec::new());
        writer.push(&notes[..cut], &mut sink);
        writer.push(&notes[cut..], &mut sink);
        writer.end(&mut sink);
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn notes_become_the_same_fields_however_they_are_cut() {
        let mut notes = Vec::new();
        let remote = "192.0.2.1 does not like recipient.\n\
                      Remote host said: 550 5.1.1 no such user\nGiving up on 192.0.2.1.\n";
        let late = "No host answers, and that has been so for a long time now, I am sorry to say. (#4.4.1)\n\
                    I'm not going to try again; this message has been in the queue too long.\n";
        for (recipient, report) in [
            ("joe@x", "Sorry, no mailbox here by that name. (#5.1.1)\n"),
            ("two words@x", remote),
            ("jos\u{e9}+1@x", "No.\n"),
            ("late@x", late),
            ("silent@x", ""),
            ("well@x", "It went well (#2.0.0), but not here.\n"),
        ] {
            write_note(recipient.as_bytes(), report.as_bytes(), &mut notes);
        }
        let whole = fields(&notes, 0);
        for cut in 0..=notes.len() {
            assert_eq!(fields(&notes, cut), whole, "cut at {cut}");
        }
        insta::assert_snapshot!(whole.trim_start(), @r#"
        Final-Recipient: rfc822; joe@x
        Action: failed
        Status: 5.1.1
        Diagnostic-Code: x-qmail; Sorry, no mailbox here by that name. (#5.1.1)

        Final-Recipient: rfc822; "two words"@x
        Action: failed
        Status: 5.1.1
        Diagnostic-Code: smtp; 550 5.1.1 no such user

        Final-Recipient: utf-8; jos\x{E9}\x{2B}1@x
        Action: failed
        Status: 5.0.0
        Diagnostic-Code: x-qmail; No.

        Final-Recipient: rfc822; late@x
        Action: failed
        Status: 4.4.1
        Diagnostic-Code: x-qmail; No host answers, and that has been so for a long
         time now, I am sorry to say. (#4.4.1) I'm not going to try again; this
         message has been in the queue too long.

        Final-Recipient: rfc822; silent@x
        Action: failed
        Status: 5.0.0
        Diagnostic-Code: x-qmail;

        Final-Recipient: rfc822; well@x
        Action: failed
        Status: 5.0.0
        Diagnostic-Code: x-qmail; It went well (#2.0.0), but not here.
        "#);
    }

    #[test]
    fn no_note_makes_a_long_line_or_a_foreign_octet() {
        let long = "x".repeat(3000);
        for (recipient, report) in [
            (&b"caf\xe9\x01@x"[..], &b"\xff\x00\r\x1b[2J no\n"[..]),
            (b"joe@x", long.as_bytes()),
            (b"joe@x", b"Remote host said: bye\n"),
        ] {
            let mut notes = Vec::new();
            write_note(recipient, report, &mut notes);
            let fields = fields(&notes, 3);
            assert!(
                fields.starts_with("\nFinal-Recipient: rfc822; "),
                "{fields}"
            );
            assert!(fields.contains("\nStatus: 5.0.0\nDiagnostic-Code: x-qmail;"));
            for line in fields.lines() {
                assert!(line.len() < 998);
                assert!(line.bytes().all(|octet| matches!(octet, b' '..=b'~')));
            }
        }
    }

    #[test]
    fn what_is_no_note_is_passed_over() {
        assert_eq!(fields(b"", 0), "");
        assert_eq!(fields(b"\n\n\nwords\n\n<joe@x:\nNo.\n\n", 4), "");
        let endless = [b"<joe@x>:\n", &[b'y'; 100_000][..]].concat();
        assert!(fields(&endless, 70_000).len() < 2 * NOTE_OCTETS_MAX);
    }
}
