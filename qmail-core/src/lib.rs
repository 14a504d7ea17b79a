//! What every part of a mail system shares, free of files, sockets, clocks and threads.
//!
//! | to | use |
//! |---|---|
//! | hold an address or an envelope | [`Address`], [`ReversePath`], [`Envelope`] |
//! | answer an SMTP command | [`Reply`], [`EnhancedStatus`] |
//! | say what became of a recipient | [`Outcome`], [`Report`] |
//! | drive a protocol machine | [`Machine`], and with feature `tokio` the [`pump`] |
//! | read control files | [`control`] |
//! | route by domain, match rcpthosts | [`route`] |
//! | split and rewrite header fields, write dates and Received fields | [`header`] |
//! | complete a message and make its envelope | [`message`] |
//! | expand and strip variable return paths | [`verp`] |
//! | write and read bounces | [`bounce`] |
//! | find the user of a local address | [`users`], [`cdb`] |
//! | read instruction files, choose among them | [`dot_qmail`] |
//! | write messages in mbox format | [`mbox`] |
//! | read alias files, expand aliases | [`alias`] |
//! | be a queue program: read its envelope; or run one: understand its exit code | [`EnvelopeReader`]; [`QueueExit`] |
//! | frame octets for QMTP and QMQP | [`netstring`] |
//! | be a place that mail is delivered to | [`Delivery`] |
//! | run a program that delivers, and understand its end | [`ProgramEnd`] |
//! | be a place that new mail is handed to | [`Submit`], [`Draft`] |
//! | log in elsewhere | [`sasl::client`] |
//! | say who may log in | [`PasswordChecker`], [`Credentials`] |
//! | know a web browser by its verb | [`is_http_verb`] |
//! | hear a client prove who it is | [`sasl`] |
//!
//! Everything is octets: mail is 8-bit, and no type here is a `String` where a peer chooses the content.
#![forbid(unsafe_code)]

mod address;
pub mod alias;
pub mod bounce;
pub mod cdb;
mod content;
pub mod control;
mod decimal;
mod delivery;
mod delivery_program;
pub mod dot_qmail;
mod envelope;
mod escape;
pub mod header;
mod http;
mod machine;
pub mod mbox;
pub mod message;
pub mod netstring;
mod outcome;
mod password;
#[cfg(feature = "tokio")]
pub mod pump;
mod queue_envelope;
mod queue_exit;
mod reply;
pub mod route;
pub mod sasl;
mod submit;
pub mod tcprules;
pub mod users;
pub mod verp;

pub use address::{ADDRESS_OCTETS_MAX, Address, AddressError, ReversePath};
pub use content::{Body, CHUNK_OCTETS_MAX, Content, MemoryContent};
pub use delivery::{Delivery, Destination, Job};
pub use delivery_program::ProgramEnd;
pub use envelope::Envelope;
pub use escape::Escaped;
pub use http::is_http_verb;
pub use machine::{Machine, Question};
pub use outcome::{Outcome, REPORT_OCTETS_MAX, Report};
pub use password::{
    Account, Credentials, LoginError, PasswordChecker, Secret, apop_digest, cram_md5_digest,
};
pub use queue_envelope::{ENVELOPE_OCTETS_MAX, EnvelopeError, EnvelopeReader, RECIPIENT_OCTETS};
pub use queue_exit::{QueueExit, QueueFailure};
pub use reply::{EnhancedStatus, Reply, ReplyStyle, StatusClass};
pub use submit::{Draft, Origin, Receipt, Submit, SubmitError};

use address::{is_plain_local_part, quote_address, quote_local_part};
