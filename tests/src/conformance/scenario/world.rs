//! The scratch system of a scenario: home, queue, users, and the program that plays `qmail-remote`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{getgid, getuid};

use super::super::accounts;
use super::super::failure::{Doing, Failure};
use super::super::machine::{self, NOBODY};
use super::super::mask;
use super::super::octets::{Octets, replace, to_text};
use super::super::process::{Done, Processes, Streams};
use super::super::programs::Programs;
use super::super::run::{scratch, search_path, write_program};
use super::super::tree;
use super::{NEWU, RemoteOutcome, RemoteScript, Scenario};

/// How many subdirectories the split directories of the queue have.
pub(super) const SPLIT: u64 = 23;

/// How long a program beside the running system may run.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(20);

/// What plays `qmail-remote`: notes what it was given, then does what the script says for this attempt.
const REMOTE: &str = r#"#!/bin/sh
base=@BASE@
key=$(printf %s "$3" | od -An -v -tx1 | tr -d ' \n')
mine=$base/log/$(date +%s%N).$$
mkdir "$mine" && printf %s "$1" >"$mine/host" && printf %s "$2" >"$mine/sender" && printf %s "$3" >"$mine/recipient" && cat >"$mine/message"
echo x >>"$base/count/$key"
n=$(wc -l <"$base/count/$key")
n=$((n))
[ -d "$base/script/$key" ] || key=default
while [ ! -d "$base/script/$key/$n" ]; do n=$((n - 1)); done
cd "$base/script/$key/$n"
sleep "$(cat sleep)"
cat output
exit "$(cat exit)"
"#;

/// What the remote program answers about a recipient without a script.
const ACCEPTED: &[u8] = b"r\0Kaccepted\n\0";

/// The scratch system.
pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    programs: &'a Programs,
    /// Declared before `_work`: what still runs is killed before its files are removed.
    pub(super) processes: Processes,
    pub(super) root: PathBuf,
    pub(super) qmail: PathBuf,
    pub(super) homes: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    /// Everything runs as an ordinary user, although the runner is root.
    unprivileged: bool,
    /// What the homes held before anything ran.
    pub(super) homes_before: BTreeMap<Octets, Vec<u8>>,
    _work: tempfile::TempDir,
}

impl<'a> World<'a> {
    pub(super) fn build(scenario: &'a Scenario, programs: &'a Programs) -> Result<Self, Failure> {
        let (work, root) = scratch("scenario.")?;
        let mut world = Self {
            scenario,
            programs,
            processes: Processes::default(),
            qmail: root.join("qmail"),
            homes: root.join("homes"),
            root,
            environment: Vec::new(),
            unprivileged: machine::is_root()
                && (scenario.forwards() || accounts::of_the_machine("qmailq").is_some()),
            homes_before: BTreeMap::new(),
            _work: work,
        };
        world.make_home().doing("making the home")?;
        world.make_queue().doing("making the queue")?;
        world.make_users().doing("making the users")?;
        world.make_remote().doing("making the remote program")?;
        if world.unprivileged {
            tree::give(&world.root, NOBODY, NOBODY).doing("giving away the system")?;
        }

        let done = world.run_program(NEWU, &[])?;
        if done.exit != 0 {
            return Err(Failure::before(NEWU, done.exit, &done.stderr));
        }
        world.homes_before = tree::read(&world.homes).doing("reading the homes")?;
        Ok(world)
    }

    fn make_home(&self) -> std::io::Result<()> {
        for name in ["control", "alias", "users", "queue"] {
            fs::create_dir_all(self.qmail.join(name))?;
        }
        fs::write(self.root.join("log"), b"")?;
        symlink(self.programs.directory(), self.qmail.join("bin"))?;
        for (name, content) in &self.scenario.control.0 {
            self.set_control(name, Some(content))?;
        }
        tree::write(&self.qmail.join("alias"), &self.scenario.alias, |octets| {
            self.substitute(octets)
        })
    }

