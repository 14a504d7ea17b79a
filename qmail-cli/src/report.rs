//! The log of a running queue: events of the queue and of the program around it, as classic lines or as JSON.

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use qmail_core::Escaped;
use qmail_queue::{LogEvent, Value};

use crate::log::Log;

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// The lines of qmail-send(8), without time: a logger such as multilog puts it in front.
    Classic,
    /// One object a line: `time` in seconds since 1970 with microseconds, `event`, and the fields of the event. Octets that
    /// are no UTF-8 are written as `\xNN`.
    Json,
}

/// Writes events to a [`Log`]. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reporter {
    log: Log,
    format: LogFormat,
}

impl Reporter {
    pub(crate) fn new(log: Log, format: LogFormat) -> Self {
        Self { log, format }
    }

    /// Something that a postmaster should look at.
    pub(crate) fn warning(&self, words: &dyn Display) {
        let text = one_line(words);
        qmail_queue::Log::log(self, &LogEvent::Warning { text: &text });
    }

    /// Something that a postmaster must look at.
    pub(crate) fn alert(&self, words: &dyn Display) {
        let text = one_line(words);
        qmail_queue::Log::log(self, &LogEvent::Alert { text: &text });
    }

    /// Something of the program around the queue that is no trouble: `NAME: WORDS`, which log readers pass over.
    pub(crate) fn notice(&self, name: &str, words: &dyn Display) {
        let text = one_line(words);
        self.log.line(|line| match self.format {
            LogFormat::Classic => {
                let _ = write!(line, "{name}: {text}");
            }
            LogFormat::Json => {
                let mut object = Object::new(line, name);
                object.field("text", Value::Text(&text));
                object.end();
            }
        });
    }
}

impl Reporter {
    /// The first line of a process: log readers forget the deliveries of the one before it, whose numbers begin at 1 too.
    pub(crate) fn running(&self) {
        self.log.line(|line| match self.format {
            LogFormat::Classic => line.extend_from_slice(b"running"),
            LogFormat::Json => Object::new(line, "running").end(),
        });
    }
}

impl qmail_queue::Log for Reporter {
    fn log(&self, event: &LogEvent<'_>) {
        self.log.line(|line| match self.format {
            LogFormat::Classic => {
                let _ = write!(line, "{event}");
            }
            LogFormat::Json => {
                let mut object = Object::new(line, event.name());
                event.fields(&mut |name, value| object.field(name, value));
                object.end();
            }
        });
    }
}

/// Words that may quote a file or a stranger: no control character gets through.
fn one_line(words: &dyn Display) -> String {
    words.to_string().replace(|c: char| c.is_control(), "?")
}

/// A JSON object being written.
struct Object<'a> {
    line: &'a mut Vec<u8>,
    scratch: String,
}

impl<'a> Object<'a> {
    fn new(line: &'a mut Vec<u8>, event: &str) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let _ = write!(
            line,
            "{{\"time\":{}.{:06},\"event\":\"{event}\"",
            since.as_secs(),
            since.subsec_micros()
        );
        Self {
            line,
            scratch: String::new(),
        }
    }

    fn field(&mut self, name: &str, value: Value<'_>) {
        let _ = write!(self.line, ",\"{name}\":");
        match value {
            Value::Number(number) => drop(write!(self.line, "{number}")),
            Value::Flag(flag) => drop(write!(self.line, "{flag}")),
            Value::Text(text) => self.text(text),
            Value::Octets(octets) => match std::str::from_utf8(octets) {
                Ok(text) => self.text(text),
                Err(_) => self.shown(&Escaped(octets)),
            },
            Value::Shown(shown) => self.shown(shown),
            _ => self.line.extend_from_slice(b"null"),
        }
    }

    fn shown(&mut self, shown: &dyn Display) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let _ = write!(scratch, "{shown}");
        self.text(&scratch);
        self.scratch = scratch;
    }

    fn text(&mut self, text: &str) {
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut *self.line, text);
    }

    fn end(self) {
        self.line.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use qmail_queue::{Log as _, MessageId, Verdict};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let sink = Sink::default();
        let (log, writer) = crate::log::start(sink.clone()).unwrap();
        let reporter = Reporter::new(log, format);
        reporter.log(&LogEvent::MessageEnded { id: MessageId(7) });
        reporter.log(&LogEvent::DeliveryEnded {
            delivery: 1,
            verdict: Verdict::Failure,
            text: b"no \"such\" \xff\x1b[2J user\n",
        });
        reporter.warning(&"a\nb");
        reporter.notice("listening", &"smtp 127.0.0.1:25");
        writer.close();
        let octets = sink.0.lock().unwrap().clone();
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn classic_lines_are_masked() {
        assert_eq!(
            logged(LogFormat::Classic),
            "end msg 7\n\
             delivery 1: failure: no_\"such\"___[2J_user/\n\
             warning: a?b\n\
             listening: smtp 127.0.0.1:25\n"
        );
    }

    #[test]
    fn json_lines_are_objects() {
        let events: Vec<serde_json::Value> = logged(LogFormat::Json)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len(), 4);
        assert_eq!(events[0]["event"], "message_ended");
        assert_eq!(events[0]["message"], 7);
        assert!(events[0]["time"].is_number());
        assert_eq!(events[1]["verdict"], "failure");
        assert_eq!(events[1]["text"], "no \"such\" \\xff\\x1b[2J user\\x0a");
        assert_eq!(events[3]["text"], "smtp 127.0.0.1:25");
    }
}
