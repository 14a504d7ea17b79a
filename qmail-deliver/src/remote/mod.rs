//! Delivery to other hosts by SMTP.

mod backoff;
mod connect;
mod mx;
mod routes;
mod texts;

pub use connect::{Connect, Stream, TcpConnect};
pub use texts::RemoteReport;