    /// The queue tree with the owners and modes of a classic installation.
    fn make_queue(&self) -> std::io::Result<()> {
        let queue = self.qmail.join("queue");
        self.own(&queue, "qmailq", Some(0o750))?;
        for (name, user, mode, split) in [
            ("pid", "qmailq", 0o700, 0),
            ("intd", "qmailq", 0o700, 0),
            ("todo", "qmailq", 0o750, 0),
            ("bounce", "qmails", 0o700, 0),
            ("mess", "qmailq", 0o750, SPLIT),
            ("info", "qmails", 0o700, SPLIT),
            ("local", "qmails", 0o700, SPLIT),
            ("remote", "qmails", 0o700, SPLIT),
            ("lock", "qmailq", 0o750, 0),
        ] {
            let directory = queue.join(name);
            fs::create_dir(&directory)?;
            self.own(&directory, user, Some(mode))?;
            for part in 0..split {
                let part = directory.join(part.to_string());
                fs::create_dir(&part)?;
                self.own(&part, user, Some(mode))?;
            }
        }
        let lock = queue.join("lock");
        fs::write(lock.join("tcpto"), [0; 1024])?;
        self.own(&lock.join("tcpto"), "qmailr", Some(0o644))?;
        fs::write(lock.join("sendmutex"), b"")?;
        self.own(&lock.join("sendmutex"), "qmails", Some(0o600))?;
        let trigger = lock.join("trigger");
        mkfifoat(CWD, &trigger, Mode::from_raw_mode(0o622))?;
        self.own(&trigger, "qmails", Some(0o622))
    }

    /// The users with their homes, and the file that makes them known.
    fn make_users(&self) -> std::io::Result<()> {
        let (uid, gid) = if machine::is_root() {
            (NOBODY, NOBODY)
        } else {
            (getuid().as_raw(), getgid().as_raw())
        };
        let mut assign = Vec::new();
        for (user, files) in &self.scenario.users.0 {
            let home = self.homes.join(user.as_os());
            fs::create_dir_all(&home)?;
            tree::write(&home, files, |octets| self.substitute(octets))?;
            tree::give(&home, uid, gid)?;
            let (user, home) = (user.as_os().display(), home.display());
            assign.extend_from_slice(
                format!(
                    "={user}:{user}:{uid}:{gid}:{home}:::\n+{user}-:{user}:{uid}:{gid}:{home}:-::\n"
                )
                .as_bytes(),
            );
        }
        let alias = self.qmail.join("alias");
        assign.extend_from_slice(
            format!("+:alias:{uid}:{gid}:{}:-::\n.\n", alias.display()).as_bytes(),
        );
        fs::write(self.qmail.join("users/assign"), assign)
    }

