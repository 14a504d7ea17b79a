//! Sums over a whole log (zoverall(1) of qmailanalog).

use std::fmt::Write as _;

use super::number::{Decimal, NANOSECONDS, general};
use super::record::Record;
use super::stamp::Stamp;
use crate::Verdict;

const DAY: i128 = 86_400 * NANOSECONDS;

/// What all messages and attempts of a log come to.
#[derive(Debug, Default)]
pub struct Overall {
    messages: i128,
    recipients: i128,
    tries: i128,
    octets: i128,
    octets_delivered: i128,
    qtime: i128,
    attempts: i128,
    successes: i128,
    failures: i128,
    ddelay: i128,
    xdelay: i128,
    /// The earliest and the latest time seen.
    span: Option<(Stamp, Stamp)>,
}

impl Overall {
    /// What stands above the sums.
    pub const HEADING: &str = "\
Overall figures

A message is completed when all of its recipients were delivered to or have failed; its qtime is the time from its routing to
then. The ddelay of a successful delivery is the time from the routing of the message to the end of the delivery. The xdelay of
an attempt is the time that it took. Queue concurrency is total xdelay per time span: how busy the queue was.
";

    /// Counts a record.
    pub fn add(&mut self, record: &Record<'_>) {
        match record {
            Record::Message(message) => {
                self.messages += 1;
                self.recipients += message.recipients();
                self.tries += message.tries();
                self.octets += i128::from(message.octets);
                let delivered =
                    i128::from(message.octets).saturating_mul(i128::from(message.successes));
                self.octets_delivered = self.octets_delivered.saturating_add(delivered);
                self.qtime += message.qtime();
                self.saw(message.birth, message.done);
            }
            Record::Attempt(attempt) => {
                self.attempts += 1;
                match attempt.verdict {
                    Verdict::Success => {
                        self.successes += 1;
                        self.ddelay += attempt.ddelay();
                    }
                    Verdict::Failure => self.failures += 1,
                    Verdict::Deferral => {}
                }
                self.xdelay += attempt.xdelay();
                self.saw(attempt.birth, attempt.end);
            }
        }
    }

    /// The sums, a line for each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name}: {value}");
        };
        line("Completed messages", self.messages.to_string());
        if self.messages > 0 {
            line(
                "Recipients for completed messages",
                self.recipients.to_string(),
            );
            line(
                "Total delivery attempts for completed messages",
                self.tries.to_string(),
            );
            line(
                "Average delivery attempts per completed message",
                general(self.tries, self.messages),
            );
            line("Bytes in completed messages", self.octets.to_string());
            line(
                "Bytes weighted by success",
                self.octets_delivered.to_string(),
            );
            line(
                "Average message qtime (s)",
                general(self.qtime, self.messages * NANOSECONDS),
            );
        }
        text.push('\n');
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name}: {value}");
        };
        line("Total delivery attempts", self.attempts.to_string());
        if self.attempts == 0 {
            return text;
        }
        let seconds =
            |nanoseconds, count| Decimal::ratio(nanoseconds, count * NANOSECONDS, 6).to_string();
        let deferrals = self.attempts - self.successes - self.failures;
        line("  success", self.successes.to_string());
        line("  failure", self.failures.to_string());
        line("  deferral", deferrals.to_string());
        line("Total ddelay (s)", seconds(self.ddelay, 1));
        if self.successes > 0 {
            line(
                "Average ddelay per success (s)",
                seconds(self.ddelay, self.successes),
            );
        }
        line("Total xdelay (s)", seconds(self.xdelay, 1));
        line(
            "Average xdelay per delivery attempt (s)",
            seconds(self.xdelay, self.attempts),
        );
        if let Some((first, last)) = self.span
            && last > first
        {
            let span = last.0 - first.0;
            line("Time span (days)", general(span, DAY));
            line("Queue concurrency", general(self.xdelay, span));
        }
        text
    }

    fn saw(&mut self, from: Stamp, to: Stamp) {
        let (first, last) = self.span.unwrap_or((from, to));
        self.span = Some((first.min(from), last.max(to)));
    }
}
