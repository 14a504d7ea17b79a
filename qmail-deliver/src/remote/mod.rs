//! Delivery to other hosts by SMTP, as qmail-remote(8) does it, and over connections that serve more than one message.
//!
//! Which addresses are tried is decided by `routes` and `mx`, purely but for the lookups; `opening` makes TLS and logs in;
//! `dialogue` sends one message over one connection and words the result; `pool` keeps connections between messages.

mod backoff;
mod config;
mod connect;
mod dialogue;
mod mx;
mod opening;
mod pool;
mod routes;
#[cfg(test)]
mod tests;
mod texts;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use qmail_core::route::SmtpRoutes;
use qmail_core::sasl;
use qmail_core::sasl::client::Login;
use qmail_core::{Address, Delivery, Destination, Job, Outcome};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::timeout;

use crate::Resolver;
use backoff::Backoff;
use dialogue::{Connection, Message};
use mx::Target;
use opening::{Opening, OpeningError};
use pool::Pool;
use routes::NextHop;
pub use routes::next_hop_key;
use tls::{Security, TlsClient};

pub use config::RemoteConfig;
pub use connect::{Connect, Stream, TcpConnect};
pub use texts::{RecipientReport, RemoteReport};
pub use tls::{TlsPolicy, tls_client_config};

/// Delivers to other hosts by SMTP, and by LMTP where a route says so.
///
/// | of a recipient | is decided by |
/// |---|---|
/// | the next hop | control/smtproutes, else the MX records of the domain, else its addresses (RFC 5321 section 5.1) |
/// | the order of exchangers | preference; chance among equals; an exchanger no better than this host is not used |
/// | which addresses are tried | all in order until one greets; those that timed out twice are left alone for an hour |
/// | whether it is encrypted | [`TlsPolicy`]: where the server can do it, unless more is wanted |
/// | what is reported | the first server that greeted, whatever it says then |
///
/// Recipients with the same next hop share a [`Destination`], and so a transaction. A connection that has served a message is
/// kept for a few seconds for the next; one that turns out to be dead is replaced without a word.
///
/// Connecting to one message's hosts is tried at most 16 times; every step has a timeout, and whatever the hosts do, each
/// recipient gets an [`Outcome`] in the words of qmail-remote(8). A delivery whose future is dropped ends without its final
/// dot, unless that was already sent. Cheap to clone; clones share everything.
///
/// It needs a tokio runtime with time enabled, and spawns on it what nobody should wait for: goodbyes, and one task that
/// closes idle connections while there are any.
///
/// ```no_run
/// # async fn example(job: qmail_core::Job) -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Instant};
/// use qmail_core::Delivery;
/// use qmail_deliver::{HickoryResolver, RemoteConfig, RemoteDelivery, TcpConnect};
///
/// let config = RemoteConfig::new("mail.example.org")?;
/// let resolver = Arc::new(HickoryResolver::system()?);
/// let remote = RemoteDelivery::new(config, resolver, Arc::new(TcpConnect), Instant::now, 1);
/// for outcome in remote.deliver(job).await {
///     println!("{}", String::from_utf8_lossy(outcome.report().as_bytes()));
/// }
/// remote.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RemoteDelivery {
    shared: Arc<Shared>,
}

struct Shared {
    config: RemoteConfig,
    tls: TlsClient,
    routes: Mutex<Arc<SmtpRoutes>>,
    resolver: Arc<dyn Resolver>,
    connect: Arc<dyn Connect>,
    now: fn() -> Instant,
    rng: Mutex<StdRng>,
    backoff: Mutex<Backoff>,
    pool: Arc<Pool>,
}

