//! Clients that start TLS, and what they sent before it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, Stream};

use super::conversation::{Heard, Protocol, Transcript, connect};
use crate::tls::Identity;

/// The piece that stands for the handshake.
pub(super) const HANDSHAKE: &[u8] = b"<TLS-HANDSHAKE>";

/// How long a server that has something to say may take to say it.
const QUIET: Duration = Duration::from_millis(300);

/// How long a handshake, or the end of a connection, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends the pieces, makes the handshake where it stands, and asks for what only the injected commands would have made possible.
///
/// # Errors
///
/// Something came unasked, or what was sent before the handshake counted after it.
pub(super) fn hold(
    address: SocketAddr,
    protocol: Protocol,
    pieces: &[Vec<u8>],
    identity: &Identity,
) -> Result<Transcript, String> {
    let mut stream = connect(address)?;
    let _ = stream.set_read_timeout(Some(QUIET));
    let mut heard = Heard::default();
    heard.take(&until_quiet(&mut stream), protocol);
    let mut pieces = pieces.iter();
    for piece in pieces.by_ref().take_while(|piece| *piece != HANDSHAKE) {
        // A server that has closed reads no more, which the replies will tell.
        let _ = stream.write_all(piece);
        heard.take(&until_quiet(&mut stream), protocol);
    }
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut client = identity.connection();
    let made = match client.complete_io(&mut stream) {
        Ok(_) => true,
        // A server that closes has made sure, too.
        Err(error) if is_end(&error) => false,
        Err(error) => return Err(format!("neither a handshake nor an end: {error}")),
    };
    if made {
        let mut stream = Stream::new(&mut client, &mut stream);
        let _ = stream.sock.set_read_timeout(Some(QUIET));
        let unasked = until_quiet(&mut stream);
        if !unasked.is_empty() {
            return Err(format!("unasked inside TLS: {}", unasked.escape_ascii()));
        }
        let (question, answer) = match protocol {
            Protocol::Smtp => (&b"RCPT TO:<alice@local.test>\r\n"[..], "503"),
            Protocol::Pop3 => (&b"DELE 1\r\n"[..], "-ERR"),
        };
        let _ = stream.write_all(question);
        let reply = until_quiet(&mut stream);
        if !reply.starts_with(answer.as_bytes()) {
            return Err(format!("not forgotten: {}", reply.escape_ascii()));
        }
        heard.take(&reply, protocol);
        for piece in pieces {
            let _ = stream.write_all(piece);
            heard.take(&until_quiet(&mut stream), protocol);
        }
    }
    Ok(heard.into_transcript(!made))
}

fn is_end(error: &std::io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Asks for new keys as often as it can, and says whether the server bore it.
///
/// # Errors
///
/// There is no handshake.
pub(super) fn flood_with_key_updates(
    address: SocketAddr,
    identity: &Identity,
    count: u32,
) -> Result<bool, String> {
    let mut stream = connect(address)?;
    let _ = stream.set_read_timeout(Some(QUIET));
    until_quiet(&mut stream);
    let start = stream.write_all(b"EHLO c.test\r\nSTARTTLS\r\n");
    start.map_err(|error| error.to_string())?;
    until_quiet(&mut stream);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut client = identity.connection();
    let made = client.complete_io(&mut stream);
    made.map_err(|error| format!("no handshake: {error}"))?;
    for _ in 0..count {
        let asked = client.refresh_traffic_keys().is_ok();
        if !asked || flush(&mut client, &mut stream).is_err() {
            return Ok(false);
        }
    }
    let mut stream = Stream::new(&mut client, &mut stream);
    let _ = stream.write_all(b"NOOP\r\n");
    Ok(!until_quiet(&mut stream).is_empty())
}

fn flush(client: &mut ClientConnection, stream: &mut TcpStream) -> std::io::Result<()> {
    while client.wants_write() {
        client.write_tls(stream)?;
    }
    Ok(())
}

/// What a client says first in a handshake, cut into records of one octet.
pub(super) fn fragmented_client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    let written = Identity::new().connection().write_tls(&mut hello);
    written.expect("memory takes everything");
    hello[5..]
        .iter()
        .flat_map(|octet| [22, 3, 1, 0, 1, *octet])
        .collect()
}

/// Reads until nothing has come for a while, or the end.
fn until_quiet(stream: &mut impl Read) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut room = [0; 4096];
    loop {
        match stream.read(&mut room) {
            Ok(0) => return heard,
            Ok(count) => heard.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return heard,
        }
    }
}
