//! Each party played by an attacker: once it is locked down it tries what it must not, and fails.
//!
//! A lock holds for the thread that takes it and those that it starts, so each attacker is a thread of the test.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Pid, Signal, getppid, kill_process};
use rustix::thread::{set_thread_gid, set_thread_uid};

use super::grants;
use super::*;
use crate::sandbox::{self, Enforced, Grants};

struct Scratch {
    directory: tempfile::TempDir,
    home: Home,
    port: TcpListener,
}

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::choose(Some(directory.path().to_owned()), None);
        qmail_queue::SplitSpool::create(home.queue()).unwrap();
        for part in ["control", "users", "log", "run", "alias"] {
            fs::create_dir(directory.path().join(part)).unwrap();
        }
        for file in [
            "control/me",
            "users/passwords",
            "queue/mess/1/24",
            "queue/todo/24",
            "queue/info/1/24",
            "log/current",
        ] {
            fs::write(directory.path().join(file), "secret").unwrap();
        }
        Self {
            directory,
            home,
            port: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the party can do after it was locked down.
    fn attack<T: Send + 'static>(
        &self,
        party: Party,
        attack: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        attack_with(grants::of(party, &self.home).unwrap(), attack)
    }
}

fn attack_with<T: Send + 'static>(
    grants: Grants,
    attack: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    thread::spawn(move || {
        let locked = sandbox::lock_down(&grants).unwrap();
        // A kernel without these locks proves nothing.
        let complete = locked.files == Enforced::Fully && locked.system_calls == Enforced::Fully;
        complete.then(attack)
    })
    .join()
    .unwrap()
}

fn reads(path: &Path) -> bool {
    fs::read(path).is_ok()
}

fn writes(path: &Path) -> bool {
    File::create(path.join("planted")).is_ok()
}

fn locked_down() -> impl Iterator<Item = Party> {
    Party::ALL
        .into_iter()
        .filter(|&party| party != Party::Launcher)
}

#[test]
fn no_party_reads_or_writes_what_is_anothers() {
    let scratch = Scratch::new();
    for party in locked_down() {
        let allowed: &[&str] = match party {
            Party::Network | Party::Keys | Party::Remote => &[],
            // Its account may not read the file; the lock is by directory.
            Party::Passwords | Party::Lookup => &["users/passwords"],
            Party::Writer => &["queue/mess/1/24", "queue/todo/24"],
            Party::Manager => &["control/me", "queue/todo/24", "queue/info/1/24"],
            Party::Opener => &["queue/mess/1/24"],
            Party::Log => &["log/current"],
            Party::Launcher => continue,
        };
        let files = [
            "control/me",
            "users/passwords",
            "queue/mess/1/24",
            "queue/todo/24",
            "queue/info/1/24",
            "log/current",
        ];
        let paths = files.map(|file| scratch.path(file));
        let Some(read) = scratch.attack(party, move || paths.map(|path| reads(&path))) else {
            return;
        };
        let read: Vec<_> = files
            .into_iter()
            .zip(read)
            .filter_map(|(file, read)| read.then_some(file))
            .collect();
        assert_eq!(read, allowed, "{} reads", party.name());

        let allowed: &[&str] = match party {
            Party::Network
            | Party::Keys
            | Party::Passwords
            | Party::Opener
            | Party::Lookup
            | Party::Remote => &[],
            Party::Writer => &["queue/mess/1", "queue/todo"],
            Party::Manager => &["queue/info/1", "queue/bounce"],
            Party::Log => &["log"],
            Party::Launcher => continue,
        };
        let directories = [
            "control",
            "users",
            "alias",
            "queue/mess/1",
            "queue/todo",
            "queue/info/1",
            "queue/bounce",
            "log",
            "run",
            ".",
        ];
        let paths = directories.map(|directory| scratch.path(directory));
        let written = scratch
            .attack(party, move || paths.map(|path| writes(&path)))
            .unwrap();
        let written: Vec<_> = directories
            .into_iter()
            .zip(written)
            .filter_map(|(directory, written)| written.then_some(directory))
            .collect();
        assert_eq!(written, allowed, "{} writes", party.name());
        let accounts = scratch.attack(party, || reads(Path::new("/etc/passwd")));
        assert_eq!(accounts, Some(party == Party::Lookup), "{}", party.name());
    }
}

