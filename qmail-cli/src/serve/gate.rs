//! How many sessions there may be, in all and from one address, and how fast they may come.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long connections are counted before the count begins anew.
const MINUTE: Duration = Duration::from_secs(60);

/// Most addresses whose connections are counted in one minute; more are let in uncounted.
const COUNTED_MAX: usize = 100_000;

/// Counts the sessions of one service. Cheap to share.
pub(crate) struct Gate {
    open: Mutex<Open>,
    /// Told when the last session ends.
    empty: Notify,
}

/// What a [`Gate`] goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most sessions.
    pub(crate) all_max: usize,
    /// Most from one address.
    pub(crate) per_address_max: usize,
    /// Most connections in a minute from one address, if there is such a limit.
    pub(crate) per_minute_max: Option<u32>,
}

struct Open {
    limits: Limits,
    all: usize,
    /// Only addresses that the limit applies to; one that has no session is not held.
    per_address: HashMap<IpAddr, usize>,
    /// Connections since the current minute began, where there is a limit.
    recent: HashMap<IpAddr, u32>,
    minute: Instant,
}

/// Why nobody more may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are as many sessions as may be.
    All,
    /// There are as many from this address as may be from one, or they come too fast.
    Address,
}

/// Leave to have a session; it is over when this is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    counted: Option<IpAddr>,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            open: Mutex::new(Open {
                limits,
                all: 0,
                per_address: HashMap::new(),
                recent: HashMap::new(),
                minute: Instant::now(),
            }),
            empty: Notify::new(),
        }
    }

    /// Changes the limits. Sessions that are there stay.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
    }

    /// Lets one in from `address`. `trusted` addresses are only limited in all.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, trusted: bool) -> Result<Pass, Full> {
        let mut open = self.lock();
        if open.all >= open.limits.all_max {
            return Err(Full::All);
        }
        let counted = (!trusted).then(|| address.to_canonical());
        if let Some(address) = counted {
            open.enter(address, Instant::now())?;
        }
        open.all += 1;
        Ok(Pass {
            gate: Arc::clone(self),
            counted,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once there is no session.
    pub(crate) async fn wait_until_empty(&self) {
        loop {
            let told = self.empty.notified();
            if self.lock().all == 0 {
                return;
            }
            told.await;
        }
    }
}

impl Open {
    fn enter(&mut self, address: IpAddr, now: Instant) -> Result<(), Full> {
        let here = self.per_address.get(&address).copied().unwrap_or(0);
        if here >= self.limits.per_address_max || self.comes_too_fast(address, now) {
            return Err(Full::Address);
        }
        self.per_address.insert(address, here + 1);
        Ok(())
    }

    fn comes_too_fast(&mut self, address: IpAddr, now: Instant) -> bool {
        let Some(most) = self.limits.per_minute_max else {
            return false;
        };
        if now.duration_since(self.minute) >= MINUTE {
            self.minute = now;
            self.recent = HashMap::new();
        }
        if self.recent.len() >= COUNTED_MAX && !self.recent.contains_key(&address) {
            return false;
        }
        let count = self.recent.entry(address).or_default();
        *count = count.saturating_add(1);
        *count > most
    }

    fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
    }
}

impl Pass {
    /// The session is one of `address`: a proxy has told so. `trusted` as in [`Gate::enter`].
    pub(crate) fn count_as(&mut self, address: IpAddr, trusted: bool) -> Result<(), Full> {
        let mut open = self.gate.lock();
        if let Some(former) = self.counted.take() {
            open.leave(former);
        }
        if !trusted {
            let address = address.to_canonical();
            open.enter(address, Instant::now())?;
            self.counted = Some(address);
        }
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.lock();
        open.all -= 1;
        if let Some(address) = self.counted {
            open.leave(address);
        }
        if open.all == 0 {
            self.gate.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all_max: usize, per_minute_max: Option<u32>) -> Limits {
        Limits {
            all_max,
            per_address_max: 1,
            per_minute_max,
        }
    }

    #[test]
    fn who_comes_too_fast_waits_for_the_next_minute() {
        let gate = Arc::new(Gate::new(limits(9, Some(2))));
        let [one, two] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        for _ in 0..2 {
            assert!(gate.enter(one, false).is_ok());
        }
        assert_eq!(gate.enter(one, false).err(), Some(Full::Address));
        assert!(gate.enter(one, true).is_ok() && gate.enter(two, false).is_ok());
        let later = Instant::now() + MINUTE;
        assert_eq!(gate.lock().enter(one, later), Ok(()));
    }

    #[test]
    fn a_proxied_session_counts_for_its_client() {
        let gate = Arc::new(Gate::new(limits(9, None)));
        let [proxy, client] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let mut first = gate.enter(proxy, true).expect("room");
        assert_eq!(first.count_as(client, false), Ok(()));
        let mut second = gate.enter(proxy, true).expect("room");
        assert_eq!(second.count_as(client, false), Err(Full::Address));
        drop((first, second));
        assert!(gate.lock().per_address.is_empty());
    }

    #[test]
    fn both_limits_hold_and_a_dropped_pass_makes_room() {
        let gate = Arc::new(Gate::new(limits(3, None)));
        let [one, two, three, four] = [1, 2, 3, 4].map(|last| IpAddr::from([192, 0, 2, last]));
        let first = gate.enter(one, false);
        assert!(first.is_ok());
        assert_eq!(gate.enter(one, false).err(), Some(Full::Address));
        let mapped = "::ffff:192.0.2.1".parse().expect("an address");
        assert_eq!(gate.enter(mapped, false).err(), Some(Full::Address));
        let trusted = gate.enter(one, true);
        assert!(trusted.is_ok());
        let second = gate.enter(two, false);
        assert!(second.is_ok());
        assert_eq!(gate.enter(three, false).err(), Some(Full::All));
        drop(first);
        assert!(gate.enter(one, false).is_ok());
        drop((trusted, second));
        gate.set_limits(limits(0, None));
        assert_eq!(gate.enter(four, true).err(), Some(Full::All));
        let open = gate.open.lock().expect("not poisoned");
        assert_eq!((open.all, open.per_address.len()), (0, 0));
    }
}
