//! A queue directory that gets the other form.

use std::io;
use std::path::{Path, PathBuf};

use super::switch::{Switch, names, settle};
use super::{Adopt, ConvertError, Copying, Damage, compare};
use crate::split::SendMutex;
use crate::{JournalSpool, SplitSpool, Spool, SpoolError, Workers};

/// The form in which a queue directory keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A log of our own, in `journal`.
    Journal,
    /// qmail's own directories.
    Split,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Journal, Self::Split];

    /// The form of a queue that is there; `None` if it is new. Where both are, the journal counts.
    pub fn of(queue: &Path) -> Option<Self> {
        if queue.join("journal").exists() {
            Some(Self::Journal)
        } else if queue.join("mess").exists() {
            Some(Self::Split)
        } else {
            None
        }
    }

    /// `journal` or `split`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Split => "split",
        }
    }
}

/// A change of the form of a queue directory.
///
/// Until all messages are copied the old form stays as it is, and counts; then the new one takes its place. Broken off at any moment,
/// the one or the other counts, whole: whoever next takes the lock of the queue puts in order what was left, before anything else.
/// Then the change can be begun again.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    to: Form,
    despite_damage: bool,
}

/// What came of a [`Change`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Changed {
    /// Messages that the queue holds.
    pub messages: u64,
    /// What was left behind: what is no message, messages that cannot be read, and octets that a journal had kept aside.
    pub damages: Vec<Damage>,
    /// Where the old form is, if something was left behind; otherwise it is removed.
    pub kept: Option<PathBuf>,
}