#[test]
fn no_party_runs_a_program_or_becomes_somebody_else() {
    let scratch = Scratch::new();
    for party in locked_down() {
        let attack = || {
            let (uid, gid) = (
                rustix::process::Uid::from_raw(12),
                rustix::process::Gid::from_raw(12),
            );
            [
                ("a program", Command::new("/bin/true").status().is_ok()),
                ("another user", set_thread_uid(uid).is_ok()),
                ("another group", set_thread_gid(gid).is_ok()),
                ("another root", std::os::unix::fs::chroot("/").is_ok()),
            ]
        };
        let Some(done) = scratch.attack(party, attack) else {
            return;
        };
        for (what, worked) in done {
            assert!(!worked, "{}: {what}", party.name());
        }
    }
}

#[test]
fn no_party_signals_or_looks_into_another_process() {
    let scratch = Scratch::new();
    let parent = getppid().unwrap_or(Pid::INIT);
    for party in locked_down() {
        let attack = move || {
            let memory = format!("/proc/{}/environ", parent.as_raw_nonzero());
            (
                kill_process(parent, Signal::CONT).is_ok(),
                reads(Path::new(&memory)),
            )
        };
        let Some(done) = scratch.attack(party, attack) else {
            return;
        };
        assert_eq!(done, (false, false), "{}", party.name());
    }
}

#[test]
fn no_party_opens_a_port_or_connects_where_it_must_not() {
    let scratch = Scratch::new();
    let port = scratch.port.local_addr().unwrap();
    for party in locked_down() {
        let attack = move || {
            (
                connects(port),
                TcpListener::bind("127.0.0.1:0").is_ok(),
                [
                    AddressFamily::PACKET,
                    AddressFamily::VSOCK,
                    AddressFamily::BLUETOOTH,
                ]
                .map(|family| socket(family, SocketType::DGRAM, None).is_ok()),
            )
        };
        let Some((connected, bound, families)) = scratch.attack(party, attack) else {
            return;
        };
        assert_eq!(
            connected,
            party == Party::Remote,
            "{} connects",
            party.name()
        );
        assert!(!bound, "{} opens a port", party.name());
        assert_eq!(families, [false; 3], "{}", party.name());
    }
}

#[test]
fn only_who_has_something_to_ask_connects_to_another_party() {
    let scratch = Scratch::new();
    let path = scratch.path("run/submit");
    let _listener = UnixListener::bind(&path).unwrap();
    for party in locked_down() {
        let path = path.clone();
        let attack = move || {
            (
                UnixStream::connect(&path).is_ok(),
                UnixListener::bind("planted").is_ok(),
            )
        };
        let Some((connected, bound)) = scratch.attack(party, attack) else {
            return;
        };
        let asks = matches!(party, Party::Network | Party::Passwords | Party::Manager);
        assert_eq!(connected, asks, "{} connects", party.name());
        assert!(!bound, "{} makes a socket", party.name());
    }
}

#[test]
fn who_shows_a_maildrop_reaches_no_other() {
    let scratch = Scratch::new();
    for file in ["ann/Maildir/new/1", "bob/Maildir/new/1", "ann/.qmail"] {
        let path = scratch.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "secret").unwrap();
    }
    let grants = grants::of_maildrop(&scratch.path("ann/Maildir"));
    let paths = [
        "ann/Maildir/new/1",
        "bob/Maildir/new/1",
        "ann/.qmail",
        "users/passwords",
        "queue/mess/1/24",
    ]
    .map(|file| scratch.path(file));
    let port = scratch.port.local_addr().unwrap();
    let attack = move || {
        (
            paths.map(|path| reads(&path)),
            Command::new("/bin/true").status().is_ok() || connects(port),
        )
    };
    if let Some((read, escaped)) = attack_with(grants, attack) {
        assert_eq!(read, [true, false, false, false, false]);
        assert!(!escaped);
    }
}

fn connects(port: SocketAddr) -> bool {
    TcpStream::connect(port).is_ok()
}

#[test]
fn a_party_that_is_locked_down_still_starts_threads_and_tells_the_time() {
    let scratch = Scratch::new();
    for party in locked_down() {
        let attack = || {
            let started = std::time::Instant::now();
            let child = thread::spawn(|| thread::sleep(std::time::Duration::from_millis(1)));
            child.join().unwrap();
            started.elapsed() > std::time::Duration::ZERO && io::pipe().is_ok()
        };
        if let Some(worked) = scratch.attack(party, attack) {
            assert!(worked, "{}", party.name());
        }
    }
}

#[test]
fn what_each_party_may_do_can_be_shown() {
    let home = Home::choose(Some("/var/qmail".into()), None);
    let text = describe(&home).unwrap();
    for party in Party::ALL {
        assert!(text.contains(&format!("{} as ", party.name())), "{text}");
    }
    assert!(
        text.contains("network as qmaild\n  lists    nothing\n  reads    /etc/resolv.conf"),
        "{text}"
    );
}
