//! `serialqmtp`: sends messages of a Maildir over one QMTP connection, without waiting for answers.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::injection::octets;
use crate::serial_message::{Message, REPLY_OCTETS_MAX, next_name, write_result};
use crate::serial_peer::{PeerReader, PeerWriter, Timeouts, connection};

pub(crate) const APPLET: Applet = Applet {
    names: &["serialqmtp"],
    kind: Kind::Classic,
    summary: "send messages of a Maildir over one QMTP connection",
    run,
};

const TIMEOUTS: Timeouts = Timeouts {
    read: Duration::from_secs(3600),
    write: Duration::from_secs(73),
};

/// So many messages may wait for their answers.
const OUTSTANDING_MAX: usize = 1000;

/// A longer answer is a violation of the protocol.
const ANSWER_OCTETS_MAX: usize = 1_000_000;

fn run(call: &Call) -> ExitCode {
    let Some(prefix) = call.arguments.first() else {
        let usage = "usage: serialqmtp prefix";
        return exit::fatal(call.name, &usage, exit::PERMANENT);
    };
    match serve(octets(prefix)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal(call.name, &words, exit::TEMPORARY),
    }
}

fn serve(prefix: &[u8]) -> Result<(), String> {
    let (reader, writer) = connection(TIMEOUTS)
        .map_err(|error| format!("unable to use descriptors 6 and 7: {error}"))?;
    let (sent, outstanding) = sync_channel(OUTSTANDING_MAX);
    let prefix = prefix.to_vec();
    // Its end is the end of the program: nobody waits for it once an answer is wrong.
    let writing = thread::spawn(move || send_all(&prefix, writer, &sent));
    read_all(reader, &outstanding)?;
    writing
        .join()
        .unwrap_or_else(|_| Err("the sending thread panicked".to_owned()))
}

/// Sends the files that are named on descriptor 0, and tells the reader of each.
fn send_all(prefix: &[u8], writer: PeerWriter, sent: &SyncSender<Vec<u8>>) -> Result<(), String> {
    let trouble = |error: io::Error| format!("network or input trouble: {error}");
    let mut writer = io::BufWriter::with_capacity(16 * 1024, writer);
    let mut names = io::stdin().lock();
    while let Some(name) = next_name(&mut names).map_err(trouble)? {
        let path = Path::new(OsStr::from_bytes(&name));
        let opened = Message::open(path, prefix)
            .map_err(|error| format!("unable to open {}: {error}", path.display()))?;
        let Some(message) = opened else {
            continue;
        };
        // The reader has gone if nobody is there to hear of it, and has said why.
        if sent.send(name).is_err() {
            return Ok(());
        }
        send(message, &mut writer).map_err(trouble)?;
    }
    Ok(())
}

fn send(message: Message, writer: &mut impl io::Write) -> io::Result<()> {
    // LF in front says that lines end in LF.
    writeln!(writer, "{}:", message.octets + 1)?;
    let copied = io::copy(&mut message.text.take(message.octets), writer)?;
    if copied < message.octets {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let recipient = netstring(&message.recipient);
    for part in [
        b",",
        &netstring(&message.sender)[..],
        &netstring(&recipient),
    ] {
        writer.write_all(part)?;
    }
    writer.flush()
}

fn netstring(octets: &[u8]) -> Vec<u8> {
    let mut sink = format!("{}:", octets.len()).into_bytes();
    sink.extend_from_slice(octets);
    sink.push(b',');
    sink
}

/// Reads an answer for each message that was sent.
fn read_all(reader: PeerReader, outstanding: &Receiver<Vec<u8>>) -> Result<(), String> {
    let mut reader = BufReader::new(reader);
    let ip = std::env::var_os("TCPREMOTEIP").map(OsString::into_vec);
    for name in outstanding {
        let answer = read_answer(&mut reader)?;
        let (&status, words) = answer
            .split_first()
            .filter(|(status, _)| matches!(status, b'K' | b'Z' | b'D'))
            .ok_or(VIOLATION)?;
        let mut text = Vec::new();
        if let Some(ip) = &ip {
            text.extend_from_slice(ip);
            text.extend_from_slice(b" said: ");
        }
        text.extend_from_slice(&words[..words.len().min(REPLY_OCTETS_MAX)]);
        write_result(&name, status, &text)
            .map_err(|error| format!("unable to write results: {error}"))?;
    }
    Ok(())
}

fn read_answer(reader: &mut impl io::Read) -> Result<Vec<u8>, String> {
    let mut octet = || {
        let mut octet = [0];
        let read = reader.read_exact(&mut octet);
        read.map(|()| octet[0])
            .map_err(|error| format!("unable to read from network: {error}"))
    };
    let mut length = 0usize;
    let mut digits = 0;
    loop {
        match octet()? {
            digit @ b'0'..=b'9' => {
                digits += 1;
                length = length * 10 + usize::from(digit - b'0');
                if length > ANSWER_OCTETS_MAX {
                    return Err(VIOLATION.to_owned());
                }
            }
            b':' if digits > 0 => break,
            _ => return Err(VIOLATION.to_owned()),
        }
    }
    let mut answer = Vec::with_capacity(length.min(REPLY_OCTETS_MAX + 1));
    for _ in 0..length {
        answer.push(octet()?);
    }
    match octet()? {
        b',' => Ok(answer),
        _ => Err(VIOLATION.to_owned()),
    }
}

const VIOLATION: &str = "remote protocol violation";
