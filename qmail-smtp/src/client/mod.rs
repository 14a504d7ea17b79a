//! The sending side of SMTP (RFC 5321), with PIPELINING (RFC 2920), 8BITMIME (RFC 6152) and SIZE (RFC 1870).
//!
//! A [`Session`] greets its server, and is then given one message after the other:
//!
//! | event | what the owner does |
//! |---|---|
//! | [`Event::Ready`] | [`Session::start`] with a [`Transaction`], or [`Session::quit`], or keep the connection for later |
//! | [`Event::Recipient`] | note what became of this recipient |
//! | [`Event::BodyWanted`] | [`Session::body`] with the next piece of the text, or [`Session::end_body`] |
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
mod reply;
mod session;

pub use config::{Config, PartialLine, Timeouts};
pub use data::{Encoder, PartialLineError};
pub use event::{
    Cause, Event, Extensions, Failure, Stage, StartError, Transaction, UnsendableError,
};
pub use reply::{REPLY_OCTETS_MAX, REPLY_TEXT_OCTETS_MAX, ReplyError, ReplyReader, ServerReply};
pub use session::Session;
