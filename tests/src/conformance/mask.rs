//! Masks: what differs from run to run (dates, process numbers, unique names) is replaced before the comparison.
//!
//! The case files write them as Python regular expressions over octets. They are compiled by the crate `regex`, whose
//! language is the same for what they use, with these translations: a character above U+007F means that octet; `\Z` is the
//! end of the text; one look-ahead, outside of any group, is tried after the rest has matched (there is no going back into
//! what stands before it, which no mask needs).

use std::sync::LazyLock;

use regex::bytes::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

use super::octets::from_text;

/// A pattern and what replaces each of its matches.
#[derive(Debug, Deserialize)]
#[serde(try_from = "(String, String)")]
pub struct Mask {
    pattern: Regex,
    /// Of a pattern with a look-ahead: must, or must not, match at the end of the group [`HEAD`].
    look_ahead: Option<(Regex, Expected)>,
    replacement: Vec<Piece>,
}

/// Why a mask was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaskError {
    /// The pattern is none, or uses what is not supported.
    #[error("the mask {pattern:?} cannot be compiled: {reason}")]
    Pattern {
        /// The pattern as the case file has it.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The replacement is none.
    #[error("the replacement {0:?} of a mask is not understood")]
    Replacement(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Present,
    Absent,
}

#[derive(Debug)]
enum Piece {
    Octets(Vec<u8>),
    Group(usize),
}

/// The name of the group around what stands before a look-ahead.
const HEAD: &str = "head";

impl Mask {
    /// Compiles a mask.
    ///
    /// # Errors
    ///
    /// Either text has a character above U+00FF, or is not understood.
    pub fn new(pattern: &str, replacement: &str) -> Result<Self, MaskError> {
        let refuse = |reason: &dyn ToString| MaskError::Pattern {
            pattern: pattern.to_owned(),
            reason: reason.to_string(),
        };
        let octets = from_text(pattern).ok_or_else(|| refuse(&"a character above U+00FF"))?;
        let translated = translate(&octets);
        let build = |text: &str| compile(text).map_err(|error| refuse(&error));
        let mut pieces = pieces(replacement)?;
        let Some(parts) = split_look_ahead(&translated) else {
            return Ok(Self {
                pattern: build(&translated)?,
                look_ahead: None,
                replacement: pieces,
            });
        };
        // The group around the head comes first, so that every other group is one further.
        for piece in &mut pieces {
            if let Piece::Group(number) = piece {
                *number += 1;
            }
        }
        Ok(Self {
            pattern: build(&format!("(?P<{HEAD}>{}){}", parts.head, parts.tail))?,
            look_ahead: Some((build(&format!(r"\A(?:{})", parts.look))?, parts.expected)),
            replacement: pieces,
        })
    }

    /// The text with every match replaced.
    pub fn apply(&self, text: &[u8]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(text.len());
        let (mut kept, mut from) = (0, 0);
        while from <= text.len() {
            let Some(captures) = self.pattern.captures_at(text, from) else {
                break;
            };
            let Some(all) = captures.get(0) else { break };
            if !self.allowed(text, &captures) {
                from = all.start() + 1;
                continue;
            }
            masked.extend_from_slice(&text[kept..all.start()]);
            for piece in &self.replacement {
                masked.extend_from_slice(match piece {
                    Piece::Octets(octets) => octets,
                    Piece::Group(number) => captures
                        .get(*number)
                        .map_or(&[][..], |group| group.as_bytes()),
                });
            }
            kept = all.end();
            from = if all.is_empty() { kept + 1 } else { kept };
        }
        masked.extend_from_slice(&text[kept..]);
        masked
    }

    fn allowed(&self, text: &[u8], captures: &Captures<'_>) -> bool {
        let Some((look, expected)) = &self.look_ahead else {
            return true;
        };
        let at = captures.name(HEAD).map_or(0, |head| head.end());
        look.is_match(&text[at..]) == (*expected == Expected::Present)
    }
}

impl TryFrom<(String, String)> for Mask {
    type Error = MaskError;

    fn try_from((pattern, replacement): (String, String)) -> Result<Self, MaskError> {
        Self::new(&pattern, &replacement)
    }
}

/// The masks that every case has, in their order.
pub(crate) fn built_in() -> &'static [Mask] {
    static MASKS: LazyLock<Vec<Mask>> = LazyLock::new(|| {
        const MONTH: &str = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec";
        const DAY: &str = "Sun|Mon|Tue|Wed|Thu|Fri|Sat";
        constant(&[
            (
                &format!(
                    r"\b(?:(?:{DAY}), )?\d{{1,2}} (?:{MONTH}) \d{{4}} \d\d:\d\d:\d\d [-+]\d{{4}}"
                ),
                "<date>",
            ),
            (
                &format!(r"\b(?:{DAY}) (?:{MONTH}) [ \d]\d \d\d:\d\d:\d\d \d{{4}}"),
                "<ctime>",
            ),
            (r"\bqmail \d+ (invoked|by)", r"qmail <pid> \1"),
            (r"<\d{14}\.\d+\.", "<<stamp>.<pid>."),
            (r"\bok \d+ qp \d+", "ok <time> qp <pid>"),
            (
                r"(Maildir/|/)?(new|cur|tmp)/\d{9,}\.[^\s/]+",
                r"\1\2/<unique>",
            ),
            (r"<\d+\.\d+@", "<<pid>.<time>@"),
            (r"qp \d+", "qp <pid>"),
        ])
    });
    &MASKS
}

