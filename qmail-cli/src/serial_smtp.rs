//! The client's side of SMTP over the connection of serialsmtp(1): one message at a time, nothing waited for that need not be.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;

use qmail_core::{Address, ReversePath};
use qmail_deliver::{TlsPolicy, tls_client_config};
use rustls::pki_types::ServerName;

use crate::serial_message::{Message, REPLY_OCTETS_MAX};
use crate::serial_peer::Wire;

/// Most lines of a reply, and most octets of a line.
const REPLY_LINES_MAX: usize = 100;
const REPLY_LINE_OCTETS_MAX: u64 = 8192;

/// So much of what is to be sent is gathered.
const BUFFER_OCTETS: usize = 16 * 1024;

pub(crate) struct Client {
    wire: BufReader<Wire>,
    unsent: Vec<u8>,
    pipelining: bool,
    start_tls: bool,
}

/// How a server takes us.
pub(crate) enum Greeted {
    Ready,
    /// With a reply from 400 to 499.
    Later(Reply),
    /// With any other reply, or without the TLS that there has to be.
    Refused,
}

pub(crate) struct Reply {
    code: u16,
    /// The last line, without its end.
    line: Vec<u8>,
    /// A line that is this keyword alone came before or as the last, but not as the first.
    pipelining: bool,
    start_tls: bool,
}

impl Reply {
    pub(crate) fn status(&self) -> u8 {
        match self.code {
            500.. => b'D',
            400.. => b'Z',
            _ => b'K',
        }
    }

    /// The text of the result: with the address of the server in front, if that is known.
    pub(crate) fn result(&self, recipient: &[u8]) -> Vec<u8> {
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
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            wire: BufReader::new(wire),
            unsent: Vec::new(),
            pipelining: false,
            start_tls: false,
        }
    }

    pub(crate) fn send(&mut self, commands: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(commands);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let wire = self.wire.get_mut();
        wire.write_all(&self.unsent)?;
        self.unsent.clear();
        wire.flush()
    }

    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let (mut pipelining, mut start_tls) = (false, false);
        for number in 0..REPLY_LINES_MAX {
            let mut line = Vec::new();
            (&mut self.wire)
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
            start_tls |= number > 0 && keyword.eq_ignore_ascii_case(b"STARTTLS");
            if line.get(3) != Some(&b'-') {
                return Ok(Reply {
                    code,
                    line,
                    pipelining,
                    start_tls,
                });
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Waits for the greeting, says hello, and makes TLS where there may be some.
    ///
    /// # Errors
    ///
    /// The connection is of no use.
    pub(crate) fn greet(&mut self, helo: &[u8], tls: TlsPolicy) -> io::Result<Greeted> {
        let greeting = self.reply()?;
        if greeting.code != 220 {
            return Ok(greeting.unwilling());
        }
        let greeted = self.hello(helo)?;
        if !matches!(greeted, Greeted::Ready) || tls == TlsPolicy::Off {
            return Ok(greeted);
        }
        if !self.start_tls {
            return Ok(match tls {
                TlsPolicy::Required | TlsPolicy::Verified => Greeted::Refused,
                _ => greeted,
            });
        }
        self.send(b"STARTTLS\r\n")?;
        let reply = self.reply()?;
        if reply.code != 220 {
            return Ok(match tls {
                TlsPolicy::Opportunistic => greeted,
                _ => reply.unwilling(),
            });
        }
        // What came with the reply in clear was not sent by whom we are about to speak to (RFC 3207 section 6).
        if !self.wire.buffer().is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let verified = tls == TlsPolicy::Verified;
        let config = tls_client_config(verified)?;
        self.wire
            .get_mut()
            .encrypt(config, server_name(verified)?)?;
        self.hello(helo)
    }

    fn hello(&mut self, helo: &[u8]) -> io::Result<Greeted> {
        for verb in [&b"EHLO "[..], b"HELO "] {
            self.send(&[verb, helo, b"\r\n"].concat())?;
            let reply = self.reply()?;
            if reply.code == 250 {
                let extended = verb == b"EHLO ";
                self.pipelining = extended && reply.pipelining;
                self.start_tls = extended && reply.start_tls;
                return Ok(Greeted::Ready);
            }
            if verb == b"HELO " {
                return Ok(reply.unwilling());
            }
        }
        Ok(Greeted::Refused)
    }

    /// Sends one message. Gives the reply that decided about it.
    pub(crate) fn transfer(&mut self, message: &mut Message) -> io::Result<Reply> {
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
            let mut last = 0;
            for _ in &commands {
                // Those that follow a refusal have to be read too.
                let reply = self.reply()?;
                last = reply.code;
                if reply.code >= 400 && refused.is_none() {
                    refused = Some(reply);
                }
            }
            if refused.is_some() && last < 400 {
                // It waits for a text, though for nobody (RFC 2920 section 3.1).
                self.send(b".\r\n")?;
                self.reply()?;
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
                    b'.' if line_start => self.unsent.extend_from_slice(b".."),
                    b'\n' if last != b'\r' => self.unsent.extend_from_slice(b"\r\n"),
                    octet => self.unsent.push(octet),
                }
                line_start = octet == b'\n';
                last = octet;
            }
            let read = text.len();
            message.text.consume(read);
            if self.unsent.len() >= BUFFER_OCTETS {
                self.flush()?;
            }
        }
        self.send(b".\r\n")
    }
}

impl Reply {
    fn unwilling(self) -> Greeted {
        match self.code {
            400..=499 => Greeted::Later(self),
            _ => Greeted::Refused,
        }
    }
}

/// By what tcpclient(1) has found out of the server. A certificate that has to be valid needs a name to be valid for.
fn server_name(verified: bool) -> io::Result<ServerName<'static>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let name = variable("TCPREMOTEHOST").and_then(|name| ServerName::try_from(name).ok());
    let address = || variable("TCPREMOTEIP")?.parse::<IpAddr>().ok();
    match name.or_else(|| address().map(ServerName::from)) {
        Some(name) => Ok(name),
        None if verified => Err(io::Error::other(
            "neither TCPREMOTEHOST nor TCPREMOTEIP says whose certificate is wanted",
        )),
        None => Ok(ServerName::from(IpAddr::from([127, 0, 0, 1]))),
    }
}
