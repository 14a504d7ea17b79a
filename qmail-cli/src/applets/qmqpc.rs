//! `qmail-qmqpc`: hands a message to another host's queue by QMQP, in place of `qmail-queue`.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use qmail_core::{CHUNK_OCTETS_MAX, control};
use qmail_smtp::qmtp::{Answer, Client, ClientEvent, ClientTimeouts, Protocol};

use crate::applet::{Applet, Call, Kind};
use crate::descriptor::converse_over;
use crate::home::Home;

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-qmqpc"],
    kind: Kind::Classic,
    summary: "queue a message on another host by QMQP",
    run,
};

const PORT: u16 = 628;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For each read and each write.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Largest message and envelope in octets that are held: the most that a QMQP server takes.
const INPUT_OCTETS_MAX: u64 = 1_900_000_000;

/// The exit codes of qmail-queue(8) that callers know.
#[derive(Clone, Copy)]
enum Failure {
    Refused = 31,
    Memory = 51,
    Read = 54,
    NoServers = 55,
    Home = 61,
    Deferred = 71,
    TimedOut = 72,
    Unreachable = 73,
    Broken = 74,
    BadEnvelope = 91,
}

fn run(_call: &Call) -> ExitCode {
    match send() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure as u8),
    }
}

fn send() -> Result<(), Failure> {
    let home = Home::choose(None, None);
    std::env::set_current_dir(home.path()).map_err(|_| Failure::Home)?;
    let servers = servers(&home)?;
    let message = read_all(io::stdin().as_fd().try_clone_to_owned())?;
    // Descriptor 1 is to be read: it is where a queue program has its envelope.
    let envelope = read_all(io::stdout().as_fd().try_clone_to_owned())?;
    let (sender, recipients) = parse(&envelope).ok_or(Failure::BadEnvelope)?;
    let stream = connect(&servers)?;
    exchange(stream, &message, sender, &recipients)
}

/// The addresses in control/qmqpservers. A line that is none is passed over.
fn servers(home: &Home) -> Result<Vec<IpAddr>, Failure> {
    let file = std::fs::read(home.control().join("qmqpservers")).map_err(|_| Failure::NoServers)?;
    let servers: Vec<_> = control::list(&file)
        .filter_map(|line| leading_address(line.octets))
        .collect();
    if servers.is_empty() {
        return Err(Failure::NoServers);
    }
    Ok(servers)
}

fn leading_address(line: &[u8]) -> Option<IpAddr> {
    let of_address = |octet: &&u8| octet.is_ascii_hexdigit() || matches!(octet, b'.' | b':');
    let octets = line.iter().take_while(of_address).count();
    std::str::from_utf8(&line[..octets]).ok()?.parse().ok()
}

fn read_all(descriptor: io::Result<std::os::fd::OwnedFd>) -> Result<Vec<u8>, Failure> {
    let file = File::from(descriptor.map_err(|_| Failure::Read)?);
    let mut octets = Vec::new();
    file.take(INPUT_OCTETS_MAX + 1)
        .read_to_end(&mut octets)
        .map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => Failure::Memory,
            _ => Failure::Read,
        })?;
    if octets.len() as u64 > INPUT_OCTETS_MAX {
        return Err(Failure::Memory);
    }
    Ok(octets)
}

/// `F` sender NUL, `T` recipient NUL for each, NUL.
fn parse(envelope: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let end = memchr::memmem::find(envelope, b"\0\0")?;
    let mut fields = envelope[..end].split(|&octet| octet == 0);
    let sender = fields.next()?.strip_prefix(b"F")?;
    let recipients = fields
        .map(|field| field.strip_prefix(b"T"))
        .collect::<Option<Vec<_>>>()?;
    Some((sender, recipients))
}

/// The first server that can be reached. From then on the outcome is final: it may have taken the message.
fn connect(servers: &[IpAddr]) -> Result<TcpStream, Failure> {
    let mut failure = Failure::Unreachable;
    for &server in servers {
        match TcpStream::connect_timeout(&SocketAddr::new(server, PORT), CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => failure = Failure::TimedOut,
            Err(_) => failure = Failure::Unreachable,
        }
    }
    Err(failure)
}

/// Sends the package, and takes the server's word on it.
fn exchange(
    stream: TcpStream,
    message: &[u8],
    sender: &[u8],
    recipients: &[&[u8]],
) -> Result<(), Failure> {
    let broken = |_| Failure::Broken;
    stream.set_nodelay(true).map_err(broken)?;
    let input = OwnedFd::from(stream);
    let output = input.try_clone().map_err(broken)?;
    let mut timeouts = ClientTimeouts::default();
    (timeouts.send, timeouts.answer) = (TIMEOUT, TIMEOUT);
    let client = Client::new(Protocol::Qmqp, timeouts, Instant::now());
    let mut pieces = message.chunks(CHUNK_OCTETS_MAX);
    let mut word = None;
    let settle = |client: &mut Client, event| match event {
        ClientEvent::Ready => {
            let _ = client.start(message.len() as u64, sender, recipients);
        }
        ClientEvent::BodyWanted => client.body(pieces.next().unwrap_or_default()),
        ClientEvent::Answer { answer, .. } => word = Some(answer),
        _ => {}
    };
    converse_over(input.into(), output.into(), client, settle).map_err(broken)?;
    match word {
        Some(Answer::Accepted(_)) => Ok(()),
        Some(Answer::Deferred(_)) => Err(Failure::Deferred),
        Some(Answer::Refused(_)) => Err(Failure::Refused),
        None => Err(Failure::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_whole_or_none() {
        assert_eq!(
            parse(b"Fa@b\0Tc\0Td\0\0"),
            Some((&b"a@b"[..], vec![&b"c"[..], b"d"]))
        );
        assert_eq!(parse(b"F\0\0"), Some((&b""[..], vec![])));
        for bad in [
            &b""[..],
            b"F",
            b"Fa\0",
            b"Fa\0Tb\0",
            b"Ta\0\0",
            b"Fa\0Xb\0\0",
        ] {
            assert_eq!(parse(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_server_is_an_address() {
        for (line, good) in [
            ("192.0.2.1", true),
            ("192.0.2.1 old", true),
            ("192.0.2.1#old", true),
            ("::1", true),
            ("a", false),
        ] {
            assert_eq!(leading_address(line.as_bytes()).is_some(), good, "{line}");
        }
    }
}
