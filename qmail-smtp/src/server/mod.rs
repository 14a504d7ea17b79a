//! The receiving side of SMTP (RFC 5321) and LMTP (RFC 2033), with PIPELINING (RFC 2920), 8BITMIME (RFC 6152), SIZE
//! (RFC 1870), ENHANCEDSTATUSCODES (RFC 2034) and LIMITS (RFC 9422); on request with STARTTLS (RFC 3207), AUTH (RFC 4954),
//! SMTPUTF8 (RFC 6531), CHUNKING (RFC 3030) and DSN (RFC 3461).
//!
//! A [`Session`] checks syntax, order, sizes, counts and times; everything that needs judgement it asks its owner:
//!
//! | command | event | answer | the classic yes |
//! |---|---|---|---|
//! | HELO, EHLO | [`Event::Greeted`] | none | `250 NAME` |
//! | STARTTLS | [`Event::StartTls`] | [`Session::tls_started`] | `220 ready to start TLS` |
//! | AUTH | [`Event::Login`] | [`Session::answer_login`] | `235 ok` |
//! | MAIL | [`Event::Mail`] | [`Session::answer_mail`] | `250 ok` |
//! | RCPT | [`Event::Rcpt`] | [`Session::answer_rcpt`] | `250 ok` |
//! | DATA, first BDAT | [`Event::Data`] | [`Session::answer_data`] | `354 go ahead` |
//! | the text | [`Event::Body`], as often as it takes | none | |
//! | `.`, last BDAT | [`Event::BodyEnd`] | [`Session::answer_body_end`] | `250 ok` |
//!
//! An owner starts a draft at [`Event::Data`], appends each [`Event::Body`] to it, commits it at [`Event::BodyEnd`], and
//! drops it at [`Event::Aborted`].
//!
//! What is stricter here than in qmail-smtpd(8), and why: an address with control octets, unbalanced quotes or garbage
//! around it is refused with 555, because whatever parses it next may see another address; `RCPT TO:<>` is refused; a
//! command line is bounded; too many errors end the session; after a refused line end in a message nothing of the
//! remaining input is looked at, because it may be a second message in disguise.

mod command;
mod config;
mod data;
mod event;
mod hops;
mod line;
mod message;
mod parameters;
mod path;
mod replies;
mod session;
mod transmit;

pub use config::{BareCr, BareLf, Config, Dialect, Extensions, Login, ParameterPolicy, Timeouts};
pub use data::{Decoder, Progress};
pub use event::{AbortReason, Auth, BodyEnd, CloseReason, Data, Event, Mail, Rcpt, Verdict};
pub use parameters::MailParameters;
pub use path::PATH_OCTETS_MAX;
pub use session::Session;

pub use crate::dsn::{Notify, RcptParameters, Return};
