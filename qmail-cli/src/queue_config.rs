//! What the engine of a queue is told by the control files, and the watch over messages that other programs put into it.

use std::future::pending;
use std::time::Duration;

use qmail_core::{Address, AddressError};
use qmail_queue::split::Trigger;
use qmail_queue::{Config, Limits, Queue};
use tokio::time::timeout;

use crate::home::QueueControls;

/// How often the queue is looked through for messages whose bringer could not pull the trigger. qmail-send waits 1500 seconds;
/// a look at an empty directory costs nothing.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How much is done at once.
pub(crate) fn limits(controls: &QueueControls) -> Limits {
    let mut limits = Limits::default();
    limits.local_max = controls.local_max;
    limits.remote_max = controls.remote_max;
    limits.remote_destination_max = controls.destination_max;
    limits.lifetime_seconds = controls.lifetime.as_secs();
    limits
}

/// All that the engine of this process is told at its start. Nobody else knows `seed`.
///
/// # Errors
///
/// No address can be made for double bounces.
pub(crate) fn config(controls: &QueueControls, seed: u64) -> Result<Config, AddressError> {
    let mut config = Config::new(controls.bounce_host.clone())?;
    config.limits = limits(controls);
    config.bounce_from = controls.bounce_from.clone();
    config.bounce_form = controls.bounce_form;
    config.bounce_message_octets_max = controls.bounce_message_octets_max;
    config.boundary_seed = seed;
    config.double_bounce_to = if controls.double_bounce_to.is_empty() {
        None
    } else {
        let to = [
            &controls.double_bounce_to[..],
            b"@",
            &controls.double_bounce_host,
        ];
        Some(Address::new(to.concat())?)
    };
    config.log_hashes = controls.log_hashes;
    config.extra_recipients = controls.extra_recipients.clone();
    config.pid = std::process::id();
    config.uid = rustix::process::getuid().as_raw();
    Ok(config)
}

/// Has the queue look for messages that other programs have put into it. Without a trigger it looks now and then.
pub(crate) async fn watch(trigger: Option<Trigger>, queue: Queue) {
    loop {
        let pulled = async {
            match &trigger {
                Some(trigger) => trigger.pulled().await,
                None => pending().await,
            }
        };
        let _ = timeout(LOOK_EVERY, pulled).await;
        queue.look();
    }
}
