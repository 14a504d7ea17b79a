//! The elements that most lists are made of, read at a glance: `ann@example.org`, `Ann Other <ann@example.org>`,
//! `"Smith, J." <j.smith@example.org>`, `bob@example.org (Bob)`.
//!
//! Speed is all that this is for. What is of another kind is left to the tokenizer, which reads these as the same: tests
//! of both readers of lists compare the two.

use super::token::{has_escape, plain_octets};

/// An element of the most common kind. As it stands is how it would be written.
pub(super) struct Element<'a> {
    /// All of it.
    pub(super) raw: &'a [u8],
    /// Its display name or comment, without quotes or parentheses.
    pub(super) name: Option<&'a [u8]>,
    /// `local@host`, each of words with dots between.
    pub(super) address: &'a [u8],
    /// Where in the address the host begins.
    host: usize,
}

impl<'a> Element<'a> {
    /// Reads the element at the start of a list, and gives what is left of the list: nothing, or a separator and what
    /// follows. `None` if the element may be of another kind.
    #[inline]
    pub(super) fn read(list: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let text = without_blanks(list);
        let (name, angle) = display_name(text)?;
        let start = angle.map_or(0, |angle| angle + 1);
        let local = dot_atom(&text[start..])?;
        let host = text[start + local..].strip_prefix(b"@")?;
        let end = start + local + 1 + dot_atom(host)?;
        let address = &text[start..end];
        let (name, end) = match (angle, text.get(end)) {
            (Some(_), Some(b'>')) => (name, end + 1),
            (None, Some(b' ')) if text.get(end + 1) == Some(&b'(') => {
                let comment = plain_text(&text[end + 2..], b')')?;
                (Some(comment), end + 2 + comment.len() + 1)
            }
            (None, _) => (None, end),
            _ => return None,
        };
        let rest = without_blanks(&text[end..]);
        let element = Self {
            raw: &text[..end],
            name,
            address,
            host: local + 1,
        };
        matches!(rest.first(), None | Some(b',' | b';')).then_some((element, rest))
    }

    /// Nothing is to be added to the host: it has a dot, and no plus at its end.
    pub(super) fn is_complete(&self) -> bool {
        let host = &self.address[self.host..];
        host.last() != Some(&b'+') && host.contains(&b'.')
    }
}

/// A display name, and where the `<` is behind it. Without `<`, an address is next.
#[inline]
fn display_name(text: &[u8]) -> Option<(Option<&[u8]>, Option<usize>)> {
    let (name, end) = match text.first()? {
        b'<' => return Some((None, Some(0))),
        b'"' => {
            let name = plain_text(&text[1..], b'"')?;
            (name, name.len() + 2)
        }
        _ => {
            let mut end = plain_octets(text);
            if matches!(text.get(end), Some(b'@' | b'.')) {
                return Some((None, None));
            }
            // Words with one blank between.
            loop {
                let blank = text[end..].strip_prefix(b" ")?;
                match plain_octets(blank) {
                    0 => break,
                    word => end += 1 + word,
                }
            }
            (&text[..end], end)
        }
    };
    text[end..]
        .starts_with(b" <")
        .then_some((Some(name), Some(end + 1)))
}

/// How many octets words with dots between have; `None` if there is more to them than that.
#[inline]
fn dot_atom(text: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        match plain_octets(&text[end..]) {
            0 => return None,
            word => end += word,
        }
        if text.get(end) != Some(&b'.') {
            return Some(end);
        }
        end += 1;
    }
}

/// The text up to the octet that closes it; `None` if it has escapes, folds or parentheses.
#[inline]
fn plain_text(text: &[u8], close: u8) -> Option<&[u8]> {
    let end = text.iter().position(|&octet| has_escape(octet))?;
    (text[end] == close).then_some(&text[..end])
}

#[inline]
fn without_blanks(text: &[u8]) -> &[u8] {
    let blanks = text
        .iter()
        .take_while(|&&octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n'));
    &text[blanks.count()..]
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECES: &[&str] = &[
        "ann@x.org",
        "Ann Other <a.o@x.org>",
        "\"S, J.\" <j@x.org>",
        "b@x.org (Bob)",
        "<c@x.org>",
        "d@x.org+",
        "e@x.org.",
        "(c)",
        "\" a  b \" <f@x.org>",
        "g:",
        "J. S",
        "word",
        "<",
        ">",
        ",",
        ", ",
        ",\n ",
        ";",
        " ",
        "  ",
    ];

    /// A list, and the same with blanks before each `@`, which mean nothing in it but are left to the tokenizer.
    pub(in super::super) fn lists() -> impl Strategy<Value = (String, String)> {
        proptest::collection::vec(prop::sample::select(PIECES), 0..8).prop_map(|pieces| {
            let list = pieces.concat();
            let spaced = list.replace('@', " @");
            (list, spaced)
        })
    }

    #[test]
    fn elements_of_the_common_kinds() {
        for (list, want) in [
            ("a@b", Some(("a@b", None, ""))),
            (" ann@x.org , b", Some(("ann@x.org", None, ", b"))),
            ("a.b@c.d;", Some(("a.b@c.d", None, ";"))),
            (
                "Ann O <a@b.c>\n ,",
                Some(("Ann O <a@b.c>", Some("Ann O"), ",")),
            ),
            (
                "\"A, O\" <a@b.c>",
                Some(("\"A, O\" <a@b.c>", Some("A, O"), "")),
            ),
            ("<a@b.c>", Some(("<a@b.c>", None, ""))),
            ("a@b (c d),", Some(("a@b (c d)", Some("c d"), ","))),
            ("", None),
            ("a", None),
            ("a@", None),
            ("@b", None),
            ("a b@c", None),
            ("a@b c@d", None),
            ("a..b@c", None),
            ("a@b.", None),
            ("a@b:", None),
            ("a@b (c", None),
            ("a@b (c (d))", None),
            ("a@b\u{e9}", None),
            ("a\\b@c", None),
            ("Ann<a@b.c>", None),
            ("Ann  O <a@b.c>", None),
            ("J. S <a@b.c>", None),
            ("\"a\\\"b\" <a@b.c>", None),
            ("\"a\n b\" <a@b.c>", None),
            ("A <@r:a@b.c>", None),
            ("A <a@b.c> (x)", None),
        ] {
            let element = Element::read(list.as_bytes());
            let seen = element.map(|(element, rest)| {
                assert!(
                    element
                        .raw
                        .windows(element.address.len())
                        .any(|part| part == element.address)
                );
                (element.raw, element.name, rest)
            });
            let want = want.map(|(raw, name, rest)| {
                (raw.as_bytes(), name.map(str::as_bytes), rest.as_bytes())
            });
            assert_eq!(seen, want, "{list:?}");
        }
    }
}
