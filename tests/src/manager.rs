//! A `qmail-send` whose helpers are played by the test: it reads what they are asked, and answers what it likes.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use command_fds::{CommandFdExt as _, FdMapping};
use qmail_queue::SplitSpool;
use qmail_queue::helpers::{clean, spawn};
use qmail_queue::split::Trigger;
use rustix::process::{Pid, Signal, kill_process};

use crate::server::PATIENCE;

/// A running queue manager.
pub struct Manager {
    child: Child,
    log: Receiver<String>,
    /// Everything it has logged so far.
    pub seen: Vec<String>,
    /// The spawner of local deliveries.
    pub local: Spawner,
    /// The spawner of remote deliveries.
    pub remote: Spawner,
}

/// One end of a spawner. Dropping a half of it is its death, as far as that half tells.
pub struct Spawner {
    requests: PipeReader,
    reader: spawn::RequestReader,
    /// Where reports go.
    pub reports: Option<PipeWriter>,
}

/// How a manager is started.
pub struct Plumbing<'a> {
    /// The program that is `qmail-send` by its name.
    pub program: &'a str,
    /// The home, with its control files and its queue.
    pub home: &'a Path,
    /// What the spawners say first: how many deliveries they make at once; `None`, they end without a word.
    pub limit: Option<u8>,
    /// Whether somebody plays qmail-clean.
    pub cleans: bool,
}

impl Plumbing<'_> {
    /// Starts the manager.
    ///
    /// # Errors
    ///
    /// The system has no room for it.
    pub fn start(&self) -> io::Result<Manager> {
        let (log, log_writer) = io::pipe()?;
        let (local, to_local, from_local) = self.spawner()?;
        let (remote, to_remote, from_remote) = self.spawner()?;
        let (requests, to_clean) = io::pipe()?;
        let (from_clean, answers) = io::pipe()?;
        if self.cleans {
            let queue = self.home.join("queue");
            thread::spawn(move || play_clean(&queue, requests, answers));
        }
        let descriptors: [OwnedFd; 7] = [
            log_writer.into(),
            to_local.into(),
            from_local.into(),
            to_remote.into(),
            from_remote.into(),
            to_clean.into(),
            from_clean.into(),
        ];
        let mappings = (0..)
            .zip(descriptors)
            .map(|(child_fd, parent_fd)| FdMapping {
                parent_fd,
                child_fd,
            });
        let mut command = Command::new(self.program);
        command
            .arg0("qmail-send")
            .env("QMAIL_HOME", self.home)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .fd_mappings(mappings.collect())
            .map_err(io::Error::other)?;
        let child = command.spawn()?;
        // With it go our copies of its descriptors.
        drop(command);
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(log).lines().map_while(Result::ok);
            lines
                .map(|line| sender.send(line))
                .take_while(Result::is_ok)
                .for_each(drop);
        });
        Ok(Manager {
            child,
            log: lines,
            seen: Vec::new(),
            local,
            remote,
        })
    }

    fn spawner(&self) -> io::Result<(Spawner, PipeWriter, PipeReader)> {
        let (requests, to_spawner) = io::pipe()?;
        let (from_spawner, mut reports) = io::pipe()?;
        let reports = match self.limit {
            Some(limit) => reports.write_all(&[limit]).map(|()| Some(reports))?,
            None => None,
        };
        let spawner = Spawner {
            requests,
            reader: spawn::RequestReader::default(),
            reports,
        };
        Ok((spawner, to_spawner, from_spawner))
    }
}

impl Spawner {
    /// Waits for the next request.
    ///
    /// # Panics
    ///
    /// The manager ends instead.
    pub fn request(&mut self) -> spawn::Request {
        let mut octet = [0];
        loop {
            self.requests.read_exact(&mut octet).expect("a request");
            if let Some(request) = self.reader.receive(&mut &octet[..]) {
                return request;
            }
        }
    }

    /// Reports these octets.
    ///
    /// # Panics
    ///
    /// The manager has ended.
    pub fn report(&mut self, octets: &[u8]) {
        let mut reports = self.reports.as_ref().expect("a living spawner");
        reports.write_all(octets).expect("a manager that reads");
    }
}

impl Manager {
    /// Waits for a line of the log that begins so, and gives it.
    ///
    /// # Panics
    ///
    /// It does not come.
    pub fn wait_for(&mut self, start: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.starts_with(start) {
                        return line;
                    }
                }
                Err(_) => panic!("no line begins with {start:?}: {:#?}", self.seen),
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, signal);
    }

    /// Waits for its end, and reads the rest of the log.
    ///
    /// # Panics
    ///
    /// It does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                self.seen.extend(self.log.iter());
                return status;
            }
            assert!(Instant::now() < end, "it does not end: {:#?}", self.seen);
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does what it is asked, as qmail-clean.
fn play_clean(queue: &Path, mut requests: PipeReader, mut answers: PipeWriter) {
    let mut reader = clean::RequestReader::default();
    let mut octet = [0];
    while requests.read_exact(&mut octet).is_ok() {
        let Some(request) = reader.receive(&mut &octet[..]) else {
            continue;
        };
        let names = match request {
            Some(clean::Request::Text(id)) => {
                [format!("intd/{id}"), format!("mess/{}/{id}", id.0 % 23)]
            }
            Some(clean::Request::Envelope(id)) => [format!("todo/{id}"), format!("intd/{id}")],
            None => Default::default(),
        };
        for name in names {
            let _ = std::fs::remove_file(queue.join(name));
        }
        if answers.write_all(b"+").is_err() {
            return;
        }
    }
}

/// Makes a home with these control files and an empty queue.
///
/// # Errors
///
/// What the system says.
pub fn make_home(home: &Path, control: &[(&str, &str)]) -> io::Result<()> {
    std::fs::create_dir_all(home.join("control"))?;
    for (name, text) in control {
        std::fs::write(home.join("control").join(name), text)?;
    }
    SplitSpool::create(home.join("queue"))
}

/// Puts a message from `s@src.example` into the queue of a home, as qmail-queue leaves it. Gives its number.
///
/// # Errors
///
/// What the system says.
pub fn put_message(home: &Path, recipients: &[&str]) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let queue = home.join("queue");
    let born = queue.join("pid/born");
    std::fs::write(
        &born,
        "Received: (qmail 1 invoked by uid 0); 1 Jan 2020 00:00:00 -0000\n\nx\n",
    )?;
    let id = File::open(&born)?.metadata()?.ino();
    std::fs::rename(&born, queue.join(format!("mess/{}/{id}", id % 23)))?;
    let mut envelope = b"u0\0p1\0Fs@src.example\0".to_vec();
    for recipient in recipients {
        envelope.extend_from_slice(format!("T{recipient}\0").as_bytes());
    }
    let intd: PathBuf = queue.join(format!("intd/{id}"));
    std::fs::write(&intd, envelope)?;
    std::fs::hard_link(intd, queue.join(format!("todo/{id}")))?;
    Trigger::pull(&queue);
    Ok(id)
}
