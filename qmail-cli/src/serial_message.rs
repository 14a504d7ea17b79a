//! The files that the serial mail clients send: messages of a Maildir, with the two lines that qmail-local put in front.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::Path;

/// Longest of the two lines in octets.
const LINE_OCTETS_MAX: u64 = 4096;

/// The variable that tells a client of maildirserial(1) how many rounds in a row have come to nothing before it.
pub(crate) const FRUITLESS: &str = "MAILDIRSERIAL_FRUITLESS";

/// As much of a reply as becomes a part of the result.
pub(crate) const REPLY_OCTETS_MAX: usize = 2000;

/// A message whose text comes next.
pub(crate) struct Message {
    pub(crate) sender: Vec<u8>,
    /// With the prefix taken off.
    pub(crate) recipient: Vec<u8>,
    pub(crate) text: BufReader<File>,
    /// Octets of the text.
    pub(crate) octets: u64,
}

/// The two lines of a Maildir file.
pub(crate) struct Lines {
    /// As it stands there: quoted where it has to be.
    pub(crate) sender: Vec<u8>,
    pub(crate) recipient: Vec<u8>,
    /// Octets of both lines.
    octets: u64,
}

/// Reads the two lines in front of a message; `None` if there are others.
pub(crate) fn read_envelope(file: &mut impl BufRead) -> io::Result<Option<Lines>> {
    let (first, second) = (read_line(file)?, read_line(file)?);
    let octets = (first.len() + second.len()) as u64;
    let sender = first
        .strip_prefix(b"Return-Path: <")
        .and_then(|rest| rest.strip_suffix(b">\n"));
    let recipient = second
        .strip_prefix(b"Delivered-To: ")
        .and_then(|rest| rest.strip_suffix(b"\n"));
    Ok(sender.zip(recipient).map(|(sender, recipient)| Lines {
        sender: sender.to_vec(),
        recipient: recipient.to_vec(),
        octets,
    }))
}

fn read_line(file: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    file.take(LINE_OCTETS_MAX).read_until(b'\n', &mut line)?;
    Ok(line)
}

impl Message {
    /// Opens a file; `None` if it has no such lines, or another prefix.
    pub(crate) fn open(path: &Path, prefix: &[u8]) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let octets = file.metadata()?.len();
        let mut text = BufReader::with_capacity(64 * 1024, file);
        let envelope = read_envelope(&mut text)?;
        Ok(envelope.and_then(|lines| {
            Some(Self {
                recipient: lines.recipient.strip_prefix(prefix)?.to_vec(),
                sender: unquoted(&lines.sender),
                text,
                octets: octets.saturating_sub(lines.octets),
            })
        }))
    }
}

/// A Return-Path line has the local part in quotes where it needs them.
fn unquoted(sender: &[u8]) -> Vec<u8> {
    let Some(quoted) = sender.strip_prefix(b"\"") else {
        return sender.to_vec();
    };
    let mut plain = Vec::with_capacity(sender.len());
    let mut octets = quoted.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b'"' => {
                plain.extend(octets);
                return plain;
            }
            b'\\' => plain.extend(octets.next()),
            octet => plain.push(octet),
        }
    }
    // The quotes do not end: it is no quoted string.
    sender.to_vec()
}

/// The next name on descriptor 0, without its NUL.
pub(crate) fn next_name(names: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut name = Vec::new();
    names.take(LINE_OCTETS_MAX).read_until(0, &mut name)?;
    match name.pop() {
        None => Ok(None),
        Some(0) => Ok(Some(name)),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes one result: what became of the file of that name.
pub(crate) fn write_result(name: &[u8], status: u8, text: &[u8]) -> io::Result<()> {
    let mut result = name.to_vec();
    result.extend_from_slice(&[0, status]);
    result.extend(text.iter().map(|&octet| match octet {
        b' '..=b'~' => octet,
        _ => b'?',
    }));
    result.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&result)?;
    out.flush()
}
