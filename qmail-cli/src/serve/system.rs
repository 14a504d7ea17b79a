//! The running system: listeners, sessions, the queue, signals, and the end of it all.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qmail_core::{Origin, PasswordChecker, Submit};
use qmail_deliver::{AssignedUsers, FirstOf, FixedUsers, Resolver, User, UserDirectory};
use qmail_smtp::qmtp::Protocol;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::accounts::{Accounts, Passwords};
use super::gate::{Full, Gate, Limits, Pass};
use super::mailer::Mailer;
use super::settings::{Seed, Settings};
use super::smtp::Door;
use super::start::check_users;
use super::{
    ElsewhereLogins, MailLogin, Options, StartError, listen, packages, pop3, smtp, submission,
};
use crate::checkpassword::Checker;
use crate::home::{Controls, Home};
use crate::passwords::PasswordFile;
use crate::report::Reporter;
use crate::service_manager;

/// How long SMTP sessions may go on after the signal to end: a message on its way in is let in.
const SMTP_GRACE: Duration = Duration::from_secs(10);

/// How long POP3 sessions may: a client that loses its connection loses nothing.
const POP3_GRACE: Duration = Duration::from_secs(2);

/// How long running deliveries may go on after that. What is not done by then is tried again at the next start.
const DELIVERY_GRACE: Duration = Duration::from_secs(30);

/// Failed accepts are told at most this often.
const TROUBLE_PAUSE: Duration = Duration::from_secs(10);

/// What the log says when new control files are no good.
const KEEPING: &str = "unable to reread controls, keeping the old ones";

/// A mail system that has started.
pub(super) struct System {
    home: Home,
    settings: Arc<Settings>,
    users: Arc<dyn UserDirectory>,
    resolver: Option<Arc<dyn Resolver>>,
    reporter: Reporter,
    /// Most sessions that there are descriptors for, in both services together.
    room: usize,
    mailer: Mailer,
    smtp: Service<Door>,
    pop3: Service<pop3::Door>,
    packages: Service<Protocol>,
    /// Takes mail from programs of this host.
    local: Option<JoinHandle<()>>,
    /// Becomes true when sessions are to end.
    stop: watch::Sender<bool>,
    signals: Signals,
}

/// Where logins are checked.
pub(super) enum Logins {
    /// In this process, by this file or what the options and control files say.
    Here(Arc<PasswordFile>),
    /// By another process.
    Elsewhere(ElsewhereLogins),
}

impl Logins {
    fn checker(
        self,
        any_password: bool,
        program: Option<Checker>,
        users: &Arc<dyn UserDirectory>,
        settings: &Arc<Settings>,
    ) -> io::Result<Arc<dyn PasswordChecker>> {
        let file = match self {
            Self::Elsewhere(logins) => return Ok(logins.passwords),
            Self::Here(file) => file,
        };
        let mut decoys = [0; 32];
        SysRng
            .try_fill_bytes(&mut decoys)
            .map_err(io::Error::other)?;
        let settings = Arc::clone(settings);
        Ok(Arc::new(Accounts::new(
            Some(Arc::clone(users)),
            move || settings.tables(),
            match (any_password, program) {
                (true, _) => Passwords::Any,
                (false, Some(program)) => Passwords::Program(program),
                (false, None) => Passwords::File(file),
            },
            decoys,
        )?))
    }
}

/// The listeners of one protocol, each with what it is for, and who is connected.
struct Service<K> {
    addresses: Vec<(K, SocketAddr)>,
    listening: Vec<JoinHandle<()>>,
    gate: Arc<Gate>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    alarm: Signal,
    /// Only there so that a file beyond the size limit is a failed write and not the end of the process.
    _file_size: Signal,
}

