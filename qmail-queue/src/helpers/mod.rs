//! What a queue manager and its helper programs say to each other over pipes: the framing alone.
//!
//! The classic qmail-send(8) reaches nobody's mailbox, no other host and not all of its own queue. It asks three helpers:
//! qmail-lspawn(8) and qmail-rspawn(8) make deliveries ([`spawn`]), qmail-clean(8) removes files ([`clean`]).

pub mod clean;
pub mod spawn;
