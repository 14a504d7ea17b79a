//! `qmail queue convert`: the queue of a home gets the other form.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use qmail_queue::split::{SendMutex, layout};
use qmail_queue::{Change, ChangeError, Changed, Form, Workers};
use rustix::process::geteuid;
use serde_json::json;

use crate::home::Home;
use crate::privilege::Account;
use crate::{exit, stdio};

/// Threads that copy: they wait for the disk more than they compute.
const THREADS: usize = 16;

/// Where there is no terminal, a line tells of each so many messages.
const TOLD_EVERY: u64 = 10_000;

const NAME: &str = "qmail queue";

/// Converts the queue of a home. What is no message is refused, or left behind.
pub(crate) fn run(home: &Home, to: Form, despite_damage: bool, json: bool) -> ExitCode {
    let form = to.name();
    match convert(home, to, despite_damage) {
        Ok(changed) => {
            warn_of_rest(&changed);
            let messages = changed.messages;
            let plural = if messages == 1 { "" } else { "s" };
            exit::print(&match json {
                true => format!("{}\n", json!({ "form": form, "messages": messages })),
                false => format!("{messages} message{plural}, now in the form `{form}`\n"),
            });
            ExitCode::SUCCESS
        }
        Err(ChangeError::Already { .. }) => {
            exit::print(&match json {
                true => format!("{}\n", json!({ "form": form })),
                false => format!("in the form `{form}` already\n"),
            });
            ExitCode::SUCCESS
        }
        Err(error) => {
            let words = format!(
                "cannot convert the queue {}: {}; {}",
                home.queue().display(),
                with_cause(&error),
                remedy(&error)
            );
            exit::fatal(NAME, &words, exit::TEMPORARY)
        }
    }
}

fn warn_of_rest(changed: &Changed) {
    for damage in &changed.damages {
        let path = damage.path.display();
        exit::warn(
            NAME,
            &format_args!("{path} was left behind: {}", damage.reason),
        );
    }
    if let Some(kept) = &changed.kept {
        let words = format_args!(
            "the old queue is kept whole in {}: take from it what is wanted, and remove it",
            kept.display()
        );
        exit::warn(NAME, &words);
    }
}

fn convert(home: &Home, to: Form, despite_damage: bool) -> Result<Changed, ChangeError> {
    let queue = home.queue();
    // Only under the lock is it certain what is there.
    let lock = SendMutex::lock(&queue).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if !queue.exists() => ChangeError::None {
            path: queue.clone(),
        },
        _ => error.into(),
    })?;
    let owners = Owners::of(home, to)?;
    let mut change = Change::new(to);
    if despite_damage {
        change = change.despite_damage();
    }
    let workers = Workers::threads(THREADS)?;
    let mut progress = Progress::new();
    let changed = stdio::run(change.run(
        &queue,
        &lock,
        &workers,
        &mut |done, all| progress.tell(done, all),
        |new| owners.give(new),
    ))?;
    progress.end();
    let changed = changed?;
    owners.give_trigger(&queue)?;
    Ok(changed)
}

fn remedy(error: &ChangeError) -> &'static str {
    match error {
        ChangeError::None { .. } => "name the home with --home or QMAIL_HOME",
        ChangeError::Damaged { .. } => {
            "look at it, and remove it or leave it behind with --despite-damage"
        }
        ChangeError::Directory(error) if error.kind() == io::ErrorKind::WouldBlock => {
            "a program runs it: stop that first"
        }
        _ => "nothing was changed; mend that, and run this again",
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}

/// Whom the new form is to belong to, if root makes it: to the owner of the queue, or where that is the queue writer of a
/// partitioned system, in part to the queue manager.
struct Owners(Option<[Owner; 2]>);

type Owner = (u32, u32);

impl Owners {
    fn of(home: &Home, to: Form) -> io::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let queue = fs::metadata(home.queue())?;
        let owner = (queue.uid(), queue.gid());
        let classic = |name| Account::classic(home, name).map_err(io::Error::other);
        let is_writer = |account: Option<Account>| account.is_some_and(|it| it.uid == owner.0);
        let manager = match to {
            Form::Split if owner.0 != 0 && is_writer(classic("qmailq")?) => classic("qmails")?,
            _ => None,
        };
        let manager = manager.map_or(owner, |account| (account.uid, owner.1));
        Ok(Self(Some([owner, manager])))
    }

    /// Gives all of it away.
    fn give(&self, new: &Path) -> io::Result<()> {
        let Some([owner, manager]) = self.0 else {
            return Ok(());
        };
        for entry in fs::read_dir(new)? {
            let entry = entry?;
            let name = entry.file_name();
            let managed = ["info", "local", "remote", "bounce", "hold"].map(std::ffi::OsStr::new);
            let whose = if managed.contains(&&*name) {
                manager
            } else {
                owner
            };
            give(entry.path(), whose)?;
        }
        Ok(())
    }

    /// What the split form has beside its messages.
    fn give_trigger(&self, queue: &Path) -> io::Result<()> {
        let trigger = queue.join(layout::TRIGGER);
        match self.0 {
            Some([_, (uid, gid)]) if trigger.exists() => lchown(trigger, Some(uid), Some(gid)),
            _ => Ok(()),
        }
    }
}

fn give(path: PathBuf, (uid, gid): Owner) -> io::Result<()> {
    let mut paths = vec![path];
    while let Some(path) = paths.pop() {
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                paths.push(entry?.path());
            }
        }
        lchown(&path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// A bar on a terminal, else a line now and then.
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{wide_bar} {human_pos} of {human_len} messages, {eta} left",
            );
            let bar = ProgressBar::new(0);
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    fn tell(&self, done: u64, all: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(all);
                bar.set_position(done);
            }
            None if done > 0 && done.is_multiple_of(TOLD_EVERY) => {
                eprintln!("{NAME}: {done} of {all} messages are copied");
            }
            None => {}
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
