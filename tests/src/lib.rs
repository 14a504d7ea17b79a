//! What the tests of the whole share: the conformance harness.
#![forbid(unsafe_code)]

pub mod conformance;
