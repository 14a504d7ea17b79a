//! One form of a queue directory takes the place of the other, in steps that a crash may come between.
//!
//! All happens below `converting` in the queue directory, under the lock of the queue:
//!
//! | step | there | a crash leaves |
//! |---|---|---|
//! | the new form is made | `new/` | the old form in its place; the next who takes the lock removes `new/` |
//! | the old form is moved away, what mail comes in by first | `new/`, `old/` | neither in its place; the next one moves it back |
//! | **`old` is renamed** to `done`, or to `kept` | `new/`, `done/` | the next one goes on |
//! | the new form is moved to its place, what mail comes in by last | `done/` | the next one goes on |
//! | the old form is removed, or moved to `kept-N` in the queue directory | | the next one goes on |
//!
//! Each name lies in one place at any time, so that it needs no record of what was done. What went before a step is durable before
//! it, and each place has one file system: a rename is whole or not there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Form;
use crate::spool::directory;

const CONVERTING: &str = "converting";
const NEW: &str = "new";
const OLD: &str = "old";
const DONE: &str = "done";
const KEPT: &str = "kept";

/// Where the names of `todo` are while it is closed.
const CLOSED_TODO: &str = "todo.closed";

/// Conversions whose old form was kept.
const KEPT_MAX: u32 = 1_000;

/// How often programs that are just finishing a message may keep `todo` from being closed.
const CLOSE_TRIES: usize = 100;

impl Form {
    /// What it consists of in a queue directory, beside `lock`; what mail comes in by is first.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Journal => &["journal"],
            Self::Split => &[
                "todo", "intd", "pid", "mess", "info", "local", "remote", "bounce", "hold",
            ],
        }
    }
}

/// A change of form that has begun.
pub(super) struct Switch {
    queue: PathBuf,
    from: Form,
}

impl Switch {
    /// Makes room for the new form.
    pub(super) fn begin(queue: &Path, from: Form, to: Form) -> io::Result<Self> {
        settle(queue)?;
        for name in to.names() {
            clear(&queue.join(name))?;
        }
        let switch = Self {
            queue: queue.to_owned(),
            from,
        };
        for path in [queue.join(CONVERTING), switch.new_form()] {
            directory::make_root(&path, 0o700)?;
        }
        Ok(switch)
    }

    /// Where the new form is to be made.
    pub(super) fn new_form(&self) -> PathBuf {
        self.queue.join(CONVERTING).join(NEW)
    }

    /// Where the old form is once it is moved away.
    pub(super) fn old_form(&self) -> PathBuf {
        self.queue.join(CONVERTING).join(OLD)
    }

    /// Moves the old form away. Afterwards no other program can put a message into it: not one that begins now, nor one that has its
    /// directories open.
    pub(super) fn close(&self) -> io::Result<()> {
        let old = self.old_form();
        directory::make_root(&old, 0o700)?;
        for name in self.from.names() {
            move_name(&self.queue, &old, name)?;
        }
        if self.from == Form::Split {
            close_todo(&old)?;
        }
        sync(&self.queue)?;
        sync(&old)
    }

    /// The new form counts from now on.
    pub(super) fn finish(self, keep_old: bool) -> io::Result<Option<PathBuf>> {
        let work = self.queue.join(CONVERTING);
        let end = work.join(if keep_old { KEPT } else { DONE });
        sync(&self.new_form())?;
        rename(&self.old_form(), &end)?;
        sync(&work)?;
        go_on(&self.queue)
    }
}

/// Finishes a change of form that was broken off, or undoes it, whichever it was nearer to. The caller has the lock of the queue.
///
/// # Errors
///
/// It says what could not be done, and where. The next call tries again.
pub(crate) fn settle(queue: &Path) -> io::Result<()> {
    let work = queue.join(CONVERTING);
    if !exists(&work)? {
        return Ok(());
    }
    if exists(&work.join(DONE))? || exists(&work.join(KEPT))? {
        return go_on(queue).map(drop);
    }
    let old = work.join(OLD);
    if exists(&old)? {
        open_todo(&old)?;
        for form in Form::ALL {
            for name in form.names().iter().rev() {
                move_name(&old, queue, name)?;
            }
        }
        sync(queue)?;
        sync(&old)?;
    }
    remove(&work)
}

