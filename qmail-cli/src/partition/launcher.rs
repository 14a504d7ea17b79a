//! The launcher: the only party that can become somebody else. It starts processes as the users whom mail is for, never as root, and hands
//! them messages and maildrops; it opens no file, reads no table, and understands nothing but requests of a fixed form.
//!
//! A process that delivers for a user lives on for a while, for the next message.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use qmail_core::sasl::NAME_OCTETS_MAX;
use qmail_core::{Outcome, ProgramEnd};
use qmail_deliver::User;
use qmail_queue::helpers::spawn::Refusal;
use rustix::process::geteuid;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::calls::Calls;
use super::channel::{self, Channel, Incoming, Listener};
use super::complaints::Complaints;
use super::lookup;
use super::plumbing::APPLET;
use super::requests::{NUMBERS, Request};
use super::serving::{Ends, serve};
use crate::home::Home;
use crate::serve::MAILDIR;
use crate::{exit, inherited, stdio};

/// Descriptors beside standard input, which has the requests: where reports go, the lookup party, the socket for maildrops.
const MORE: [i32; 3] = [3, 4, 5];

/// A process that delivers for a user ends when it had nothing to do for so long.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Most processes that deliver for users, busy or not: as many as there can be deliveries.
const AGENTS_MAX: usize = NUMBERS;

/// Most maildrops that are open at a time; who wants another is turned away.
const MAILDROPS_MAX: usize = 1000;

/// How long the passwords party may take to say whose maildrop it wants.
const MAILDROP_WAIT: Duration = Duration::from_secs(10);

/// What `party` is followed by to be the process of a user that delivers.
pub(super) const AGENT: &str = "agent";

/// The same, that shows a maildrop.
pub(super) const MAILDROP: &str = "maildrop";

/// The argument is the instructions of users who have none.
pub(super) fn run(home: &Home, arguments: &[OsString]) -> ExitCode {
    let default_delivery = arguments.first().cloned().unwrap_or_default();
    let launched = inherited::take_beyond_standard(&MORE)
        .and_then(|more| stdio::run(launch(home, default_delivery, more))?);
    match launched {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal("launcher", &error, exit::TEMPORARY),
    }
}

async fn launch(home: &Home, default_delivery: OsString, more: Vec<OwnedFd>) -> io::Result<()> {
    let requests = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
    let [reports, lookup, maildrops] =
        <[OwnedFd; 3]>::try_from(more).map_err(|_| io::ErrorKind::NotFound)?;
    let (reports, lookup) = (Channel::new(reports)?, Arc::new(Channel::new(lookup)?));
    let maildrops = Listener::new(maildrops)?;
    let launcher = Launcher {
        home: home.clone(),
        program: std::env::current_exe()?,
        default_delivery,
        lookup: Calls::new(Arc::clone(&lookup)),
        agents: Mutex::default(),
        // In a home of one's own, without root's rights, everybody is the one user.
        switches: geteuid().is_root() || !home.is_own(),
    };
    let complaints = Complaints::of("launcher");
    let ends = Ends {
        requests: &requests,
        reports: &reports,
        asker: "opener",
    };
    let delivering = serve(ends, &complaints, async |request, message| {
        let outcome = launcher.deliver(&request, message).await;
        vec![outcome.unwrap_or_else(|outcome| outcome)]
    });
    tokio::select! {
        delivered = delivering => delivered,
        () = launcher.dismiss_idle() => Ok(()),
        () = launcher.show_maildrops(&maildrops, &complaints) => Ok(()),
        // Without it nothing can be delivered: all of us begin anew.
        looked = launcher.lookup.take_reports(&lookup, "lookup", &complaints) => looked,
    }
}

struct Launcher {
    home: Home,
    /// This binary.
    program: PathBuf,
    default_delivery: OsString,
    lookup: Calls,
    agents: Mutex<HashMap<Whose, Agent>>,
    /// Whether processes are started as their users.
    switches: bool,
}

/// Whom a process delivers for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Whose {
    uid: u32,
    gid: u32,
    name: Bytes,
    home: PathBuf,
}

