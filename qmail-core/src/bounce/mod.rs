//! Messages about messages that could not be delivered.

mod qsbmf;

pub use qsbmf::{Failures, Notice, Plan, parse, plan, write_note};
