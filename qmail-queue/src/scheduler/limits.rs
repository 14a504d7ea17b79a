//! What bounds the work in progress.

use crate::Channel;

/// How much is done at once, and for how long a message is tried.
///
/// | field | default | control file |
/// |---|---|---|
/// | `local_max` | 10 | concurrencylocal |
/// | `remote_max` | 20 | concurrencyremote |
/// | `local_destination_max` | unlimited | |
/// | `remote_destination_max` | 10 | |
/// | `lifetime_seconds` | 604,800 (one week) | queuelifetime |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most local jobs at once; 0 holds all local mail. No upper limit.
    pub local_max: usize,
    /// Most remote jobs at once; 0 holds all remote mail. No upper limit.
    pub remote_max: usize,
    /// Most local jobs at once for one [`Destination`](qmail_core::Destination); at least 1 is taken.
    pub local_destination_max: usize,
    /// Most remote jobs at once for one [`Destination`](qmail_core::Destination); at least 1 is taken.
    ///
    /// By default half of the slots: a host that takes its time leaves the other half.
    pub remote_destination_max: usize,
    /// Age in seconds beyond which an attempt is the last one.
    pub lifetime_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            local_max: 10,
            remote_max: 20,
            local_destination_max: usize::MAX,
            remote_destination_max: 10,
            lifetime_seconds: 604_800,
        }
    }
}

impl Limits {
    /// Most jobs at once on a channel.
    pub fn jobs_max(&self, channel: Channel) -> usize {
        match channel {
            Channel::Local => self.local_max,
            Channel::Remote => self.remote_max,
        }
    }

    /// Most jobs at once for one destination of a channel.
    pub fn destination_max(&self, channel: Channel) -> usize {
        match channel {
            Channel::Local => self.local_destination_max.max(1),
            Channel::Remote => self.remote_destination_max.max(1),
        }
    }

    /// Most slots of a channel that may be used by anything but the first job of a new message.
    ///
    /// A tenth of the slots, rounded up, is kept free for new mail where there are four or more.
    pub(super) fn backlog_max(&self, channel: Channel) -> usize {
        match self.jobs_max(channel) {
            few @ 0..4 => few,
            many => many - many.div_ceil(10),
        }
    }
}
