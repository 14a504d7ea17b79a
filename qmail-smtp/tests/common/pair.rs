//! Client and server joined in memory.

use std::time::Duration;

use qmail_core::Machine;

use super::client::Sending;
use super::server::Served;

/// Both ends of one connection, and the octets under way.
pub struct Pair {
    pub client: Sending,
    pub server: Served,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    /// How many octets of each are already with the reader.
    client_sent: usize,
    server_sent: usize,
    /// One way takes so long.
    pub latency: Duration,
}

impl Pair {
    pub fn new(client: Sending, server: Served) -> Self {
        Self {
            client,
            server,
            to_client: Vec::new(),
            to_server: Vec::new(),
            client_sent: 0,
            server_sent: 0,
            latency: Duration::from_millis(10),
        }
    }

    /// Runs until nothing moves any more, in pieces of what `size` gives.
    pub fn run(&mut self, mut size: impl FnMut() -> usize) {
        loop {
            self.client.drain();
            self.server.drain();
            self.collect();
            if self.to_client.is_empty() && self.to_server.is_empty() {
                return;
            }
            self.client.now += self.latency;
            self.server.now += self.latency;
            let length = size().clamp(1, self.to_server.len().max(1));
            let piece: Vec<u8> = self
                .to_server
                .drain(..length.min(self.to_server.len()))
                .collect();
            self.server.give(&piece);
            let length = size().clamp(1, self.to_client.len().max(1));
            let piece: Vec<u8> = self
                .to_client
                .drain(..length.min(self.to_client.len()))
                .collect();
            self.client.give(&piece);
        }
    }

    fn collect(&mut self) {
        self.to_server
            .extend_from_slice(&self.client.sent[self.client_sent..]);
        self.client_sent = self.client.sent.len();
        self.to_client
            .extend_from_slice(&self.server.sent[self.server_sent..]);
        self.server_sent = self.server.sent.len();
    }

    pub fn both_closed(&self) -> bool {
        self.client.session.is_closed() && self.server.session.is_closed()
    }
}
