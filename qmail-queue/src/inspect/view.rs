//! A message of the queue as people and as programs want to see it.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use qmail_core::Escaped;
use serde_json::{Value, json};

use super::{Listed, ListedRecipient};
use crate::Channel;

/// Recipients that a line of a list shows; the page of a message shows them all.
pub const SHOWN_RECIPIENTS_MAX: usize = 10;

impl Listed {
    /// `incoming`, `held`, `finishing` or `waiting`.
    pub fn state(&self) -> &'static str {
        match self.birth {
            None => "incoming",
            Some(_) if self.held => "held",
            Some(_) if self.waiting() == 0 => "finishing",
            Some(_) => "waiting",
        }
    }

    /// How long ago it was routed; `None` if it is not, or a clock was set.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(self.birth?).ok()
    }

    /// Its lines in a list: number, age, size, sender and state; then those whom it waits for, up to [`SHOWN_RECIPIENTS_MAX`].
    pub fn list_text(&self, now: SystemTime) -> String {
        let mut text = format!(
            "{:<10} {:>5} {:>9}  <{}>  {}\n",
            self.id.0,
            self.age(now).map_or_else(|| "new".to_owned(), short),
            self.octets,
            Escaped(self.sender.as_bytes()),
            self.state_text(now),
        );
        let waiting = self.recipients.iter().filter(|to| !to.done);
        for recipient in waiting.take(SHOWN_RECIPIENTS_MAX) {
            let _ = writeln!(text, "           {}", recipient.text());
        }
        if let Some(more) = self.waiting().checked_sub(SHOWN_RECIPIENTS_MAX + 1) {
            let _ = writeln!(
                text,
                "           and {} more: qmail queue show {}",
                more + 1,
                self.id
            );
        }
        if let Some(reason) = &self.reason {
            let _ = writeln!(text, "           ({})", one_line(reason));
        }
        text
    }

    /// All that is known of it, line by line.
    pub fn page_text(&self, now: SystemTime) -> String {
        let mut text = format!("message:   {}\n", self.id);
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{:<10} {value}", format!("{name}:"));
        };
        line("state", self.state_text(now));
        if let Some(age) = self.age(now) {
            line("age", short(age));
        }
        line("bytes", self.octets.to_string());
        line("sender", format!("<{}>", Escaped(self.sender.as_bytes())));
        if self.bouncing {
            line(
                "failures",
                "some recipients have failed; a bounce will tell".to_owned(),
            );
        }
        if let Some(reason) = &self.reason {
            line("deferred", one_line(reason));
        }
        for recipient in &self.recipients {
            line("recipient", recipient.text());
        }
        text
    }

    fn state_text(&self, now: SystemTime) -> String {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let next = self.due.iter().flatten().min();
        match next {
            Some(&next) if !self.held => {
                let wait = short(Duration::from_secs(next.saturating_sub(now)));
                format!("{}, next attempt in {wait}", self.state())
            }
            _ => self.state().to_owned(),
        }
    }

    /// All that is known of it as a JSON object. Octets that are no UTF-8 are escaped as `\xNN`.
    pub fn json(&self) -> Value {
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        };
        let recipients = self.recipients.iter().map(|to| {
            let due = to.channel.and_then(|channel| self.due[channel as usize]);
            json!({
                "channel": to.channel.map(Channel::name),
                "address": text(to.address.as_bytes()),
                "done": to.done,
                "next_attempt": due.filter(|_| !to.done && !self.held),
            })
        });
        json!({
            "message": self.id.0,
            "state": self.state(),
            "routed": self.birth.map(seconds),
            "bytes": self.octets,
            "sender": text(self.sender.as_bytes()),
            "recipients": recipients.collect::<Vec<_>>(),
            "bouncing": self.bouncing,
            "held": self.held,
            "reason": self.reason.as_deref().map(text),
        })
    }
}

impl ListedRecipient {
    fn text(&self) -> String {
        let done = if self.done { ", done" } else { "" };
        let channel = self.channel.map_or("?", Channel::name);
        format!("{channel} {}{done}", Escaped(self.address.as_bytes()))
    }
}

fn text(octets: &[u8]) -> String {
    match str::from_utf8(octets) {
        Ok(text) => text.to_owned(),
        Err(_) => Escaped(octets).to_string(),
    }
}

fn one_line(reason: &[u8]) -> String {
    let words = reason.split(|octet| octet.is_ascii_whitespace());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    Escaped(&words.join(&b' ')).to_string()
}

/// A duration in its largest whole unit: `59s`, `3m`, `7h`, `12d`.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use qmail_core::{Address, ReversePath};

    use super::*;
    use crate::MessageId;

    fn message(recipients: usize) -> Listed {
        let recipients = (0..recipients).map(|number| ListedRecipient {
            channel: Some(Channel::Remote),
            address: Address::new(format!("u{number}@far")).unwrap(),
            done: number == 1,
        });
        Listed {
            id: MessageId(47),
            birth: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)),
            octets: 1_234,
            sender: ReversePath::new(b"a\x1b\xff@b".as_slice()).unwrap(),
            recipients: recipients.collect(),
            bouncing: true,
            held: false,
            due: [None, Some(9_000)],
            reason: Some(b"Connected,\nbut \x07greeting failed.\n".as_slice().into()),
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(8_300)
    }

    #[test]
    fn a_list_shows_who_is_waited_for() {
        insta::assert_snapshot!(message(3).list_text(now()), @r"
        47            2h      1234  <a\x1b\xff@b>  waiting, next attempt in 11m
                   remote u0@far
                   remote u2@far
                   (Connected, but \x07greeting failed.)
        ");
        let many = message(20).list_text(now());
        assert_eq!(many.lines().count(), 1 + SHOWN_RECIPIENTS_MAX + 2);
        assert!(many.contains("and 9 more: qmail queue show 47"), "{many}");
    }

    #[test]
    fn a_page_shows_all() {
        let mut held = message(2);
        held.held = true;
        insta::assert_snapshot!(held.page_text(now()), @r"
        message:   47
        state:     held
        age:       2h
        bytes:     1234
        sender:    <a\x1b\xff@b>
        failures:  some recipients have failed; a bounce will tell
        deferred:  Connected, but \x07greeting failed.
        recipient: remote u0@far
        recipient: remote u1@far, done
        ");
    }

    #[test]
    fn programs_get_json() {
        let json = message(2).json();
        assert_eq!(json["message"], 47);
        assert_eq!(json["sender"], "a\\x1b\\xff@b");
        assert_eq!(json["recipients"][0]["next_attempt"], 9_000);
        assert_eq!(json["recipients"][1]["next_attempt"], Value::Null);
        assert_eq!(json["recipients"][1]["done"], true);
        assert_eq!(json["state"], "waiting");
    }

    #[test]
    fn durations_are_short() {
        for (seconds, shown) in [(0, "0s"), (61, "1m"), (7_199, "1h"), (172_800, "2d")] {
            assert_eq!(short(Duration::from_secs(seconds)), shown);
        }
    }
}
