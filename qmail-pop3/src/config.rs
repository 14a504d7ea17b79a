//! What an operator chooses, and how a session greets.

use std::time::Duration;

use bytes::Bytes;
use qmail_core::sasl::Mechanism;

/// Limits and habits of a server. One is shared by all its sessions.
///
/// | field | default | [`classic`](Self::classic) |
/// |---|---|---|
/// | `line_octets_max` | 2048 | 2048 |
/// | `idle` | 1200 s | 1200 s |
/// | `errors_max` | 20 | 20 |
/// | `logins_max` | 3 | 1 |
/// | `extra_blank_line` | no | yes |
/// | `pipelining` | yes | no |
/// | `tls` | no | no |
/// | `mechanisms` | none | none |
/// | `in_clear` | yes | yes |
///
/// ```
/// let mut config = qmail_pop3::Config::default();
/// config.idle = std::time::Duration::from_secs(600);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Longest command line in octets, its CR LF included. A longer one is thrown away as it comes and answered with
    /// `-ERR line too long`. RFC 2449 section 4 wants 255 at least; the default leaves room for passphrases.
    pub line_octets_max: usize,
    /// How long a client may be silent, or fail to take a part of a reply, before the connection is closed without
    /// another word and without removing anything (RFC 1939 section 3: at least ten minutes). Longer than a clock can count
    /// is for ever.
    pub idle: Duration,
    /// How many commands in a row may be unknown, malformed or out of place. The connection is closed with the last of
    /// them, so that what is no POP3 client does not stay.
    pub errors_max: u32,
    /// How many attempts to log in a connection has. It is closed when the last one fails.
    pub logins_max: u32,
    /// Whether each message ends in an additional empty line, as qmail-pop3d(8) sends it. Off by default: a client then
    /// gets octet for octet what is stored. Without it clients and filters made for qmail-pop3d miss nothing but that line.
    pub extra_blank_line: bool,
    /// Whether CAPA says that commands may be sent ahead of their replies (RFC 2449 section 6.6). The machine always
    /// permits it; qmail-popup does not, whose successor would miss what popup has read.
    pub pipelining: bool,
    /// Whether STLS is offered (RFC 2595): the owner must then be able to make the handshake that
    /// [`Event::StartTls`](crate::Event::StartTls) asks for.
    pub tls: bool,
    /// The ways to log in by AUTH (RFC 5034). SCRAM-SHA-256 and CRAM-MD5 are only offered by a session that has a nonce
    /// ([`Session::with_nonce`](crate::Session::with_nonce)), and none that needs more than [`Self::line_octets_max`] octets
    /// for a response works: 2048 are enough for all.
    pub mechanisms: Vec<Mechanism>,
    /// Whether a password may come over a connection that is not encrypted: by PASS, or by a mechanism that shows it. Without
    /// it these are refused, and not offered, until there is TLS (RFC 8314 section 3.2). APOP is not concerned.
    pub in_clear: bool,
}

impl Config {
    /// The habits of qmail-popup(8) and qmail-pop3d(8).
    pub fn classic() -> Self {
        Self {
            logins_max: 1,
            extra_blank_line: true,
            pipelining: false,
            ..Self::default()
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            line_octets_max: 2048,
            idle: Duration::from_secs(1200),
            errors_max: 20,
            logins_max: 3,
            extra_blank_line: false,
            pipelining: true,
            tls: false,
            mechanisms: Vec::new(),
            in_clear: true,
        }
    }
}

/// The first line of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// `+OK <PID.TIME@HOST>`: APOP is offered. For checkers that
    /// [can do it](qmail_core::PasswordChecker::can_apop), and in qmail-popup, which cannot know.
    Apop(Timestamp),
    /// `+OK `: APOP is not offered, and refused.
    Plain,
}

/// The timestamp in the greeting, from which a client makes its APOP digest (RFC 1939 section 7).
///
/// No two sessions may show the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp(Bytes);

impl Timestamp {
    /// `<PID.SECONDS@HOST>`, the form of qmail-popup(8): for a process that serves one session.
    pub fn of_process(process: u32, unix_seconds: u64, host: &[u8]) -> Self {
        Self::new(&format!("{process}.{unix_seconds}"), host)
    }

    /// `<PID.NUMBER.SECONDS@HOST>`: for a process that serves many, and numbers them.
    pub fn of_session(process: u32, number: u64, unix_seconds: u64, host: &[u8]) -> Self {
        Self::new(&format!("{process}.{number}.{unix_seconds}"), host)
    }

    fn new(left: &str, host: &[u8]) -> Self {
        let mut text = format!("<{left}@").into_bytes();
        // RFC 2449 section 4 limits a reply line to 512 octets; a host name has 255 at most.
        text.extend(host.iter().take(255).map(|&octet| match octet {
            b'<' | b'>' | b'@' => b'?',
            b'!'..=b'~' => octet,
            _ => b'?',
        }));
        text.push(b'>');
        Self(text.into())
    }

    /// With its angle brackets, as the digest wants it.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_cannot_break_the_greeting() {
        let timestamp = Timestamp::of_process(7, 99, b"a\r\nb> c");
        assert_eq!(timestamp.as_bytes(), &b"<7.99@a??b??c>"[..]);
        let timestamp = Timestamp::of_session(7, 3, 99, &[b'x'; 1000]);
        assert_eq!(timestamp.as_bytes().len(), b"<7.3.99@>".len() + 255);
    }
}
