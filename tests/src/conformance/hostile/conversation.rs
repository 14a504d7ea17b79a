//! One connection of a hostile client.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::super::octets::to_text;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Smtp,
    Pop3,
}

/// How the octets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Line by line, each after its reply, until the reply to DATA, STARTTLS or a POP3 password; the rest at once.
    Lockstep,
    /// Everything at once, without waiting for the greeting.
    Burst,
    /// Octet by octet.
    Bytewise,
    /// Piece by piece, some time apart.
    Chunks,
    /// As `Lockstep`, and then closed at once.
    Close,
    /// As `Lockstep`, and then kept open.
    Hold,
    /// Everything at once, and what comes back is not read while it can still be sent.
    NoRead,
}

impl Mode {
    /// The mode that an entry names.
    pub(super) fn of(name: Option<&str>) -> Result<Self, String> {
        match name {
            None | Some("lockstep") => Ok(Self::Lockstep),
            Some("burst") => Ok(Self::Burst),
            Some("bytewise") => Ok(Self::Bytewise),
            Some("chunks") => Ok(Self::Chunks),
            Some("close") => Ok(Self::Close),
            Some("hold") => Ok(Self::Hold),
            Some("noread") => Ok(Self::NoRead),
            Some(mode) => Err(format!("this runner has no mode {mode}")),
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Transcript {
    /// Every octet, up to [`OUTPUT_OCTETS_MAX`].
    pub(super) output: Vec<u8>,
    /// The last line of each reply.
    pub(super) replies: Vec<String>,
    /// Whether the server closed while the client kept its side open.
    pub(super) closed: bool,
}

impl Transcript {
    /// The end of what came back, for people to read.
    pub(super) fn shown(&self) -> String {
        let from = self.output.len().saturating_sub(400);
        format!("  server: ...{}\n", self.output[from..].escape_ascii())
    }
}

/// How long one reply may take.
const REPLY: Duration = Duration::from_secs(5);

/// How long the server may take to close.
const CLOSE: Duration = Duration::from_secs(10);

/// How long a server may refuse to take more from a client that reads nothing, before that client reads.
const UNREAD: Duration = Duration::from_secs(2);

/// How far apart pieces are sent.
const APART: Duration = Duration::from_millis(50);

/// How long the server is given to see that a client has gone.
const GONE: Duration = Duration::from_millis(200);

/// How much of what comes back is kept.
const OUTPUT_OCTETS_MAX: usize = 16 << 20;

/// What the thread that reads has seen.
#[derive(Debug, Default)]
pub(super) struct Heard {
    output: Vec<u8>,
    replies: Vec<String>,
    /// Where the line begins that has not ended yet.
    line: usize,
    ended: bool,
}

#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<Heard>,
    changed: Condvar,
}

impl Ear {
    /// Reads in a thread of its own until the connection ends.
    fn listen(mut stream: TcpStream, protocol: Protocol) -> Arc<Self> {
        let ear = Arc::new(Self::default());
        let listening = Arc::clone(&ear);
        thread::spawn(move || {
            let mut chunk = [0; 65536];
            loop {
                let count = stream.read(&mut chunk).unwrap_or(0);
                let mut heard = listening
                    .heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                heard.take(&chunk[..count], protocol);
                heard.ended = count == 0;
                listening.changed.notify_all();
                if count == 0 {
                    break;
                }
            }
        });
        ear
    }

    /// Waits until what was heard is enough, or the connection has ended, or the time is over.
    fn wait(&self, timeout: Duration, enough: impl Fn(&Heard) -> bool) {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.changed
                .wait_timeout_while(heard, timeout, |heard| !heard.ended && !enough(heard)),
        );
    }

    fn with<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Heard {
    pub(super) fn take(&mut self, octets: &[u8], protocol: Protocol) {
        if self.output.len() + octets.len() > OUTPUT_OCTETS_MAX {
            return;
        }
        self.output.extend_from_slice(octets);
        while let Some(length) = self.output[self.line..].iter().position(|&it| it == b'\n') {
            let line = &self.output[self.line..self.line + length];
            let ends_a_reply = match protocol {
                Protocol::Smtp => line.get(3) != Some(&b'-'),
                Protocol::Pop3 => [&b"+OK"[..], b"-ERR", b"+ "]
                    .iter()
                    .any(|status| line.starts_with(status)),
            };
            if ends_a_reply {
                self.replies.push(to_text(line.trim_ascii_end()));
            }
            self.line += length + 1;
        }
    }
}

impl Heard {
    /// All of it; `closed` by the server or not.
    pub(super) fn into_transcript(self, closed: bool) -> Transcript {
        Transcript {
            output: self.output,
            replies: self.replies,
            closed,
        }
    }
}

/// Connects, sends, and listens to the end.
///
/// `closes`: the server is expected to close by itself, and is waited for.
pub(super) fn hold(
    address: SocketAddr,
    protocol: Protocol,
    mode: Mode,
    pieces: &[Vec<u8>],
    closes: bool,
) -> Result<Transcript, String> {
    let stream = connect(address)?;
    if mode == Mode::NoRead {
        // Until the server takes no more.
        let _ = stream.set_write_timeout(Some(UNREAD));
        let _ = (&stream).write_all(&pieces.concat());
        let _ = stream.shutdown(Shutdown::Write);
    }
    let copy = stream.try_clone().map_err(|error| error.to_string())?;
    let ear = Ear::listen(copy, protocol);
    if mode != Mode::Burst {
        ear.wait(REPLY, |heard| !heard.replies.is_empty());
    }
    // A server that has closed reads no more, which the replies will tell.
    let _ = send(&stream, &ear, protocol, mode, pieces);

    if mode == Mode::Close {
        drop(stream.shutdown(Shutdown::Both));
        thread::sleep(GONE);
    } else if closes || mode == Mode::Hold {
        ear.wait(CLOSE, |_| false);
    }
    let closed = ear.with(|heard| heard.ended) && mode != Mode::Close;
    if !closed {
        let _ = stream.shutdown(Shutdown::Write);
        ear.wait(CLOSE, |_| false);
        let _ = stream.shutdown(Shutdown::Both);
    }
    Ok(ear.with(std::mem::take).into_transcript(closed))
}

pub(super) fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let open = || {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(CLOSE))?;
        Ok(stream)
    };
    open().map_err(|error: std::io::Error| error.to_string())
}

