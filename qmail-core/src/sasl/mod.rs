//! SASL (RFC 4422): how a client proves who it is, in whatever protocol.
//!
//! Pure: mechanisms take and give messages. That these travel in base64, and which reply stands for which outcome, is the
//! protocol's (RFC 4954 for SMTP, RFC 5034 for POP3).

pub mod client;
mod scram;
