//! Control values: what a file under `control/` says, read from octets that somebody else has fetched.
//!
//! There are three kinds of file (qmail-control(5)), and each reads the same in every program:
//!
//! * a *line*: the first line, trailing spaces and tabs cut ([`line()`]);
//! * an *integer*: the digits at the start of that line ([`integer`]);
//! * a *list*: every line, trailing spaces and tabs cut, empty lines and lines that start with `#` skipped ([`list`]).
//!   Two kinds of list are looked up by key: a [`Set`] of names, and a [`Map`] whose lines are `key:value`.
//!
//! A file that is missing is the caller's affair: it has a default. What is in a file and means nothing is passed over, as
//! it has always been, but it is reported as a [`Warning`], which tells the line and what to do about it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::Escaped;

/// The value of a *line* file: its first line without trailing spaces and tabs. Empty if the file is.
///
/// ```
/// assert_eq!(qmail_core::control::line(b"mail.example.org \nignored\n"), b"mail.example.org");
/// ```
pub fn line(file: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', file).unwrap_or(file.len());
    trim_end(&file[..end])
}

/// The value of an *integer* file: the decimal digits at the start of its first line. Unit and default are its user's.
///
/// `None`, with a [`Warning`], if there is no digit or the number is above [`u64::MAX`]: the default stays. Text after
/// the digits is passed over, with a warning.
///
/// ```
/// let mut warnings = Vec::new();
/// assert_eq!(qmail_core::control::integer(b"1200\n", &mut warnings), Some(1200));
/// assert!(warnings.is_empty());
/// assert_eq!(qmail_core::control::integer(b"soon\n", &mut warnings), None);
/// assert_eq!(warnings[0].to_string(), "line 1, `soon`: no number; write decimal digits only");
/// ```
pub fn integer(file: &[u8], warnings: &mut Vec<Warning>) -> Option<u64> {
    let line = line(file);
    let digits = line.iter().take_while(|octet| octet.is_ascii_digit());
    let value = digits.clone().try_fold(0u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    let problem = match (digits.count(), value) {
        (0, _) => Problem::NoNumber,
        (_, None) => Problem::NumberTooLarge,
        (count, Some(_)) if count < line.len() => Problem::TextAfterNumber,
        (_, value) => return value,
    };
    warnings.push(Warning::new(1, line, problem));
    value.filter(|_| problem == Problem::TextAfterNumber)
}

/// The lines of a *list* file that count, in order.
///
/// ```
/// let lines: Vec<_> = qmail_core::control::list(b"a\n# no\n\nb \n").map(|line| line.octets).collect();
/// assert_eq!(lines, [b"a", b"b"]);
/// ```
pub fn list(file: &[u8]) -> impl Iterator<Item = Line<'_>> {
    file.split(|&octet| octet == b'\n')
        .zip(1..)
        .map(|(octets, number)| Line {
            number,
            octets: trim_end(octets),
        })
        .filter(|line| !line.octets.is_empty() && line.octets[0] != b'#')
}

/// One line of a [`list`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number in the file, counted from 1.
    pub number: usize,
    /// Its text. Leading spaces are part of it; there are no trailing ones.
    pub octets: &'a [u8],
}

impl<'a> Line<'a> {
    /// Halves the line at its first colon; `None`, with a warning, if it has none.
    pub fn key_and_value(&self, warnings: &mut Vec<Warning>) -> Option<(&'a [u8], &'a [u8])> {
        let Some(colon) = memchr::memchr(b':', self.octets) else {
            warnings.push(Warning::new(self.number, self.octets, Problem::NoColon));
            return None;
        };
        Some((&self.octets[..colon], &self.octets[colon + 1..]))
    }
}

/// Cuts trailing spaces, tabs and LFs.
fn trim_end(octets: &[u8]) -> &[u8] {
    let end = octets
        .iter()
        .rposition(|octet| !matches!(octet, b' ' | b'\t' | b'\n'))
        .map_or(0, |last| last + 1);
    &octets[..end]
}

