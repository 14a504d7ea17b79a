//! `serialsmtp`: sends messages of a Maildir over one SMTP connection.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use qmail_deliver::TlsPolicy;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::home::{Home, RemoteControls};
use crate::injection::octets;
use crate::serial_message::{FRUITLESS, Message, next_name, write_result};
use crate::serial_peer::{Timeouts, Wire};
use crate::serial_smtp::{Client, Greeted, Reply};

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
    let tls = tls_policy()?;
    let wire = Wire::new(TIMEOUTS)
        .map_err(|error| format!("unable to use descriptors 6 and 7: {error}"))?;
    let mut client = Client::new(wire);
    match client.greet(helo, tls).map_err(trouble)? {
        Greeted::Ready => send_all(&mut client, prefix)?,
        Greeted::Later(reply) => put_all_off(prefix, &reply)?,
        Greeted::Refused => {
            client.send(b"QUIT\r\n").map_err(trouble)?;
            return Err("connected but greeting failed".to_owned());
        }
    }
    client.send(b"QUIT\r\n").map_err(trouble)
}

/// control/remotetls. Where TLS is welcome but not required, and an earlier round of maildirserial(1) came to nothing, it is done
/// without: the handshake may have been the reason, and it cannot be tried twice over one connection.
fn tls_policy() -> Result<TlsPolicy, String> {
    let policy = RemoteControls::read_tls(&Home::choose(None, None));
    let policy = policy.map_err(|error| error.to_string())?;
    let fruitless = std::env::var_os(FRUITLESS).is_some_and(|rounds| rounds != "0");
    Ok(match policy {
        TlsPolicy::Opportunistic if fruitless => TlsPolicy::Off,
        policy => policy,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn trouble(error: io::Error) -> String {
    format!("network or input trouble: {error}")
}

/// Opens the file of this name; `None` if it is not for us.
fn open(name: &[u8], prefix: &[u8]) -> Result<Option<Message>, String> {
    let path = Path::new(OsStr::from_bytes(name));
    Message::open(path, prefix)
        .map_err(|error| format!("unable to open {}: {error}", path.display()))
}

/// The server wants none of the messages now: each waits, and grows old.
fn put_all_off(prefix: &[u8], reply: &Reply) -> Result<(), String> {
    let mut names = io::stdin().lock();
    while let Some(name) = next_name(&mut names).map_err(trouble)? {
        if let Some(message) = open(&name, prefix)? {
            write_result(&name, b'Z', &reply.result(&message.recipient)).map_err(trouble)?;
        }
    }
    Ok(())
}

fn send_all(client: &mut Client, prefix: &[u8]) -> Result<(), String> {
    let mut names = io::stdin().lock();
    let mut first = true;
    while let Some(name) = next_name(&mut names).map_err(trouble)? {
        let Some(mut message) = open(&name, prefix)? else {
            continue;
        };
        let fit = check(&mut message).map_err(|error| {
            let path = Path::new(OsStr::from_bytes(&name));
            format!("unable to read {}: {error}", path.display())
        })?;
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
    Ok(())
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
