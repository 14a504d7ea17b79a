//! Programs run with a limit on time and output, and none of them left behind.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::failure::{Doing, Failure};

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its exit code; for one that a signal killed, the negative number of the signal.
    pub(crate) exit: i32,
    /// What it wrote on descriptor 1, if that is a pipe.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote on descriptor 2.
    pub(crate) stderr: Vec<u8>,
}

/// Where descriptors 0 and 1 lead.
pub(crate) enum Streams {
    /// Descriptor 0 is a pipe that holds this and then ends; descriptor 1 is a pipe.
    Pipes(Vec<u8>),
    /// Descriptor 0 is this; descriptor 1 is a pipe.
    From(Stdio),
    /// Both are these.
    Given(Stdio, Stdio),
}

/// All programs started for one case. When it is dropped, they and whatever they left running are killed.
#[derive(Debug, Default)]
pub(crate) struct Processes(Vec<Child>);

/// How much a program may write on each descriptor.
const OUTPUT_OCTETS_MAX: usize = 64 << 20;

enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Overflow,
    Exit(i32),
}

impl Processes {
    /// Starts a program as the leader of a process group of its own.
    ///
    /// It is not reaped before the case is over, so that its number, which is the group's too, is not given to a stranger.
    pub(crate) fn start(&mut self, command: &mut Command) -> Result<&mut Child, Failure> {
        let child = command
            .process_group(0)
            .spawn()
            .doing(&format!("starting {}", command.get_program().display()))?;
        self.0.push(child);
        Ok(self.0.last_mut().expect("a child was put there just now"))
    }

    /// Runs a program until it has exited and closed its outputs.
    pub(crate) fn run(
        &mut self,
        mut command: Command,
        streams: Streams,
        timeout: Duration,
    ) -> Result<Done, Failure> {
        let mut input = None;
        let mut open = 2;
        command.stderr(Stdio::piped());
        match streams {
            Streams::Pipes(octets) => {
                input = Some(octets);
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
            }
            Streams::From(stdin) => {
                command.stdin(stdin).stdout(Stdio::piped());
            }
            Streams::Given(stdin, stdout) => {
                open = 1;
                command.stdin(stdin).stdout(stdout);
            }
        }
        let child = self.start(&mut command)?;
        // Closes this side's copies of what the program was given.
        drop(command);
        let pid = pid(child);

        let (events, received) = channel();
        if let Some((mut pipe, octets)) = child.stdin.take().zip(input) {
            // The program need not read it all.
            thread::spawn(move || drop(pipe.write_all(&octets)));
        }
        if let Some(pipe) = child.stdout.take() {
            collect(pipe, Event::Stdout, events.clone());
        }
        if let Some(pipe) = child.stderr.take() {
            collect(pipe, Event::Stderr, events.clone());
        }
        thread::spawn(move || {
            if let Some(exit) = wait(pid) {
                let _ = events.send(Event::Exit(exit));
            }
        });

        let end = Instant::now() + timeout;
        let mut done = Done {
            exit: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let mut running = true;
        while running || open > 0 {
            match received.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Stdout(octets)) => (done.stdout, open) = (octets, open - 1),
                Ok(Event::Stderr(octets)) => (done.stderr, open) = (octets, open - 1),
                Ok(Event::Exit(exit)) => (done.exit, running) = (exit, false),
                Ok(Event::Overflow) => {
                    kill_group(pid);
                    return Err(Failure::Output(OUTPUT_OCTETS_MAX));
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    kill_group(pid);
                    return Err(Failure::TimedOut(timeout));
                }
            }
        }
        Ok(done)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            kill_group(pid(child));
            let _ = child.wait();
        }
    }
}

/// The number of a child that was not reaped yet.
pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn kill_group(leader: Pid) {
    // It fails if nothing of the group is left, which is as good.
    let _ = kill_process_group(leader, Signal::KILL);
}

/// Waits for a child to end, without reaping it.
fn wait(pid: Pid) -> Option<i32> {
    exit_code(pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
}

/// The exit code of a child if it has ended, without reaping it.
pub(crate) fn poll(pid: Pid) -> Option<i32> {
    exit_code(
        pid,
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG,
    )
}

fn exit_code(pid: Pid, options: WaitIdOptions) -> Option<i32> {
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options)).ok()??;
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| -signal))
}

/// Reads a pipe to its end, in a thread of its own.
fn collect(pipe: impl Read + Send + 'static, event: fn(Vec<u8>) -> Event, events: Sender<Event>) {
    thread::spawn(move || {
        let mut octets = Vec::new();
        let limit = OUTPUT_OCTETS_MAX as u64 + 1;
        // What was read before an error counts.
        let _ = pipe.take(limit).read_to_end(&mut octets);
        let _ = events.send(if octets.len() > OUTPUT_OCTETS_MAX {
            Event::Overflow
        } else {
            event(octets)
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn run(script: &str, streams: Streams, timeout_ms: u64) -> Result<Done, Failure> {
        Processes::default().run(sh(script), streams, Duration::from_millis(timeout_ms))
    }

    #[test]
    fn collects_what_a_program_does() {
        let done = run(
            "cat; echo err >&2; exit 3",
            Streams::Pipes(b"in".to_vec()),
            20_000,
        )
        .unwrap();
        assert_eq!(
            (done.exit, &done.stdout[..], &done.stderr[..]),
            (3, &b"in"[..], &b"err\n"[..])
        );
        let done = run("kill -9 $$", Streams::From(Stdio::null()), 20_000).unwrap();
        assert_eq!(done.exit, -9);
        // More than a pipe holds, and never read.
        let done = run("exit 0", Streams::Pipes(vec![b'x'; 1 << 20]), 20_000).unwrap();
        assert_eq!(done.exit, 0);
    }

    #[test]
    fn kills_what_takes_too_long_with_all_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let script = format!("(sleep 1; touch {}) & sleep 60", mark.display());
        let started = Instant::now();
        let failure = run(&script, Streams::From(Stdio::null()), 100).unwrap_err();
        assert!(matches!(failure, Failure::TimedOut(_)));
        assert!(started.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(1200));
        assert!(!mark.exists());
    }

    #[test]
    fn kills_in_the_end_what_was_left_running() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let script = format!(
            "(sleep 1; touch {}) </dev/null >/dev/null 2>&1 & exit 0",
            mark.display()
        );
        assert_eq!(
            run(&script, Streams::From(Stdio::null()), 20_000)
                .unwrap()
                .exit,
            0
        );
        thread::sleep(Duration::from_millis(1200));
        assert!(!mark.exists());
    }
}
