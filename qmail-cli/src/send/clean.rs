//! Removing files of the queue writer: qmail-send may read them, and asks qmail-clean to remove them (qmail-clean(8)).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use qmail_queue::helpers::clean::{Answer, Request};
use qmail_queue::split::layout::message_id;
use qmail_queue::{Disk, DiskFile, RealDisk, Stat};
use rustix::event::PollFlags;

use super::loss::Loss;
use crate::descriptor::wait_until;

/// How long qmail-clean may take for an answer: it may have a crowded directory to look through first.
const ANSWER_WAIT: Duration = Duration::from_secs(600);

/// The queue's disk as qmail-send sees it: what lies in `mess`, `intd` and `todo` is removed by qmail-clean.
///
/// | removed here | asked for |
/// |---|---|
/// | `todo/ID` | `todo/ID`: both names of the envelope go |
/// | `intd/ID` | nothing: it goes with `todo/ID`, or with the text |
/// | `mess/B/ID` | `foop/ID`: text and an envelope under construction go |
///
/// `pid` and `intd` are closed to qmail-send, and seem empty: qmail-clean sweeps the one by itself, and the other with the texts.
pub(super) struct CleanedDisk {
    disk: RealDisk,
    clean: Cleaner,
}

/// The two ends of the connection to qmail-clean, for one request at a time.
pub(super) struct Cleaner {
    connection: Mutex<Option<(File, File)>>,
    loss: Arc<Loss>,
}

impl CleanedDisk {
    pub(super) fn new(disk: RealDisk, clean: Cleaner) -> Self {
        Self { disk, clean }
    }
}

impl Cleaner {
    pub(super) fn new(requests: OwnedFd, answers: OwnedFd, loss: Arc<Loss>) -> Self {
        Self {
            connection: Mutex::new(Some((requests.into(), answers.into()))),
            loss,
        }
    }

    fn ask(&self, request: Request) -> io::Result<()> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some((requests, answers)) = &mut *connection else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match exchange(requests, answers, request) {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Trouble | Answer::Refused) => {
                Err(io::Error::other("qmail-clean is unable to remove it"))
            }
            Err(error) => {
                *connection = None;
                self.loss.tell("qmail-clean", None);
                Err(error)
            }
        }
    }
}

fn exchange(requests: &mut File, answers: &mut File, request: Request) -> io::Result<Answer> {
    let mut octets = Vec::new();
    request.write(&mut octets);
    requests.write_all(&octets)?;
    let deadline = Instant::now() + ANSWER_WAIT;
    if !wait_until(&*answers, PollFlags::IN, Some(deadline))? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut answer = [0];
    answers.read_exact(&mut answer)?;
    Answer::from_octet(answer[0]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Disk for CleanedDisk {
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path, mode)
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path, write)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let request = match directory(path) {
            Some("mess") => Request::Text,
            Some("todo") => Request::Envelope,
            Some("intd") => return Err(io::ErrorKind::NotFound.into()),
            _ => return self.disk.unlink(path),
        };
        // qmail-clean does not tell what was there.
        self.disk.stat(path)?;
        let name = path.file_name().map(Path::new);
        let id = name
            .and_then(message_id)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.clean.ask(request(id))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        match directory(path) {
            Some("pid" | "intd") => Ok(Vec::new()),
            _ => self.disk.list(path),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.disk.stat(path)
    }

    fn set_times(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        self.disk.set_times(path, time)
    }

    fn sync(&self, files: &[&dyn DiskFile], directories: &[&Path]) -> io::Result<()> {
        self.disk.sync(files, directories)
    }
}

/// The directory of the queue that a path begins with.
fn directory(path: &Path) -> Option<&str> {
    path.iter().next()?.to_str()
}
