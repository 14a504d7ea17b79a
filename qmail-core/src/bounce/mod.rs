//! Messages about messages that could not be delivered.
//!
//! While a message is in the queue, [`write_note`] keeps what is to be told of each recipient that fails. When it is done with,
//! [`plan`] says who is told, and [`Notice`] what the bounce looks like, in either of two forms.

mod dsn;
mod excerpt;
mod notice;
mod plan;
mod qsbmf;

pub use dsn::StatusWriter;
pub use excerpt::Excerpt;
pub use notice::{Form, Notice, Piece};
pub use plan::{Plan, plan};
pub use qsbmf::{Failures, parse, write_note};
