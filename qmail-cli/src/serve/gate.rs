//! How many sessions there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Counts the sessions of one service. Cheap to share.
pub(crate) struct Gate {
    all_max: AtomicUsize,
    per_address_max: AtomicUsize,
    open: Mutex<Open>,
    /// Told when the last session ends.
    empty: Notify,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// Only addresses that the limit applies to; one that has no session is not held.
    per_address: HashMap<IpAddr, usize>,
}

/// Why nobody more may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are as many sessions as may be.
    All,
    /// There are as many from this address as may be from one.
    Address,
}

/// Leave to have a session; it is over when this is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    counted: Option<IpAddr>,
}

impl Gate {
    pub(crate) fn new(all_max: usize, per_address_max: usize) -> Self {
        Self {
            all_max: AtomicUsize::new(all_max),
            per_address_max: AtomicUsize::new(per_address_max),
            open: Mutex::new(Open::default()),
            empty: Notify::new(),
        }
    }

    /// Changes the limits. Sessions that are there stay.
    pub(crate) fn set_limits(&self, all_max: usize, per_address_max: usize) {
        self.all_max.store(all_max, Ordering::Relaxed);
        self.per_address_max
            .store(per_address_max, Ordering::Relaxed);
    }

    /// Lets one in from `address`. `trusted` addresses are only limited in all.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, trusted: bool) -> Result<Pass, Full> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= self.all_max.load(Ordering::Relaxed) {
            return Err(Full::All);
        }
        let counted = (!trusted).then(|| address.to_canonical());
        if let Some(address) = counted {
            let most = self.per_address_max.load(Ordering::Relaxed);
            let here = open.per_address.get(&address).copied().unwrap_or(0);
            if here >= most {
                return Err(Full::Address);
            }
            open.per_address.insert(address, here + 1);
        }
        open.all += 1;
        Ok(Pass {
            gate: Arc::clone(self),
            counted,
        })
    }

    /// Returns once there is no session.
    pub(crate) async fn wait_until_empty(&self) {
        loop {
            let told = self.empty.notified();
            if self.open.lock().unwrap_or_else(PoisonError::into_inner).all == 0 {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self
            .gate
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(address) = self.counted
            && let Some(count) = open.per_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.per_address.remove(&address);
            }
        }
        if open.all == 0 {
            self.gate.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_a_dropped_pass_makes_room() {
        let gate = Arc::new(Gate::new(3, 1));
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
        gate.set_limits(0, 1);
        assert_eq!(gate.enter(four, true).err(), Some(Full::All));
        let open = gate.open.lock().expect("not poisoned");
        assert_eq!((open.all, open.per_address.len()), (0, 0));
    }
}