    fn make_remote(&mut self) -> std::io::Result<()> {
        let remote = self.root.join("remote");
        for name in ["log", "count"] {
            let directory = remote.join(name);
            fs::create_dir_all(&directory)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777))?;
        }
        self.set_remote(&self.scenario.remote)?;
        let directory = self.root.join("override");
        fs::create_dir(&directory)?;
        let program = directory.join("qmail-remote");
        let base = format!("'{}'", remote.display().to_string().replace('\'', r"'\''"));
        write_program(&program, REMOTE.replace("@BASE@", &base).as_bytes())?;
        self.environment = vec![
            (
                "PATH",
                search_path(&[&directory, self.programs.directory()]),
            ),
            ("QMAIL_HOME", self.qmail.clone().into()),
            ("QMAILREMOTE", program.into()),
        ];
        Ok(())
    }

    /// Writes a control file, or removes it.
    pub(super) fn set_control(
        &self,
        name: &Octets,
        content: Option<&Octets>,
    ) -> std::io::Result<()> {
        let path = self.qmail.join("control").join(name.as_os());
        match content {
            Some(content) => fs::write(path, self.substitute(&content.0)),
            None => match fs::remove_file(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        }
    }

    /// Replaces what the remote program answers.
    pub(super) fn set_remote(&self, script: &RemoteScript) -> std::io::Result<()> {
        let root = self.root.join("remote/script");
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let accepted = [RemoteOutcome::Output(Octets(ACCEPTED.to_vec()))];
        let recipients = script.0.iter().map(|(recipient, outcomes)| {
            let hex = recipient.0.iter().map(|octet| format!("{octet:02x}"));
            (hex.collect::<String>(), &outcomes[..])
        });
        for (key, outcomes) in recipients.chain([("default".to_owned(), &accepted[..])]) {
            for (attempt, outcome) in (1..).zip(outcomes) {
                let directory = root.join(&key).join(u32::to_string(&attempt));
                fs::create_dir_all(&directory)?;
                let (output, exit, sleep) = match outcome {
                    RemoteOutcome::Output(output) => (output, 0, 0),
                    RemoteOutcome::Described {
                        output,
                        exit,
                        sleep,
                    } => (output, *exit, *sleep),
                };
                fs::write(directory.join("output"), &output.0)?;
                fs::write(directory.join("exit"), exit.to_string())?;
                fs::write(directory.join("sleep"), sleep.to_string())?;
            }
        }
        Ok(())
    }

    /// Sets the mode of a queue file and, where the runner is root, its owner: the user that all runs as, or one of the classic ones if
    /// they exist.
    pub(super) fn own(&self, path: &Path, user: &str, mode: Option<u32>) -> std::io::Result<()> {
        if let Some(mode) = mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        if self.unprivileged {
            return chown(path, Some(NOBODY), Some(NOBODY));
        }
        if machine::is_root()
            && let Some((uid, _)) = accounts::of_the_machine(user)
            && let Some((_, group)) = accounts::of_the_machine("qmails")
        {
            chown(path, Some(uid), Some(group))?;
        }
        Ok(())
    }

    /// A program with the environment of the system, in the root directory.
    pub(super) fn command(&self, program: &str, arguments: &[Octets]) -> Result<Command, Failure> {
        let mut command = Command::new(self.programs.find(program)?);
        command
            .args(arguments.iter().map(Octets::as_os))
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/");
        if self.unprivileged {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ok(command)
    }

    /// Runs a program to its end.
    pub(super) fn run_program(
        &mut self,
        program: &str,
        arguments: &[Octets],
    ) -> Result<Done, Failure> {
        let command = self.command(program, arguments)?;
        let streams = Streams::From(Stdio::null());
        self.processes.run(command, streams, PROGRAM_TIMEOUT)
    }

    /// Runs a program that reads these two files.
    pub(super) fn run_with_files(
        &mut self,
        program: &str,
        stdin: fs::File,
        stdout: fs::File,
    ) -> Result<Done, Failure> {
        let command = self.command(program, &[])?;
        let streams = Streams::Given(stdin.into(), stdout.into());
        self.processes.run(command, streams, PROGRAM_TIMEOUT)
    }

    /// Files of the queue below these directories, by number.
    pub(super) fn files(&self, names: &[&str]) -> std::io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for name in names {
            let mut files = tree::paths(&self.qmail.join("queue").join(name))?;
            files.retain(|path| path.is_file());
            files.sort_by_key(|path| (number(path).unwrap_or(0), path.clone()));
            found.extend(files);
        }
        Ok(found)
    }

    /// Puts in what the tokens stand for.
    pub(super) fn substitute(&self, octets: &[u8]) -> Vec<u8> {
        let octets = replace(octets, b"@QMAIL@", self.qmail.as_os_str().as_bytes());
        replace(&octets, b"@HOMES@", self.homes.as_os_str().as_bytes())
    }

    /// Puts the tokens back in, and masks what differs from run to run.
    pub(super) fn shown(&self, octets: &[u8]) -> String {
        let octets = replace(octets, self.qmail.as_os_str().as_bytes(), b"@QMAIL@");
        let mut octets = replace(&octets, self.homes.as_os_str().as_bytes(), b"@HOMES@");
        let built_in = mask::built_in().iter().chain(mask::of_scenarios());
        for mask in built_in.chain(&self.scenario.mask) {
            octets = mask.apply(&octets);
        }
        to_text(&octets)
    }
}

/// The number that a file of the queue has as its name.
pub(super) fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.bytes()
        .all(|octet| octet.is_ascii_digit())
        .then(|| name.parse().ok())?
}
