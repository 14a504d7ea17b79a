//! Delivery to programs (qmail-command(8)).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::future::pending;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;
use tokio::time::sleep;

/// How programs of instruction files are run: `/bin/sh -c COMMAND`, in the home directory, in a process group of its own, with
/// the rights of this process.
#[derive(Clone, Debug)]
pub struct Programs {
    output: Output,
    time_max: Option<Duration>,
    environment: Vec<(OsString, OsString)>,
}

#[derive(Clone, Copy, Debug)]
enum Output {
    Inherited,
    Captured { octets_max: usize },
}

impl Programs {
    /// What a program prints becomes a part of the report. Of more than `octets_max` octets the rest is dropped, and the report
    /// says so; qmail-lspawn(8) has 3000.
    pub fn captured(octets_max: usize) -> Self {
        Self {
            output: Output::Captured { octets_max },
            time_max: None,
            environment: Vec::new(),
        }
    }

    /// Programs print on standard output and standard error of this process.
    pub fn inherited() -> Self {
        Self {
            output: Output::Inherited,
            time_max: None,
            environment: Vec::new(),
        }
    }

    /// A program that runs longer is killed with all of its process group, and the message is deferred. There is no limit
    /// otherwise.
    #[must_use]
    pub fn with_time_max(mut self, time_max: Duration) -> Self {
        self.time_max = Some(time_max);
        self
    }

    /// Sets a variable for all programs, besides those of this process and those of qmail-command(8).
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) how: How,
    /// What it printed, if that was captured.
    pub(super) output: Vec<u8>,
}

/// What the end of a program means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// 0: go on.
    Done,
    /// 99: the message is delivered; further instructions are passed over.
    Stop,
    Deferred,
    Failed,
    Crashed,
    TooLong,
}

impl How {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            None => Self::Crashed,
            Some(0) => Self::Done,
            Some(99) => Self::Stop,
            Some(100 | 64 | 65 | 70 | 76 | 77 | 78 | 112) => Self::Failed,
            Some(_) => Self::Deferred,
        }
    }
}

impl Programs {
    /// Runs a command. `input` is at the first octet of the message.
    pub(super) async fn run(
        &self,
        command: &[u8],
        home: &Path,
        variables: &[(&'static str, Vec<u8>)],
        input: File,
    ) -> io::Result<Ended> {
        #[expect(clippy::disallowed_methods, reason = "this is the seam to programs")]
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(OsStr::from_bytes(command))
            .current_dir(home)
            .envs(self.environment.iter().cloned())
            .env_remove("DEFAULT")
            .envs(
                variables
                    .iter()
                    .map(|(name, value)| (name, OsString::from_vec(value.clone()))),
            )
            .stdin(Stdio::from(input))
            .process_group(0)
            .kill_on_drop(true);
        let mut capture = Capture::new(self.output, &mut shell)?;
        let mut child = shell.spawn()?;
        // The command has our ends of the output pipe.
        drop(shell);
        let group = Group::of(child.id());
        let deadline = async {
            match self.time_max {
                Some(time) => sleep(time).await,
                None => pending().await,
            }
        };
        tokio::pin!(deadline);
        let how = loop {
            tokio::select! {
                biased;
                () = &mut deadline => {
                    group.kill();
                    child.wait().await?;
                    break How::TooLong;
                }
                status = child.wait() => break How::from(status?),
                () = capture.read() => {}
            }
        };
        group.leave();
        capture.read_rest();
        Ok(Ended {
            how,
            output: capture.kept,
        })
    }
}

/// A process group that is killed when the delivery is given up.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: Option<u32>) -> Self {
        let leader = leader.and_then(|leader| i32::try_from(leader).ok());
        Self(leader.and_then(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }

    /// The leader has ended: its number may soon be somebody else's.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads what a program prints, and keeps the first of it.
struct Capture {
    pipe: Option<Receiver>,
    octets_max: usize,
    kept: Vec<u8>,
}

impl Capture {
    fn new(output: Output, command: &mut Command) -> io::Result<Self> {
        let mut capture = Self {
            pipe: None,
            octets_max: 0,
            kept: Vec::new(),
        };
        if let Output::Captured { octets_max } = output {
            let (reader, writer) = io::pipe()?;
            capture.octets_max = octets_max;
            capture.pipe = Some(Receiver::from_owned_fd(reader.into())?);
            command.stdout(writer.try_clone()?).stderr(writer);
        }
        Ok(capture)
    }

    /// Returns when something was read, or the pipe was closed; never without a pipe.
    async fn read(&mut self) {
        match &self.pipe {
            Some(pipe) => {
                if pipe.readable().await.is_err() || self.take() == Some(0) {
                    self.pipe = None;
                }
            }
            None => pending().await,
        }
    }

    /// What is in the pipe when the program has ended. What programs in the background print after that has no reader.
    fn read_rest(&mut self) {
        for _ in 0..PIPE_READS_MAX {
            if !matches!(self.take(), Some(1..)) {
                break;
            }
        }
        if self.kept.len() > self.octets_max {
            self.kept.truncate(self.octets_max);
            self.kept
                .extend_from_slice(b"\nError report too long, sorry.\n");
        }
    }

    /// Reads once. `None`: there is nothing now.
    fn take(&mut self) -> Option<usize> {
        let pipe = self.pipe.as_ref()?;
        let mut buffer = [0; 8 * 1024];
        match pipe.try_read(&mut buffer) {
            Ok(octets) => {
                // One more than is kept tells that there was more.
                let room = (self.octets_max + 1).saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&buffer[..octets.min(room)]);
                Some(octets)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(0),
        }
    }
}

/// More reads than a pipe has room for: a program left in the background cannot keep us reading.
const PIPE_READS_MAX: u32 = 32;
