//! Whom a message is delivered to, and the lines that say so.

use bytes::Bytes;

use crate::ReversePath;
use crate::header::date::write_mbox_date;

/// Whom a message is delivered to: the arguments of qmail-local(8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// Account name.
    pub user: Bytes,
    /// Home directory, an absolute path.
    pub home: Bytes,
    /// Local part of the recipient, in its original case.
    pub local: Bytes,
    /// What stands between `.qmail` and the extension: empty, `-`, or more.
    pub dash: Bytes,
    /// The extension, in its original case.
    pub extension: Bytes,
    /// Domain of the recipient.
    pub host: Bytes,
}

impl Mailbox {
    /// `local@host`.
    pub fn recipient(&self) -> Vec<u8> {
        [&self.local[..], b"@", &self.host].concat()
    }

    /// The line that goes in front of what is delivered, and by which a loop is told: `Delivered-To: local@host` LF.
    pub fn delivered_to(&self) -> Vec<u8> {
        let mut line = b"Delivered-To: ".to_vec();
        line.extend(self.recipient().into_iter().map(in_one_line));
        line.push(b'\n');
        line
    }
}

/// The line that says where bounces go: `Return-Path: <ann@example.org>` LF, quoted where it has to be.
pub fn return_path(sender: &ReversePath) -> Vec<u8> {
    let mut line = b"Return-Path: <".to_vec();
    line.extend(sender.quoted().into_iter().map(in_one_line));
    line.extend_from_slice(b">\n");
    line
}

/// The line that starts a message in an mbox: `From ann@example.org Thu Jan 01 00:00:00 1970` LF, in UTC.
///
/// ```
/// use qmail_core::{ReversePath, dot_qmail::from_line};
/// let line = from_line(&ReversePath::Null, 0);
/// assert_eq!(line, b"From MAILER-DAEMON Thu Jan 01 00:00:00 1970\n");
/// ```
pub fn from_line(sender: &ReversePath, seconds: u64) -> Vec<u8> {
    let mut line = b"From ".to_vec();
    match sender.as_bytes() {
        b"" => line.extend_from_slice(b"MAILER-DAEMON"),
        sender => line.extend(sender.iter().map(|octet| match octet {
            b' ' | b'\t' | b'\n' => b'-',
            &octet => octet,
        })),
    }
    line.push(b' ');
    write_mbox_date(i64::try_from(seconds).unwrap_or(i64::MAX), &mut line);
    line.push(b'\n');
    line
}

fn in_one_line(octet: u8) -> u8 {
    if octet == b'\n' { b'_' } else { octet }
}
