//! `serialqmtp`: sends messages of a Maildir over one QMTP connection, without waiting for answers.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use qmail_smtp::qmtp::{Answer, AnswerError, Answers, qmtp_frame};

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::injection::octets;
use crate::serial_message::{Message, next_name, write_result};
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
    let (head, tail) = qmtp_frame(message.octets, &message.sender, [&message.recipient[..]]);
    writer.write_all(&head)?;
    let copied = io::copy(&mut message.text.take(message.octets), writer)?;
    if copied < message.octets {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    writer.write_all(&tail)?;
    writer.flush()
}

/// Reads an answer for each message that was sent.
fn read_all(mut reader: PeerReader, outstanding: &Receiver<Vec<u8>>) -> Result<(), String> {
    let mut answers = Answers::default();
    let mut buffer = [0; 4096];
    let (mut start, mut end) = (0, 0);
    let ip = std::env::var_os("TCPREMOTEIP").map(OsString::into_vec);
    for name in outstanding {
        let answer = loop {
            let mut rest = &buffer[start..end];
            let found = answers
                .next(&mut rest)
                .map_err(|error: AnswerError| error.to_string())?;
            start = end - rest.len();
            if let Some(answer) = found {
                break answer;
            }
            let octets = reader
                .read(&mut buffer)
                .and_then(|octets| match octets {
                    0 => Err(io::ErrorKind::UnexpectedEof.into()),
                    octets => Ok(octets),
                })
                .map_err(|error| format!("unable to read from network: {error}"))?;
            (start, end) = (0, octets);
        };
        let (status, words) = match &answer {
            Answer::Accepted(words) => (b'K', words),
            Answer::Deferred(words) => (b'Z', words),
            Answer::Refused(words) => (b'D', words),
        };
        let mut text = Vec::new();
        if let Some(ip) = &ip {
            text.extend_from_slice(ip);
            text.extend_from_slice(b" said: ");
        }
        text.extend_from_slice(words);
        write_result(&name, status, &text)
            .map_err(|error| format!("unable to write results: {error}"))?;
    }
    Ok(())
}
