//! Joins the lines of a log about one message, and about one delivery (matchup(1) of qmailanalog).

use std::collections::HashMap;
use std::io::Write as _;

use super::lines::{fields, number};
use super::stamp::Stamp;

/// Most octets that open messages and deliveries may take in memory, each. Beyond it some that have been open for long are
/// forgotten: what ends of them is not reported.
pub const OPEN_OCTETS_MAX: usize = 512 << 20;

/// Messages and deliveries of which the end is not in the log yet.
#[derive(Debug)]
pub struct Matchup {
    messages: Open<Message>,
    deliveries: Open<Delivery>,
}

#[derive(Debug)]
struct Message {
    birth: Box<[u8]>,
    octets: u64,
    sender: Box<[u8]>,
    qp: u64,
    uid: u64,
    successes: u64,
    failures: u64,
    deferrals: u64,
}

#[derive(Debug)]
struct Delivery {
    message: u64,
    start: Box<[u8]>,
    channel: Box<[u8]>,
    recipient: Box<[u8]>,
}

impl Default for Matchup {
    fn default() -> Self {
        Self::with_room(OPEN_OCTETS_MAX)
    }
}

impl Matchup {
    fn with_room(octets_max: usize) -> Self {
        Self {
            messages: Open::new(octets_max),
            deliveries: Open::new(octets_max),
        }
    }

    /// Takes a line of a log, without its LF: a time (decimal seconds, or a TAI64N label), then what qmail-send said. Appends what
    /// it comes to to `sink`.
    pub fn line(&mut self, line: &[u8], sink: &mut Vec<u8>) {
        let mut parts = fields(line);
        let time = Stamp::show(parts.next().unwrap_or_default());
        let word = parts.next().unwrap_or_default();
        let mut nth = |skipped: usize| parts.nth(skipped).unwrap_or_default();
        match word {
            b"new" => drop(self.messages.remove(number(nth(1)))),
            b"info" => self.message(line, &time),
            b"extra" => self.counts(nth(0), [nth(0), nth(0), nth(0)]),
            b"end" => self.message_ended(number(nth(1)), &time, sink),
            b"starting" => self.delivery(line, &time),
            b"delivery" => {
                let (delivery, verdict, reason) = (number(nth(0)), nth(0), nth(0));
                if !self.delivery_ended(delivery, verdict, reason, &time, sink) {
                    unknown(line, sink);
                }
            }
            b"status:" if nth(0) == b"exiting" => self.deliveries.clear(),
            b"status:" => {}
            b"running" | b"exiting" => self.deliveries.clear(),
            b"warning:" | b"alert:" => write_line(line, sink),
            _ => unknown(line, sink),
        }
    }

    /// Appends what is still open, in a form that is read as the beginning of what follows in the log.
    pub fn write_pending(&self, sink: &mut Vec<u8>) {
        for (id, message) in &self.messages.entries {
            let head = format!(" info msg {id}: bytes {} from ", message.octets);
            let tail = format!(" qp {} uid {}\n", message.qp, message.uid);
            let Message {
                birth,
                sender,
                successes,
                failures,
                deferrals,
                ..
            } = message;
            append(sink, &[birth, head.as_bytes(), sender, tail.as_bytes()]);
            let counts = format!(" extra {id} {successes} {deferrals} {failures}\n");
            append(sink, &[birth, counts.as_bytes()]);
        }
        for (number, delivery) in &self.deliveries.entries {
            let head = format!(" starting delivery {number}: msg {} to ", delivery.message);
            let Delivery {
                start,
                channel,
                recipient,
                ..
            } = delivery;
            append(
                sink,
                &[start, head.as_bytes(), channel, b" ", recipient, b"\n"],
            );
        }
    }

    /// How many messages and deliveries were forgotten because there were more than [`OPEN_OCTETS_MAX`] has room for.
    pub fn forgotten(&self) -> u64 {
        self.messages.forgotten + self.deliveries.forgotten
    }

    /// `TIME info msg ID: bytes N from SENDER qp N uid N`
    fn message(&mut self, line: &[u8], time: &[u8]) {
        let mut parts = fields(line);
        let mut nth = |skipped: usize| parts.nth(skipped).unwrap_or_default();
        let id = number(nth(3));
        let message = Message {
            birth: time.into(),
            octets: number(nth(1)),
            sender: nth(1).to_ascii_lowercase().into(),
            qp: number(nth(1)),
            uid: number(nth(1)),
            successes: 0,
            failures: 0,
            deferrals: 0,
        };
        self.messages.insert(id, message);
    }