/// The masks that scenarios have beside [`built_in`].
pub(crate) fn of_scenarios() -> &'static [Mask] {
    static MASKS: LazyLock<Vec<Mask>> =
        LazyLock::new(|| constant(&[(r"by uid \d+", "by uid <uid>"), (r"qp_\d+", "qp_<pid>")]));
    &MASKS
}

fn constant(masks: &[(&str, &str)]) -> Vec<Mask> {
    masks
        .iter()
        .map(|(pattern, replacement)| {
            Mask::new(pattern, replacement).expect("the masks in this file compile")
        })
        .collect()
}

/// Compiles a translated pattern: over octets, ASCII classes, `^` and `$` at every line.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .multi_line(true)
        .build()
}

/// From Python's way of writing to that of the crate `regex`.
pub(crate) fn translate(pattern: &[u8]) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut octets = pattern.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' => match octets.next() {
                Some(b'Z') => translated.push_str(r"\z"),
                Some(escaped) => {
                    translated.push('\\');
                    push(&mut translated, escaped);
                }
                None => translated.push('\\'),
            },
            _ => push(&mut translated, octet),
        }
    }
    translated
}

fn push(translated: &mut String, octet: u8) {
    if octet.is_ascii() {
        translated.push(char::from(octet));
    } else {
        translated.push_str(&format!(r"\x{octet:02x}"));
    }
}

struct LookAhead<'a> {
    head: &'a str,
    look: &'a str,
    expected: Expected,
    tail: &'a str,
}

/// Takes a pattern apart at its one look-ahead, if it has one.
fn split_look_ahead(pattern: &str) -> Option<LookAhead<'_>> {
    let (start, expected) = match (pattern.find("(?="), pattern.find("(?!")) {
        (Some(at), None) => (at, Expected::Present),
        (None, Some(at)) => (at, Expected::Absent),
        // None of them, or both: the compiler refuses the latter.
        _ => return None,
    };
    let inner = &pattern[start + 3..];
    let end = closing_parenthesis(inner)?;
    Some(LookAhead {
        head: &pattern[..start],
        look: &inner[..end],
        expected,
        tail: &inner[end + 1..],
    })
}

