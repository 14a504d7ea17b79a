//! Connections that wait for another message to the same destination.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::dialogue::Connection;
use super::routes::NextHop;

/// Idle connections by next hop. Each is closed when it has been idle for long enough, by one task that runs while there are
/// any.
pub(super) struct Pool {
    idle_timeout: Duration,
    connections_max: usize,
    now: fn() -> Instant,
    state: Mutex<State>,
    /// Goodbyes that are being said.
    goodbyes: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    idle: BTreeMap<NextHop, Vec<Idle>>,
    count: usize,
    reaping: bool,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(
        idle_timeout: Duration,
        connections_max: usize,
        now: fn() -> Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            idle_timeout,
            connections_max,
            now,
            state: Mutex::default(),
            goodbyes: Mutex::default(),
        })
    }

    /// A connection to this next hop that is still good, the one used last: the others may then grow old.
    pub(super) fn take(&self, hop: &NextHop) -> Option<Connection> {
        loop {
            let mut idle = lock(&self.state).pop(hop)?;
            // What the server closed or gave notice of is dropped without a word.
            if idle.connection.is_quiet() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection for the next message, or closes it if connections are not kept.
    pub(super) fn keep(self: &Arc<Self>, hop: NextHop, connection: Connection) {
        if self.idle_timeout.is_zero() || self.connections_max == 0 {
            return self.dismiss(connection);
        }
        let mut state = lock(&self.state);
        let oldest = (state.count >= self.connections_max).then(|| state.pop_oldest());
        state.count += 1;
        let since = (self.now)();
        state
            .idle
            .entry(hop)
            .or_default()
            .push(Idle { connection, since });
        if !std::mem::replace(&mut state.reaping, true) {
            tokio::spawn(reap(Arc::downgrade(self), self.idle_timeout));
        }
        drop(state);
        if let Some(Some(idle)) = oldest {
            self.dismiss(idle.connection);
        }
    }

    /// Says goodbye, and lets nobody wait for it.
    pub(super) fn dismiss(&self, connection: Connection) {
        self.say_goodbye(connection.quit());
    }

    /// The same for what never became a connection of use.
    pub(super) fn say_goodbye(&self, goodbye: impl Future<Output = ()> + Send + 'static) {
        let mut goodbyes = lock(&self.goodbyes);
        while goodbyes.try_join_next().is_some() {}
        goodbyes.spawn(goodbye);
    }

    /// Closes all idle connections, and waits until every goodbye is said.
    pub(super) async fn close(&self) {
        let idle = std::mem::take(&mut *lock(&self.state)).idle;
        for idle in idle.into_values().flatten() {
            self.dismiss(idle.connection);
        }
        let mut goodbyes = std::mem::take(&mut *lock(&self.goodbyes));
        while goodbyes.join_next().await.is_some() {}
    }

    /// Closes what has been idle for too long. Returns when the next one will be, if there is one.
    fn close_expired(&self) -> Option<Instant> {
        let mut state = lock(&self.state);
        let now = (self.now)();
        let mut expired = Vec::new();
        let mut next: Option<Instant> = None;
        for waiting in state.idle.values_mut() {
            let fresh = waiting.partition_point(|idle| idle.since + self.idle_timeout <= now);
            expired.extend(waiting.drain(..fresh));
            let due = waiting.first().map(|idle| idle.since + self.idle_timeout);
            next = next.into_iter().chain(due).min();
        }
        state.idle.retain(|_, waiting| !waiting.is_empty());
        state.count -= expired.len();
        state.reaping = next.is_some();
        drop(state);
        for idle in expired {
            self.dismiss(idle.connection);
        }
        next
    }
}

impl State {
    fn pop(&mut self, hop: &NextHop) -> Option<Idle> {
        let waiting = self.idle.get_mut(hop)?;
        let idle = waiting.pop()?;
        if waiting.is_empty() {
            self.idle.remove(hop);
        }
        self.count -= 1;
        Some(idle)
    }

    fn pop_oldest(&mut self) -> Option<Idle> {
        let (hop, _) = self
            .idle
            .iter()
            .filter_map(|(hop, waiting)| Some((hop, waiting.first()?.since)))
            .min_by_key(|(_, since)| *since)?;
        let hop = hop.clone();
        let waiting = self.idle.get_mut(&hop)?;
        let idle = waiting.remove(0);
        if waiting.is_empty() {
            self.idle.remove(&hop);
        }
        self.count -= 1;
        Some(idle)
    }
}

/// Runs while there are idle connections, and ends with the pool.
async fn reap(pool: Weak<Pool>, first: Duration) {
    tokio::time::sleep(first).await;
    while let Some(pool) = pool.upgrade() {
        let Some(due) = pool.close_expired() else {
            return;
        };
        let wait = due.saturating_duration_since((pool.now)());
        drop(pool);
        tokio::time::sleep(wait).await;
    }
}

/// What is guarded is whole at every moment, so a thread that panicked does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
