//! The server that a hostile client meets: the fixture that `hostile.json` names.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{getgid, getuid};

use super::super::octets::{Octets, Table};
use super::super::tree;
use super::conversation::Protocol;
use crate::server::Server;
use crate::tls::Identity;

/// A server in a scratch home.
pub(super) struct World {
    server: Server,
    home: PathBuf,
    /// Whom its clients have to trust.
    pub(super) identity: Identity,
    _work: tempfile::TempDir,
}

/// A message in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) sender: Vec<u8>,
    pub(super) recipients: Vec<Vec<u8>>,
    pub(super) text: Vec<u8>,
}

/// How many messages alice has.
const MESSAGES: u64 = 2;

/// The password `secret` of alice and bob, hashed.
const PASSWORDS: &str = "\
alice:$argon2id$v=19$m=7168,t=5,p=1$O3+omYgCYjGceX+KXS+ElA$ErgQQ6pSryG6wD2SPygK60+X33FrfJqMA7L1XrRgEEU
bob:$argon2id$v=19$m=7168,t=5,p=1$er8ux0mBvm1XEd1KLAxvzg$hCjIpYMasjy+3On+bbdE2rG28hDik3LOWxJXm1NsIPI
";

/// How long ago alice's messages came.
const AGE_SECONDS: f64 = 3600.0;

/// How long what was queued may take to be routed, or delivered.
const SETTLE: Duration = Duration::from_secs(3);

impl World {
    /// Makes the home and starts the server in it. Without `deliver` mail is routed and then held. With `any_password` every
    /// user has any; else alice and bob have theirs, and may show it in clear.
    pub(super) fn new(
        program: &str,
        control: &Table<Octets>,
        deliver: bool,
        any_password: bool,
    ) -> std::io::Result<Self> {
        let control: Vec<_> = (control.0.iter())
            .map(|(name, content)| (name.as_os().to_owned(), content.0.clone()))
            .collect();
        Self::start(program, &control, deliver, any_password)
    }

    /// With these control files besides, and any password.
    pub(super) fn with_controls(
        program: &str,
        control: &[(&str, &str)],
        deliver: bool,
    ) -> std::io::Result<Self> {
        let control: Vec<_> = (control.iter())
            .map(|(name, content)| (OsString::from(name), content.as_bytes().to_vec()))
            .collect();
        Self::start(program, &control, deliver, true)
    }

    fn start(
        program: &str,
        control: &[(OsString, Vec<u8>)],
        deliver: bool,
        any_password: bool,
    ) -> std::io::Result<Self> {
        let work = tempfile::Builder::new().prefix("hostile.").tempdir()?;
        let home = fs::canonicalize(work.path())?.join("home");
        make_home(&home, control)?;
        let identity = Identity::new();
        identity.install(&home);
        if !deliver {
            for name in ["concurrencylocal", "concurrencyremote"] {
                fs::write(home.join("control").join(name), "0\n")?;
            }
        }
        // What is queued is looked at in its files.
        let mut options = vec!["--spool", "split"];
        if any_password {
            options.push("--any-password");
        } else {
            fs::write(home.join("control/authinclear"), "1\n")?;
            fs::write(home.join("users/passwords"), PASSWORDS)?;
        }
        Ok(Self {
            server: Server::start_free(program, &home, &options),
            home,
            identity,
            _work: work,
        })
    }

    /// What no entry may bring about, as far as the log tells.
    pub(super) fn trouble(&self) -> String {
        let log = self.log();
        let bad = |line: &&String| line.contains("panicked") || line.chars().any(char::is_control);
        log.iter()
            .filter(bad)
            .map(|line| format!("  in the log: {line:?}\n"))
            .collect()
    }

    /// How many messages, whole or begun, are in the queue.
    pub(super) fn files_in_queue(&self) -> usize {
        let queue = self.home.join("queue");
        let files = ["mess", "pid", "intd"].map(|name| {
            let paths = tree::paths(&queue.join(name)).unwrap_or_default();
            paths.iter().filter(|path| path.is_file()).count()
        });
        files.iter().sum()
    }