impl System {
    /// Starts everything. When this returns, mail is taken.
    ///
    /// # Errors
    ///
    /// Something could not be had; nothing goes on then.
    pub(super) async fn start(
        options: &Options,
        controls: Controls,
        logins: Logins,
        reporter: Reporter,
        room: usize,
    ) -> Result<Self, StartError> {
        let signals = Signals::new()?;
        let handed = |service| {
            options
                .sockets
                .iter()
                .any(|socket| socket.service == service)
        };
        let encrypted = [("smtps", &options.submissions), ("pop3s", &options.pop3s)]
            .into_iter()
            .find(|&(service, addresses)| !addresses.is_empty() || handed(service));
        if let Some((service, _)) = encrypted
            && controls.entrance.tls.is_none()
        {
            return Err(StartError::NoCertificate {
                service,
                path: options.home.control().join("servercert.pem"),
            });
        }
        let smtp_listeners = all_listeners(
            options,
            Door::ALL.map(|door| (door, door.name(), options.addresses(door))),
        )?;
        let packages_listeners = all_listeners(
            options,
            packages::PROTOCOLS.map(|protocol| {
                let addresses = match protocol {
                    Protocol::Qmtp => &options.qmtp,
                    Protocol::Qmqp => &options.qmqp,
                };
                (protocol, packages::name(protocol), &addresses[..])
            }),
        )?;
        let pop3_listeners = all_listeners(
            options,
            pop3::Door::ALL.map(|door| {
                let addresses = match door {
                    pop3::Door::Pop3 => &options.pop3,
                    pop3::Door::Pop3s => &options.pop3s,
                };
                (door, door.name(), &addresses[..])
            }),
        )?;
        for warning in &controls.warnings {
            reporter.warning(warning);
        }
        reporter.running();

        let users = users(options);
        let (stop, stopped) = watch::channel(false);
        let (smtp_max, pop3_max) = session_limits(&controls, room, &reporter);
        let smtp_gate = Arc::new(Gate::new(smtp_limits(&controls, smtp_max)));
        let pop3_gate = Arc::new(Gate::new(pop3_limits(&controls, pop3_max)));
        let resolver = options.resolver().ok();
        let resolver = resolver.map(|resolver| Arc::new(resolver) as Arc<dyn Resolver>);
        if resolver.is_none() && controls.entrance.wants_resolver() {
            reporter.warning(
                &"control/dnsbl, control/smtprules: no list and no name can be asked for; mend /etc/resolv.conf",
            );
        }
        let mailer = Mailer::start(options, &controls, Arc::clone(&users), &reporter).await?;
        let settings = Arc::new(Settings::new(Seed {
            smtp: controls.smtp,
            entrance: controls.entrance,
            resolver: resolver.clone(),
            users: Arc::clone(&users),
            pop3: controls.pop3,
            tables: controls.queue.tables,
            submit: mailer.submit(),
            reporter: reporter.clone(),
        }));
        let checkpassword = controls.checkpassword;
        let elsewhere = match &logins {
            Logins::Elsewhere(logins) => Some(Arc::clone(&logins.mail)),
            Logins::Here(_) => None,
        };
        let checker = logins.checker(options.any_password, checkpassword, &users, &settings)?;

        let shared = Shared {
            settings: Arc::clone(&settings),
            reporter: reporter.clone(),
            stop: stopped,
        };
        // All mail that comes in shares one limit.
        let packages_gate = Arc::clone(&smtp_gate);
        let smtp = Service::start(smtp_listeners, smtp_gate, &shared, smtp::full_words, {
            let (shared, checker) = (shared.clone(), Arc::clone(&checker));
            move |door, stream, peer, pass| shared.smtp_session(&checker, door, stream, peer, pass)
        })?;
        let packages = Service::start(
            packages_listeners,
            packages_gate,
            &shared,
            packages::full_words,
            {
                let shared = shared.clone();
                move |protocol, stream, peer, pass| {
                    shared.packages_session(protocol, stream, peer, pass);
                }
            },
        )?;
        let pop3 = Service::start(pop3_listeners, pop3_gate, &shared, POP3_FULL, {
            let shared = shared.clone();
            move |door, stream, peer, pass| {
                let elsewhere = elsewhere.as_ref().map(|mail| mail());
                shared.pop3_session(&checker, elsewhere, door, stream, peer, pass);
            }
        })?;
        // Who keeps the queue has the socket.
        let local = (!options.queue_elsewhere)
            .then(|| take_local_mail(&options.home, mailer.submit(), shared))
            .flatten();
        let system = Self {
            home: options.home.clone(),
            settings,
            users,
            resolver,
            reporter,
            room,
            mailer,
            smtp,
            pop3,
            packages,
            local,
            stop,
            signals,
        };
        for listener in system.listening() {
            system.reporter.notice("listening", &listener);
        }
        Ok(system)
    }

