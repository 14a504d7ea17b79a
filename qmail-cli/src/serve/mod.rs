//! `qmail serve`: a whole mail system in one unprivileged process.

mod gate;
mod listen;
mod networks;
mod policy;

pub(crate) use networks::Networks;
