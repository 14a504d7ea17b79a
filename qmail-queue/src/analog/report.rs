//! Reports: records added up by sender, recipient, reason; one line for each (the z programs of qmailanalog).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;

use super::number::Decimal;
use super::record::{Attempt, Message, Record};
use super::table::{Table, TableFull};
use crate::Verdict;

/// Most octets that the names in a report may take in memory. Beyond it, new ones are counted as [`OTHERS`].
pub const KEYS_OCTETS_MAX: usize = 512 << 20;

/// The name of those that there was no room for.
pub const OTHERS: &str = "(others)";

/// What a report adds up, and how it shows that.
#[derive(Debug)]
pub struct Report {
    /// Name of its program.
    pub name: &'static str,
    /// What it tells, in one line.
    pub title: &'static str,
    subject: Subject,
    columns: &'static [Column],
    /// Columns by which it is sorted, the weightiest first, in falling order unless it is `rising`.
    order: &'static [Column],
    rising: bool,
}

/// Whom records are added up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Sender,
    Uid,
    Recipient,
    /// What follows the last `@` of the recipient.
    Host,
    /// What deliveries say that end so.
    Reason(Verdict),
}

/// A column before the last one, which is the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Deliveries,
    Messages,
    Octets,
    OctetsDelivered,
    OctetsByRecipient,
    Recipients,
    Tries,
    Xdelay,
    AverageXdelay,
}

use Column::{
    AverageXdelay, Deliveries, Messages, Octets, OctetsByRecipient, OctetsDelivered, Recipients,
    Tries, Xdelay,
};

const BY_SENDER: &[Column] = &[
    Messages,
    Octets,
    OctetsDelivered,
    OctetsByRecipient,
    Recipients,
    Tries,
    Xdelay,
];
const BY_SENDER_ORDER: &[Column] = &[Messages, Octets, OctetsDelivered, OctetsByRecipient];
const BY_RECIPIENT: &[Column] = &[OctetsDelivered, Messages, Tries, Xdelay];
const BY_RECIPIENT_ORDER: &[Column] = &[OctetsDelivered, Messages, Xdelay, Tries];
const BY_REASON: &[Column] = &[Deliveries, Xdelay];

/// All of them, sorted by name.
pub const REPORTS: &[Report] = &[
    Report {
        name: "zdeferrals",
        title: "Reasons for deferral",
        subject: Subject::Reason(Verdict::Deferral),
        columns: BY_REASON,
        order: &[Xdelay],
        rising: false,
    },
    Report {
        name: "zfailures",
        title: "Reasons for failure",
        subject: Subject::Reason(Verdict::Failure),
        columns: BY_REASON,
        order: &[Xdelay],
        rising: false,
    },
    Report {
        name: "zrecipients",
        title: "Recipients, those who got most first",
        subject: Subject::Recipient,
        columns: BY_RECIPIENT,
        order: BY_RECIPIENT_ORDER,
        rising: false,
    },
    Report {
        name: "zrhosts",
        title: "Recipient hosts, those which got most first",
        subject: Subject::Host,
        columns: BY_RECIPIENT,
        order: BY_RECIPIENT_ORDER,
        rising: false,
    },
    Report {
        name: "zrxdelay",
        title: "Recipients, those who take longest on average first",
        subject: Subject::Recipient,
        columns: &[AverageXdelay, Tries],
        order: &[AverageXdelay],
        rising: false,
    },
    Report {
        name: "zsenders",
        title: "Senders, those with most messages first",
        subject: Subject::Sender,
        columns: BY_SENDER,
        order: BY_SENDER_ORDER,
        rising: false,
    },
    Report {
        name: "zsuccesses",
        title: "Reasons for success",
        subject: Subject::Reason(Verdict::Success),
        columns: BY_REASON,
        order: &[Xdelay],
        rising: true,
    },
    Report {
        name: "zsuids",
        title: "Users who sent, those with most messages first",
        subject: Subject::Uid,
        columns: BY_SENDER,
        order: BY_SENDER_ORDER,
        rising: false,
    },
];