    /// Each listener: what it is for, and its address.
    fn listening(&self) -> Vec<String> {
        let smtp = self.smtp.named(Door::name);
        let packages = self.packages.named(packages::name);
        smtp.chain(packages)
            .chain(self.pop3.named(pop3::Door::name))
            .collect()
    }

    /// Where mail of other hosts is taken.
    pub(super) fn smtp(&self) -> Option<SocketAddr> {
        let mut addresses = self.smtp.addresses.iter();
        addresses.find_map(|&(door, address)| (door == Door::Mx).then_some(address))
    }

    /// Where mail is given out.
    pub(super) fn pop3(&self) -> Option<SocketAddr> {
        let mut addresses = self.pop3.addresses.iter();
        addresses.find_map(|&(door, address)| (door == pop3::Door::Pop3).then_some(address))
    }

    /// Serves until a signal ends it, and then until all is done that was begun, within bounds.
    ///
    /// # Errors
    ///
    /// The queue died.
    pub(super) async fn run(mut self) -> Result<(), StartError> {
        let life = self.show_life();
        service_manager::ready(&self.status());
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
                _ = self.signals.hang_up.recv() => self.reread().await,
                _ = self.signals.alarm.recv() => self.mailer.retry_all(),
                death = self.mailer.died() => {
                    self.reporter.alert(&format_args!("the queue has stopped working: {death}; exiting"));
                    return Err(StartError::QueueDied(death));
                }
            }
        }
        let Self {
            mut signals,
            smtp,
            pop3,
            packages,
            local,
            stop,
            mailer,
            ..
        } = self;
        service_manager::stopping();
        let end = async {
            smtp.close();
            packages.close();
            pop3.close();
            local.inspect(JoinHandle::abort);
            let _ = stop.send(true);
            let (_, _) = tokio::join!(
                timeout(SMTP_GRACE, smtp.gate.wait_until_empty()),
                timeout(POP3_GRACE, pop3.gate.wait_until_empty()),
            );
            let _ = timeout(DELIVERY_GRACE, mailer.stop()).await;
        };
        tokio::select! {
            () = end => {}
            // Somebody is in a hurry. What is not done is done at the next start.
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
        life.inspect(JoinHandle::abort);
        Ok(())
    }

    /// Shows a service manager that wants to know it that the queue's engine is at work.
    fn show_life(&self) -> Option<JoinHandle<()>> {
        let (pulse, mailer) = (service_manager::pulse()?, self.mailer.pulse());
        Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(pulse).await;
                mailer.beat().await;
                service_manager::alive();
            }
        }))
    }

    /// What it does, in a line.
    fn status(&self) -> String {
        format!("listening: {}", self.listening().join(", "))
    }

    /// Reads the control files again; if one is bad, all stays as it was.
    async fn reread(&mut self) {
        service_manager::reloading();
        self.read_controls().await;
        service_manager::ready(&self.status());
    }

    async fn read_controls(&mut self) {
        let home = self.home.clone();
        let read = move || (Controls::read(&home), check_users(&home));
        let read = tokio::task::spawn_blocking(read).await;
        let (controls, users) = match read.map_err(io::Error::other) {
            Ok((Ok(controls), users)) => (controls, users),
            Ok((Err(error), _)) => {
                self.reporter.alert(&format_args!("{KEEPING}: {error}"));
                return;
            }
            Err(error) => {
                self.reporter.alert(&format_args!("{KEEPING}: {error}"));
                return;
            }
        };
        if let Err(error) = users {
            self.reporter.warning(&error);
        }
        for warning in &controls.warnings {
            self.reporter.warning(warning);
        }
        let (smtp_max, pop3_max) = session_limits(&controls, self.room, &self.reporter);
        self.smtp.gate.set_limits(smtp_limits(&controls, smtp_max));
        self.pop3.gate.set_limits(pop3_limits(&controls, pop3_max));
        self.mailer.reconfigure(&controls);
        self.settings.replace(Seed {
            smtp: controls.smtp,
            entrance: controls.entrance,
            resolver: self.resolver.clone(),
            users: Arc::clone(&self.users),
            pop3: controls.pop3,
            tables: controls.queue.tables,
            submit: self.mailer.submit(),
            reporter: self.reporter.clone(),
        });
        self.reporter.notice("reread", &"controls");
    }
}

