//! Which instruction file serves an address.

use super::Mailbox;
use crate::ReversePath;

/// A file to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, relative to the home directory. An extension with a slash names a file in a subdirectory.
    pub name: Vec<u8>,
    /// What `DEFAULT` is if this file serves: the part of the extension that the file name leaves open. `None` leaves it
    /// unset.
    pub default: Option<Vec<u8>>,
}

/// The files to try for a mailbox, in order; the first that is a regular file serves (dot-qmail(5)).
///
/// At most one more than the extension has dashes, and two.
#[derive(Clone, Debug)]
pub struct Candidates<'a> {
    extension: &'a [u8],
    /// `.qmail`, the dash, and the extension as file names have it.
    base: Vec<u8>,
    /// Where the extension starts in `base`.
    start: usize,
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Exact,
    /// The longest default file to look at still has so much of the extension.
    Default(usize),
    Nothing,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(dash: &[u8], extension: &'a [u8]) -> Self {
        let (base, start) = base_name(dash, extension);
        Self {
            extension,
            base,
            start,
            next: Next::Exact,
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        match self.next {
            Next::Exact => {
                self.next = Next::Default(self.extension.len());
                let named = self.base[self.start..].ends_with(DEFAULT);
                let at = self.extension.len().saturating_sub(DEFAULT.len());
                Some(Candidate {
                    name: self.base.clone(),
                    default: named.then(|| self.extension[at..].to_vec()),
                })
            }
            Next::Default(most) => {
                let safe = &self.base[self.start..];
                let octets = safe[..most].iter().rposition(|&octet| octet == b'-');
                let octets = octets.map_or(0, |dash| dash + 1);
                self.next = match octets {
                    0 => Next::Nothing,
                    octets => Next::Default(octets - 1),
                };
                Some(Candidate {
                    name: [&self.base[..self.start + octets], DEFAULT].concat(),
                    default: Some(self.extension[octets..].to_vec()),
                })
            }
            Next::Nothing => None,
        }
    }
}

/// What owner files there are for a mailbox. A file of any kind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// None: forwards keep their sender.
    Nobody,
    /// `-owner` alone: it becomes the sender of forwards.
    Owner,
    /// `-owner-default` too: each recipient gets a sender of its own (VERP).
    PerRecipient,
}

impl Mailbox {
    /// The instruction files to try.
    ///
    /// ```
    /// # use qmail_core::dot_qmail::Mailbox;
    /// let mailbox = Mailbox { dash: "-".into(), extension: "List-A.B".into(), ..Mailbox::default() };
    /// let names: Vec<_> = mailbox.candidates().map(|file| String::from_utf8(file.name).unwrap()).collect();
    /// assert_eq!(names, [".qmail-list-a:b", ".qmail-list-default", ".qmail-default"]);
    /// ```
    pub fn candidates(&self) -> Candidates<'_> {
        Candidates::new(&self.dash, &self.extension)
    }

    /// The names of the owner's file and of the file that asks for VERP. The whole extension is in them, even if a default
    /// file serves.
    pub fn owner_files(&self) -> [Vec<u8>; 2] {
        let (base, _) = base_name(&self.dash, &self.extension);
        [
            [&base[..], b"-owner"].concat(),
            [&base[..], b"-owner-default"].concat(),
        ]
    }

    /// The sender of forwards. A bounce keeps its own, whoever owns the list: bounces of bounces must stay what they are.
    ///
    /// ```
    /// # use qmail_core::{ReversePath, dot_qmail::{Mailbox, Owner}};
    /// let list = Mailbox { local: "list".into(), host: "example.org".into(), ..Mailbox::default() };
    /// let ann = ReversePath::new("ann@example.net")?;
    /// assert_eq!(list.new_sender(&ann, Owner::Owner), b"list-owner@example.org");
    /// assert_eq!(list.new_sender(&ann, Owner::PerRecipient), b"list-owner-@example.org-@[]");
    /// assert_eq!(list.new_sender(&ReversePath::Null, Owner::Owner), b"");
    /// # Ok::<(), qmail_core::AddressError>(())
    /// ```
    pub fn new_sender(&self, sender: &ReversePath, owner: Owner) -> Vec<u8> {
        let (behind_local, behind_host) = match owner {
            _ if matches!(sender.as_bytes(), b"" | b"#@[]") => return sender.as_bytes().to_vec(),
            Owner::Nobody => return sender.as_bytes().to_vec(),
            Owner::Owner => (&b"-owner@"[..], &b""[..]),
            Owner::PerRecipient => (&b"-owner-@"[..], &b"-@[]"[..]),
        };
        [&self.local[..], behind_local, &self.host, behind_host].concat()
    }
}

/// The name of the exact file, and where the extension starts in it. Lower case, and no dots: no extension can climb out of
/// its directory.
fn base_name(dash: &[u8], extension: &[u8]) -> (Vec<u8>, usize) {
    let mut base = [b".qmail", dash].concat();
    let start = base.len();
    base.extend(extension.iter().map(|octet| match octet {
        b'.' => b':',
        octet => octet.to_ascii_lowercase(),
    }));
    (base, start)
}

const DEFAULT: &[u8] = b"default";

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(dash: &'static str, extension: &'static str) -> String {
        let mailbox = Mailbox {
            dash: dash.into(),
            extension: extension.into(),
            ..Mailbox::default()
        };
        let shown = mailbox.candidates().map(|candidate| {
            let name = String::from_utf8(candidate.name).unwrap();
            match candidate.default {
                Some(default) => format!("{name}={}", String::from_utf8(default).unwrap()),
                None => name,
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_order_of_the_search() {
        for (dash, extension, want) in [
            ("", "", ".qmail .qmaildefault="),
            (
                "-",
                "a-b-c",
                ".qmail-a-b-c .qmail-a-b-default=c .qmail-a-default=b-c .qmail-default=a-b-c",
            ),
            ("-", "a-", ".qmail-a- .qmail-a-default= .qmail-default=a-"),
            ("-", "-", ".qmail-- .qmail--default= .qmail-default=-"),
            ("-", "A.B", ".qmail-a:b .qmail-default=A.B"),
            (
                "-",
                "x-../y",
                ".qmail-x-::/y .qmail-x-default=../y .qmail-default=x-../y",
            ),
            (
                "-",
                "f-Default",
                ".qmail-f-default=Default .qmail-f-default=Default .qmail-default=f-Default",
            ),
            ("-/", "o", ".qmail-/o .qmail-/default=o"),
        ] {
            assert_eq!(tried(dash, extension), want);
        }
    }

    #[test]
    fn owners_have_the_whole_extension() {
        let mailbox = Mailbox {
            dash: "-".into(),
            extension: "L.x-y".into(),
            ..Mailbox::default()
        };
        let [owner, per_recipient] = mailbox.owner_files();
        assert_eq!(owner, b".qmail-l:x-y-owner");
        assert_eq!(per_recipient, b".qmail-l:x-y-owner-default");
    }
}