impl Report {
    /// The report of a program.
    pub fn named(name: &str) -> Option<&'static Self> {
        REPORTS.iter().find(|report| report.name == name)
    }

    /// Begins to add up.
    pub fn tally(&'static self) -> Tally {
        Tally {
            report: self,
            sums: HashMap::new(),
            octets: 0,
            octets_max: KEYS_OCTETS_MAX,
        }
    }

    /// What stands above the table.
    pub fn heading(&self) -> String {
        let mut text = format!("{}\n\nColumns:\n", self.title);
        for column in self.columns {
            text.push_str(&format!("* {}: {}\n", column.name(), column.meaning(self)));
        }
        text
    }

    fn subject_name(&self) -> &'static str {
        match self.subject {
            Subject::Sender => "sender",
            Subject::Uid => "uid",
            Subject::Recipient => "recipient",
            Subject::Host => "host",
            Subject::Reason(_) => "reason",
        }
    }
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Deliveries => "del",
            Messages => "mess",
            Octets => "bytes",
            OctetsDelivered => "sbytes",
            OctetsByRecipient => "rbytes",
            Recipients => "recips",
            Tries => "tries",
            Xdelay => "xdelay",
            AverageXdelay => "avg",
        }
    }

    fn meaning(self, report: &Report) -> &'static str {
        let sent = matches!(report.subject, Subject::Sender | Subject::Uid);
        match self {
            Deliveries => "deliveries that ended so",
            Messages if sent => "completed messages",
            Messages => "deliveries that succeeded or failed",
            Octets => "size of these messages",
            OctetsDelivered => "size of what was delivered, counted for each recipient",
            OctetsByRecipient => "the same with what failed",
            Recipients => "recipients that were delivered to or have failed",
            Tries => "attempts, with those that were deferred",
            Xdelay => "seconds that the attempts took",
            AverageXdelay => "seconds that an attempt took on average",
        }
    }
}

/// What records come to for one subject.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    messages: i128,
    octets: i128,
    octets_delivered: i128,
    octets_by_recipient: i128,
    recipients: i128,
    tries: i128,
    xdelay: i128,
}

impl Sums {
    /// Counts a message for its sender.
    fn add_message(&mut self, message: &Message<'_>) {
        let octets = i128::from(message.octets);
        self.messages += 1;
        self.octets += octets;
        self.octets_delivered += octets.saturating_mul(i128::from(message.successes));
        self.octets_by_recipient += octets.saturating_mul(message.recipients());
        self.recipients += message.recipients();
        self.tries += message.tries();
    }

    /// Counts an attempt for its recipient or reason.
    fn add_attempt(&mut self, attempt: &Attempt<'_>) {
        if attempt.verdict == Verdict::Success {
            self.octets_delivered += i128::from(attempt.octets);
        }
        if attempt.verdict != Verdict::Deferral {
            self.messages += 1;
        }
        self.tries += 1;
        self.xdelay += attempt.xdelay();
    }

    fn value(&self, column: Column, subject: Subject) -> Decimal {
        let decimals = match subject {
            Subject::Sender | Subject::Uid => 6,
            _ => 2,
        };
        match column {
            Deliveries | Tries => Decimal::whole(self.tries),
            Messages => Decimal::whole(self.messages),
            Octets => Decimal::whole(self.octets),
            OctetsDelivered => Decimal::whole(self.octets_delivered),
            OctetsByRecipient => Decimal::whole(self.octets_by_recipient),
            Recipients => Decimal::whole(self.recipients),
            Xdelay => Decimal::seconds(self.xdelay, decimals),
            AverageXdelay => {
                Decimal::ratio(self.xdelay, self.tries * super::number::NANOSECONDS, 2)
            }
        }
    }
}

/// A report being added up.
#[derive(Debug)]
pub struct Tally {
    report: &'static Report,
    sums: HashMap<Box<[u8]>, Sums>,
    /// What the names take, about.
    octets: usize,
    octets_max: usize,
}

/// What a name takes beside its octets.
const KEY_OCTETS: usize = 160;