/// Takes mail from programs of this host. Without it the system is of use, too.
fn take_local_mail(home: &Home, submit: Arc<dyn Submit>, shared: Shared) -> Option<JoinHandle<()>> {
    match submission::Socket::bind(home.submission_socket()) {
        Ok(socket) => Some(tokio::spawn(socket.serve(submit, shared.stop, Origin::Uid))),
        Err((path, error)) => {
            shared.reporter.warning(&format_args!(
                "unable to make {}: {error}; programs of this host cannot submit mail",
                path.display()
            ));
            None
        }
    }
}

/// What the sessions of all services share.
#[derive(Clone)]
struct Shared {
    settings: Arc<Settings>,
    reporter: Reporter,
    stop: watch::Receiver<bool>,
}

impl Shared {
    fn smtp_session(
        &self,
        checker: &Arc<dyn PasswordChecker>,
        door: Door,
        stream: TcpStream,
        peer: SocketAddr,
        pass: Pass,
    ) {
        let rules = self.settings.rules();
        let checker = Arc::clone(checker);
        let stop = self.stop.clone();
        tokio::spawn(smtp::serve(rules, checker, door, stream, peer, pass, stop));
    }

    fn packages_session(
        &self,
        protocol: Protocol,
        stream: TcpStream,
        peer: SocketAddr,
        pass: Pass,
    ) {
        let (rules, stop) = (self.settings.rules(), self.stop.clone());
        tokio::spawn(packages::serve(rules, protocol, stream, peer, pass, stop));
    }

    fn pop3_session(
        &self,
        checker: &Arc<dyn PasswordChecker>,
        elsewhere: Option<Box<dyn MailLogin>>,
        door: pop3::Door,
        stream: TcpStream,
        peer: SocketAddr,
        pass: Pass,
    ) {
        let rules = self.settings.pop3();
        let checker = Arc::clone(checker);
        let reporter = self.reporter.clone();
        tokio::spawn(async move {
            let elsewhere = elsewhere.as_deref();
            pop3::serve(&rules, &*checker, elsewhere, door, stream, peer, &reporter).await;
            drop(pass);
        });
    }
}

impl<K: Copy + Send + Sync + 'static> Service<K> {
    /// Starts accepting on each of these.
    fn start(
        listeners: impl IntoIterator<Item = (K, TcpListener)>,
        gate: Arc<Gate>,
        shared: &Shared,
        full: fn(Full) -> &'static [u8],
        session: impl Fn(K, TcpStream, SocketAddr, Pass) + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (mut addresses, mut listening) = (Vec::new(), Vec::new());
        for (kind, listener) in listeners {
            addresses.push((kind, listener.local_addr()?));
            let settings = Arc::clone(&shared.settings);
            let trusted = move |peer: SocketAddr| {
                let rules = settings.rules();
                peer.ip().to_canonical().is_loopback()
                    || rules.policy.may_relay(peer.ip())
                    || rules.entrance.controls.proxies.contains(peer.ip())
            };
            let session = session.clone();
            listening.push(tokio::spawn(listen::accept(
                listener,
                Arc::clone(&gate),
                trusted,
                move |stream, peer, pass| session(kind, stream, peer, pass),
                full,
                now_and_then(shared.reporter.clone()),
            )));
        }
        Ok(Self {
            addresses,
            listening,
            gate,
        })
    }

    /// The listeners in words.
    fn named(&self, name: fn(K) -> &'static str) -> impl Iterator<Item = String> {
        let addresses = self.addresses.iter();
        addresses.map(move |&(kind, address)| format!("{} {address}", name(kind)))
    }

    /// Lets nobody more in.
    fn close(&self) {
        for listener in &self.listening {
            listener.abort();
        }
    }
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            alarm: signal(SignalKind::alarm())?,
            _file_size: signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?,
        })
    }
}