    /// `TIME extra ID SUCCESSES DEFERRALS FAILURES`, of what was pending.
    fn counts(&mut self, id: &[u8], [successes, deferrals, failures]: [&[u8]; 3]) {
        if let Some(message) = self.messages.get_mut(number(id)) {
            message.successes = number(successes);
            message.deferrals = number(deferrals);
            message.failures = number(failures);
        }
    }

    fn message_ended(&mut self, id: u64, time: &[u8], sink: &mut Vec<u8>) {
        let Some(message) = self.messages.remove(id) else {
            return;
        };
        let Message {
            birth,
            octets,
            sender,
            qp,
            uid,
            successes,
            failures,
            deferrals,
        } = message;
        append(sink, &[b"m ", &birth, b" ", time]);
        let _ = write!(sink, " {octets} {successes} {failures} {deferrals} ");
        append(sink, &[&sender]);
        let _ = writeln!(sink, " {qp} {uid}");
    }

    /// `TIME starting delivery N: msg ID to CHANNEL RECIPIENT`
    fn delivery(&mut self, line: &[u8], time: &[u8]) {
        let mut parts = fields(line);
        let mut nth = |skipped: usize| parts.nth(skipped).unwrap_or_default();
        let number_of = number(nth(3));
        let delivery = Delivery {
            start: time.into(),
            message: number(nth(1)),
            channel: nth(1).into(),
            recipient: nth(0).to_ascii_lowercase().into(),
        };
        self.deliveries.insert(number_of, delivery);
    }

    /// Returns whether the verdict is one. Of a delivery whose start is unknown nothing is told.
    fn delivery_ended(
        &mut self,
        delivery: u64,
        verdict: &[u8],
        reason: &[u8],
        time: &[u8],
        sink: &mut Vec<u8>,
    ) -> bool {
        let (letter, reason): (_, &[u8]) = match verdict {
            b"success:" => (b'k', reason),
            b"failure:" => (b'd', reason),
            b"deferral:" => (b'z', reason),
            b"report" => (b'z', b"report_mangled"),
            _ => return false,
        };
        let Some(ended) = self.deliveries.remove(delivery) else {
            return true;
        };
        let message = self.messages.get_mut(ended.message);
        let birth = message.as_ref().map_or(&ended.start, |known| &known.birth);
        append(sink, &[b"d ", &[letter], b" ", birth, b" "]);
        append(sink, &[&ended.start, b" ", time, b" "]);
        match &message {
            Some(message) => {
                let _ = write!(sink, "{} ", message.octets);
                append(sink, &[&message.sender]);
            }
            None => append(sink, &[b"0 ?"]),
        }
        append(sink, &[b" ", &ended.channel, b".", &ended.recipient]);
        let _ = match &message {
            Some(message) => write!(sink, " {} {} ", message.qp, message.uid),
            None => write!(sink, " ? ? "),
        };
        write_line(reason, sink);
        if let Some(message) = message {
            *match letter {
                b'k' => &mut message.successes,
                b'd' => &mut message.failures,
                _ => &mut message.deferrals,
            } += 1;
        }
        true
    }
}

fn unknown(line: &[u8], sink: &mut Vec<u8>) {
    append(sink, &[b"? ", line, b"\n"]);
}

fn write_line(line: &[u8], sink: &mut Vec<u8>) {
    append(sink, &[line, b"\n"]);
}

fn append(sink: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        sink.extend_from_slice(part);
    }
}

/// What is open, by number. The order is the classic program's: the last entry takes the place of one that is removed.
#[derive(Debug)]
struct Open<T> {
    places: HashMap<u64, usize>,
    entries: Vec<(u64, T)>,
    octets: usize,
    octets_max: usize,
    /// Where room is made next. It goes round, so that an entry has long been there before its turn comes.
    turn: usize,
    forgotten: u64,
}

trait Weigh {
    /// About what it takes in memory.
    fn octets(&self) -> usize;
}

impl Weigh for Message {
    fn octets(&self) -> usize {
        ENTRY_OCTETS + self.birth.len() + self.sender.len()
    }
}

impl Weigh for Delivery {
    fn octets(&self) -> usize {
        ENTRY_OCTETS + self.start.len() + self.channel.len() + self.recipient.len()
    }
}

/// What an entry takes beside its texts, its place in the index included.
const ENTRY_OCTETS: usize = 192;