/// Why a queue directory has the form that it had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is nothing to be changed.
    #[error("there is no queue in {}", path.display())]
    None {
        /// Where.
        path: PathBuf,
    },
    /// It has the wanted form.
    #[error("{} is in the form `{}` already", path.display(), form.name())]
    Already {
        /// Which queue.
        path: PathBuf,
        /// Its form.
        form: Form,
    },
    /// Something in it is no message, or a message that cannot be read.
    #[error("{} is no message: {}, and {} more", first.path.display(), first.reason, count - 1)]
    Damaged {
        /// One of them.
        first: Damage,
        /// How many there are.
        count: usize,
    },
    /// A message could not be copied.
    #[error(transparent)]
    Copy(#[from] ConvertError),
    /// The copy, when it was read again, does not hold what the old form does.
    #[error("the copy holds {copied} messages, which are not the {messages} that were copied")]
    Incomplete {
        /// Messages of the copy.
        copied: u64,
        /// Messages that it should hold.
        messages: u64,
    },
    /// A directory could not be made or moved.
    #[error(transparent)]
    Directory(#[from] io::Error),
}

impl From<SpoolError> for ChangeError {
    fn from(error: SpoolError) -> Self {
        Self::Copy(error.into())
    }
}

impl Change {
    /// A change to this form, which is refused if something in the queue is no message.
    pub fn new(to: Form) -> Self {
        Self {
            to,
            despite_damage: false,
        }
    }

    /// Leaves behind what is no message or cannot be read, and keeps the old form whole beside the new one then, as `kept-1` or the
    /// like in the queue directory.
    #[must_use]
    pub fn despite_damage(self) -> Self {
        Self {
            despite_damage: true,
            ..self
        }
    }

    /// Makes the change to the queue directory that `lock` is the lock of. `progress` hears of the messages copied so far and in all;
    /// `made` is called with the directory in which the new form is, complete, before it takes its place: to give it to whom it is to
    /// belong.
    ///
    /// # Errors
    ///
    /// Nothing was changed, or the next one who takes the lock will find that nothing was.
    pub async fn run(
        self,
        queue: &Path,
        _lock: &SendMutex,
        workers: &Workers,
        progress: &mut (dyn FnMut(u64, u64) + Send),
        made: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Changed, ChangeError> {
        let path = queue.to_owned();
        let from = match Form::of(queue) {
            None => return Err(ChangeError::None { path }),
            Some(form) if form == self.to => return Err(ChangeError::Already { path, form }),
            Some(from) => from,
        };
        let changed = self.change(queue, from, workers, progress, made).await;
        if changed.is_err() {
            // What cannot be put in order now is put in order by the next one who takes the lock.
            let _ = settle(queue);
        }
        changed
    }

    async fn change(
        self,
        queue: &Path,
        from: Form,
        workers: &Workers,
        progress: &mut (dyn FnMut(u64, u64) + Send),
        made: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Changed, ChangeError> {
        let switch = Switch::begin(queue, from, self.to)?;
        let (messages, damages) = self.copy(queue, from, &switch, workers, progress).await?;
        made(&switch.new_form())?;
        sync_times(&switch.new_form())?;
        let kept = switch.finish(!damages.is_empty())?;
        if self.to == Form::Split {
            // What lies in `lock` and is of use to this form only.
            SplitSpool::create(queue)?;
        }
        Ok(Changed {
            messages,
            damages,
            kept,
        })
    }

    /// Makes the new form, and moves the old one away.
    async fn copy(
        self,
        queue: &Path,
        from: Form,
        switch: &Switch,
        workers: &Workers,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(u64, Vec<Damage>), ChangeError> {
        let mut copying = Copying::default();
        let old = open_form(from, queue, workers)?;
        let new = make_new(self.to, &switch.new_form(), workers)?;
        let mut damages = copying.all(&*old, &*new, progress).await?;
        if from == Form::Journal {
            damages.extend(kept_aside(queue)?);
        }
        self.refuse(&damages)?;
        switch.close()?;
        if from == Form::Split {
            let closed = open_form(from, &switch.old_form(), workers)?;
            damages.extend(copying.late(&*closed, &*new).await?);
            self.refuse(&damages)?;
        }
        // So that the next start knows what it should find.
        new.close().await?;
        drop(new);
        verify(self.to, &switch.new_form(), &copying, workers).await?;
        Ok((copying.messages(), damages))
    }

    fn refuse(self, damages: &[Damage]) -> Result<(), ChangeError> {
        if let Some(first) = damages.first().filter(|_| !self.despite_damage) {
            return Err(ChangeError::Damaged {
                first: first.clone(),
                count: damages.len(),
            });
        }
        Ok(())
    }
}

/// What a journal has put aside at some start, and nobody has taken away: there may be messages in it.
fn kept_aside(queue: &Path) -> io::Result<Vec<Damage>> {
    let directory = Form::Journal.names()[0];
    let directory = Path::new(directory).join(JournalSpool::DAMAGED);
    let mut names = names(&queue.join(&directory))?;
    names.sort();
    let damage = |name| Damage {
        path: directory.join(name),
        reason:
            "octets that were damaged or torn were put aside there, and messages may be among them"
                .to_owned(),
    };
    Ok(names.into_iter().map(damage).collect())
}

fn open_form(form: Form, queue: &Path, workers: &Workers) -> Result<Box<dyn Spool>, SpoolError> {
    let workers = workers.clone();
    Ok(match form {
        Form::Journal => Box::new(JournalSpool::open(queue.join("journal"), workers)?),
        Form::Split => Box::new(SplitSpool::open(queue, workers)?),
    })
}

/// Opens the new form again, when nobody works on it any more, and reads all of it.
async fn verify(
    form: Form,
    queue: &Path,
    copied: &Copying,
    workers: &Workers,
) -> Result<(), ChangeError> {
    let spool = loop {
        match open_form(form, queue, workers) {
            // A worker is just ending what nobody waits for.
            Err(SpoolError::InUse { .. }) => std::thread::yield_now(),
            opened => break opened?,
        }
    };
    compare(&*spool, copied).await
}

fn make_new(form: Form, queue: &Path, workers: &Workers) -> Result<Box<dyn Adopt>, ChangeError> {
    let workers = workers.clone();
    Ok(match form {
        Form::Journal => {
            let journal = queue.join("journal");
            JournalSpool::create(&journal)?;
            Box::new(JournalSpool::open(journal, workers)?)
        }
        Form::Split => {
            SplitSpool::create(queue)?;
            Box::new(SplitSpool::open(queue, workers)?)
        }
    })
}

/// When messages are due is durable by this; all else is already.
#[cfg(target_os = "linux")]
fn sync_times(directory: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, openat, syncfs};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(syncfs(openat(CWD, directory, flags, Mode::empty())?)?)
}

/// When messages are due need not outlive a power cut: they are tried at once then.
#[cfg(not(target_os = "linux"))]
fn sync_times(_directory: &Path) -> io::Result<()> {
    Ok(())
}
