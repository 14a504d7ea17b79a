//! The supervisor: opens the ports, starts the parties, starts again what dies, and passes signals on. It reads no mail and no control
//! file.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal as SignalNumber, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::plumbing::{Plan, PlanError, delivery};
use super::sockets::Sockets;
use super::{Options, Party};
use crate::home::{Home, PASSWORDS};
use crate::privilege::{Account, AccountError};
use crate::service_manager::{self, Socket};

/// A party that dies is started again after this; twice as long each time, up to [`PAUSE_MAX`], unless it lived for a minute.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
const LIVED: Duration = Duration::from_secs(60);

/// A party that ends with an error so soon after the start of all could not start: the whole ends.
const STARTING: Duration = Duration::from_secs(2);

/// How long the parties get to end.
const END_WAIT: Duration = Duration::from_secs(60);

/// Why there is no system. `Display` is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot listen on {address}: {source}; stop who has that port, or choose another")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("there is no {}: run `qmail install` first", path.display())]
    NotInstalled { path: PathBuf },
    #[error("cannot make {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("another `qmail start` is running on {}: stop it first, or choose another --home", path.display())]
    Running { path: PathBuf },
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("the party {party} cannot be started: {source}")]
    Spawn {
        party: &'static str,
        source: io::Error,
    },
    #[error("the party {party} could not start; what it said stands above")]
    Died { party: &'static str },
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl From<PlanError> for StartError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Account(error) => error.into(),
            PlanError::System(error) => error.into(),
        }
    }
}

/// Runs until a signal ends it.
///
/// # Errors
///
/// The system could not start.
pub(crate) fn run(options: &Options) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before there is anything by which others can tell that this process runs.
        let signals = Signals::new()?;
        prepare(&options.home)?;
        let mut ports = listen(&options.ports)?;
        for Socket { service, listener } in &options.sockets {
            ports.push(Socket {
                service,
                listener: listener.try_clone()?,
            });
        }
        let sockets = Sockets::make(&options.home)?;
        watch(options, signals, &ports, &sockets).await
    })
}

/// What must be there before the parties are: they cannot make it themselves.
fn prepare(home: &Home) -> Result<(), StartError> {
    let queue = home.queue().join("todo");
    if !queue.is_dir() {
        return Err(StartError::NotInstalled { path: home.queue() });
    }
    let (path, account) = (home.path().join("log"), Account::acting(home, "qmaill")?);
    make(&path, account).map_err(|source| StartError::Make { path, source })?;
    // It is replaced by root now and then, and is for nobody else to read.
    let (path, account) = (home.passwords(), Account::acting(home, PASSWORDS)?);
    match give(&path, account) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StartError::Open { path, source })
        }
        _ => Ok(()),
    }
}

fn make(path: &Path, account: Account) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => give(path, account),
    }
}

/// Makes something an account's, where this process has the right to.
pub(super) fn give(path: &Path, account: Account) -> io::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => lchown(path, Some(account.uid), Some(account.gid)),
        false => Ok(()),
    }
}

fn listen(ports: &[(&'static str, SocketAddr)]) -> Result<Vec<Socket>, StartError> {
    let listen = |&(service, address): &(&'static str, SocketAddr)| {
        let listener = crate::serve::listener(address);
        let listener = listener.map_err(|source| StartError::Listen { address, source })?;
        Ok(Socket { service, listener })
    };
    ports.iter().map(listen).collect()
}

/// The certificate and, if it is kept apart, its key, for a party that may open neither. They are opened, not read.
fn certificate_files(home: &Home) -> Result<Vec<OwnedFd>, StartError> {
    let mut files = Vec::new();
    for name in ["servercert.pem", "serverkey.pem"] {
        let path = home.control().join(name);
        match fs::File::open(&path) {
            Ok(file) => files.push(file.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(source) => return Err(StartError::Open { path, source }),
        }
    }
    Ok(files)
}

/// A party, or several that live and die together, with what is needed to start it again.
struct Group {
    children: Vec<(Party, Child)>,
    started: Instant,
    pause: Duration,
    /// It was told to end, so that it begins anew.
    told: bool,
}

impl Group {
    /// Waits for one of them to end. Returns which, and whether it ended well.
    async fn ended(&mut self) -> (Party, bool) {
        let ends = self
            .children
            .iter_mut()
            .map(|(party, child)| Box::pin(async move { (*party, child.wait().await) }));
        let ((party, status), _, _) = futures::future::select_all(ends).await;
        let well = self.told || status.is_ok_and(|status| status.success());
        (party, well)
    }

    fn signal(&self, signal: SignalNumber) {
        for (_, child) in &self.children {
            let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32));
            if let Some(pid) = pid {
                // One that has ended needs none.
                let _ = kill_process(pid, signal);
            }
        }
    }

    async fn wait(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.wait().await;
        }
    }
}

