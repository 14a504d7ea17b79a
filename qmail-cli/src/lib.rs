//! The programs of qmail.
#![forbid(unsafe_code)]