    pub(super) fn address(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Smtp => self.server.smtp(),
            Protocol::Pop3 => self.server.pop3(),
        }
    }

    /// Resident memory of the server in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        self.server.resident_kib()
    }

    /// The most that the resident memory of the server ever was, in KiB; `None` where the system does not say.
    pub(super) fn resident_most_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// How long processors have worked for the server, in milliseconds.
    pub(super) fn worked_milliseconds(&self) -> u64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.server.id())).unwrap_or_default();
        // Behind the name, which may hold anything, the 12th and 13th: hundredths of a second (proc(5)).
        let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
        let hundredths = fields.split_whitespace().skip(11).take(2);
        hundredths
            .filter_map(|it| it.parse::<u64>().ok())
            .sum::<u64>()
            * 10
    }

    /// So many more messages for alice, all of the same text.
    pub(super) fn add_messages(&self, count: usize) -> std::io::Result<()> {
        // As many names as any file system lets a file have.
        const LINKS_MAX: usize = 30_000;
        let new = self.home.join("alice/Maildir/new");
        let mut first = new.clone();
        for number in 0..count {
            let path = new.join(format!("100000001{number}.M1P1.mail.test"));
            if number % LINKS_MAX == 0 {
                fs::write(&path, "Subject: x\n\nx\n")?;
                tree::set_age(&path, AGE_SECONDS)?;
                first = path;
            } else {
                fs::hard_link(&first, &path)?;
            }
        }
        Ok(())
    }

    /// One more message for alice, older than all that she has: a file of her Maildir.
    pub(super) fn add_oldest(&self, name: &str, text: &[u8]) -> std::io::Result<()> {
        let path = self.home.join("alice/Maildir").join(name);
        fs::write(&path, text)?;
        tree::set_age(&path, 2.0 * AGE_SECONDS)
    }

    /// What the server wrote.
    pub(super) fn log(&self) -> Vec<String> {
        self.server.lines()
    }

    /// What is held in the queue, oldest first, once all of it was routed.
    pub(super) fn queued(&self) -> Vec<Queued> {
        let queue = self.home.join("queue");
        self.wait_until_empty(&queue.join("todo"));
        let mut found: Vec<_> = (tree::paths(&queue.join("mess")).unwrap_or_default())
            .into_iter()
            .filter_map(|path| {
                let metadata = fs::metadata(&path).ok()?;
                (metadata.is_file()).then_some((metadata.modified().ok()?, path))
            })
            .collect();
        found.sort();
        found
            .iter()
            .filter_map(|(_, mess)| read_queued(&queue, mess))
            .collect()
    }

    fn wait_until_empty(&self, directory: &Path) {
        let end = Instant::now() + SETTLE;
        let holds = |paths: Vec<PathBuf>| paths.iter().any(|path| path.is_file());
        while tree::paths(directory).is_ok_and(holds) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many of alice's messages are gone.
    pub(super) fn deleted(&self) -> u64 {
        let maildir = self.home.join("alice/Maildir");
        let left = ["new", "cur"].map(|name| {
            fs::read_dir(maildir.join(name)).map_or(0, |entries| entries.count() as u64)
        });
        MESSAGES.saturating_sub(left.iter().sum())
    }

    /// Whether an address was taken for a command, once what is queued was tried.
    pub(super) fn canary(&self) -> bool {
        self.wait_until_empty(&self.home.join("queue/mess"));
        let everywhere = tree::paths(&self.home).unwrap_or_default();
        let named = |path: &PathBuf| path.file_name().is_some_and(|name| name == "CANARY");
        everywhere.iter().any(named) || Path::new("CANARY").exists()
    }
}

/// A message with its envelope as it was routed.
fn read_queued(queue: &Path, mess: &Path) -> Option<Queued> {
    let split = mess.parent()?.file_name()?;
    let record = |directory: &str| {
        let path = queue.join(directory).join(split);
        mess.file_name()
            .and_then(|number| fs::read(path.join(number)).ok())
            .unwrap_or_default()
    };
    let mut queued = Queued {
        sender: Vec::new(),
        recipients: Vec::new(),
        text: fs::read(mess).ok()?,
    };
    let records = [record("info"), record("local"), record("remote")].concat();
    for record in records.split(|&octet| octet == 0) {
        match record.split_first() {
            Some((b'F', sender)) => queued.sender = sender.to_vec(),
            Some((b'T', recipient)) => queued.recipients.push(recipient.to_vec()),
            _ => {}
        }
    }
    Some(queued)
}

/// Host `mail.test`, local domain `local.test`, virtual domain `virt.test` for bob; users alice, bob and prog.
fn make_home(home: &Path, control: &[(OsString, Vec<u8>)]) -> std::io::Result<()> {
    let directory = home.join("control");
    fs::create_dir_all(&directory)?;
    for (name, content) in [
        ("me", "mail.test\n"),
        ("locals", "local.test\n"),
        ("rcpthosts", "local.test\nvirt.test\n"),
        ("virtualdomains", "virt.test:bob\n"),
    ] {
        fs::write(directory.join(name), content)?;
    }
    for (name, content) in control {
        fs::write(directory.join(name), content)?;
    }
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let mut assign = String::new();
    for user in ["alice", "bob", "prog"] {
        let own = home.join(user);
        for name in ["new", "cur", "tmp"] {
            fs::create_dir_all(own.join("Maildir").join(name))?;
        }
        let shown = own.display();
        assign.push_str(&format!(
            "={user}:{user}:{uid}:{gid}:{shown}:::\n+{user}-:{user}:{uid}:{gid}:{shown}:-::\n"
        ));
    }
    assign.push_str(".\n");
    fs::create_dir_all(home.join("users"))?;
    fs::write(home.join("users/assign"), assign)?;
    fs::write(home.join("prog/.qmail"), "|cat >/dev/null\n")?;
    for number in 0..MESSAGES {
        let name = format!("alice/Maildir/new/100000000{number}.M1P1.mail.test");
        let path = home.join(name);
        fs::write(&path, format!("Subject: {number}\n\nbody {number}\n"))?;
        tree::set_age(&path, AGE_SECONDS)?;
    }
    Ok(())
}
