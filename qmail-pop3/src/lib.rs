//! A POP3 server (RFC 1939) as a machine: octets and time go in, replies and questions come out.
//!
//! | to | use |
//! |---|---|
//! | speak POP3 over anything, synchronously or not | [`Session`], with its [`Event`]s |
//! | say how strict and how patient a server is | [`Config`], [`Greeting`] |
//! | keep the mail | [`Maildrop`], [`Maildrops`], [`Listing`], [`Deletions`] |
//! | try it, or test with it | [`MemoryMaildrops`] |
#![cfg_attr(
    feature = "tokio",
    doc = "| join a session to a stream, passwords and maildrops | [`serve`], [`serve_tls`], [`serve_maildrop`] |"
)]
#![cfg_attr(
    feature = "maildir",
    doc = "| serve a Maildir | [`MaildirMaildrop`], [`HomeMaildirs`] |"
)]
//!
//! | specification | state |
//! |---|---|
//! | RFC 1939 POP3 | all of it: USER, PASS, APOP, STAT, LIST, RETR, DELE, NOOP, RSET, QUIT, TOP, UIDL |
//! | RFC 1460 LAST | kept for old clients |
//! | RFC 2449 CAPA | done: TOP, UIDL, USER, SASL, STLS, PIPELINING, EXPIRE, RESP-CODES |
//! | RFC 3206 | `[SYS/TEMP]` when passwords cannot be checked |
//! | RFC 2595 STLS, RFC 8314 | done, with the owner making the handshake; off by default |
//! | RFC 5034 AUTH | PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-256 (without channel binding); off by default |
//!
//! Reply texts are those of qmail-popup and qmail-pop3d. A session in AUTHORIZATION only, as qmail-popup, and one that
//! starts in TRANSACTION, as qmail-pop3d, are both there.
#![forbid(unsafe_code)]

mod command;
mod config;
mod event;
#[cfg(feature = "maildir")]
mod maildir;
mod maildrop;
mod memory;
mod output;
mod phase;
#[cfg(feature = "tokio")]
mod serve;
mod session;
mod text;

pub use config::{Config, Greeting, Timestamp};
pub use event::{BodyFlow, End, Event, LoginAnswer, RetrieveAnswer, UpdateAnswer, VerifierAnswer};
#[cfg(feature = "maildir")]
pub use maildir::{HomeMaildirs, MaildirMaildrop, MaildirOptions};
pub use maildrop::{Deletions, Listing, ListingError, Maildrop, MaildropError, Maildrops};
pub use memory::{MemoryMaildrop, MemoryMaildrops};
#[cfg(feature = "tokio")]
pub use serve::{Served, serve, serve_maildrop, serve_tls};
pub use session::Session;
