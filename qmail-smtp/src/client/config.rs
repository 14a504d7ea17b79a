//! What a client session may be told beforehand. All defaults stand in [`Config::new`].

use std::time::Duration;

use bytes::Bytes;

use super::UnsendableError;

/// How sessions behave. One value serves any number of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    hello: Bytes,
    /// Whether to say EHLO first, and HELO only if that is refused. Default: yes; without it no extension is used.
    pub extended: bool,
    /// What is spoken. Default: [`Protocol::Smtp`].
    pub protocol: Protocol,
    /// Whether to ask for TLS by STARTTLS. Default: [`StartTls::Never`], since the owner has to make the handshake.
    pub start_tls: StartTls,
    /// Whether to use PIPELINING where the server announces it (RFC 2920). Default: yes.
    pub pipelining: bool,
    /// What to do with a last line that has no end. Default: [`PartialLine::Complete`].
    pub partial_line: PartialLine,
    /// How long the session waits for its server.
    pub timeouts: Timeouts,
}

impl Config {
    /// All defaults, under the name that EHLO and HELO say: control/helohost.
    ///
    /// # Errors
    ///
    /// A name with control octets, or with none at all: it would not stay one argument of one command.
    pub fn new(hello: impl Into<Bytes>) -> Result<Self, UnsendableError> {
        let hello = hello.into();
        let control = |&octet: &u8| octet < b' ' || octet == 0x7f;
        if hello.is_empty() || hello.iter().any(control) {
            return Err(UnsendableError);
        }
        Ok(Self {
            hello,
            extended: true,
            protocol: Protocol::Smtp,
            start_tls: StartTls::Never,
            pipelining: true,
            partial_line: PartialLine::Complete,
            timeouts: Timeouts::default(),
        })
    }

    /// The name that EHLO and HELO say.
    pub fn hello(&self) -> &[u8] {
        &self.hello
    }
}

/// What a session speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): EHLO is LHLO, and the server answers for each recipient after the text.
    Lmtp,
}

/// Whether a session asks for TLS by STARTTLS (RFC 3207). One that is encrypted from the start never does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartTls {
    /// No.
    #[default]
    Never,
    /// If the server announces it. One that announces it and then refuses it gets the mail in clear.
    IfOffered,
    /// Yes, and without it nothing is sent.
    Required,
}

/// What to do with a message whose last line has no end, which SMTP cannot carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartialLine {
    /// Send it as if it had one.
    #[default]
    Complete,
    /// Give up for good, 5.6.2, and drop the connection before the server can take the message (qmail-remote(8)).
    Refuse,
}

/// How long a session waits for its server: RFC 5321 section 4.5.3.2, where it has a number.
///
/// Each counts to the end of a reply, however many octets of it arrive. A session that is ready waits for its owner, and has
/// no deadline.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// For the greeting. Default: 5 minutes.
    pub greeting: Duration,
    /// For the replies to EHLO, HELO, STARTTLS, AUTH and RSET, and for the TLS handshake. Default: 5 minutes.
    pub hello: Duration,
    /// For the reply to MAIL. Default: 5 minutes.
    pub mail: Duration,
    /// For the reply to each RCPT. Default: 5 minutes.
    pub rcpt: Duration,
    /// For the reply to DATA. Default: 2 minutes.
    pub data: Duration,
    /// For each piece of the text to be sent. Default: 3 minutes.
    pub data_block: Duration,
    /// For the reply to the final dot. Default: 10 minutes: giving up early means sending a message twice.
    pub data_end: Duration,
    /// For the reply to QUIT. Default: 10 seconds: nothing depends on it.
    pub quit: Duration,
}

impl Timeouts {
    /// The same for each but QUIT: control/timeoutremote.
    pub fn all(wait: Duration) -> Self {
        Self {
            greeting: wait,
            hello: wait,
            mail: wait,
            rcpt: wait,
            data: wait,
            data_block: wait,
            data_end: wait,
            ..Self::default()
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            greeting: 5 * MINUTE,
            hello: 5 * MINUTE,
            mail: 5 * MINUTE,
            rcpt: 5 * MINUTE,
            data: 2 * MINUTE,
            data_block: 3 * MINUTE,
            data_end: 10 * MINUTE,
            quit: Duration::from_secs(10),
        }
    }
}