/// Where the parenthesis is closed that was opened just before this text.
fn closing_parenthesis(text: &str) -> Option<usize> {
    let (mut depth, mut in_class) = (0_usize, false);
    let mut octets = text.bytes().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'\\' => {
                octets.next();
            }
            b'[' => in_class = true,
            b']' => in_class = false,
            b'(' if !in_class => depth += 1,
            b')' if !in_class && depth == 0 => return Some(at),
            b')' if !in_class => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The parts of a replacement: `\1`..`\9` are groups, `\\` is a backslash, anything else is itself.
fn pieces(replacement: &str) -> Result<Vec<Piece>, MaskError> {
    let refused = || MaskError::Replacement(replacement.to_owned());
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut octets = from_text(replacement).ok_or_else(refused)?.into_iter();
    while let Some(octet) = octets.next() {
        if octet != b'\\' {
            literal.push(octet);
            continue;
        }
        match octets.next() {
            Some(b'\\') => literal.push(b'\\'),
            Some(digit @ b'1'..=b'9') => {
                pieces.push(Piece::Octets(std::mem::take(&mut literal)));
                pieces.push(Piece::Group(usize::from(digit - b'0')));
            }
            _ => return Err(refused()),
        }
    }
    pieces.push(Piece::Octets(literal));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(pattern: &str, replacement: &str, text: &[u8]) -> Vec<u8> {
        Mask::new(pattern, replacement).unwrap().apply(text)
    }

    #[test]
    fn replaces_as_python_does() {
        for (pattern, replacement, text, want) in [
            (r"(a)(b)?", r"<\2\1>", &b"ab a"[..], &b"<ba> <a>"[..]),
            ("^\u{ff}", "255", b"\xffa\n\xff", b"255a\n255"),
            (r"[\x00-ÿ]\Z", "!", b"ab\xe4", b"ab!"),
            (" +$", "", b"a  \nb \n", b"a\nb\n"),
            (r"\A[\x00-\xff]{2}", "", b"\x00\nrest", b"rest"),
            (r"\d+:", r"\\n", b"\xb212:", b"\xb2\\n"),
            ("x*", "-", b"abc", b"-a-b-c-"),
            (
                "\u{0}[0-9]+\u{0}",
                "\u{0}<n>\u{0}",
                b"\x0012\x00",
                b"\x00<n>\x00",
            ),
        ] {
            assert_eq!(masked(pattern, replacement, text), want, "{pattern}");
        }
    }

    #[test]
    fn looks_ahead() {
        let present = r"\A[\x00-\xff](?=[\x00-\x1f][KZD])";
        assert_eq!(
            masked(present, "<limit>", b"\x07\x01Kok"),
            b"<limit>\x01Kok"
        );
        assert_eq!(masked(present, "<limit>", b"\x07\x21Kok"), b"\x07\x21Kok");

        let absent = r"^250[- ](?!PIPELINING|mx)([A-Z])[^\n]*\n";
        assert_eq!(
            masked(
                absent,
                r"<\1>",
                b"250-mx\n250-PIPELINING\n250 HELP me\n250 mx\n"
            ),
            b"250-mx\n250-PIPELINING\n<H>250 mx\n"
        );
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for (pattern, replacement) in [("(", ""), ("(?=a)(?!b)", ""), ("a", r"\g<1>"), ("Ā", "")] {
            assert!(Mask::new(pattern, replacement).is_err(), "{pattern}");
        }
    }

    #[test]
    fn masks_what_every_run_has() {
        let text = b"Received: (qmail 17 invoked by uid 0); 5 Jan 1970 01:02:03 -0000\n\
            From a Mon Jan  5 01:02:03 1970\nMessage-ID: <19700105010203.17.qmail@x>\n\
            250 ok 1000000 qp 4711\nMaildir/new/1700000000.P1Q1.host <12.34@x>\n";
        let masked = built_in()
            .iter()
            .fold(text.to_vec(), |text, mask| mask.apply(&text));
        assert_eq!(
            String::from_utf8(masked).unwrap(),
            "Received: (qmail <pid> invoked by uid 0); <date>\nFrom a <ctime>\n\
            Message-ID: <<stamp>.<pid>.qmail@x>\n250 ok <time> qp <pid>\n\
            Maildir/new/<unique> <<pid>.<time>@x>\n"
        );
    }
}
