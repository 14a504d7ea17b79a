//! `serialsmtp`: sends messages of a Maildir over one SMTP connection.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use qmail_core::{Address, ReversePath};

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::injection::octets;
use crate::serial_message::{Message, REPLY_OCTETS_MAX, next_name, write_result};
use crate::serial_peer::{PeerReader, PeerWriter, Timeouts, connection};

pub(crate) const APPLET: Applet = Applet {
    names: &["serialsmtp"],
    kind: Kind::Classic,
    summary: "send messages of a Maildir over one SMTP connection",
    run,
};

const TIMEOUTS: Timeouts = Timeouts {
    read: Duration::from_secs(81),
    write: Duration::from_secs(73),
};

/// Most lines of a reply, and most octets of a line.
const REPLY_LINES_MAX: usize = 100;
const REPLY_LINE_OCTETS_MAX: u64 = 8192;

fn run(call: &Call) -> ExitCode {
    let [prefix, helo, ..] = &call.arguments[..] else {
        let usage = "usage: serialsmtp prefix helohost";
        return exit::fatal(call.name, &usage, exit::PERMANENT);
    };
    match serve(octets(prefix), octets(helo)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal(call.name, &words, exit::TEMPORARY),
    }
}

fn serve(prefix: &[u8], helo: &[u8]) -> Result<(), String> {
    let trouble = |error: io::Error| format!("network or input trouble: {error}");
    let (reader, writer) = connection(TIMEOUTS)
        .map_err(|error| format!("unable to use descriptors 6 and 7: {error}"))?;
    let mut client = Client {
        reader: BufReader::new(reader),
        writer: io::BufWriter::with_capacity(16 * 1024, writer),
        pipelining: false,
    };
    if !client.greet(helo).map_err(trouble)? {
        client.send(b"QUIT\r\n").map_err(trouble)?;
        return Err("connected but greeting failed".to_owned());
    }
    let mut names = io::stdin().lock();
    let mut first = true;
    while let Some(name) = next_name(&mut names).map_err(trouble)? {
        let path = Path::new(OsStr::from_bytes(&name));
        let opened = Message::open(path, prefix)
            .map_err(|error| format!("unable to open {}: {error}", path.display()))?;
        let Some(mut message) = opened else {
            continue;
        };
        let fit = check(&mut message)
            .map_err(|error| format!("unable to read {}: {error}", path.display()))?;
        let (status, text) = match fit {
            Fit::Partial => {
                return Err("SMTP cannot transfer messages with partial final lines".to_owned());
            }
            Fit::Unsafe => (
                b'D',
                b"Message or envelope has a bare CR, which SMTP cannot carry. (#5.6.0)".to_vec(),
            ),
            Fit::Good => {
                if !std::mem::take(&mut first) {
                    client.send(b"RSET\r\n").map_err(trouble)?;
                    client.reply().map_err(trouble)?;
                }
                let reply = client.transfer(&mut message).map_err(trouble)?;
                (reply.status(), reply.result(&message.recipient))
            }
        };
        write_result(&name, status, &text).map_err(trouble)?;
    }
    client.send(b"QUIT\r\n").map_err(trouble)
}

/// Whether SMTP can carry a message as it is.
enum Fit {
    Good,
    Partial,
    /// There is a CR that does not end a line: some servers take it for one, and what follows for commands.
    Unsafe,
}

/// Reads the text once, and goes back to where it starts.
fn check(message: &mut Message) -> io::Result<Fit> {
    let start = message.text.stream_position()?;
    let mut last = b'\n';
    let mut unsafe_cr = message.sender.contains(&b'\r') || message.recipient.contains(&b'\r');
    loop {
        let text = message.text.fill_buf()?;
        if text.is_empty() {
            break;
        }
        for &octet in text {
            unsafe_cr |= last == b'\r' && octet != b'\n';
            last = octet;
        }
        let read = text.len();
        message.text.consume(read);
    }
    message.text.seek(SeekFrom::Start(start))?;
    Ok(if unsafe_cr {
        Fit::Unsafe
    } else if last != b'\n' {
        Fit::Partial
    } else {
        Fit::Good
    })
}

struct Client {
    reader: BufReader<PeerReader>,
    writer: io::BufWriter<PeerWriter>,
    pipelining: bool,
}