impl RemoteDelivery {
    /// `now` is the clock, as everywhere an argument: `Instant::now` in a program. `seed` is where chance comes from: the order
    /// of equal exchangers, and how long a dead address is left alone; the same seed gives the same choices.
    pub fn new(
        config: RemoteConfig,
        resolver: Arc<dyn Resolver>,
        connect: Arc<dyn Connect>,
        now: fn() -> Instant,
        seed: u64,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                tls: TlsClient::new(config.tls_roots.clone()),
                routes: Mutex::new(Arc::new(config.routes.clone())),
                resolver,
                connect,
                now,
                rng: Mutex::new(StdRng::seed_from_u64(seed)),
                backoff: Mutex::default(),
                pool: Pool::new(config.idle_timeout, config.idle_connections_max, now),
                config,
            }),
        }
    }

    /// Replaces the routes: control/smtproutes was read again. Messages that are under way go where they were going.
    pub fn set_routes(&self, routes: SmtpRoutes) {
        *lock(&self.shared.routes) = Arc::new(routes);
    }

    /// Reads whom the system trusts, which otherwise happens when a certificate is to be verified for the first time: for a process that
    /// may open no file later.
    ///
    /// # Errors
    ///
    /// The system trusts nobody. Then no certificate can be verified, and nothing else is amiss.
    pub fn read_trusted(&self) -> std::io::Result<()> {
        self.shared.tls.verified().map(|_| ())
    }

    /// Sends a message to a host, whatever the domains of its recipients, by route or MX as usual: the task of qmail-remote(8).
    pub async fn send_to(&self, host: &[u8], job: &Job) -> RemoteReport {
        let hop = NextHop::of_domain(host, &lock(&self.shared.routes).clone());
        self.send(hop, message(job, &job.recipients)).await
    }

    /// Closes the connections that are kept, politely, and waits for it. To be called before the program ends; deliveries are
    /// possible afterwards, too.
    pub async fn close(&self) {
        self.shared.pool.close().await;
    }

    /// One message to one next hop.
    async fn send(&self, hop: NextHop, message: Message<'_>) -> RemoteReport {
        let pool = &self.shared.pool;
        while let Some(mut connection) = pool.take(&hop) {
            let transacted = connection.send(message).await;
            self.settle(hop.clone(), connection, transacted.ready);
            if !transacted.broken_off {
                return transacted.report;
            }
            // The server had closed the connection, or was about to; that says nothing of the message.
        }
        match self.connect(&hop).await {
            Ok(mut connection) => {
                let transacted = connection.send(message).await;
                self.settle(hop, connection, transacted.ready);
                transacted.report
            }
            Err(outcome) => RemoteReport::of_message(outcome),
        }
    }

    /// Keeps a connection or lets it go.
    fn settle(&self, hop: NextHop, connection: Connection, ready: bool) {
        let Shared {
            config, pool, now, ..
        } = &*self.shared;
        let age = now().saturating_duration_since(connection.since);
        let worn = connection.transactions >= config.transactions_max
            || connection.is_used_up()
            || age >= config.connection_age_max;
        if ready && !worn {
            pool.keep(hop, connection);
        } else {
            pool.dismiss(connection);
        }
    }

    /// A session that is ready, at the best host that lets us in. If none does, the last that was heard counts.
    async fn connect(&self, hop: &NextHop) -> Result<Connection, Outcome> {
        let shared = &*self.shared;
        let rng = StdRng::from_rng(&mut *lock(&shared.rng));
        let own = &shared.config.own_addresses;
        let targets = mx::addresses(&*shared.resolver, hop, own, rng).await?;
        let mut heard = None;
        let worth_trying = targets.iter().filter(|target| !self.leaves_alone(target));
        for target in worth_trying.take(TRIES_MAX) {
            match self.open(hop, target).await {
                Ok(Some(connection)) => return Ok(connection),
                Ok(None) => {}
                Err(outcome) => heard = Some(outcome),
            }
        }
        Err(heard.unwrap_or_else(|| texts::deferred(texts::NO_CONNECTION)))
    }

    /// A session at this address, by TLS if that works, else without if that will do; `None` if it cannot be reached.
    async fn open(&self, hop: &NextHop, target: &Target) -> Result<Option<Connection>, Outcome> {
        let mut security = Security::of(self.shared.config.tls, hop);
        loop {
            let Some(stream) = self.reach(target.address).await else {
                return Ok(None);
            };
            let shared = &*self.shared;
            let opening = Opening {
                target,
                protocol: hop.protocol(),
                security,
                login: self.login(hop),
                config: &shared.config.session,
                tls: &shared.tls,
                now: shared.now,
            };
            let address = target.address.ip();
            match opening.open(stream).await {
                Ok(opened) => {
                    return Ok(Some(Connection::new(opened, address, (shared.now)())));
                }
                Err(OpeningError::Said(pump, outcome)) => {
                    shared.pool.say_goodbye(dialogue::quit(*pump));
                    return Err(outcome);
                }
                Err(OpeningError::Tls(error)) => match security.in_clear() {
                    Some(clear) => security = clear,
                    None => return Err(texts::tls_failed(address, &error.to_string())),
                },
            }
        }
    }

    /// What control/smtproutes says, with a nonce of its own for each session.
    fn login(&self, hop: &NextHop) -> Option<Login> {
        let NextHop::Relay(relay) = hop else {
            return None;
        };
        let login = relay.login.as_ref()?;
        let nonce: [u8; 18] = lock(&self.shared.rng).random();
        Some(Login::new(login.name.clone(), &login.password).with_nonce(sasl::encode(&nonce)))
    }

    /// Whether the address is known to be dead.
    fn leaves_alone(&self, target: &Target) -> bool {
        let shared = &*self.shared;
        let ip = target.address.ip();
        lock(&shared.backoff).excludes(ip, (shared.now)()) || shared.connect.leaves_alone(ip)
    }

    /// A connection to this very address.
    async fn reach(&self, address: SocketAddr) -> Option<Box<dyn Stream>> {
        let shared = &*self.shared;
        let ip = address.ip();
        let connecting = shared.connect.connect(address);
        match timeout(shared.config.connect_timeout, connecting).await {
            Ok(Ok(stream)) => {
                lock(&shared.backoff).connected(ip);
                Some(stream)
            }
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::TimedOut => {
                // Who refuses is there.
                lock(&shared.backoff).connected(ip);
                None
            }
            Ok(Err(_)) | Err(_) => {
                let spread = lock(&shared.rng).random();
                lock(&shared.backoff).timed_out(ip, (shared.now)(), spread);
                None
            }
        }
    }
}

