//! One mailbox, and qmail-local delivering to it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A home directory with links to the programs beside it, and a queue program that keeps what it is given.
#[derive(Debug)]
pub struct Mailbox {
    scratch: TempDir,
}

/// It leaves message and envelope in the home of the mail system.
const QUEUE: &str = "#!/bin/sh\ncat >\"$QMAIL_HOME/mess\"; cat <&1 >\"$QMAIL_HOME/env\"\n";

const LINKS: [&str; 25] = [
    "bouncesaying",
    "condredirect",
    "dot-forward",
    "except",
    "fastforward",
    "forward",
    "maildir2mbox",
    "maildirmake",
    "maildirserial",
    "newaliases",
    "newinclude",
    "preline",
    "printforward",
    "printmaillist",
    "qmail-getpw",
    "qmail-local",
    "qmail-newu",
    "qmail-pw2u",
    "qmail-queue",
    "qreceipt",
    "serialqmtp",
    "serialsmtp",
    "setforward",
    "setlock",
    "setmaillist",
];

impl Mailbox {
    /// An empty home of the user `joe`, for the programs that `binary` is.
    ///
    /// # Panics
    ///
    /// There is no room for it.
    pub fn new(binary: &Path) -> Self {
        let mailbox = Self {
            scratch: tempfile::tempdir().expect("a scratch directory"),
        };
        for name in ["home", "bin", "control", "users"] {
            fs::create_dir(mailbox.qmail().join(name)).expect("a directory");
        }
        for name in LINKS {
            symlink(binary, mailbox.qmail().join("bin").join(name)).expect("a link");
        }
        fs::write(mailbox.qmail().join("control/me"), "mail.test\n").expect("a file");
        fs::write(mailbox.qmail().join("queue-program"), QUEUE).expect("a file");
        set_mode(&mailbox.qmail().join("queue-program"), 0o755);
        set_mode(mailbox.qmail(), 0o755);
        set_mode(&mailbox.home(), 0o755);
        mailbox
    }

    /// A home with these instructions.
    ///
    /// # Panics
    ///
    /// There is no room for it.
    pub fn with(binary: &Path, instructions: impl AsRef<[u8]>) -> Self {
        let mailbox = Self::new(binary);
        mailbox.write(".qmail", instructions);
        mailbox
    }

    /// The home of the mail system.
    pub fn qmail(&self) -> &Path {
        self.scratch.path()
    }

    /// The home of the user.
    pub fn home(&self) -> PathBuf {
        self.qmail().join("home")
    }

    /// A file of the user.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    /// Writes a file of the user, mode 0644.
    ///
    /// # Panics
    ///
    /// It cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).expect("a file");
        set_mode(&self.path(name), 0o644);
    }

    /// A file of the user, empty if it is not there.
    pub fn read(&self, name: &str) -> String {
        let octets = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// A program in the environment of this mail system.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.qmail().join("bin").join(program));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("QMAIL_HOME", self.qmail())
            .env("QMAILQUEUE", self.qmail().join("queue-program"));
        command
    }

    /// qmail-local for `joe-EXT@local.test`, or `joe@local.test` if `extension` is empty, with this message.
    ///
    /// # Panics
    ///
    /// The message cannot be written.
    pub fn local(&self, extension: &str, message: impl AsRef<[u8]>) -> Command {
        let mut command = self.command("qmail-local");
        self.address(&mut command, extension);
        command.stdin(self.file(message));
        command
    }

    /// Runs a program in the home of the user, with these variables and this text on descriptor 0, as a file.
    ///
    /// # Panics
    ///
    /// It cannot be run.
    pub fn feed(
        &self,
        program: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
        text: impl AsRef<[u8]>,
    ) -> Delivered {
        let mut command = self.command(program);
        command
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(self.home())
            .stdin(self.file(text));
        self.run(command)
    }

    /// A Maildir of the user.
    ///
    /// # Panics
    ///
    /// It is there already.
    pub fn maildir(&self, name: &str) {
        let mut make = self.command("maildirmake");
        assert_eq!(self.run_at(make.arg(self.path(name))).exit, 0);
    }

    /// The messages in `new/` of a Maildir, in the order of their names.
    ///
    /// # Panics
    ///
    /// It is none.
    pub fn messages(&self, maildir: &str) -> Vec<String> {
        let new = fs::read_dir(self.path(maildir).join("new")).expect("a Maildir");
        let mut files: Vec<_> = new.map(|file| file.expect("a file").path()).collect();
        files.sort();
        let texts = files.iter().map(|file| fs::read(file).expect("a message"));
        texts
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect()
    }

    /// What the queue program was given last: message and envelope, whose NULs are shown as `|`. Forgets it.
    pub fn queued(&self) -> Option<(String, String)> {
        let [message, envelope] = ["mess", "env"].map(|name| {
            let path = self.qmail().join(name);
            let text = fs::read(&path).ok()?;
            fs::remove_file(path).ok()?;
            Some(String::from_utf8_lossy(&text).replace('\0', "|"))
        });
        message.zip(envelope)
    }

    /// A file without a name that holds this text, at its first octet.
    fn file(&self, text: impl AsRef<[u8]>) -> File {
        let mut file = tempfile::tempfile_in(self.qmail()).expect("a file");
        std::io::Write::write_all(&mut file, text.as_ref()).expect("room");
        std::io::Seek::rewind(&mut file).expect("a file");
        file
    }

    /// The arguments of qmail-local.
    pub fn address(&self, command: &mut Command, extension: &str) {
        let dash = if extension.is_empty() { "" } else { "-" };
        command
            .args(["--", "joe"])
            .arg(self.home())
            .arg(format!("joe{dash}{extension}"))
            .args([dash, extension, "local.test", "sue@x.test", "./Mailbox"]);
    }

    /// Delivers a message to `joe@local.test`.
    ///
    /// # Panics
    ///
    /// qmail-local cannot be run.
    pub fn deliver(&self, message: impl AsRef<[u8]>) -> Delivered {
        self.run(self.local("", message))
    }

    /// Runs a command, with its outputs in files: programs that it leaves behind may keep them.
    ///
    /// # Panics
    ///
    /// It cannot be run.
    pub fn run(&self, mut command: Command) -> Delivered {
        self.run_at(&mut command)
    }

    fn run_at(&self, command: &mut Command) -> Delivered {
        let directory = tempfile::tempdir_in(self.qmail()).expect("a directory");
        let [out, err] = ["out", "err"].map(|name| directory.path().join(name));
        let file = |path: &Path| File::create(path).expect("a file");
        let status = command.stdout(file(&out)).stderr(file(&err)).status();
        let read = |path: &Path| fs::read(path).expect("a file");
        Delivered::from(Output {
            status: status.expect("it runs"),
            stdout: read(&out),
            stderr: read(&err),
        })
    }
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Exit code; minus the signal if one ended it.
    pub exit: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Delivered {
    fn from(output: Output) -> Self {
        let status = output.status;
        let exit = status.code().or(status.signal().map(|signal| -signal));
        let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
        Self {
            exit: exit.unwrap_or_default(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Delivered {
    /// Whether it was put off for this reason.
    pub fn deferred(&self, reason: &str) -> bool {
        self.exit == 111 && self.stderr.contains(reason)
    }
}

/// Sets the mode of a file.
///
/// # Panics
///
/// It is somebody else's.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}
