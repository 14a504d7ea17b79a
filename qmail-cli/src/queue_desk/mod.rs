//! Looking at a queue and having things done with its messages, whether it runs or not.
//!
//! A queue that runs is asked over a socket in its home ([`socket`]); it answers with the very lines that are to be shown. A
//! queue that does not run is worked on here, under its lock. Either way [`perform`] does it, over a [`Source`].

mod perform;
mod request;
mod socket;
mod source;

pub(crate) use perform::{Frame, Sink, perform};
pub(crate) use request::{Request, Verb};
pub(crate) use socket::{Desk, ask};
pub(crate) use source::{Resting, Running, Source, Watched, open_spool};
