//! When to try again: the quadratic schedule of qmail-send(8).

use crate::Channel;

/// When a message is tried next, if a pass over its recipients that starts at `now` does not get rid of all of them.
///
/// `birth + (isqrt(now - birth) + s)²` with s = 10 for local and 20 for remote recipients: the older a message, the rarer its
/// attempts. A message tried exactly on time is tried at 100, 400, 900, ... seconds (local) or 400, 1600, 3600, ... (remote).
/// All times are whole seconds since 1970. A birth in the future counts as age 0.
///
/// ```
/// use qmail_queue::{Channel, next_attempt};
/// assert_eq!(next_attempt(1_000, 1_000, Channel::Local), 1_100);
/// assert_eq!(next_attempt(1_000, 1_410, Channel::Remote), 1_000 + 40 * 40);
/// ```
pub fn next_attempt(birth: u64, now: u64, channel: Channel) -> u64 {
    let step = match channel {
        Channel::Local => 10,
        Channel::Remote => 20,
    };
    // Saturates only for ages that no clock reaches.
    let root = now.saturating_sub(birth).isqrt() + step;
    birth.saturating_add(root.saturating_mul(root))
}

/// Whether a pass that starts at `now` is the last one: what is not delivered then has failed.
///
/// It takes strictly more than the lifetime, so that a lifetime of 0 still allows one attempt in the second of birth.
pub fn is_dying(birth: u64, now: u64, lifetime_seconds: u64) -> bool {
    now > birth.saturating_add(lifetime_seconds)
}