/// A process that delivers for a user. It ends when this is dropped.
struct Agent {
    calls: Arc<Calls>,
    /// Hears of it until it ends.
    task: JoinHandle<()>,
    busy: usize,
    used: Instant,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Launcher {
    /// The request has a sender and a recipient.
    ///
    /// # Errors
    ///
    /// What becomes of a message that nobody was started for.
    async fn deliver(
        &self,
        request: &Request,
        message: Option<OwnedFd>,
    ) -> Result<Outcome, Outcome> {
        let [sender, recipient] = &request.texts[..] else {
            return Err(Refusal::NoHost.outcome());
        };
        let at = memchr::memrchr(b'@', recipient).ok_or(Refusal::NoHost.outcome())?;
        let (local, host) = (&recipient[..at], &recipient[at + 1..]);
        if local.is_empty() {
            // The mail of nobody is thrown away.
            return Ok(Outcome::Delivered("".into()));
        }
        let message = message.ok_or(Refusal::CannotOpen.outcome())?;
        let user = self.user(recipient).await?;
        let whose = Whose {
            uid: user.uid,
            gid: user.gid,
            name: user.name,
            home: user.home,
        };
        let agent = self.agent(&whose)?;
        let texts = [&sender[..], local, &user.dash, &user.extension, host];
        let outcomes = agent.call(0, &texts, Some(message.as_fd()), 1).await;
        self.done(&whose, &agent);
        let outcome = outcomes.and_then(|mut outcomes| outcomes.pop());
        // It ended without a word, as qmail-local might.
        Ok(outcome.unwrap_or_else(|| ProgramEnd::Crashed.local_outcome(b"")))
    }

    async fn user(&self, recipient: &[u8]) -> Result<User, Outcome> {
        let found = self.lookup.call(0, &[recipient], None, 1).await;
        let found = found.and_then(|mut outcomes| outcomes.pop());
        let user = match found {
            Some(Outcome::Delivered(told)) => lookup::understand(told.as_bytes()),
            Some(outcome) => return Err(outcome),
            None => None,
        };
        let user = user.ok_or(Outcome::Deferred("Unable to look up the user.\n".into()))?;
        if user.uid == 0 {
            let text = "Not allowed to perform deliveries as root.\n";
            return Err(Outcome::Deferred(text.into()));
        }
        Ok(user)
    }

    /// Starts a process of its owner for each maildrop that the passwords party wants to be shown; for ever.
    async fn show_maildrops(&self, wanted: &Listener, complaints: &Complaints) {
        let open = Arc::new(Semaphore::new(MAILDROPS_MAX));
        loop {
            let Ok(connection) = wanted.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Err(why) = self.show_maildrop(&connection, &open).await {
                complaints.refused("passwords", &why);
            }
        }
    }

    /// The message is the name of the owner, the descriptor is where the maildrop is looked at. Whoever looks sees the end if this fails.
    async fn show_maildrop(
        &self,
        connection: &Channel,
        open: &Arc<Semaphore>,
    ) -> Result<(), String> {
        let mut room = [0; NAME_OCTETS_MAX];
        let received = timeout(MAILDROP_WAIT, connection.receive(&mut room)).await;
        let (octets, looker) = match received {
            Ok(Ok(Incoming::Message(octets, Some(looker)))) => (octets, looker),
            Ok(Ok(Incoming::Message(_, None))) => return Err("no descriptor".to_owned()),
            Ok(Ok(Incoming::Refused(why))) => return Err(why.to_owned()),
            Ok(Ok(Incoming::End) | Err(_)) | Err(_) => return Ok(()),
        };
        let permit = Arc::clone(open).try_acquire_owned();
        let permit = permit.map_err(|_| "too many maildrops are open")?;
        let address = [&room[..octets], b"@localhost"].concat();
        let user = self.user(&address).await.map_err(|outcome| {
            String::from_utf8_lossy(outcome.report().as_bytes().trim_ascii()).into_owned()
        })?;
        let child = self
            .command(MAILDROP, user.uid, user.gid)
            .and_then(|mut command| {
                command
                    .arg(user.home.join(MAILDIR))
                    .stdin(Stdio::from(looker))
                    .spawn()
            });
        let mut child = child.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            let _ = child.wait().await;
            drop(permit);
        });
        Ok(())
    }

    /// The process for a user: the one that is there, or a new one.
    fn agent(&self, whose: &Whose) -> Result<Arc<Calls>, Outcome> {
        let mut agents = self.agents();
        if let Some(agent) = agents.get_mut(whose)
            && !agent.calls.is_over()
        {
            agent.busy += 1;
            return Ok(Arc::clone(&agent.calls));
        }
        if agents.len() >= AGENTS_MAX {
            let idle = agents.iter().filter(|(_, agent)| agent.busy == 0);
            let oldest = idle.min_by_key(|(_, agent)| agent.used);
            let oldest = oldest.map(|(whose, _)| whose.clone());
            agents.remove(&oldest.ok_or(Refusal::NoFork.outcome())?);
        }
        let agent = self.start(whose).map_err(|_| Refusal::NoFork.outcome())?;
        let calls = Arc::clone(&agent.calls);
        agents.insert(whose.clone(), agent);
        Ok(calls)
    }

    fn start(&self, whose: &Whose) -> io::Result<Agent> {
        let (near, far) = channel::pair()?;
        let mut child = self
            .command(AGENT, whose.uid, whose.gid)?
            .args([OsStr::from_bytes(&whose.name), whose.home.as_os_str()])
            .arg(&self.default_delivery)
            .stdin(Stdio::from(far))
            .spawn()?;
        let near = Arc::new(Channel::new(near)?);
        let calls = Arc::new(Calls::new(Arc::clone(&near)));
        let told = Arc::clone(&calls);
        let task = tokio::spawn(async move {
            // It is the user's own, and may say what it likes of the user's mail.
            let complaints = Complaints::of("launcher");
            let _ = told
                .take_reports(&near, "a user's process", &complaints)
                .await;
            told.end();
            let _ = child.wait().await;
        });
        Ok(Agent {
            calls,
            task,
            busy: 1,
            used: Instant::now(),
        })
    }

    /// This program as a process of a user.
    ///
    /// # Errors
    ///
    /// The user is root.
    fn command(&self, name: &str, uid: u32, gid: u32) -> io::Result<Command> {
        if uid == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut command = Command::new(&self.program);
        command
            .arg0("qmail")
            .args([APPLET, name])
            .current_dir(self.home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if self.switches {
            // Root's other groups are dropped with this, too.
            command.gid(gid).uid(uid);
        }
        Ok(command)
    }

    fn done(&self, whose: &Whose, calls: &Arc<Calls>) {
        // Another may have taken its place since.
        if let Some(agent) = self.agents().get_mut(whose)
            && Arc::ptr_eq(&agent.calls, calls)
        {
            agent.busy -= 1;
            agent.used = Instant::now();
        }
    }

    /// Lets processes end that have had nothing to do for a while; for ever.
    async fn dismiss_idle(&self) {
        loop {
            sleep(IDLE_MAX / 4).await;
            self.agents().retain(|_, agent| {
                !agent.calls.is_over() && (agent.busy > 0 || agent.used.elapsed() < IDLE_MAX)
            });
        }
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<Whose, Agent>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
