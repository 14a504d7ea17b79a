//! The FIFO by which another process says that it has put a message into `todo`.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::layout;

/// The reading end of `lock/trigger`, watched by a thread of its own, which ends when this is dropped.
///
/// After each pull look for new messages ([`SplitSpool::incoming_ids`](super::SplitSpool::incoming_ids)). A pull during that
/// look is kept for the next [`Trigger::pulled`].
#[derive(Debug)]
pub struct Trigger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Open for writing too: so it never reports that the last writer has gone, which would have to be answered by closing
    /// and opening it again.
    fifo: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pulled: bool,
    closed: bool,
    waiting: Option<Waker>,
}

impl Trigger {
    /// Opens the trigger of the queue at `root`.
    ///
    /// # Errors
    ///
    /// It cannot be opened or is no FIFO, or the system has no room for a thread.
    pub fn open(root: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = root.as_ref().join(layout::TRIGGER);
        let fifo = rustix::fs::open(&path, flags, Mode::empty())?;
        // Anything else, as some ways to copy a queue make it, would always seem to be pulled.
        if !is_fifo(&fifo)? {
            let words = format!("{} is no FIFO: remove it", path.display());
            return Err(io::Error::other(words));
        }
        let shared = Arc::new(Shared {
            fifo,
            state: Mutex::default(),
        });
        let watched = Arc::clone(&shared);
        thread::Builder::new()
            .name("trigger".to_owned())
            .spawn(move || watched.watch())?;
        Ok(Self { shared })
    }

    /// Waits for a pull since the last one that this returned for. For one caller at a time.
    pub async fn pulled(&self) {
        poll_fn(|context| {
            let mut state = self.shared.state();
            if std::mem::take(&mut state.pulled) {
                state.waiting = None;
                return Poll::Ready(());
            }
            state.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Pulls the trigger of the queue at `root`, as qmail-queue does when it is done. That nobody listens, or that there is
    /// no trigger, is no error: the message is found by the next scan.
    pub fn pull(root: impl AsRef<Path>) {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = root.as_ref().join(layout::TRIGGER);
        if let Ok(fifo) = rustix::fs::open(path, flags, Mode::empty())
            && is_fifo(&fifo).unwrap_or(false)
        {
            let _ = rustix::io::write(fifo, &[0]);
        }
    }
}

fn is_fifo(fd: &OwnedFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        // The thread waits for octets.
        let _ = rustix::io::write(&self.shared.fifo, &[0]);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        loop {
            let mut waited = [PollFd::new(&self.fifo, PollFlags::IN)];
            match poll(&mut waited, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            if !self.drain() {
                return;
            }
            let mut state = self.state();
            if state.closed {
                return;
            }
            state.pulled = true;
            let waker = state.waiting.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Takes what lies in the FIFO; `false` if it is broken.
    fn drain(&self) -> bool {
        let mut room = [0; 1024];
        loop {
            match rustix::io::read(&self.fifo, &mut room) {
                Ok(0) | Err(Errno::AGAIN) => return true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}