impl Tally {
    /// Counts a record.
    pub fn add(&mut self, record: &Record<'_>) {
        match (self.report.subject, record) {
            (Subject::Sender, Record::Message(message)) => {
                self.sums(message.sender).add_message(message);
            }
            (Subject::Uid, Record::Message(message)) => {
                self.sums(message.uid).add_message(message);
            }
            (Subject::Sender, Record::Attempt(attempt)) => {
                self.sums(attempt.sender).xdelay += attempt.xdelay();
            }
            (Subject::Uid, Record::Attempt(attempt)) => {
                self.sums(attempt.uid).xdelay += attempt.xdelay();
            }
            (Subject::Recipient, Record::Attempt(attempt)) => {
                self.sums(attempt.recipient).add_attempt(attempt);
            }
            (Subject::Host, Record::Attempt(attempt)) => {
                let host = match memchr::memrchr(b'@', attempt.recipient) {
                    Some(at) => &attempt.recipient[at + 1..],
                    None => attempt.recipient,
                };
                self.sums(host).add_attempt(attempt);
            }
            (Subject::Reason(verdict), Record::Attempt(attempt)) if verdict == attempt.verdict => {
                self.sums(attempt.reason).add_attempt(attempt);
            }
            (_, Record::Message(_) | Record::Attempt(_)) => {}
        }
    }

    fn sums(&mut self, name: &[u8]) -> &mut Sums {
        let known = self.sums.contains_key(name);
        let name = if known || self.octets < self.octets_max {
            name
        } else {
            OTHERS.as_bytes()
        };
        if !known && !self.sums.contains_key(name) {
            self.octets += KEY_OCTETS + name.len();
        }
        self.sums.entry(name.into()).or_default()
    }

    /// The table, sorted.
    ///
    /// # Errors
    ///
    /// [`TableFull`].
    pub fn table(&self) -> Result<Table, TableFull> {
        let Report {
            subject,
            columns,
            order,
            rising,
            ..
        } = *self.report;
        let mut rows: Vec<Row<'_>> = self
            .sums
            .iter()
            // A sender without a completed message is none yet.
            .filter(|(_, sums)| match subject {
                Subject::Sender | Subject::Uid => sums.messages > 0,
                _ => true,
            })
            .map(|(name, sums)| Row::new(name, sums, self.report))
            .collect();
        rows.sort_unstable_by(|a, b| {
            let order = a.compare(b, order, columns);
            if rising { order } else { order.reverse() }
        });
        let mut table = Table::default();
        let names = columns.iter().map(|column| column.name());
        let header = names.chain([self.report.subject_name()]);
        table.row(header.map(str::as_bytes))?;
        for row in rows {
            let cells = row.cells.iter().map(|(_, shown)| shown.as_bytes());
            table.row(cells.chain([row.name]))?;
        }
        Ok(table)
    }

    /// Writes heading and table.
    ///
    /// # Errors
    ///
    /// Those of `sink`, and [`TableFull`].
    pub fn write(&self, sink: &mut dyn io::Write) -> io::Result<()> {
        writeln!(sink, "{}", self.report.heading())?;
        let table = self.table().map_err(io::Error::other)?;
        match self.report.subject {
            // A reason was one word in the log.
            Subject::Reason(_) => {
                let mut text = Vec::new();
                table.write(&mut text)?;
                text.iter_mut()
                    .filter(|octet| **octet == b'_')
                    .for_each(|octet| *octet = b' ');
                sink.write_all(&text)
            }
            _ => table.write(sink),
        }
    }
}

struct Row<'a> {
    name: &'a [u8],
    /// Values to sort by, and as they are shown.
    cells: Vec<(i128, String)>,
}

impl<'a> Row<'a> {
    fn new(name: &'a [u8], sums: &Sums, report: &Report) -> Self {
        let cells = report.columns.iter().map(|&column| {
            let value = sums.value(column, report.subject);
            (value.scaled(), value.to_string())
        });
        Self {
            name,
            cells: cells.collect(),
        }
    }

    /// By the columns of `order`; then as text, which is what sort(1) does in the end.
    fn compare(&self, other: &Self, order: &[Column], columns: &[Column]) -> Ordering {
        let by_value = order.iter().filter_map(|wanted| {
            let column = columns.iter().position(|column| column == wanted)?;
            Some(self.cells[column].0.cmp(&other.cells[column].0))
        });
        let by_text = self.cells.iter().zip(&other.cells);
        by_value
            .chain(by_text.map(|(a, b)| a.1.cmp(&b.1)))
            .chain([self.name.cmp(other.name)])
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}
