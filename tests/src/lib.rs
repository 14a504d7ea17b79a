//! What the tests of the whole share: the conformance harness, and `qmail serve` as a child process.
#![forbid(unsafe_code)]

pub mod conformance;
pub mod dns;
pub mod hostile;
pub mod hosts;
pub mod local;
pub mod manager;
pub mod receiver;
pub mod recipes;
pub mod scripted;
pub mod server;
pub mod submission;
pub mod tls;