/// What is started, in this order: the log is there before anybody says something, the writer before anybody submits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Log,
    Keys,
    Passwords,
    Writer,
    Delivery,
    Network,
}

const KINDS: [Kind; 6] = [
    Kind::Log,
    Kind::Keys,
    Kind::Passwords,
    Kind::Writer,
    Kind::Delivery,
    Kind::Network,
];

struct Starter<'a> {
    options: &'a Options,
    ports: &'a [Socket],
    sockets: &'a Sockets,
    /// Both ends of the pipe to the log party: held here, so that lines wait while it is started again.
    log: Option<(OwnedFd, OwnedFd)>,
}

impl Starter<'_> {
    fn start(&self, kind: Kind, pause: Duration) -> Result<Group, StartError> {
        let mut children = Vec::new();
        for plan in self.plans(kind)? {
            let party = plan.party;
            let command = plan.command(&self.options.home)?;
            let mut command = Command::from(command);
            let child = command.kill_on_drop(true).spawn();
            children.push((
                party,
                child.map_err(|source| StartError::Spawn {
                    party: party.name(),
                    source,
                })?,
            ));
        }
        Ok(Group {
            children,
            started: Instant::now(),
            pause,
            told: false,
        })
    }

    fn plans(&self, kind: Kind) -> Result<Vec<Plan>, StartError> {
        Ok(match kind {
            Kind::Log => match &self.log {
                None => Vec::new(),
                Some((reader, _)) => {
                    let mut plan = Plan::new(Party::Log);
                    plan.stdin = reader.try_clone()?.into();
                    vec![plan]
                }
            },
            Kind::Keys => {
                let files = certificate_files(&self.options.home)?;
                let mut plan = Plan::new(Party::Keys);
                plan.stdin = self.sockets.keys.try_clone()?.into();
                plan.stdout = self.log()?;
                plan.arguments = vec![files.len().to_string().into()];
                plan.more = files;
                vec![plan]
            }
            Kind::Passwords => {
                let mut plan = Plan::new(Party::Passwords);
                plan.stdin = self.sockets.passwords.try_clone()?.into();
                plan.stdout = self.log()?;
                vec![plan]
            }
            Kind::Writer => {
                let mut plan = Plan::new(Party::Writer);
                plan.stdin = self.sockets.submit.try_clone()?.into();
                plan.more = vec![self.sockets.keeper.try_clone()?];
                plan.stdout = self.log()?;
                vec![plan]
            }
            Kind::Delivery => delivery(
                &|| self.log(),
                &self.options.default_delivery,
                self.sockets.queue.try_clone()?,
                self.sockets.maildrops.try_clone()?,
            )?,
            Kind::Network => {
                let mut plan = Plan::new(Party::Network);
                plan.stdout = self.log()?;
                for Socket { service, listener } in self.ports {
                    plan.arguments.push(service.into());
                    plan.more.push(listener.try_clone()?.into());
                }
                vec![plan]
            }
        })
    }

    fn log(&self) -> io::Result<Stdio> {
        use std::os::fd::AsFd as _;
        Ok(match &self.log {
            Some((_, writer)) => writer.try_clone()?.into(),
            None => io::stdout().as_fd().try_clone_to_owned()?.into(),
        })
    }
}

/// What the supervisor waits for.
enum Event {
    End,
    HangUp,
    Alarm,
    /// A process of this group has ended, well or not.
    Ended(usize, Party, bool),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    alarm: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            alarm: signal(SignalKind::alarm())?,
        })
    }

    async fn next_event(&mut self, groups: &mut [(Kind, Group)]) -> Event {
        let ends = groups
            .iter_mut()
            .enumerate()
            .filter(|(_, (_, group))| !group.children.is_empty())
            .map(|(number, (_, group))| Box::pin(async move { (number, group.ended().await) }));
        let ended = futures::future::select_all(ends);
        tokio::select! {
            _ = self.terminate.recv() => Event::End,
            _ = self.interrupt.recv() => Event::End,
            _ = self.hang_up.recv() => Event::HangUp,
            _ = self.alarm.recv() => Event::Alarm,
            ((number, (party, well)), _, _) = ended => Event::Ended(number, party, well),
        }
    }
}

