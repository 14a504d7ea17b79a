//! What a server session may be told beforehand. All defaults stand in [`Config::new`].

use std::time::Duration;

use bytes::Bytes;
use qmail_core::ReplyStyle;
use qmail_core::sasl::Mechanism;

/// How sessions behave. One value serves any number of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The name in 220, 221 and the first line of HELO's and EHLO's 250: control/smtpgreeting. Control octets in it are
    /// shown as `?`.
    pub greeting: Bytes,
    /// What is spoken. Default: [`Dialect::Smtp`].
    pub dialect: Dialect,
    /// Where replies show their enhanced status. Default: [`ReplyStyle::Enhanced`]; [`ReplyStyle::Classic`] gives the
    /// texts of qmail-smtpd(8).
    pub reply_style: ReplyStyle,
    /// What EHLO announces. Default: everything.
    pub extensions: Extensions,
    /// How clients log in. Default: they cannot, and AUTH is unknown.
    pub login: Option<Login>,
    /// What to do with the text after the address in MAIL and RCPT. Default: [`ParameterPolicy::Strict`].
    pub parameters: ParameterPolicy,
    /// Largest message in octets, counted as it is stored: line ends are LF, stuffed dots are gone (control/databytes).
    /// Exactly this many are accepted; more give 552 5.3.4 at the end of the message, or at MAIL if its `SIZE=` says so.
    /// Default: no limit.
    pub message_octets_max: Option<u64>,
    /// Longest command line in octets, CR LF included. A longer one is not stored, and answered with 500 5.5.2 once its
    /// end was seen. Default: 4096; 512 is the least that RFC 5321 section 4.5.3.1.4 allows.
    pub line_octets_max: usize,
    /// Most accepted recipients of one message; more are answered with 452 4.5.3. Default: 20,000; 100 is the least that
    /// RFC 5321 section 4.5.3.1.8 allows.
    pub recipients_max: usize,
    /// Most octets that the addresses of one envelope may have together; a recipient beyond is answered with 452 4.5.3.
    /// This, not [`recipients_max`](Self::recipients_max), bounds the memory of a session. Default: 4 MiB.
    pub envelope_octets_max: usize,
    /// Most commands in one session that the machine refuses by itself (unknown, malformed, out of order). One more is
    /// answered with 421 4.7.0 and ends the session. What the owner refuses does not count. Default: 50.
    pub errors_max: u32,
    /// Most commands that bring no mail since the session's start or its last accepted message: all but DATA and the RCPTs
    /// that the owner accepts, so that nobody tries out names for ever. Each one beyond is executed, but counts as an
    /// error. Default: 1000.
    pub idle_commands_max: u32,
    /// How many lines beginning with `Received` or `Delivered` in a message's header make it a loop: so many give
    /// 554 5.4.6 at its end; 0 is as 1. Default: 100, as qmail-smtpd(8).
    pub hops_max: u32,
    /// A LF without CR in a message. Default: [`BareLf::Refuse`].
    pub bare_lf: BareLf,
    /// A CR without LF in a message. Default: [`BareCr::Refuse`].
    pub bare_cr: BareCr,
    /// How long the session waits for its client.
    pub timeouts: Timeouts,
}

impl Config {
    /// All defaults, under this name.
    pub fn new(greeting: impl Into<Bytes>) -> Self {
        Self {
            greeting: greeting.into(),
            dialect: Dialect::Smtp,
            reply_style: ReplyStyle::Enhanced,
            extensions: Extensions::default(),
            login: None,
            parameters: ParameterPolicy::Strict,
            message_octets_max: None,
            line_octets_max: 4096,
            recipients_max: 20_000,
            envelope_octets_max: 4 * 1024 * 1024,
            errors_max: 50,
            idle_commands_max: 1000,
            hops_max: 100,
            bare_lf: BareLf::Refuse,
            bare_cr: BareCr::Refuse,
            timeouts: Timeouts::default(),
        }
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 5321.
    #[default]
    Smtp,
    /// RFC 2033: LHLO in place of HELO and EHLO, and after a message one reply for each of its recipients.
    Lmtp,
}

/// How clients log in: AUTH (RFC 4954).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Login {
    /// What is offered, in this order. Those that need a nonce (SCRAM-SHA-256, CRAM-MD5) are offered only by sessions that
    /// were [given one](super::Session::with_nonce).
    pub mechanisms: Vec<Mechanism>,
    /// Whether they are offered on a connection in clear, too, where who listens can learn or try out passwords. Default:
    /// no.
    pub in_clear: bool,
    /// Most logins that may fail in one session; one more is answered with 421 4.7.0 and ends it. Default: 4.
    pub failures_max: u32,
}