/// Something in a control file that means nothing. `Display` gives the line, its text and the remedy; the caller, who
/// knows it, puts the name of the file in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The line, counted from 1.
    pub line: usize,
    /// The text of the line, cut at [`Warning::TEXT_OCTETS_MAX`].
    pub text: Vec<u8>,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Warning {
    /// As much of a line as a warning repeats.
    pub const TEXT_OCTETS_MAX: usize = 80;

    /// A warning about this line; the text is cut.
    pub fn new(line: usize, text: &[u8], problem: Problem) -> Self {
        let text = text[..text.len().min(Self::TEXT_OCTETS_MAX)].to_vec();
        Self {
            line,
            text,
            problem,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Escaped(&self.text);
        write!(f, "line {}, `{text}`: {}", self.line, self.problem)
    }
}

/// What is wrong with a line of a control file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A number was expected: the default stays.
    #[error("no number; write decimal digits only")]
    NoNumber,
    /// The number is above [`u64::MAX`]: the default stays.
    #[error("number too large; write a smaller one")]
    NumberTooLarge,
    /// What follows the digits is passed over.
    #[error("text after the number is ignored; write decimal digits only")]
    TextAfterNumber,
    /// The line is ignored.
    #[error("line without a colon is ignored; write KEY:VALUE")]
    NoColon,
    /// The file is refused (users/assign).
    #[error("not seven colons; write =LOCAL:USER:UID:GID:HOME:DASH:EXT:")]
    BadAssignment,
    /// The value would be another one than it seems, and never match.
    #[error("control character; write printable text, in lines that end in LF alone")]
    ControlCharacter,
    /// The port is ignored, the protocol's own is used: 25 for SMTP.
    #[error("port is no number from 1 to 65535, using the usual one; write HOST:RELAY:PORT")]
    BadPort,
    /// Logging in will fail.
    #[error("a name without a password; write HOST:RELAY:PORT NAME PASSWORD")]
    NoPassword,
    /// The brackets hold no address, so nothing will be found by that name.
    #[error(
        "no IP address in brackets; write [192.0.2.1] or [2001:db8::1], or a host name without brackets"
    )]
    BadAddress,
}

/// Names without regard to ASCII case: locals, percenthack, rcpthosts, badmailfrom.
#[derive(Clone, Debug, Default)]
pub struct Set(HashSet<Box<[u8]>>);

impl Set {
    /// The lines of a list file.
    pub fn parse(file: &[u8]) -> Self {
        list(file).map(|line| line.octets).collect()
    }

    /// Whether the whole name is there.
    pub fn contains(&self, name: &[u8]) -> bool {
        !self.0.is_empty() && with_lower_case(name, |name| self.0.contains(name))
    }