async fn watch(
    options: &Options,
    mut signals: Signals,
    ports: &[Socket],
    sockets: &Sockets,
) -> Result<(), StartError> {
    let log = match options.log_to_stdout {
        true => None,
        false => {
            let (reader, writer) = io::pipe()?;
            Some((reader.into(), writer.into()))
        }
    };
    let starter = Starter {
        options,
        ports,
        sockets,
        log,
    };
    let begun = Instant::now();
    let mut groups = Vec::new();
    for kind in KINDS {
        groups.push((kind, starter.start(kind, PAUSE)?));
    }
    let mut addresses = Vec::new();
    for Socket { service, listener } in ports {
        let address = listener.local_addr()?;
        crate::exit::print(&format!("qmail: listening on {address} for {service}\n"));
        addresses.push(format!("{service} {address}"));
    }
    let status = format!("listening: {}", addresses.join(", "));
    let telling = tokio::spawn(tell_service_manager(status.clone()));
    loop {
        match signals.next_event(&mut groups).await {
            Event::End => break,
            Event::HangUp => {
                ready(begun).await;
                service_manager::reloading();
                for (kind, group) in &mut groups {
                    hang_up(*kind, group);
                }
                service_manager::ready(&status);
            }
            Event::Alarm => {
                ready(begun).await;
                groups
                    .iter()
                    .filter(|(kind, _)| *kind == Kind::Delivery)
                    .for_each(|(_, group)| signal_manager(group, SignalNumber::ALARM));
            }
            Event::Ended(_, party, false) if begun.elapsed() < STARTING => {
                stop(&mut groups).await;
                let party = party.name();
                return Err(StartError::Died { party });
            }
            Event::Ended(number, party, well) => {
                if !well {
                    let words = format!("the party {} died: starting it again", party.name());
                    crate::exit::warn("qmail", &words);
                }
                let (kind, group) = &mut groups[number];
                groups[number].1 = start_again(&starter, *kind, group, well).await?;
            }
        }
    }
    telling.abort();
    service_manager::stopping();
    stop(&mut groups).await;
    Ok(())
}

/// Says that all parties have started once none of them could end for it any more, and then that this process lives.
async fn tell_service_manager(status: String) {
    sleep(STARTING).await;
    service_manager::ready(&status);
    while let Some(pulse) = service_manager::pulse() {
        sleep(pulse).await;
        service_manager::alive();
    }
}

/// A signal that comes before a process waits for it would end that.
async fn ready(begun: Instant) {
    sleep(STARTING.saturating_sub(begun.elapsed())).await;
}

/// What is left of a group ends, and all of it begins anew after a pause.
async fn start_again(
    starter: &Starter<'_>,
    kind: Kind,
    group: &mut Group,
    well: bool,
) -> Result<Group, StartError> {
    group.signal(SignalNumber::TERM);
    let _ = timeout(END_WAIT, group.wait()).await;
    let pause = if well || group.started.elapsed() >= LIVED {
        PAUSE
    } else {
        group.pause
    };
    sleep(pause).await;
    starter.start(kind, (pause * 2).min(PAUSE_MAX))
}

/// The manager reads its tables again; those who may open no file are started again.
fn hang_up(kind: Kind, group: &mut Group) {
    match kind {
        Kind::Delivery => signal_manager(group, SignalNumber::HUP),
        Kind::Network | Kind::Keys | Kind::Passwords => {
            group.told = true;
            group.signal(SignalNumber::TERM);
        }
        Kind::Log | Kind::Writer => {}
    }
}

/// Of the parties that deliver, signals are for the manager; the others end when it does.
fn signal_manager(group: &Group, signal: SignalNumber) {
    for (party, child) in &group.children {
        let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32));
        if let (Party::Manager, Some(pid)) = (party, pid) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Ends all, those who let mail in first, the log last.
async fn stop(groups: &mut Vec<(Kind, Group)>) {
    while let Some((kind, mut group)) = groups.pop() {
        match kind {
            Kind::Delivery => signal_manager(&group, SignalNumber::TERM),
            // It ends when nobody is left to say something; but we hold an end of its pipe ourselves.
            _ => group.signal(SignalNumber::TERM),
        }
        let _ = timeout(END_WAIT, group.wait()).await;
    }
}
