//! What the engine tells: the lines of qmail-send(8), with their fields.

mod event;
mod masked;

pub use event::{LogEvent, Value, Verdict};
pub use masked::Masked;

/// A place for [`LogEvent`]s.
///
/// Called from within the engine, between two steps: an implementation must not block. Nothing is formatted or allocated for an
/// event unless the implementation does it.
pub trait Log: Send + Sync {
    /// Takes one event. Its `Display` is the classic line, without time and line end.
    fn log(&self, event: &LogEvent<'_>);
}

/// A log that keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl Log for NoLog {
    fn log(&self, _event: &LogEvent<'_>) {}
}

/// Any function of an event is a log.
///
/// ```
/// use qmail_queue::{Log, LogEvent, MessageId};
/// let log = |event: &LogEvent<'_>| println!("{event}");
/// log.log(&LogEvent::NewMessage { id: MessageId(7) });
/// ```
impl<F: Fn(&LogEvent<'_>) + Send + Sync> Log for F {
    fn log(&self, event: &LogEvent<'_>) {
        self(event);
    }
}