#[async_trait]
impl Delivery for RemoteDelivery {
    fn destination(&self, recipient: &Address) -> Destination {
        Destination {
            key: next_hop_key(recipient, &lock(&self.shared.routes)),
            recipients_max: self.shared.config.recipients_max.max(1),
        }
    }

    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        let routes = lock(&self.shared.routes).clone();
        let hops: Vec<_> = job
            .recipients
            .iter()
            .map(|recipient| NextHop::of(recipient, &routes))
            .collect();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; hops.len()];
        // Nearly always there is one next hop. There are more if routes have changed since the job was put together.
        while let Some(first) = outcomes.iter().position(Option::is_none) {
            let alike: Vec<_> = (first..hops.len())
                .filter(|&at| hops[at] == hops[first])
                .collect();
            let settled = match &hops[first] {
                None => vec![texts::failed(texts::NO_DOMAIN); alike.len()],
                Some(hop) if alike.len() == hops.len() => {
                    let report = self.send(hop.clone(), message(&job, &job.recipients)).await;
                    report.outcomes(alike.len())
                }
                Some(hop) => {
                    let recipients: Vec<_> =
                        alike.iter().map(|&at| job.recipients[at].clone()).collect();
                    let report = self.send(hop.clone(), message(&job, &recipients)).await;
                    report.outcomes(alike.len())
                }
            };
            for (at, outcome) in alike.into_iter().zip(settled) {
                outcomes[at] = Some(outcome);
            }
        }
        outcomes.into_iter().flatten().collect()
    }
}

impl std::fmt::Debug for RemoteDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteDelivery")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

fn message<'a>(job: &'a Job, recipients: &'a [Address]) -> Message<'a> {
    Message {
        content: &*job.content,
        sender: &job.sender,
        recipients,
    }
}

/// What is guarded is whole at every moment, so a thread that panicked does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most addresses that one attempt connects to. Those that are left alone do not count.
const TRIES_MAX: usize = 16;
