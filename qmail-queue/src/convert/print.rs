//! Whether two spools hold the same messages, told without holding them: a number for each, and the sum of all.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Done;
use crate::{Channel, Incoming, Routed};

/// How many messages there are, and what they are, in no order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Prints {
    count: u64,
    sum: u64,
}

impl Prints {
    pub(super) fn add(&mut self, print: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(print);
    }
}

/// How long a text is, and its CRC-32C.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct Sum {
    octets: u64,
    crc: u32,
}

impl Sum {
    pub(super) fn add(&mut self, chunk: &[u8]) {
        self.octets += chunk.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, chunk);
    }
}

/// The print of an incoming message.
pub(super) fn of_incoming(incoming: &Incoming, text: Sum) -> u64 {
    let mut hasher = DefaultHasher::new();
    (0_u8, incoming.uid, incoming.pid, text).hash(&mut hasher);
    incoming.envelope.sender.as_bytes().hash(&mut hasher);
    for recipient in &incoming.envelope.recipients {
        recipient.as_bytes().hash(&mut hasher);
    }
    hasher.finish()
}

/// The print of a routed message, but for its failures. When it is due is no part of it.
pub(super) fn of_routed(routed: &Routed, done: &Done, held: bool, text: Sum) -> Print {
    let mut hasher = DefaultHasher::new();
    (1_u8, routed.birth_seconds, held, text).hash(&mut hasher);
    routed.sender.as_bytes().hash(&mut hasher);
    for (channel, list) in Channel::ALL.iter().zip([&routed.local, &routed.remote]) {
        list.len().hash(&mut hasher);
        for recipient in list {
            recipient.as_bytes().hash(&mut hasher);
        }
        done.get(channel).hash(&mut hasher);
    }
    Print(hasher)
}

/// One that is being made.
pub(super) struct Print(DefaultHasher);

impl Print {
    pub(super) fn failures(&mut self, failures: Sum) {
        failures.hash(&mut self.0);
    }

    pub(super) fn finish(&self) -> u64 {
        self.0.finish()
    }
}
