//! What qmail-send does when a program beside it is gone: it says so, and stops.

use std::sync::OnceLock;

use qmail_queue::{Channel, Queue};

use crate::report::Reporter;

/// Shared by all connections to the programs beside qmail-send.
pub(crate) struct Loss {
    reporter: Reporter,
    queue: OnceLock<Queue>,
}

impl Loss {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            queue: OnceLock::new(),
        }
    }

    /// Says which queue is to be stopped; before it runs.
    pub(super) fn watch(&self, queue: Queue) {
        let _ = self.queue.set(queue);
    }

    /// The queue, once it is there.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.get()
    }

    /// A connection has ended, and with it the deliveries of a channel, if it is one of those that make them: of these nothing more is
    /// told. To be called before they end without an outcome.
    pub(crate) fn tell(&self, connection: &str, channel: Option<Channel>) {
        self.reporter.alert(&format_args!(
            "oh no! lost {connection} connection! dying..."
        ));
        if let Some(queue) = self.queue.get() {
            match channel {
                Some(channel) => queue.stop_without(channel),
                None => queue.stop(),
            }
        }
    }
}
