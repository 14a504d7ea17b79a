//! The envelope: who a message is from and who it is for, whatever its header says.

use crate::{Address, ReversePath};

/// Sender and recipients of one message (RFC 5321 section 2.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Envelope {
    /// Where bounces go.
    pub sender: ReversePath,
    /// In the order they were given; duplicates are kept.
    pub recipients: Vec<Address>,
}

impl Envelope {
    /// An envelope of these two.
    pub fn new(sender: ReversePath, recipients: Vec<Address>) -> Self {
        Self { sender, recipients }
    }
}
