//! SMTP as machines: octets and time go in, events, octets and deadlines come out.
//!
//! | to | use |
//! |---|---|
//! | receive mail | [`server::Session`], a [`Machine`](qmail_core::Machine) that asks its owner about each command |
//! | send mail | [`client::Session`], a [`Machine`](qmail_core::Machine) that carries one message after the other |
//! | only undo or do the dots and line ends of a message | [`server::Decoder`], [`client::Encoder`] |
//! | receive mail by QMTP or QMQP, or send it | [`qmtp::Session`], [`qmtp::Client`], other such machines |
//! | ask who owns a connection, or whether an address is on a list | [`ident`], [`dnsbl`] |
//! | hear from a proxy who is behind it | [`proxy`] |
//!
//! A machine owns no socket, no clock and no policy: relaying, mailboxes and limits that depend on who is calling are the
//! owner's, asked for by events that carry a [`Question`](qmail_core::Question). With feature `tokio` of qmail-core,
//! `qmail_core::pump::Pump` drives either machine over any stream; `examples/memory_server.rs` is a whole server.
//!
//! No machine holds a whole message. What a session can be made to hold is bounded by its `Config`; an idle one holds less
//! than 1 KiB on the heap.
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use qmail_core::Machine;
//! use qmail_smtp::server::{Config, Event, Session, Verdict};
//!
//! # #[allow(clippy::disallowed_methods)]
//! let now = Instant::now();
//! let mut session = Session::new(Arc::new(Config::new("mx.example.org")), now);
//! session.receive(now, b"MAIL FROM:<joe@example.com>\r\n");
//! let Some(Event::Mail { question, sender, .. }) = session.poll_event() else { panic!() };
//! assert_eq!(sender.as_bytes(), b"joe@example.com");
//! session.answer_mail(question, Verdict::Accept);
//!
//! let mut sent = Vec::new();
//! session.poll_transmit(&mut sent);
//! assert_eq!(sent, b"220 mx.example.org ESMTP\r\n250 2.1.0 ok\r\n");
//! ```
#![forbid(unsafe_code)]

mod body_type;
pub mod client;
pub mod dnsbl;
mod dsn;
pub mod ident;
mod lines;
pub mod proxy;
pub mod qmtp;
pub mod server;
mod timer;

pub use body_type::BodyType;