struct Reply {
    code: u16,
    /// The last line, without its end.
    line: Vec<u8>,
    /// A line that is this keyword alone came before or as the last, but not as the first.
    pipelining: bool,
}

impl Reply {
    fn status(&self) -> u8 {
        match self.code {
            500.. => b'D',
            400.. => b'Z',
            _ => b'K',
        }
    }

    /// The text of the result: with the address of the server in front, if that is known.
    fn result(&self, recipient: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(ip) = std::env::var_os("TCPREMOTEIP").map(OsString::into_vec) {
            let recipient = quoted(recipient);
            for part in [&ip[..], b" to: ", &recipient, b" said: "] {
                text.extend_from_slice(part);
            }
        }
        text.extend_from_slice(&self.line[..self.line.len().min(REPLY_OCTETS_MAX)]);
        text
    }
}

fn quoted(recipient: &[u8]) -> Vec<u8> {
    let address = Address::new(recipient.to_vec());
    address.map_or_else(|_| recipient.to_vec(), |address| address.quoted())
}

impl Client {
    fn send(&mut self, commands: &[u8]) -> io::Result<()> {
        self.writer.write_all(commands)?;
        self.writer.flush()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut pipelining = false;
        for number in 0..REPLY_LINES_MAX {
            let mut line = Vec::new();
            (&mut self.reader)
                .take(REPLY_LINE_OCTETS_MAX)
                .read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            let code = line
                .get(..3)
                .filter(|digits| digits.iter().all(u8::is_ascii_digit))
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
                .ok_or(io::ErrorKind::InvalidData)?;
            let keyword = line.get(4..).unwrap_or_default();
            pipelining |= number > 0 && keyword.eq_ignore_ascii_case(b"PIPELINING");
            if line.get(3) != Some(&b'-') {
                return Ok(Reply {
                    code,
                    line,
                    pipelining,
                });
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Whether the server is willing.
    fn greet(&mut self, helo: &[u8]) -> io::Result<bool> {
        if self.reply()?.code != 220 {
            return Ok(false);
        }
        for verb in [&b"EHLO "[..], b"HELO "] {
            self.send(&[verb, helo, b"\r\n"].concat())?;
            let reply = self.reply()?;
            if reply.code == 250 {
                self.pipelining = reply.pipelining && verb == b"EHLO ";
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends one message. Gives the reply that decided about it.
    fn transfer(&mut self, message: &mut Message) -> io::Result<Reply> {
        let sender = ReversePath::new(message.sender.clone());
        let sender = sender.map_or_else(|_| message.sender.clone(), |sender| sender.quoted());
        let commands = [
            [b"MAIL FROM:<", &sender[..], b">\r\n"].concat(),
            [b"RCPT TO:<", &quoted(&message.recipient)[..], b">\r\n"].concat(),
            b"DATA\r\n".to_vec(),
        ];
        let mut refused = None;
        if self.pipelining {
            self.send(&commands.concat())?;
            for _ in &commands {
                // Those that follow a refusal have to be read too.
                let reply = self.reply()?;
                if reply.code >= 400 && refused.is_none() {
                    refused = Some(reply);
                }
            }
        } else {
            for command in &commands {
                self.send(command)?;
                let reply = self.reply()?;
                if reply.code >= 400 {
                    refused = Some(reply);
                    break;
                }
            }
        }
        if let Some(reply) = refused {
            return Ok(reply);
        }
        self.text(message)?;
        self.reply()
    }

    /// The text with dots doubled at the starts of lines and CR before each LF, and the dot that ends it.
    fn text(&mut self, message: &mut Message) -> io::Result<()> {
        let mut line_start = true;
        let mut last = b'\n';
        loop {
            let text = message.text.fill_buf()?;
            if text.is_empty() {
                break;
            }
            for &octet in text {
                match octet {
                    b'.' if line_start => self.writer.write_all(b"..")?,
                    b'\n' if last != b'\r' => self.writer.write_all(b"\r\n")?,
                    octet => self.writer.write_all(&[octet])?,
                }
                line_start = octet == b'\n';
                last = octet;
            }
            let read = text.len();
            message.text.consume(read);
        }
        self.send(b".\r\n")
    }
}
