//! Octets as the case files write them: one character U+0000..U+00FF for each.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::marker::PhantomData;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A string of octets, read from a JSON string whose characters are all U+0000..U+00FF.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Octets(pub Vec<u8>);

impl Octets {
    /// The octets as an argument, a path or a value of the environment.
    pub fn to_os(&self) -> OsString {
        OsString::from_vec(self.0.clone())
    }

    /// The octets as a path or a part of one.
    pub fn as_os(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_text(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom("a character above U+00FF stands for no octet"))
    }
}

/// A JSON object as a list of pairs in the order of the file.
///
/// The order matters where files are made: a directory whose age is set gets a new one when a file is put into it.
#[derive(Clone, Debug)]
pub struct Table<V>(pub Vec<(Octets, V)>);

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Table<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
            type Value = Table<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Table(pairs))
            }
        }

        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

/// The octets that a text stands for; `None` if it has a character above U+00FF.
///
/// ```
/// use qmail_tests::conformance::{from_text, to_text};
/// assert_eq!(from_text("caf\u{e9}\0").unwrap(), b"caf\xe9\0");
/// assert_eq!(from_text("\u{100}"), None);
/// assert_eq!(to_text(b"caf\xe9\0"), "caf\u{e9}\0");
/// ```
pub fn from_text(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|character| u8::try_from(character).ok())
        .collect()
}

/// The text that stands for these octets. The inverse of [`from_text`].
pub fn to_text(octets: &[u8]) -> String {
    octets.iter().map(|&octet| char::from(octet)).collect()
}

/// Every occurrence of `old` replaced by `new`, from the left, without overlap. An empty `old` occurs nowhere.
pub(crate) fn replace(octets: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    if old.is_empty() {
        return octets.to_vec();
    }
    let mut replaced = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let Some(at) = find(rest, old) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// Where `wanted` first occurs. `wanted` is not empty.
pub(crate) fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces() {
        for (octets, old, new, want) in [
            (&b"aXbXc"[..], &b"X"[..], &b"--"[..], &b"a--b--c"[..]),
            (b"aaa", b"aa", b"b", b"ba"),
            (b"abc", b"", b"x", b"abc"),
            (b"", b"a", b"x", b""),
            (b"abc", b"abcd", b"x", b"abc"),
        ] {
            assert_eq!(replace(octets, old, new), want);
        }
    }

    #[test]
    fn keeps_the_order_of_an_object() {
        let table: Table<Octets> = serde_json::from_str(r#"{"b": "1", "a": "\u00ff"}"#).unwrap();
        assert_eq!(
            table.0,
            [
                (Octets(b"b".to_vec()), Octets(b"1".to_vec())),
                (Octets(b"a".to_vec()), Octets(b"\xff".to_vec())),
            ]
        );
        assert!(serde_json::from_str::<Octets>(r#""\u0100""#).is_err());
    }
}