fn send(
    mut stream: &TcpStream,
    ear: &Ear,
    protocol: Protocol,
    mode: Mode,
    pieces: &[Vec<u8>],
) -> std::io::Result<()> {
    match mode {
        Mode::Burst => stream.write_all(&pieces.concat()),
        Mode::NoRead => Ok(()),
        Mode::Bytewise => {
            (pieces.iter().flatten()).try_for_each(|octet| stream.write_all(&[*octet]))
        }
        Mode::Chunks => pieces.iter().try_for_each(|piece| {
            stream.write_all(piece)?;
            thread::sleep(APART);
            Ok(())
        }),
        Mode::Lockstep | Mode::Close | Mode::Hold => {
            let octets = pieces.concat();
            let mut rest = &octets[..];
            while let Some(length) = rest.iter().position(|&octet| octet == b'\n') {
                let (line, tail) = rest.split_at(length + 1);
                let before = ear.with(|heard| heard.replies.len());
                stream.write_all(line)?;
                rest = tail;
                ear.wait(REPLY, |heard| heard.replies.len() > before);
                if ear.with(|heard| heard.ended) {
                    return Ok(());
                }
                if is_last_in_lockstep(line, protocol) {
                    break;
                }
            }
            stream.write_all(rest)
        }
    }
}

/// Whether the rest follows at once after the reply to this line.
fn is_last_in_lockstep(line: &[u8], protocol: Protocol) -> bool {
    let verb = line.split(|octet| octet.is_ascii_whitespace()).next();
    let verb = verb.unwrap_or_default().to_ascii_uppercase();
    match protocol {
        Protocol::Smtp => verb == b"DATA" || verb == b"STARTTLS",
        Protocol::Pop3 => verb == b"PASS" || verb == b"APOP",
    }
}

/// A client that did nothing wrong.
pub(super) struct Bystander {
    stream: TcpStream,
    ear: Arc<Ear>,
}

/// Connects and reads the greeting.
pub(super) fn bystander(address: SocketAddr, protocol: Protocol) -> Result<Bystander, String> {
    let stream = connect(address)?;
    let copy = stream.try_clone().map_err(|error| error.to_string())?;
    let ear = Ear::listen(copy, protocol);
    ear.wait(REPLY, |heard| !heard.replies.is_empty());
    Ok(Bystander { stream, ear })
}

impl Bystander {
    /// Whether the server answers.
    pub(super) fn is_answered(&mut self) -> bool {
        let started = Instant::now();
        let sent = self.stream.write_all(b"NOOP\r\n").is_ok();
        self.ear.wait(REPLY, |heard| heard.replies.len() > 1);
        sent && started.elapsed() < REPLY && self.ear.with(|heard| heard.replies.len() > 1)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