/// Most SMTP and POP3 sessions. If there are not descriptors for as many as the control files ask for, the log says so, and
/// both services get their share: better a client that is told to come back than a queue that cannot open its files.
fn session_limits(controls: &Controls, room: usize, reporter: &Reporter) -> (usize, usize) {
    let (smtp, pop3) = (controls.smtp.sessions_max, controls.pop3.sessions_max);
    if smtp + pop3 <= room {
        return (smtp, pop3);
    }
    let smtp_share = (smtp * room / (smtp + pop3)).max(1);
    let pop3_share = room.saturating_sub(smtp_share).clamp(1, pop3.max(1));
    reporter.warning(&format_args!(
        "descriptors for {smtp_share} SMTP and {pop3_share} POP3 sessions only; \
         raise the limit of open files, or lower concurrencyincoming and concurrencypop3"
    ));
    (smtp_share.min(smtp), pop3_share.min(pop3))
}

fn smtp_limits(controls: &Controls, all_max: usize) -> Limits {
    Limits {
        all_max,
        per_address_max: controls.smtp.sessions_per_address_max,
        per_minute_max: controls.entrance.per_minute_max,
    }
}

fn pop3_limits(controls: &Controls, all_max: usize) -> Limits {
    Limits {
        all_max,
        per_address_max: controls.pop3.sessions_per_address_max,
        per_minute_max: None,
    }
}

/// Who gets mail: the mailboxes of the options, then users/assign or users/cdb of the home.
fn users(options: &Options) -> Arc<dyn UserDirectory> {
    let mut fixed = FixedUsers::new();
    for mailbox in &options.mailboxes {
        let home = mailbox.maildir.parent().unwrap_or(&mailbox.maildir);
        let mut user = User::new(mailbox.user.clone(), home);
        user.maildir = Some(mailbox.maildir.clone());
        fixed = fixed.with(&mailbox.user, user);
    }
    let assigned = AssignedUsers::new(options.home.path());
    Arc::new(FirstOf(vec![Arc::new(fixed), Arc::new(assigned)]))
}

/// The listeners of several services, each with what it is for.
fn all_listeners<'a, K: Copy>(
    options: &Options,
    services: impl IntoIterator<Item = (K, &'static str, &'a [SocketAddr])>,
) -> Result<Vec<(K, TcpListener)>, StartError> {
    let mut all = Vec::new();
    for (kind, name, addresses) in services {
        let listeners = listeners(options, name, addresses)?;
        all.extend(listeners.into_iter().map(|listener| (kind, listener)));
    }
    Ok(all)
}

/// All listeners of a service: those that it was handed, and one for each address.
fn listeners(
    options: &Options,
    service: &'static str,
    addresses: &[SocketAddr],
) -> Result<Vec<TcpListener>, StartError> {
    let handed = options
        .sockets
        .iter()
        .filter(|socket| socket.service == service)
        .map(|socket| Ok(TcpListener::from_std(socket.listener.try_clone()?)?));
    let bound = addresses.iter().map(|&address| {
        listen::bind(address).map_err(|source| StartError::Listen {
            service,
            address,
            remedy: match source.kind() {
                io::ErrorKind::AddrInUse => "stop who has that port, or choose another",
                io::ErrorKind::PermissionDenied => "choose a port above 1023",
                _ => "choose an address of this host",
            },
            source,
        })
    });
    handed.chain(bound).collect()
}

/// Tells failed accepts, but not each of thousands.
fn now_and_then(reporter: Reporter) -> impl Fn(&io::Error) {
    let last: Mutex<Option<Instant>> = Mutex::new(None);
    move |error| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_none_or(|last| now.duration_since(last) >= TROUBLE_PAUSE) {
            *last = Some(now);
            reporter.warning(&format_args!("unable to accept connections: {error}"));
        }
    }
}

/// The words for a POP3 client that there is no room for.
const POP3_FULL: fn(Full) -> &'static [u8] = |full| match full {
    Full::All => b"-ERR [SYS/TEMP] too many connections, try again later\r\n",
    Full::Address => b"-ERR [SYS/TEMP] too many connections from your address, try again later\r\n",
};
