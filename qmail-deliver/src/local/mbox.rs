//! Delivery into files in mbox format.
//!
//! One message is written at a time, under exclusive locks of the whole file. Whatever fails, the file is cut back to what it
//! was. A crash can leave a part of a message at the end. The next delivery starts on a new line, and takes nothing away: from the
//! file alone a part that we left cannot be told from what another program wrote.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qmail_core::mbox::Quoter;
use qmail_core::{Body, Outcome};
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::deferred;
use super::durable_name::sync_name;
use super::lookup::told;
use super::mbox_lock::try_lock_mbox;

/// Why a message is not in an mbox.
#[derive(Debug)]
pub(super) enum MboxError {
    /// Somebody else had the lock for all of [`LOCK_TIMEOUT`].
    Locked,
    Open(io::Error),
    Read(io::Error),
    Write(io::Error),
}

impl MboxError {
    /// In the words of qmail-local(8). `name` is the file's, as the instruction has it.
    pub(super) fn outcome(&self, name: &[u8]) -> Outcome {
        match self {
            Self::Locked => deferred("File has been locked for 30 seconds straight. (#4.3.0)\n"),
            Self::Open(error) => told("Unable to open ", name, error, "(#4.2.1)"),
            Self::Read(error) => told("Unable to read message", b"", error, "(#4.3.0)"),
            Self::Write(error) => told("Unable to write ", name, error, "(#4.3.0)"),
        }
    }
}

/// An mbox to append to.
pub(super) struct Mbox {
    pub(super) path: PathBuf,
    /// Whether its name may be a symbolic link.
    pub(super) may_be_link: bool,
    pub(super) now: fn() -> SystemTime,
}

impl Mbox {
    /// Appends a message: `head`, which starts with the `From ` line, then all of `body`, quoted.
    pub(super) async fn append(self, head: Vec<u8>, body: &mut dyn Body) -> Result<(), MboxError> {
        let mut mbox = self.lock().await?;
        let mut quoter = Quoter::new();
        let mut text = head;
        while let Some(chunk) = body.next().await.map_err(MboxError::Read)? {
            quoter.write(&chunk, &mut text);
            if text.len() >= BATCH_OCTETS {
                mbox = blocking(move || mbox.write(&text)).await?;
                text = Vec::new();
            }
        }
        quoter.finish(&mut text);
        blocking(move || mbox.write(&text)?.commit()).await
    }

    /// Opens the file and gets the lock. Tries until it succeeds, so that no thread is held by somebody else's lock.
    async fn lock(self) -> Result<Appending, MboxError> {
        let this = Arc::new(self);
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let mut pause = LOCK_PAUSE_FIRST;
        loop {
            let mbox = Arc::clone(&this);
            match spawn_blocking(move || Appending::open(&mbox)).await {
                Ok(Ok(Some(mbox))) => return Ok(mbox),
                Ok(Ok(None)) if Instant::now() >= deadline => return Err(MboxError::Locked),
                Ok(Ok(None)) => sleep(pause).await,
                Ok(Err(error)) => return Err(MboxError::Open(error)),
                Err(_) => return Err(MboxError::Open(io::ErrorKind::Interrupted.into())),
            }
            pause = (pause * 2).min(LOCK_PAUSE_MAX);
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, MboxError> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(MboxError::Write),
        // The runtime is being shut down.
        Err(_) => Err(MboxError::Write(io::ErrorKind::Interrupted.into())),
    }
}

/// An mbox that is locked and being appended to. Dropping it cuts it back.
struct Appending {
    file: File,
    directory: PathBuf,
    octets_before: u64,
    committed: bool,
}

impl Appending {
    /// `None`: it is locked now, or has just been replaced by another file.
    #[expect(clippy::disallowed_methods, reason = "this is the seam to mbox files")]
    fn open(mbox: &Mbox) -> io::Result<Option<Self>> {
        // NONBLOCK: a FIFO is refused below rather than waited for.
        let mut flags = OFlags::NONBLOCK;
        flags.set(OFlags::NOFOLLOW, !mbox.may_be_link);
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits() as i32);
        let path = &mbox.path;
        let file = match options.clone().read(true).open(path) {
            // Writing is all that is needed.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path)?,
            file => file?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if !try_lock_mbox(&file, path, (mbox.now)())? {
            return Ok(None);
        }
        let mut appending = Self {
            octets_before: file.metadata()?.len(),
            file,
            directory: path.parent().unwrap_or(Path::new("/")).to_owned(),
            committed: false,
        };
        appending.end_last_line()?;
        Ok(Some(appending))
    }

    /// After a crash, or another's carelessness, the file may not end in LF; our `From ` line has to start a line.
    fn end_last_line(&mut self) -> io::Result<()> {
        let Some(last) = self.octets_before.checked_sub(1) else {
            return Ok(());
        };
        let mut octet = [b'\n'];
        match self.file.read_at(&mut octet, last) {
            Ok(_) if octet == *b"\n" => Ok(()),
            Ok(_) => self.file.write_all(b"\n"),
            // Opened for writing only: it has to be taken as it is.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BADF) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write(mut self, text: &[u8]) -> io::Result<Self> {
        self.file.write_all(text)?;
        Ok(self)
    }

    fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.octets_before == 0 {
            // It may be new: then its name has to be made durable too.
            sync_name(&self.file, &self.directory)?;
        }
        self.committed = true;
        Ok(())
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        if !self.committed {
            // If that fails too, there is nothing left to try.
            let _ = self.file.set_len(self.octets_before);
        }
    }
}

/// So long the lock of a file is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before trying the lock again: twice as long each time, up to the second.
const LOCK_PAUSE_FIRST: Duration = Duration::from_millis(5);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(250);

/// So much text is gathered for a write.
const BATCH_OCTETS: usize = 256 * 1024;
