//! The log of a queue manager, brought into a form that is the same in every run.
//!
//! Message numbers become labels `m1`, `m2`, ... and delivery numbers `d1`, `d2`, ... within a message; lines are kept by the
//! message they are about, since the order of lines about different messages is free.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use regex::bytes::{NoExpand, Regex};

use super::super::mask::compile;
use super::super::octets::to_text;

/// Which label stands for which message number.
#[derive(Debug, Default)]
pub(super) struct Labels {
    by_number: HashMap<Vec<u8>, String>,
    count: usize,
}

impl Labels {
    /// The label of a message number, a new one if it has none.
    pub(super) fn of(&mut self, number: &[u8]) -> String {
        match self.by_number.get(number) {
            Some(label) => label.clone(),
            None => self.renew(number),
        }
    }

    /// A new label for a message number, which may have been another message's.
    fn renew(&mut self, number: &[u8]) -> String {
        self.count += 1;
        let label = format!("m{}", self.count);
        self.by_number.insert(number.to_vec(), label.clone());
        label
    }

    /// The text with `#N` replaced by `#LABEL`, as `qmail-qread` shows messages; `?` for one that was not seen.
    pub(super) fn replace_in(&self, text: &[u8]) -> Vec<u8> {
        static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"#(\d+)"));
        NUMBER
            .replace_all(text, |captures: &regex::bytes::Captures<'_>| {
                let label = self.by_number.get(&captures[1]);
                format!("#{}", label.map_or("?", String::as_str)).into_bytes()
            })
            .into_owned()
    }
}

/// The lines of a log by the label of the message they are about; those about none have the label "".
///
/// `shown` masks each line.
pub(super) fn normalize(
    log: &[u8],
    shown: impl Fn(&[u8]) -> String,
) -> (BTreeMap<String, Vec<String>>, Labels) {
    static NEW: LazyLock<Regex> = LazyLock::new(|| pattern(r"\Anew msg (\d+)"));
    static RESULT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\Adelivery (\d+)(: .*)"));
    static MESSAGE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"\A(?:(starting delivery )(\d+): )?((?:\w+ )*msg )(\d+)(.*)"));
    static FILE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r"\A(.*\b(?:bounce|todo|foop|(?:mess|info|local|remote)/\d+)/)(\d+)(.*)")
    });
    static SPLIT: LazyLock<Regex> = LazyLock::new(|| pattern(r"/\d+/\z"));
    static COUNTS: LazyLock<[(Regex, &[u8]); 3]> = LazyLock::new(|| {
        [
            (pattern(r"bytes \d+ from"), b"bytes <n> from"),
            (pattern(r"qp \d+"), b"qp <pid>"),
            (pattern(r" uid \d+\z"), b" uid <uid>"),
        ]
    });

    let mut labels = Labels::default();
    let mut grouped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // The message and the name of each delivery, and how many deliveries each message had.
    let mut deliveries: HashMap<Vec<u8>, (String, String)> = HashMap::new();
    let mut numbering: HashMap<String, usize> = HashMap::new();

    for line in lines(log) {
        if line.starts_with(b"status: local") {
            continue;
        }
        if let Some(new) = NEW.captures(line) {
            labels.renew(&new[1]);
        }
        let mut about = String::new();
        let mut line = if let Some(result) = RESULT.captures(line) {
            let (message, name) = deliveries
                .get(&result[1])
                .cloned()
                .unwrap_or_else(|| (String::new(), to_ascii(&result[1])));
            about = message;
            [b"delivery ", name.as_bytes(), &result[2]].concat()
        } else if let Some(of_message) = MESSAGE.captures(line) {
            about = labels.of(&of_message[4]);
            let mut head = Vec::new();
            if let (Some(verb), Some(delivery)) = (of_message.get(1), of_message.get(2)) {
                let number = numbering.entry(about.clone()).or_default();
                *number += 1;
                let name = format!("d{number}");
                head = [verb.as_bytes(), name.as_bytes(), b": "].concat();
                deliveries.insert(delivery.as_bytes().to_vec(), (about.clone(), name));
            }
            [&head, &of_message[3], about.as_bytes(), &of_message[5]].concat()
        } else if let Some(of_file) = FILE.captures(line) {
            about = labels.of(&of_file[2]);
            let directory = SPLIT.replace(&of_file[1], NoExpand(b"/<split>/"));
            [&directory, about.as_bytes(), &of_file[3]].concat()
        } else {
            line.to_vec()
        };
        for (count, replacement) in &*COUNTS {
            line = count.replace_all(&line, NoExpand(replacement)).into_owned();
        }
        grouped.entry(about).or_default().push(shown(&line));
    }
    (grouped, labels)
}

/// The lines of a log. They end at whatever ends a line on some system, as the cases were recorded so.
pub(super) fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = log;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends = |octet: &u8| matches!(octet, b'\n' | 0x0b..=b'\r' | 0x1c..=0x1e | 0x85);
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let (line, tail) = rest.split_at(length);
        let end = if tail.starts_with(b"\r\n") { 2 } else { 1 };
        rest = tail.get(end..).unwrap_or_default();
        Some(line)
    })
}

fn pattern(text: &str) -> Regex {
    compile(text).expect("the patterns in this file compile")
}

fn to_ascii(digits: &[u8]) -> String {
    to_text(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brings_a_log_into_one_form() {
        let log = b"status: local 0/10 remote 0/20\n\
            new msg 4711\n\
            info msg 4711: bytes 123 from <a@b> qp 99 uid 1000\n\
            starting delivery 7: msg 4711 to local joe@x\n\
            status: local 1/10 remote 0/20\n\
            starting delivery 9: msg 4711 to remote ann@y\n\
            delivery 9: deferral: later/\n\
            delivery 7: success: done/\n\
            bounce msg 4711 qp 100\n\
            end msg 4711\n\
            new msg 4711\n\
            starting delivery 10: msg 4711 to local joe@x\n\
            warning: unable to open mess/12/4711\n\
            delivery 55: success: whose?/\n\
            alert: oh no\n";
        let (grouped, labels) = normalize(log, to_text);
        insta::assert_json_snapshot!(grouped, @r#"
        {
          "": [
            "delivery 55: success: whose?/",
            "alert: oh no"
          ],
          "m1": [
            "new msg m1",
            "info msg m1: bytes <n> from <a@b> qp <pid> uid <uid>",
            "starting delivery d1: msg m1 to local joe@x",
            "starting delivery d2: msg m1 to remote ann@y",
            "delivery d2: deferral: later/",
            "delivery d1: success: done/",
            "bounce msg m1 qp <pid>",
            "end msg m1"
          ],
          "m2": [
            "new msg m2",
            "starting delivery d1: msg m2 to local joe@x",
            "warning: unable to open mess/<split>/m2"
          ]
        }
        "#);
        assert_eq!(labels.replace_in(b"x #4711 y #12"), b"x #m2 y #?");
    }

    #[test]
    fn splits_lines_as_python_does() {
        let split: Vec<_> = lines(b"a\r\nb\rc\n\nd\x85e").collect();
        assert_eq!(split, [&b"a"[..], b"b", b"c", b"", b"d", b"e"]);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(lines(b"a\n").count(), 1);
    }
}
