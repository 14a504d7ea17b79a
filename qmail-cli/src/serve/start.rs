//! From options to a running system: the home, the lock, the configuration, the first start.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qmail_core::PasswordChecker;
use qmail_deliver::{AssignedUsers, Maildirs, UserError};
use qmail_queue::split::{self, SendMutex};
use qmail_queue::{JournalSpool, SplitSpool, SpoolError};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::system::{Logins, System};
use super::{LogFormat, MailLogin, Options};
use crate::home::{
    ControlError, Controls, CreateError, FirstUser, Home, SpoolKind, create_controls, create_users,
};
use crate::passwords::{self, PasswordFile};
use crate::report::Reporter;
use crate::tls::ServerTls;
use crate::{exit, inherited, log};

/// Descriptors that are kept for the log, the queue, deliveries and lookups.
const DESCRIPTORS_RESERVED: usize = 100;

/// A session has its socket, and the file of the message on its way in or out.
const DESCRIPTORS_PER_SESSION: usize = 2;

/// How long threads that still work for a client get when all is over.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// Why there is no mail system. `Display` is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot make the home {}: {source}; choose a place you may write with --home", path.display())]
    Home { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("cannot prepare the queue {}: {source}; does this user own it?", path.display())]
    Queue { path: PathBuf, source: io::Error },
    #[error(
        "another qmail serve or qmail-send is running on {}: stop it first, or choose another --home",
        path.display()
    )]
    Running { path: PathBuf },
    #[error("cannot listen on {address} for {service}: {source}; {remedy}")]
    Listen {
        service: &'static str,
        address: SocketAddr,
        source: io::Error,
        remedy: &'static str,
    },
    #[error("cannot listen for {service} without {}: put the certificate and key of this host there", path.display())]
    NoCertificate {
        service: &'static str,
        path: PathBuf,
    },
    #[error("cannot make the Maildir {}: {source}; check the path given with --mailbox", path.display())]
    Mailbox { path: PathBuf, source: io::Error },
    #[error("cannot use {}: {source}; does this user own it?", path.display())]
    Passwords { path: PathBuf, source: io::Error },
    #[error("{}: {source}; local mail would have to wait", path.display())]
    Users {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "cannot use `{value}` as the host of postmaster's address: {source}; mend control/doublebouncehost or control/me"
    )]
    Host {
        value: String,
        source: qmail_core::AddressError,
    },
    #[error(
        "the queue {} is kept in the form `{there}`, not `{wanted}`: leave out --spool, or convert it with `qmail queue convert --to {wanted}`",
        path.display()
    )]
    OtherSpool {
        path: PathBuf,
        there: &'static str,
        wanted: &'static str,
    },
    #[error(
        "control/checkpassword is not for `qmail start`, whose parties run no programs with passwords: keep these in users/passwords (qmail passwd)"
    )]
    Checkpassword,
    #[error("cannot open the queue: {0}; has it been tampered with?")]
    Spool(#[from] SpoolError),
    #[error("cannot say `{value}` to other hosts: {source}; mend control/helohost or control/me")]
    Hello {
        value: String,
        source: qmail_smtp::client::UnsendableError,
    },
    #[error("cannot ask the domain name system: {0}; mend /etc/resolv.conf")]
    Resolver(#[from] qmail_deliver::ResolverError),
    #[error("cannot start: {0}; has the system run out of something?")]
    System(#[from] io::Error),
    #[error("the queue has stopped working: {0}")]
    QueueDied(String),
}

/// Runs until a signal ends it.
///
/// # Errors
///
/// The system could not start; or, later, its queue died.
pub(crate) fn run(options: &Options) -> Result<(), StartError> {
    let room = raise_descriptor_limit();
    let announce = Announcer(options.log_format);
    let home = &options.home;
    let at_home = |source| StartError::Home {
        path: home.path().to_owned(),
        source,
    };
    let new_home = !home.path().exists();
    std::fs::create_dir_all(home.path()).map_err(at_home)?;
    // The lock is in the queue, and comes before anything else is touched.
    let (lock, kind) = lock_queue(options)?;
    let new_host = create_controls(home)?;
    let controls = Controls::read(home)?;
    let domain = String::from_utf8_lossy(&controls.pop3.hostname).into_owned();
    let first_user = create_users(home)?;
    check_users(home)?;
    if let Some(host) = &new_host {
        announce.say(&format!(
            "qmail: made a mail system for {host} in {}{}",
            home.path().display(),
            if new_home { "" } else { ", which was there" }
        ));
    }
    if let Some(user) = &first_user {
        announce.user(&user.name, &domain, &user.secret);
    }
    let passwords = Arc::new(PasswordFile::new(home.passwords()));
    prepare_mailboxes(options, &passwords, &domain, announce)?;
    if rustix::process::geteuid().is_root() {
        announce.say("qmail: serving as root, which is neither needed nor wise; mail is delivered with root's rights");
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let (log, writer) = log::start(io::stdout())?;
    let reporter = Reporter::new(log, options.log_format);
    reporter.notice("queue", &kind.name());
    let result = runtime.block_on(async {
        inherited::forget_ignored_signals()?;
        let system =
            System::start(options, controls, Logins::Here(passwords), reporter, room).await?;
        if let Some(user) = &first_user {
            announce.how_to(user, &domain, &system);
        }
        system.run().await
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    writer.close();
    drop(lock);
    result
}

/// What a process that only talks to clients leaves to others.
pub(crate) struct Elsewhere {
    /// TLS without the key of the certificate.
    pub(crate) tls: Option<ServerTls>,
    /// Logins without the passwords.
    pub(crate) logins: ElsewhereLogins,
}

/// Logins that another process checks.
#[derive(Clone)]
pub(crate) struct ElsewhereLogins {
    /// Who may send.
    pub(crate) passwords: Arc<dyn PasswordChecker>,
    /// For each POP3 session, whose mail it may read.
    pub(crate) mail: Arc<dyn Fn() -> Box<dyn MailLogin> + Send + Sync>,
}

/// Takes mail by SMTP and hands it to another process, until a signal ends it. `lock_down` is called when all files that this needs
/// have been read.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_network(
    options: &Options,
    elsewhere: Elsewhere,
    lock_down: impl FnOnce() -> Result<(), String>,
) -> Result<(), StartError> {
    let room = raise_descriptor_limit();
    let controls = Controls::read_without_key(&options.home, elsewhere.tls)?;
    if controls.checkpassword.is_some() {
        return Err(StartError::Checkpassword);
    }
    let logins = Logins::Elsewhere(elsewhere.logins);
    lock_down().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let (log, writer) = log::start(io::stdout())?;
    let reporter = Reporter::new(log, options.log_format);
    let result = runtime.block_on(async {
        let system = System::start(options, controls, logins, reporter, room).await?;
        system.run().await
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    writer.close();
    result
}

/// Whether the table of users can be used.
pub(super) fn check_users(home: &Home) -> Result<(), StartError> {
    match AssignedUsers::new(home.path()).check() {
        Err(UserError::Assignments { path, source }) => Err(StartError::Users { path, source }),
        checked => checked.map_err(|error| StartError::System(io::Error::other(error))),
    }
}

/// Takes the right to run the queue, and makes its directories if they are missing.
fn lock_queue(options: &Options) -> Result<(SendMutex, SpoolKind), StartError> {
    let queue = options.home.queue();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::WouldBlock => StartError::Running {
            path: queue.clone(),
        },
        _ => StartError::Queue {
            path: queue.clone(),
            source,
        },
    };
    split::create_locks(&queue).map_err(failed)?;
    let lock = SendMutex::lock(&queue).map_err(failed)?;
    // Only under the lock is it certain which form the queue has.
    let kind = options.spool_kind()?;
    let created = match kind {
        SpoolKind::Split => SplitSpool::create(&queue),
        SpoolKind::Journal => JournalSpool::create(options.home.journal()),
        SpoolKind::Memory => Ok(()),
    };
    created.map_err(failed)?;
    Ok((lock, kind))
}

/// Makes the Maildirs of `--mailbox`, and a password for each user who has none and needs one.
fn prepare_mailboxes(
    options: &Options,
    passwords: &PasswordFile,
    domain: &str,
    announce: Announcer,
) -> Result<(), StartError> {
    for mailbox in &options.mailboxes {
        mailbox
            .maildir
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| Maildirs::create(&mailbox.maildir))
            .map_err(|source| StartError::Mailbox {
                path: mailbox.maildir.clone(),
                source,
            })?;
        if options.any_password || (options.pop3.is_empty() && options.pop3s.is_empty()) {
            continue;
        }
        let made = || -> io::Result<Option<String>> {
            if passwords.knows(mailbox.user.as_bytes())? {
                return Ok(None);
            }
            let secret = passwords::new_secret()?;
            passwords.set(&mailbox.user, secret.as_bytes(), false)?;
            Ok(Some(secret))
        };
        let secret = made().map_err(|source| StartError::Passwords {
            path: options.home.passwords(),
            source,
        })?;
        if let Some(secret) = secret {
            announce.user(&mailbox.user, domain, &secret);
        }
    }
    Ok(())
}

/// As many descriptors as the system lets us have; returns how many sessions there is room for.
fn raise_descriptor_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    match getrlimit(Resource::Nofile).current {
        Some(descriptors) => {
            let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
            descriptors.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_SESSION
        }
        None => usize::MAX,
    }
}

/// What a person is told at a start: on standard output, or on standard error when a program reads the other one as JSON.
#[derive(Clone, Copy)]
struct Announcer(LogFormat);

impl Announcer {
    fn say(self, words: &str) {
        match self.0 {
            LogFormat::Classic => exit::print(&format!("{words}\n")),
            LogFormat::Json => {
                use std::io::Write as _;
                let _ = writeln!(io::stderr(), "{words}");
            }
        }
    }

    fn user(self, name: &str, domain: &str, secret: &str) {
        self.say(&format!("user {name}@{domain}  password {secret}"));
    }

    /// How to send a first message and to read it.
    fn how_to(self, user: &FirstUser, domain: &str, system: &System) {
        let address = format!("{}@{domain}", user.name);
        let mut words = format!(
            "qmail: mail for {address} is kept in {}",
            user.maildir.display()
        );
        if let Some(smtp) = system.smtp() {
            let _ = write!(
                words,
                "\nqmail: send a message:\n  \
                 printf 'Subject: hello\\n\\nIt works.\\n' | curl -sS --crlf --mail-from {address} --mail-rcpt {address} -T - smtp://{smtp}"
            );
        }
        if let Some(pop3) = system.pop3() {
            let _ = write!(
                words,
                "\nqmail: read it:\n  curl -sS -u {address}:{} pop3://{pop3}/1",
                user.secret
            );
        }
        self.say(&words);
    }
}
