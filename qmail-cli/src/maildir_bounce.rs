//! Bounces of messages that maildirserial(1) could not have sent.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use qmail_core::header::date::write_date;
use qmail_core::{Address, QueueFailure, ReversePath, control};

use crate::home::Home;
use crate::injection::read_file;
use crate::queue_program::QueueProgram;
use crate::serial_message::Message;

/// What became of a bounce.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bounced {
    /// It was queued by this process.
    Returned(u32),
    /// The message is a bounce of a bounce: nobody is left to tell.
    Discarded,
}

/// Queues a bounce of a file of the Maildir that is the current directory. What goes wrong is said in octets.
pub(crate) fn bounce(
    path: &Path,
    prefix: &[u8],
    reason: &[u8],
    too_old: bool,
) -> Result<Bounced, Vec<u8>> {
    let opened = Message::open(path, prefix).map_err(|error| words(&error))?;
    let Some(message) = opened else {
        return Err(b"it has no envelope".to_vec());
    };
    let sender =
        ReversePath::new(message.sender.clone()).map_err(|error| error.to_string().into_bytes())?;
    if sender.as_bytes() == b"#@[]" {
        return Ok(Bounced::Discarded);
    }
    let controls = Controls::read().map_err(|error| words(&error))?;
    let (new_sender, to) = if sender.is_null() {
        let at = [
            &controls.double_bounce_to[..],
            b"@",
            &controls.double_bounce_host,
        ]
        .concat();
        (&b"#@[]"[..], at)
    } else {
        (&b""[..], sender.as_bytes().to_vec())
    };
    let head = head(&controls, &sender, &to, &message.recipient, reason, too_old)
        .map_err(|error| words(&error))?;
    let home = Home::choose(None, None);
    let mut queue = QueueProgram::start_in(home.path()).map_err(|failure| failure.text.to_vec())?;
    queue.write(&head);
    match copy(message.text, &mut queue) {
        Ok(()) => queue
            .finish(new_sender, [&to[..]])
            .map(Bounced::Returned)
            .map_err(|failure: QueueFailure| failure.text.to_vec()),
        Err(error) => {
            queue.abort();
            Err(words(&error))
        }
    }
}

fn words(error: &io::Error) -> Vec<u8> {
    error.to_string().into_bytes()
}

struct Controls {
    from: Vec<u8>,
    host: Vec<u8>,
    double_bounce_to: Vec<u8>,
    double_bounce_host: Vec<u8>,
}

impl Controls {
    fn read() -> io::Result<Self> {
        let directory = Home::choose(None, None).control();
        let line = |name: &str| -> io::Result<Option<Vec<u8>>> {
            let file = read_file(&directory.join(name))?;
            Ok(file.map(|file| control::line(&file).to_vec()))
        };
        let me = line("me")?.unwrap_or_else(|| b"me".to_vec());
        Ok(Self {
            from: line("bouncefrom")?.unwrap_or_else(|| b"MAILER-DAEMON".to_vec()),
            host: line("bouncehost")?.unwrap_or_else(|| me.clone()),
            double_bounce_to: line("doublebounceto")?.unwrap_or_else(|| b"postmaster".to_vec()),
            double_bounce_host: line("doublebouncehost")?.unwrap_or(me),
        })
    }
}

/// All of the bounce but the text of the message.
fn head(
    controls: &Controls,
    sender: &ReversePath,
    to: &[u8],
    recipient: &[u8],
    reason: &[u8],
    too_old: bool,
) -> io::Result<Vec<u8>> {
    let now = std::time::UNIX_EPOCH.elapsed().map_err(io::Error::other)?;
    let mut date = Vec::new();
    write_date(now.as_secs(), &mut date);
    let (sentences, below) = if sender.is_null() {
        (
            "I tried to deliver a bounce message to this address, but the bounce bounced!\n",
            "the original bounce.",
        )
    } else {
        (
            "I'm afraid I wasn't able to deliver your message to the following address.\n\
             This is a permanent error; I've given up. Sorry it didn't work out.\n",
            "a copy of the message.",
        )
    };
    let from = [&controls.from[..], b"@", &controls.host].concat();
    let mut head = Vec::new();
    for part in [
        &b"Date: "[..],
        &date,
        b"\nFrom: ",
        &quoted(&from),
        b"\nTo: ",
        &quoted(to),
        b"\nSubject: failure notice\nAuto-Submitted: auto-replied\n\nHi. This is the maildirbounce program at ",
        &controls.host,
        b".\n",
        sentences.as_bytes(),
        b"\n<",
        recipient,
        b">:\n",
        reason,
        b"\n",
        if too_old {
            &b"This message is too old. Giving up.\n"[..]
        } else {
            b""
        },
        b"\n--- Below this line is ",
        below.as_bytes(),
        b"\n\nReturn-Path: <",
        &sender.quoted(),
        b">\n",
    ] {
        head.extend_from_slice(part);
    }
    Ok(head)
}

fn quoted(address: &[u8]) -> Vec<u8> {
    Address::new(address.to_vec()).map_or_else(|_| address.to_vec(), |address| address.quoted())
}

fn copy(mut text: BufReader<File>, queue: &mut QueueProgram) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match text.read(&mut buffer)? {
            0 => return Ok(()),
            octets => queue.write(&buffer[..octets]),
        }
    }
}
