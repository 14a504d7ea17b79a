//! What was wanted, what was seen, and where they part, for people to read.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::octets::from_text;
use super::run::Observation;

/// What differs between the expectation of a case and what was seen; empty if nothing does.
///
/// A key that is absent from the expectation is not compared.
pub fn differences(expected: &Map<String, Value>, seen: &Observation) -> String {
    let mut text = String::new();
    for (key, want) in expected {
        let have = seen.get(key);
        if have != Some(want) {
            part(&mut text, key, Some(want), have);
        }
    }
    text
}

/// How many octets are shown before and after the first that differs.
const BEFORE: usize = 60;
const AFTER: usize = 140;

/// Says where two values part, in every place. Values within values are taken apart, without recursion.
fn part(text: &mut String, key: &str, want: Option<&Value>, have: Option<&Value>) {
    let mut open = vec![(key.to_owned(), want, have)];
    while let Some((place, want, have)) = open.pop() {
        if want == have {
            continue;
        }
        match (want, have) {
            (Some(Value::Object(want)), Some(Value::Object(have))) => {
                let only_had = have.keys().filter(|key| !want.contains_key(*key));
                let mut keys: Vec<_> = want.keys().chain(only_had).collect();
                keys.sort();
                for key in keys.into_iter().rev() {
                    let place = format!("{place}[{}]", escaped(key));
                    open.push((place, want.get(key), have.get(key)));
                }
            }
            (Some(Value::Array(want)), Some(Value::Array(have))) => {
                for at in (0..want.len().max(have.len())).rev() {
                    open.push((format!("{place}[{at}]"), want.get(at), have.get(at)));
                }
            }
            (Some(Value::String(want)), Some(Value::String(have))) => {
                let _ = writeln!(text, "  {place}:\n{}", texts(want, have));
            }
            _ => {
                let show = |value: Option<&Value>| match value {
                    None => "nothing".to_owned(),
                    Some(Value::String(text)) => format!("\"{}\"", escaped(text)),
                    Some(value) => value.to_string(),
                };
                let _ = writeln!(
                    text,
                    "  {place}:\n    want {}\n    have {}",
                    show(want),
                    show(have)
                );
            }
        }
    }
}

/// Two texts around the first place in which they differ, with a mark below it.
fn texts(want: &str, have: &str) -> String {
    let (want, have): (Vec<_>, Vec<_>) = (want.chars().collect(), have.chars().collect());
    let common = want
        .iter()
        .zip(&have)
        .take_while(|(want, have)| want == have)
        .count();
    let start = if common > BEFORE + 20 {
        common - BEFORE
    } else {
        0
    };
    let window = |text: &[char]| {
        let end = text.len().min(common + AFTER);
        let shown: String = text[start..end].iter().collect();
        let (left, right) = (start > 0, end < text.len());
        format!(
            "{}\"{}\"{}",
            if left { "..." } else { "" },
            escaped(&shown),
            if right { "..." } else { "" }
        )
    };
    let shared: String = want[start..common].iter().collect();
    let column = escaped(&shared).chars().count() + if start > 0 { 4 } else { 1 };
    format!(
        "    want {}\n    have {}\n         {:column$}^ octet {common}",
        window(&want),
        window(&have),
        ""
    )
}

/// Octets as a source text has them: what is not printable ASCII is escaped.
fn escaped(text: &str) -> String {
    match from_text(text) {
        Some(octets) => octets.escape_ascii().to_string(),
        None => text.escape_default().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compare(want: Value, have: Value) -> String {
        let (Value::Object(want), Value::Object(have)) = (want, have) else {
            panic!("both are objects");
        };
        differences(&want, &have)
    }

    #[test]
    fn says_nothing_of_what_is_equal_or_not_asked_for() {
        let seen = json!({"exit": 0, "stdout": "x", "files": {"a": null}});
        assert_eq!(compare(json!({"exit": 0, "files": {"a": null}}), seen), "");
    }

    #[test]
    fn marks_the_first_difference() {
        insta::assert_snapshot!(
            compare(
                json!({"exit": 0, "queued": [{"message": "To: joe\u{e9}\nSubject: x\n", "envelope": "Fa\0"}],
                    "files": {"gone": null, "new": "one\n"}, "stdout": "tail"}),
                json!({"exit": 100, "queued": [{"message": "To: joe\u{e9}\nSubjekt: x\n", "envelope": "Fa\0"}, {}],
                    "files": {"new": "two\n", "other": "x"}}),
            ),
            @r#"
          exit:
            want 0
            have 100
          files[gone]:
            want null
            have nothing
          files[new]:
            want "one\n"
            have "two\n"
                  ^ octet 0
          files[other]:
            want nothing
            have "x"
          queued[0][message]:
            want "To: joe\xe9\nSubject: x\n"
            have "To: joe\xe9\nSubjekt: x\n"
                                    ^ octet 14
          queued[1]:
            want nothing
            have {}
          stdout:
            want "tail"
            have nothing
        "#
        );
    }

    #[test]
    fn shows_a_part_of_what_is_long() {
        let want = "x".repeat(1000) + "a" + &"y".repeat(1000);
        let have = "x".repeat(1000) + "b" + &"y".repeat(1000);
        let text = compare(json!({"stdout": want}), json!({"stdout": have}));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("    want ...\"xxx") && lines[1].ends_with("yyy\"..."));
        assert!(lines.iter().all(|line| line.len() < 250));
        let mark = lines[3].find('^').unwrap();
        assert_eq!((&lines[1][mark..=mark], &lines[2][mark..=mark]), ("a", "b"));
        assert!(lines[3].ends_with("octet 1000"));
    }
}
