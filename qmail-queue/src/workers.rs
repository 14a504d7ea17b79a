//! Where blocking disk work is done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use futures::channel::oneshot;

type Task = Box<dyn FnOnce() + Send>;

/// A fixed set of threads for work that blocks; or none, and the caller does the work itself, in order, as a simulation wants it.
///
/// Cheap to clone. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Workers {
    tasks: Option<mpsc::Sender<Task>>,
}

impl Workers {
    /// `count` threads, at least one.
    ///
    /// # Errors
    ///
    /// The system has no room for a thread.
    pub fn threads(count: usize) -> std::io::Result<Self> {
        let (tasks, queue) = mpsc::channel::<Task>();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..count.max(1) {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("disk-{number}"))
                .spawn(move || {
                    loop {
                        let task = match queue.lock() {
                            Ok(queue) => queue.recv(),
                            Err(_) => return,
                        };
                        match task {
                            // A panic in one task is that task's failure; its caller sees a cancelled answer.
                            Ok(task) => drop(catch_unwind(AssertUnwindSafe(task))),
                            Err(_) => return,
                        }
                    }
                })?;
        }
        Ok(Self { tasks: Some(tasks) })
    }

    /// No threads: each task runs to its end where it is asked for.
    pub fn inline() -> Self {
        Self { tasks: None }
    }

    /// Runs `task` and gives its result.
    ///
    /// # Panics
    ///
    /// If `task` panicked on its thread: the panic goes on here.
    pub async fn run<R: Send + 'static>(&self, task: impl FnOnce() -> R + Send + 'static) -> R {
        let Some(tasks) = &self.tasks else {
            return task();
        };
        let (answer, result) = oneshot::channel();
        let task: Task = Box::new(move || drop(answer.send(task())));
        if let Err(mpsc::SendError(task)) = tasks.send(task) {
            task();
        }
        result.await.expect("a task on a worker thread panicked")
    }
}