/// The steps after the one that counts. Gives where the old form is, if it is kept.
fn go_on(queue: &Path) -> io::Result<Option<PathBuf>> {
    let work = queue.join(CONVERTING);
    let new = work.join(NEW);
    if exists(&new)? {
        for form in Form::ALL {
            for name in form.names().iter().rev() {
                move_name(&new, queue, name)?;
            }
        }
        sync(queue)?;
        sync(&new)?;
    }
    let kept = work.join(KEPT);
    let place = match exists(&kept)? {
        true => Some(place_of_kept(queue)?),
        false => None,
    };
    if let Some(place) = &place {
        rename(&kept, place)?;
        sync(queue)?;
    }
    remove(&work)?;
    Ok(place)
}

fn place_of_kept(queue: &Path) -> io::Result<PathBuf> {
    for number in 1..=KEPT_MAX {
        let place = queue.join(format!("kept-{number}"));
        if !exists(&place)? {
            return Ok(place);
        }
    }
    let words = format!("there are {KEPT_MAX} old queues: remove those you have looked at");
    Err(at(&queue.join("kept-1"))(io::Error::other(words)))
}

/// Makes it impossible to name anything in `todo` for who has it open: it is emptied and removed, and another one takes its place.
fn close_todo(old: &Path) -> io::Result<()> {
    let (todo, closed) = (old.join("todo"), old.join(CLOSED_TODO));
    let mode = fs::metadata(&todo).map_err(at(&todo))?.permissions();
    directory::make_root(&closed, 0o700)?;
    fs::set_permissions(&closed, mode).map_err(at(&closed))?;
    for _ in 0..CLOSE_TRIES {
        for name in names(&todo)? {
            move_name(&todo, &closed, &name)?;
        }
        match fs::remove_dir(&todo) {
            Ok(()) => {
                rename(&closed, &todo)?;
                return sync(&todo);
            }
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) => return Err(at(&todo)(error)),
        }
    }
    let words = "programs put mail into it without end: stop them first";
    Err(at(&todo)(io::Error::other(words)))
}

/// Undoes [`close_todo`], wherever it was broken off.
fn open_todo(old: &Path) -> io::Result<()> {
    let (todo, closed) = (old.join("todo"), old.join(CLOSED_TODO));
    if !exists(&closed)? {
        return Ok(());
    }
    if !exists(&todo)? {
        return rename(&closed, &todo);
    }
    for name in names(&closed)? {
        move_name(&closed, &todo, &name)?;
    }
    sync(&todo)?;
    fs::remove_dir(&closed).map_err(at(&closed))
}

/// Moves a name from one directory to another, if it is there.
fn move_name(from: &Path, to: &Path, name: impl AsRef<Path>) -> io::Result<()> {
    let from = from.join(&name);
    match rustix::fs::rename(&from, to.join(&name)) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(at(&from)(error.into())),
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    rustix::fs::rename(from, to).map_err(|error| at(from)(error.into()))
}

fn sync(path: &Path) -> io::Result<()> {
    directory::sync(rustix::fs::CWD, path).map_err(at(path))
}

/// Removes what the new form is to have, if it is empty directories: those of a home that was made before its first start.
fn clear(path: &Path) -> io::Result<()> {
    let mut directories = vec![path.to_owned()];
    let mut at_hand = 0;
    while let Some(directory) = directories.get(at_hand).cloned() {
        at_hand += 1;
        let is_directory = fs::symlink_metadata(&directory).is_ok_and(|metadata| metadata.is_dir());
        if is_directory {
            let below = names(&directory)?;
            directories.extend(below.into_iter().map(|name| directory.join(name)));
        }
    }
    for directory in directories.iter().rev() {
        match fs::remove_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => {
                let words = "it is in the way, and not empty: look at it, and move it away";
                return Err(at(directory)(io::Error::other(words)));
            }
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(path)(error)),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "directories of a queue are moved as a whole, below any spool"
)]
pub(super) fn names(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let read = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.file_name().into()))
            .collect()
    });
    read.map_err(at(directory))
}

/// An error with the path that it is about.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