impl<T: Weigh> Open<T> {
    fn new(octets_max: usize) -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            octets: 0,
            octets_max,
            turn: 0,
            forgotten: 0,
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let &place = self.places.get(&number)?;
        Some(&mut self.entries[place].1)
    }

    /// Puts an entry in; one with the same number gives its place up.
    fn insert(&mut self, number: u64, entry: T) {
        self.octets += entry.octets();
        if let Some(&place) = self.places.get(&number) {
            self.octets -= self.entries[place].1.octets();
            self.entries[place].1 = entry;
        } else {
            self.places.insert(number, self.entries.len());
            self.entries.push((number, entry));
        }
        while self.octets > self.octets_max && self.entries.len() > 1 {
            let place = self.turn % (self.entries.len() - 1);
            self.turn = place + 1;
            self.remove(self.entries[place].0);
            self.forgotten += 1;
        }
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.places.remove(&number)?;
        let (_, entry) = self.entries.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(*moved, place);
        }
        self.octets -= entry.octets();
        Some(entry)
    }

    fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
        self.octets = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(matchup: &mut Matchup, log: &str) -> String {
        let mut sink = Vec::new();
        for line in log.lines() {
            matchup.line(line.as_bytes(), &mut sink);
        }
        String::from_utf8(sink).unwrap()
    }

    fn pending(matchup: &Matchup) -> String {
        let mut sink = Vec::new();
        matchup.write_pending(&mut sink);
        String::from_utf8(sink).unwrap()
    }

    const LOG: &str = "\
1.0 new msg 7
1.1 info msg 7: bytes 10 from <A@b> qp 5 uid 6
1.2 starting delivery 1: msg 7 to local Joe@b
1.3 starting delivery 2: msg 7 to remote ann@c
1.4 delivery 2: deferral: later/
1.5 delivery 1: success: 
2.0 starting delivery 3: msg 7 to remote ann@c
2.1 delivery 3: failure: no/
2.2 end msg 7
";

    #[test]
    fn a_message_and_its_attempts_are_told() {
        let mut matchup = Matchup::default();
        assert_eq!(
            matched(&mut matchup, LOG),
            "d z 1.1 1.3 1.4 10 <a@b> remote.ann@c 5 6 later/\n\
             d k 1.1 1.2 1.5 10 <a@b> local.joe@b 5 6 \n\
             d d 1.1 2.0 2.1 10 <a@b> remote.ann@c 5 6 no/\n\
             m 1.1 2.2 10 1 1 1 <a@b> 5 6\n"
        );
        assert_eq!(pending(&matchup), "");
    }

    #[test]
    fn a_log_cut_anywhere_gives_the_same() {
        let mut whole = Matchup::default();
        let told = matched(&mut whole, LOG);
        let lines: Vec<&str> = LOG.lines().collect();
        for cut in 0..=lines.len() {
            let mut first = Matchup::default();
            let mut second = Matchup::default();
            let mut both = matched(&mut first, &lines[..cut].join("\n"));
            assert_eq!(matched(&mut second, &pending(&first)), "");
            both += &matched(&mut second, &lines[cut..].join("\n"));
            assert_eq!(both, told, "{cut}");
        }
    }

    #[test]
    fn a_stop_forgets_open_deliveries_and_no_message() {
        for stop in ["1.5 status: exiting", "1.5 running", "1.5 exiting now"] {
            let mut matchup = Matchup::default();
            let log = format!(
                "1.1 info msg 7: bytes 1 from <> qp 5 uid 6\n1.2 starting delivery 1: msg 7 to local a@b\n{stop}\n"
            );
            assert_eq!(matched(&mut matchup, &log), "");
            assert_eq!(
                pending(&matchup),
                "1.1 info msg 7: bytes 1 from <> qp 5 uid 6\n1.1 extra 7 0 0 0\n"
            );
        }
    }

    #[test]
    fn strange_lines_are_shown_and_never_too_much() {
        let mut matchup = Matchup::default();
        let log = "\n1.0\n1.0 info\n1.1 delivery 0: perhaps: x\n1.2 warning: w w\n";
        assert_eq!(
            matched(&mut matchup, log),
            "? \n? 1.0\n? 1.1 delivery 0: perhaps: x\n1.2 warning: w w\n"
        );
    }

    #[test]
    fn what_is_open_is_bounded() {
        let mut matchup = Matchup::with_room(100 * ENTRY_OCTETS);
        for id in 0..1_000 {
            let line = format!("1.0 info msg {id}: bytes 1 from <a@b> qp 5 uid 6");
            matchup.line(line.as_bytes(), &mut Vec::new());
        }
        assert!(matchup.messages.octets <= 100 * ENTRY_OCTETS);
        let open = matchup.messages.entries.len();
        assert!(open > 80, "{open}");
        assert_eq!(matchup.forgotten(), 1_000 - open as u64);
        // The newest is among them.
        assert!(matched(&mut matchup, "2.0 end msg 999").starts_with("m 1.0 2.0"));
    }
}
