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
use tokio::process::Command;
use tokio::time::sleep;

use crate::Capture;

/// How programs of instruction files are run: `/bin/sh -c COMMAND`, in the home directory, in a process group of its own, with
/// the rights of this process.
#[derive(Clone, Debug)]
pub struct Programs {
    output: Output,
    time_max: Option<Duration>,
    bare: bool,
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
            ..Self::inherited()
        }
    }

    /// Programs print on standard output and standard error of this process.
    pub fn inherited() -> Self {
        Self {
            output: Output::Inherited,
            time_max: None,
            bare: false,
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

    /// Programs inherit no variable of this process, and a umask of 077 instead of its own: for servers, whose environment is
    /// nobody's business and whose umask is for their own files.
    #[must_use]
    pub fn with_bare_environment(mut self) -> Self {
        self.bare = true;
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
        let mut script = Vec::new();
        if self.bare {
            shell.env_clear();
            script.extend_from_slice(PRIVATE);
        }
        script.extend_from_slice(command);
        shell
            .arg("-c")
            .arg(OsStr::from_bytes(&script))
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
        let mut capture = match self.output {
            Output::Inherited => Capture::none(),
            Output::Captured { octets_max } => Capture::of(&mut shell, octets_max)?,
        };
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
        let how = tokio::select! {
            biased;
            () = &mut deadline => {
                group.kill();
                capture.wait(&mut child).await?;
                How::TooLong
            }
            status = capture.wait(&mut child) => How::from(status?),
        };
        group.leave();
        let (mut output, more) = capture.into_kept();
        if more {
            output.extend_from_slice(b"\nError report too long, sorry.\n");
        }
        Ok(Ended { how, output })
    }
}

/// What a server's programs write is their user's alone. A line of its own: what follows is the user's, whatever it is.
const PRIVATE: &[u8] = b"umask 077\n";

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