impl Login {
    /// By these mechanisms, otherwise the defaults.
    pub fn new(mechanisms: Vec<Mechanism>) -> Self {
        Self {
            mechanisms,
            in_clear: false,
            failures_max: 4,
        }
    }
}

/// What EHLO announces. What is not announced is not understood either, save that replies are always batched.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Extensions {
    /// `PIPELINING` (RFC 2920). Default: yes.
    pub pipelining: bool,
    /// `8BITMIME` (RFC 6152), the parameter `BODY=`. Default: yes. Octets above 127 pass in any case.
    pub eight_bit_mime: bool,
    /// `SIZE` (RFC 1870), the parameter `SIZE=`. Default: yes, with [`Config::message_octets_max`] as its value.
    pub size: bool,
    /// `ENHANCEDSTATUSCODES` (RFC 2034). Default: yes; never announced with [`ReplyStyle::Classic`], which is not the
    /// form that the extension promises.
    pub enhanced_status_codes: bool,
    /// `LIMITS` (RFC 9422): [`Config::recipients_max`] as `RCPTMAX`. Default: no; few clients look at it.
    pub limits: bool,
    /// `STARTTLS` (RFC 3207), until the connection is encrypted. Default: no: the owner must make the handshake.
    pub starttls: bool,
    /// `SMTPUTF8` (RFC 6531), the parameter of that name. Default: no: whoever sends the messages on must know it, too.
    /// Addresses may have octets above 127 in any case.
    pub smtp_utf8: bool,
    /// `CHUNKING` (RFC 3030), the command BDAT. Default: no. BINARYMIME is never announced:
    /// messages are lines.
    pub chunking: bool,
    /// `DSN` (RFC 3461), the parameters RET, ENVID, NOTIFY and ORCPT. Default: no: the owner must heed them.
    pub dsn: bool,
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            pipelining: true,
            eight_bit_mime: true,
            size: true,
            enhanced_status_codes: true,
            limits: false,
            starttls: false,
            smtp_utf8: false,
            chunking: false,
            dsn: false,
        }
    }
}

/// What to do with the text after the address in MAIL and RCPT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParameterPolicy {
    /// Parameters of announced extensions are understood; anything else is refused with 555 5.5.4 (RFC 5321 section
    /// 4.1.1.11).
    #[default]
    Strict,
    /// Whatever stands there is ignored, as by qmail-smtpd(8), whose clients may rely on it. Control octets are refused
    /// all the same.
    Ignore,
    /// The same, and what stands before the address is ignored too, as by ofmipd(8): the address begins at the first `<`,
    /// else behind the first colon, and without either there is none. For clients that are known to be let in; it is no
    /// way to meet strangers.
    IgnoreAround,
}

/// What a LF without CR before it means in a message. It never ends one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareLf {
    /// The message is void: `451 See https://cr.yp.to/docs/smtplf.html.`, and the session ends. Relays that disagree on
    /// what a line is can be made to disagree on where a message ends.
    #[default]
    Refuse,
    /// It is text, and will be taken for the end of a line by whoever reads the stored message. A dot after it is not
    /// removed.
    Keep,
}

/// What a CR without LF after it means in a message. It never ends one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareCr {
    /// The message is void: 451 4.5.2, and the session ends, for the reason of [`BareLf::Refuse`].
    #[default]
    Refuse,
    /// It is text, as for qmail-smtpd(8).
    Keep,
}

/// How long a session waits for its client. After each of them it says so (421 4.4.2; 451 in classic style) and ends.
///
/// No wait is counted while a question is open: that is the owner's time.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the last reply to the end of the next command, however many octets of it arrive. Default: 300 s (RFC 5321
    /// section 4.5.3.2.7); qmail-smtpd(8) has 1200 s.
    pub command: Duration,
    /// Between two arrivals of message text. Default: 300 s.
    pub data_block: Duration,
    /// From 354 to the end of the message, however steadily it arrives. Default: 1 hour.
    pub data: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(300),
            data_block: Duration::from_secs(300),
            data: Duration::from_secs(3600),
        }
    }
}
