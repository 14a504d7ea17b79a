//! Header fields: dates, trace lines.
//!
//! | to | use |
//! |---|---|
//! | write a date as qmail does, or label a log line | [`date`] |
//! | write a Received field | [`received`] |

pub mod date;
pub mod received;
