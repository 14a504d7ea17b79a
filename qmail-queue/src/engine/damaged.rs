//! Accepted messages whose envelope cannot be read as one.
//!
//! Each is told once, and again only when something else is wrong with it. It is looked at again now and then, and when everything is
//! to be tried, so that whoever mends it need not start the queue anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::handle::Arrival;
use super::{Again, Engine};
use crate::{LogEvent, MessageId};

/// How long they are left alone (qmail-send looks through `todo` every 1500 seconds).
pub(super) const LOOK_WAIT: Duration = Duration::from_secs(1_500);

/// What was told, by message. In memory as long as the messages are damaged.
#[derive(Default)]
pub(super) struct Damaged {
    told: BTreeMap<MessageId, Told>,
    /// Whether they are to be looked at again at some time.
    planned: bool,
}

struct Told {
    path: PathBuf,
    reason: String,
    /// Whether it is left alone, and not about to be looked at.
    rests: bool,
}

impl Damaged {
    /// Whether a message was damaged when it was looked at last.
    pub(super) fn contains(&self, id: MessageId) -> bool {
        self.told.contains_key(&id)
    }

    /// It is no longer damaged, or gone. `true` if it was damaged.
    pub(super) fn remove(&mut self, id: MessageId) -> bool {
        self.told.remove(&id).is_some()
    }
}

impl Engine {
    /// Leaves a message alone for a while. It stays among the unrouted, so that no listing brings it back before.
    pub(super) fn leave_alone(&mut self, id: MessageId, path: &Path, reason: &str) {
        let known = self.damaged.told.get(&id);
        if known.is_none_or(|told| told.path != path || told.reason != reason) {
            self.log(&LogEvent::Damaged { path, reason });
        }
        let told = Told {
            path: path.to_owned(),
            reason: reason.to_owned(),
            rests: true,
        };
        self.damaged.told.insert(id, told);
        if !std::mem::replace(&mut self.damaged.planned, true) {
            self.do_again(LOOK_WAIT, Again::LookAtDamaged);
        }
    }

    /// It is time to look at them.
    pub(super) fn look_at_damaged_as_planned(&mut self) {
        self.damaged.planned = false;
        self.look_at_damaged();
    }

    /// Has all of them looked at.
    pub(super) fn look_at_damaged(&mut self) {
        for (&id, told) in &mut self.damaged.told {
            if std::mem::take(&mut told.rests) {
                self.arrivals.push_back(Arrival::Damaged(id));
            }
        }
    }
}
