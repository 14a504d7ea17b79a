//! The sending side of SMTP (RFC 5321) and LMTP (RFC 2033), with PIPELINING (RFC 2920), 8BITMIME (RFC 6152), SIZE (RFC 1870),
//! STARTTLS (RFC 3207), AUTH (RFC 4954), SMTPUTF8 (RFC 6531) and LIMITS (RFC 9422).
//!
//! A [`Session`] greets its server, and is then given one message after the other:
//!
//! | event | what the owner does |
//! |---|---|
//! | [`Event::StartTls`] | the handshake on the stream, then [`Session::tls_started`] |
//! | [`Event::Ready`] | [`Session::start`] with a [`Transaction`], or [`Session::quit`], or keep the connection for later |
//! | [`Event::Recipient`] | note what became of this recipient |
//! | [`Event::BodyWanted`] | [`Session::body`] with the next piece of the text, or [`Session::end_body`] |
//! | [`Event::Final`] | LMTP only: note what became of this recipient in the end |
//! | [`Event::Done`] | the accepted recipients have the message |
//! | [`Event::Failed`] | they have not; [`Failure::class`] tells whether a later try may help |
//! | [`Event::Closed`] | the connection is of no further use |
//!
//! After [`Event::Done`] and [`Event::Failed`] comes [`Event::Ready`] again, or [`Event::Closed`].
//!
//! A server that says anything but what the protocol allows at that point has failed for now: nothing it says by accident
//! or on purpose makes a message count as delivered, or bounce, for the wrong reason.

mod config;
mod data;
mod event;
mod exchange;
mod extensions;
mod reply;
mod session;
mod transaction;

pub use config::{Config, PartialLine, Protocol, StartTls, Timeouts};
pub use data::{Encoder, PartialLineError};
pub use event::{Cause, Event, Failure, Stage};
pub use extensions::{Extensions, Limits, Mechanisms};
pub use reply::{REPLY_OCTETS_MAX, REPLY_TEXT_OCTETS_MAX, ReplyError, ReplyReader, ServerReply};
pub use session::Session;
pub use transaction::{StartError, Transaction, UnsendableError};

pub use crate::dsn::{Notify, RcptParameters, Return};
