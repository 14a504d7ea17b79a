//! Where blocking disk work is done.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use futures::channel::oneshot;

type Task = Box<dyn FnOnce() + Send>;

/// A fixed set of threads for work that blocks; or none, and the caller does the work itself, in order, as a simulation wants it.
///
/// Cheap to clone. The threads end when the last clone is dropped and the work given to them is done. Tasks wait in a list
/// without a bound of its own: every waiting task belongs to a caller that waits for it, so that whoever bounds the callers
/// (sessions, deliveries) bounds the list.
#[derive(Clone)]
pub struct Workers {
    handle: Option<Arc<Handle>>,
}

/// Its last drop lets the threads end.
struct Handle {
    queue: Arc<Queue>,
    count: usize,
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    tasks: VecDeque<Task>,
    /// Threads that wait for a task: nobody is woken when there is none.
    idle: usize,
    closed: bool,
}

impl Workers {
    /// `count` threads, at least one.
    ///
    /// For a disk about 8 do, however many processors there are: creating a file may wait while the file system writes its
    /// journal, and files that wait together go on together.
    ///
    /// # Errors
    ///
    /// The system has no room for a thread.
    pub fn threads(count: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                tasks: VecDeque::new(),
                idle: 0,
                closed: false,
            }),
            wake: Condvar::new(),
        });
        // Made first: should a later thread not start, dropping it ends the earlier ones.
        let workers = Self {
            handle: Some(Arc::new(Handle {
                queue: Arc::clone(&queue),
                count,
            })),
        };
        for number in 0..count.max(1) {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("disk-{number}"))
                .spawn(move || queue.work())?;
        }
        Ok(workers)
    }

    /// No threads: each task runs to its end where it is asked for.
    pub fn inline() -> Self {
        Self { handle: None }
    }

    /// Whether a task can wait for another: there are two threads or more.
    pub(crate) fn are_many(&self) -> bool {
        self.handle.as_ref().is_some_and(|handle| handle.count > 1)
    }

    /// Runs `task` and gives its result. The task begins when this is called, and runs to its end even if the future is
    /// dropped.
    ///
    /// # Panics
    ///
    /// If `task` panicked on its thread: the panic goes on here.
    pub fn run<R: Send + 'static>(
        &self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = R> + Send + 'static {
        let (answer, result) = oneshot::channel();
        self.start(move || drop(answer.send(task())));
        async move { result.await.expect("a task on a worker thread panicked") }
    }

    /// Starts `task`, whose result nobody waits for.
    pub fn start(&self, task: impl FnOnce() + Send + 'static) {
        match &self.handle {
            Some(handle) => handle.queue.put(Box::new(task)),
            None => task(),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.state().closed = true;
        self.queue.wake.notify_all();
    }
}

impl Queue {
    // Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, task: Task) {
        let mut state = self.state();
        state.tasks.push_back(task);
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    fn work(&self) {
        while let Some(task) = self.take() {
            // A panic in one task is that task's failure; its caller sees a cancelled answer.
            drop(catch_unwind(AssertUnwindSafe(task)));
        }
    }

    fn take(&self) -> Option<Task> {
        let mut state = self.state();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn tasks_run_wherever_they_are_put() {
        for workers in [Workers::inline(), Workers::threads(2).unwrap()] {
            assert_eq!(block_on(workers.run(|| 6 * 7)), 42);
            let (send, receive) = mpsc::channel();
            for number in 0..100 {
                let send = send.clone();
                workers.start(move || send.send(number).unwrap());
            }
            drop(send);
            // Work that was given is done even when the handle goes.
            drop(workers);
            let mut all: Vec<i32> = receive.iter().collect();
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_stays_with_its_task() {
        let workers = Workers::threads(1).unwrap();
        workers.start(|| panic!("on purpose"));
        assert_eq!(block_on(workers.run(|| 1)), 1);
    }
}