    /// Whether the host is there, or one of its [`suffixes`].
    pub fn contains_host(&self, host: &[u8]) -> bool {
        !self.0.is_empty()
            && with_lower_case(host, |host| {
                self.0.contains(host) || suffixes(host).any(|suffix| self.0.contains(suffix))
            })
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: AsRef<[u8]>> FromIterator<N> for Set {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        let lower = |name: N| name.as_ref().to_ascii_lowercase().into_boxed_slice();
        Self(names.into_iter().map(lower).collect())
    }
}

/// Values by name, without regard to ASCII case of the name: virtualdomains, smtproutes.
#[derive(Clone, Debug)]
pub struct Map<V>(HashMap<Box<[u8]>, V>);

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<V> Map<V> {
    /// The value of the whole name.
    pub fn get(&self, name: &[u8]) -> Option<&V> {
        if self.0.is_empty() {
            return None;
        }
        with_lower_case(name, |name| self.0.get(name))
    }

    /// The value of the first of these keys that is there: the whole host, each of its [`suffixes`], the empty key.
    pub fn get_host(&self, host: &[u8]) -> Option<&V> {
        self.get_host_key(host).map(|(value, _)| value)
    }

    /// As [`Map::get_host`], with the length of the key that hit: 0 is the empty key, which stands for every host.
    pub fn get_host_key(&self, host: &[u8]) -> Option<(&V, usize)> {
        if self.0.is_empty() {
            return None;
        }
        with_lower_case(host, |host| {
            let mut keys = std::iter::once(host)
                .chain(suffixes(host))
                .chain(std::iter::once(&b""[..]));
            keys.find_map(|key| self.0.get(key).map(|value| (value, key.len())))
        })
    }

    /// Sets a value. An older one of an equal name is forgotten, so that of equal lines the last counts.
    pub fn insert(&mut self, name: &[u8], value: V) {
        self.0
            .insert(name.to_ascii_lowercase().into_boxed_slice(), value);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Map<bytes::Bytes> {
    /// The lines `key:value` of a list file, halved at the first colon. Lines without one are ignored, with a warning.
    pub fn parse(file: &[u8], warnings: &mut Vec<Warning>) -> Self {
        let mut map = Self::default();
        for line in list(file) {
            if let Some((key, value)) = line.key_and_value(warnings) {
                map.insert(key, bytes::Bytes::copy_from_slice(value));
            }
        }
        map
    }
}

/// The ends of a host that begin at a dot, the dot included, longest first: `.b.c` and `.c` for `a.b.c`.
///
/// This is how one line of a control file covers all hosts below a domain.
pub fn suffixes(host: &[u8]) -> impl Iterator<Item = &[u8]> {
    memchr::memchr_iter(b'.', host)
        .filter(|&dot| dot != 0)
        .map(|dot| &host[dot..])
}

/// Looks something up in lower case. Names of usual length are folded on the stack: a lookup does not allocate.
fn with_lower_case<R>(name: &[u8], look_up: impl FnOnce(&[u8]) -> R) -> R {
    const STACK_OCTETS: usize = 256;
    if name.len() > STACK_OCTETS {
        return look_up(&name.to_ascii_lowercase());
    }
    let mut buffer = [0; STACK_OCTETS];
    let folded = &mut buffer[..name.len()];
    folded.copy_from_slice(name);
    folded.make_ascii_lowercase();
    look_up(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_counts() {
        for (file, value) in [
            (&b""[..], &b""[..]),
            (b"\nsecond", b""),
            (b"a", b"a"),
            (b" a b\t \nc", b" a b"),
            (b"#a\n", b"#a"),
        ] {
            assert_eq!(line(file), value, "{}", Escaped(file));
        }
    }

    #[test]
    fn integers_are_leading_digits() {
        for (file, value, warning) in [
            (&b"0"[..], Some(0), None),
            (b"007 \n8", Some(7), None),
            (b"18446744073709551615", Some(u64::MAX), None),
            (b"18446744073709551616", None, Some(Problem::NumberTooLarge)),
            (b"", None, Some(Problem::NoNumber)),
            (b" 5", None, Some(Problem::NoNumber)),
            (b"-5", None, Some(Problem::NoNumber)),
            (b"5 minutes", Some(5), Some(Problem::TextAfterNumber)),
        ] {
            let mut warnings = Vec::new();
            assert_eq!(integer(file, &mut warnings), value, "{}", Escaped(file));
            let problem = warnings.first().map(|warning| warning.problem);
            assert_eq!(problem, warning, "{}", Escaped(file));
        }
    }

    #[test]
    fn of_equal_keys_the_last_wins() {
        let mut warnings = Vec::new();
        let map = Map::parse(b"A:1\n#a:2\nno colon\n a:3\na:4:5\n:6", &mut warnings);
        assert_eq!(map.get(b"a").unwrap(), &b"4:5"[..]);
        assert_eq!(map.get(b" A").unwrap(), &b"3"[..]);
        assert_eq!(map.get(b"").unwrap(), &b"6"[..]);
        assert_eq!(map.get(b"#a"), None);
        assert_eq!(
            warnings[0].to_string(),
            "line 3, `no colon`: line without a colon is ignored; write KEY:VALUE"
        );
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn hosts_are_looked_up_by_suffix() {
        let set = Set::parse(b"Whole\n.x.y\n");
        for (host, hit) in [
            ("whole", true),
            ("a.whole", false),
            ("A.X.Y", true),
            ("b.a.x.y", true),
            ("x.y", false),
            (".x.y", true),
            ("", false),
        ] {
            assert_eq!(set.contains_host(host.as_bytes()), hit, "{host}");
        }
        let mut map = Map::default();
        map.insert(b".y", 1);
        assert_eq!(map.get_host(b"x.y"), Some(&1));
        assert_eq!(map.get_host(b"x.z"), None);
        map.insert(b"", 2);
        assert_eq!(map.get_host_key(b"x.z"), Some((&2, 0)));
        assert_eq!(map.get_host_key(b"x.y"), Some((&1, 2)));
    }

    #[test]
    fn long_names_are_looked_up_too() {
        let name = vec![b'A'; 5000];
        let set: Set = [&name].into_iter().collect();
        assert!(set.contains(&vec![b'a'; 5000]));
        assert!(!set.contains(&vec![b'a'; 4999]));
    }
}
