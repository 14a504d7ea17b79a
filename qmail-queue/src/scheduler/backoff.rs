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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Times before 1970 are among the vectors; the formula does not care where it starts.
    const SHIFT: i64 = 1 << 33;

    fn vectors() -> Value {
        let text = include_str!("../../testdata/retry-schedule.json");
        serde_json::from_str(text).expect("the vectors are JSON")
    }

    fn shifted(value: &Value) -> u64 {
        u64::try_from(value.as_i64().unwrap() + SHIFT).unwrap()
    }

    const CHANNELS: [(Channel, &str); 2] = [(Channel::Local, "local"), (Channel::Remote, "remote")];

    #[test]
    fn the_next_attempt_is_as_in_the_vectors() {
        let vectors = vectors();
        let cases = vectors["next"].as_array().unwrap();
        assert!(cases.len() > 100);
        for case in cases {
            for (channel, name) in CHANNELS {
                let next = next_attempt(shifted(&case["birth"]), shifted(&case["now"]), channel);
                assert_eq!(next, shifted(&case[name]), "{case} {name}");
            }
        }
    }

    #[test]
    fn attempts_on_time_are_as_in_the_vectors() {
        let vectors = vectors();
        for (channel, name) in CHANNELS {
            let mut now = 0;
            for time in vectors["first_retries_from_birth"][name]
                .as_array()
                .unwrap()
            {
                now = next_attempt(0, now, channel);
                assert_eq!(now, time.as_u64().unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn the_last_attempt_is_as_in_the_vectors() {
        let vectors = vectors();
        for case in vectors["final_attempt"].as_array().unwrap() {
            let lifetime = case["queuelifetime"].as_u64().unwrap();
            for (channel, name) in CHANNELS {
                let (mut now, mut attempt) = (0, 0);
                while !is_dying(0, now, lifetime) {
                    now = next_attempt(0, now, channel);
                    attempt += 1;
                }
                let last = &case[name];
                assert_eq!(now, last["at"].as_u64().unwrap(), "{case} {name}");
                assert_eq!(attempt, last["attempt"].as_u64().unwrap(), "{case} {name}");
            }
        }
        for case in vectors["dying"].as_array().unwrap() {
            let birth = u64::try_from(SHIFT).unwrap();
            let lifetime = case["queuelifetime"].as_u64().unwrap();
            let dying = is_dying(birth, shifted(&case["age"]), lifetime);
            assert_eq!(dying, case["dying"], "{case}");
        }
    }

    #[test]
    fn no_time_is_too_late() {
        for channel in Channel::ALL {
            assert_eq!(next_attempt(0, u64::MAX, channel), u64::MAX);
            assert_eq!(next_attempt(u64::MAX, 0, channel), u64::MAX);
        }
        assert!(!is_dying(u64::MAX, u64::MAX, u64::MAX));
    }
}
