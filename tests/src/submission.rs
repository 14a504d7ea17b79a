//! The programs that make messages or bring them in, run by their links in a home of their own, with a queue program that keeps what it is
//! given.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Links to the binary under test, a home with `me` and `plusdomain`, and the queue program.
#[derive(Debug)]
pub struct Submission {
    directory: TempDir,
}

/// Names of the links.
const LINKS: [&str; 13] = [
    "qmail-inject",
    "qmail-qmqpc",
    "qmail-qmqpd",
    "qmail-qmtpd",
    "sendmail",
    "new-inject",
    "ofmipd",
    "ofmipname",
    "iftocc",
    "822date",
    "822field",
    "822header",
    "822received",
];

/// It runs in the home and leaves message and envelope there.
const QUEUE: &str = "#!/bin/sh\ncat >mess.new && cat <&1 >env && mv mess.new mess\n";

impl Submission {
    /// A fresh home for the programs that `binary` is.
    ///
    /// # Panics
    ///
    /// There is no room for it.
    pub fn new(binary: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path();
        for name in ["control", "bin"] {
            fs::create_dir(path.join(name)).expect("a directory");
        }
        for name in LINKS {
            symlink(binary, path.join("bin").join(name)).expect("a link");
        }
        let queue = path.join("queue");
        fs::write(&queue, QUEUE).expect("a script");
        fs::set_permissions(&queue, fs::Permissions::from_mode(0o755)).expect("a mode");
        let submission = Self { directory };
        submission.control("me", "mail.test\n");
        submission.control("plusdomain", "plus.test\n");
        submission
    }

    /// The home.
    pub fn home(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a control file.
    ///
    /// # Panics
    ///
    /// It cannot be written.
    pub fn control(&self, name: &str, content: &str) {
        fs::write(self.home().join("control").join(name), content).expect("a control file");
    }

    /// A program of the home.
    pub fn program(&self, name: &str) -> PathBuf {
        self.home().join("bin").join(name)
    }

    /// The program as a command, with nothing in its environment but what it needs.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TZ", "UTC")
            .env("QMAIL_HOME", self.home())
            .env("QMAILQUEUE", self.home().join("queue"))
            .env("QMAILUSER", "joe");
        command
    }

    /// Runs the program with this input.
    ///
    /// # Panics
    ///
    /// It cannot be run.
    pub fn run(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: &[u8],
    ) -> Ran {
        let mut command = self.command(name);
        command.args(arguments).envs(environment.iter().copied());
        self.run_command(command, input)
    }

    /// Runs a command with this input.
    ///
    /// # Panics
    ///
    /// It cannot be run.
    pub fn run_command(&self, mut command: Command, input: &[u8]) -> Ran {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        // A program that refuses early does not read all of its input; one that prints while it reads must not wait for us.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("the program ends");
        writer.join().expect("the writer ends");
        self.ran(&output)
    }

    /// What there is to be seen after a program has ended. What it queued is taken away.
    pub fn ran(&self, output: &Output) -> Ran {
        let take = |name: &str| {
            let path = self.home().join(name);
            let octets = fs::read(&path).ok();
            let _ = fs::remove_file(path);
            octets
        };
        Ran {
            exit: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            // Of an envelope without its end nothing is queued (qmail-queue(8)).
            queued: take("mess").zip(take("env").filter(|envelope| envelope.ends_with(b"\0\0"))),
        }
    }
}

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// Message and envelope.
    pub queued: Option<(Vec<u8>, Vec<u8>)>,
}

impl Ran {
    /// The message that was queued.
    ///
    /// # Panics
    ///
    /// None was.
    pub fn message(&self) -> String {
        let (message, _) = self.queued.as_ref().expect("a message was queued");
        String::from_utf8_lossy(message).into_owned()
    }

    /// The envelope sender of what was queued.
    ///
    /// # Panics
    ///
    /// Nothing was.
    pub fn sender(&self) -> String {
        self.records().next().expect("a sender")
    }

    /// The envelope recipients of what was queued.
    ///
    /// # Panics
    ///
    /// Nothing was.
    pub fn recipients(&self) -> Vec<String> {
        self.records().skip(1).collect()
    }

    /// Sender and recipients, without the letters in front.
    fn records(&self) -> impl Iterator<Item = String> {
        let (_, envelope) = self.queued.as_ref().expect("a message was queued");
        let records = envelope.split(|&octet| octet == 0);
        let records = records.take_while(|record| !record.is_empty());
        records.map(|record| String::from_utf8_lossy(&record[1..]).into_owned())
    }

    /// Whether a message was refused: nothing queued, with this exit code.
    pub fn refused(&self, exit: i32) -> bool {
        self.exit == Some(exit) && self.queued.is_none()
    }
}
