//! The log: lines on standard output, written by a thread of its own.
//!
//! Standard output, because that is where qmail-start has its log and what a logger is piped to; errors that end a program
//! go to standard error as well. Who logs appends to a buffer and never waits for the reader; the thread writes what there
//! is every [`FLUSH_EVERY`], so a crash loses no older line. A reader that falls behind by [`BUFFER_OCTETS_MAX`] loses lines,
//! and is told how many: mail goes on.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longest time that a line waits in the buffer.
const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// Most octets that wait for a slow reader.
const BUFFER_OCTETS_MAX: usize = 4 * 1024 * 1024;

/// How long the end of the program waits for a reader that does not read.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// A buffered log. Cheap to clone; [`Writer::close`] ends it.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

/// The thread that writes a [`Log`].
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    lost: u64,
    closed: bool,
    written: bool,
}

/// Starts a log that ends up in `sink`.
///
/// # Errors
///
/// The system has no room for a thread.
pub(crate) fn start(sink: impl Write + Send + 'static) -> io::Result<(Log, Writer)> {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let log = Log {
        shared: Arc::clone(&shared),
    };
    let thread = {
        let shared = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&shared, sink))?
    };
    Ok((log, Writer { shared, thread }))
}

impl Log {
    /// Adds a line; `line` appends it without its LF.
    pub(crate) fn line(&self, line: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.shared.lock();
        if state.waiting.len() >= BUFFER_OCTETS_MAX {
            state.lost += 1;
            return;
        }
        line(&mut state.waiting);
        state.waiting.push(b'\n');
    }
}

impl Writer {
    /// Writes what is left, and ends.
    pub(crate) fn close(self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, CLOSE_WAIT, |state| !state.written)
            .unwrap_or_else(PoisonError::into_inner);
        let written = state.written;
        drop(state);
        if written {
            let _ = self.thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_all(shared: &Shared, mut sink: impl Write) {
    let mut batch = Vec::new();
    loop {
        let mut state = shared.lock();
        if !state.closed {
            // One line wakes nobody: a busy log would cost a switch of threads for each.
            (state, _) = shared
                .changed
                .wait_timeout_while(state, FLUSH_EVERY, |state| !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut batch, &mut state.waiting);
        let (lost, closed) = (std::mem::take(&mut state.lost), state.closed);
        drop(state);
        if lost > 0 {
            let _ = writeln!(
                batch,
                "warning: {lost} log lines lost, the log is not read fast enough"
            );
        }
        // A log that nobody can read any more is no reason to stop the mail.
        if !batch.is_empty() {
            let _ = sink.write_all(&batch).and_then(|()| sink.flush());
            batch.clear();
        }
        if closed {
            shared.lock().written = true;
            shared.changed.notify_all();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Sink(mpsc::SyncSender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0
                .send(octets.to_vec())
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_soon_and_in_order() {
        let (sender, lines) = mpsc::sync_channel(10);
        let (log, writer) = start(Sink(sender)).unwrap();
        log.line(|line| line.extend_from_slice(b"one"));
        log.line(|line| line.extend_from_slice(b"two"));
        let mut seen = lines.recv_timeout(10 * FLUSH_EVERY).unwrap();
        log.line(|line| line.extend_from_slice(b"three"));
        writer.close();
        seen.extend(lines.iter().flatten());
        assert_eq!(seen, b"one\ntwo\nthree\n");
    }

    #[test]
    fn a_reader_that_does_not_read_loses_lines_and_holds_up_nobody() {
        let (sender, lines) = mpsc::sync_channel(0);
        let (log, writer) = start(Sink(sender)).unwrap();
        for _ in 0..3 * BUFFER_OCTETS_MAX / 1000 {
            log.line(|line| line.resize(line.len() + 999, b'x'));
        }
        let reader = thread::spawn(move || lines.iter().flatten().collect::<Vec<_>>());
        writer.close();
        let seen = reader.join().unwrap();
        assert!(seen.len() <= 2 * BUFFER_OCTETS_MAX + 2000);
        assert!(memchr::memmem::find(&seen, b" log lines lost").is_some());
    }
}
