//! Who a local address belongs to: `users/assign` and `users/cdb` (qmail-users(5)).
//!
//! A line `=local:user:uid:gid:home:dash:ext:` gives one address to a user, `+prefix:user:uid:gid:home:dash:pre:` all that
//! begin with the prefix. Case of the local part does not matter. An exact line wins over every prefix, a longer prefix
//! over a shorter one, and of equal lines the first.

use std::io::{self, Seek, Write};

use bytes::Bytes;

use crate::cdb::{Cdb, CdbError, Writer};
use crate::control::Warning;

/// Longest local part in octets that is looked up. Every prefix may cost a lookup; longer ones belong to nobody.
pub const LOCAL_PART_OCTETS_MAX: usize = crate::ADDRESS_OCTETS_MAX;

/// The user of an address, and what its mail store needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Account name.
    pub user: Bytes,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
    /// Home directory, an absolute path.
    pub home: Bytes,
    /// `-` if there is an extension, else empty; other values name a subdirectory.
    pub dash: Bytes,
    /// The extension: of a prefix line its own, followed by the unmatched rest of the address in its original case.
    pub extension: Bytes,
}

/// The table of users, as `users/cdb` holds it.
///
/// ```
/// use qmail_core::users::Assignments;
/// let assignments = Assignments::parse(b"+ann-:ann:501:100:/home/ann:-::\n.\n")?;
/// let ann = assignments.find(b"Ann-Shop")?.expect("a prefix line");
/// assert_eq!((&ann.user[..], &ann.extension[..]), (&b"ann"[..], &b"Shop"[..]));
/// assert!(assignments.find(b"ann")?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Assignments {
    cdb: Cdb<Bytes>,
    /// The last octets that prefixes may have: only there a lookup is worthwhile.
    wildcards: Bytes,
}

/// Why `users/assign` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssignError {
    /// A line has no colon, nothing before the first one, fewer than seven, a NUL, or a home that does not start with `/`.
    #[error("bad format in users/assign: {0}")]
    BadLine(Warning),
    /// There is no line that starts with a dot: the file may have been cut short.
    #[error("bad format in users/assign: no line with a dot at the end; write `.` there")]
    NoDot,
    /// The table would pass 4 GiB.
    #[error("users/assign is too large")]
    TooLarge,
}

/// Why a lookup gives no answer. Not the same as an address that nobody has: try again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file is damaged.
    #[error("trouble reading users/cdb")]
    Cdb(#[from] CdbError),
    /// The file is no table of users: the list of prefix ends is missing.
    #[error("users/cdb is no table of users; run qmail-newu")]
    NoWildcards,
    /// A record has too few fields, or an id is no number.
    #[error("users/cdb has a bad record for `{}`; correct users/assign and run qmail-newu", crate::Escaped(.0))]
    BadRecord(Vec<u8>),
}

impl Assignments {
    /// Reads `users/assign`.
    ///
    /// # Errors
    ///
    /// As [`AssignError`]: nothing of a bad file is used.
    pub fn parse(assign: &[u8]) -> Result<Self, AssignError> {
        let file = write_cdb(assign, io::Cursor::new(Vec::new())).map_err(|error| match error {
            WriteError::Assign(error) => error,
            // A cursor fails in one way only.
            WriteError::Io(_) => AssignError::TooLarge,
        })?;
        Self::open(Bytes::from(file.into_inner())).map_err(|_| AssignError::TooLarge)
    }

    /// Takes the octets of `users/cdb`.
    ///
    /// # Errors
    ///
    /// It is no table of users.
    pub fn open(file: Bytes) -> Result<Self, UsersError> {
        let cdb = Cdb::new(file)?;
        let wildcards = cdb.get(b"")?.ok_or(UsersError::NoWildcards)?;
        // The classic qmail-newu leaves capitals as they are.
        let wildcards = Bytes::from(wildcards.to_ascii_lowercase());
        Ok(Self { cdb, wildcards })
    }

    /// Whom the address with this local part belongs to; `None` if nobody has it in the table.
    ///
    /// # Errors
    ///
    /// The table is damaged where the answer would be.
    pub fn find(&self, local_part: &[u8]) -> Result<Option<Assignment>, UsersError> {
        if local_part.len() > LOCAL_PART_OCTETS_MAX {
            return Ok(None);
        }
        let mut key = Vec::with_capacity(local_part.len() + 2);
        key.push(b'!');
        key.extend(local_part.iter().map(u8::to_ascii_lowercase));
        key.push(0);
        if let Some(record) = self.cdb.get(&key)? {
            return assignment(record, b"", local_part).map(Some);
        }
        key.pop();
        loop {
            let last = key[key.len() - 1];
            if (key.len() == 1 || self.wildcards.contains(&last))
                && let Some(record) = self.cdb.get(&key)?
            {
                return assignment(record, &local_part[key.len() - 1..], local_part).map(Some);
            }
            if key.len() == 1 {
                return Ok(None);
            }
            key.pop();
        }
    }
}

/// The fields of a record, the rest of a local part after the extension.
fn assignment(record: &[u8], rest: &[u8], local_part: &[u8]) -> Result<Assignment, UsersError> {
    let bad = || UsersError::BadRecord(local_part.to_vec());
    let mut fields = record.split(|&octet| octet == 0);
    let mut field = || fields.next().ok_or_else(bad);
    let user = Bytes::copy_from_slice(field()?);
    let uid = id(field()?).ok_or_else(bad)?;
    let gid = id(field()?).ok_or_else(bad)?;
    let home = Bytes::copy_from_slice(field()?);
    let dash = Bytes::copy_from_slice(field()?);
    let extension = Bytes::from([field()?, rest].concat());
    Ok(Assignment {
        user,
        uid,
        gid,
        home,
        dash,
        extension,
    })
}

fn id(digits: &[u8]) -> Option<u32> {
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Why [`write_cdb`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The input is at fault.
    #[error(transparent)]
    Assign(#[from] AssignError),
    /// The sink is.
    #[error("unable to write users/cdb")]
    Io(#[from] io::Error),
}

/// Makes `users/cdb` of `users/assign`, as qmail-newu does. Sync and rename are left to the caller.
///
/// Keys are `!local` NUL for exact lines and `!prefix` for the others, in lower case; the last record has the empty key
/// and tells which octets prefixes end in.
///
/// # Errors
///
/// A bad line, or a failed write. What was written must not be used.
pub fn write_cdb<W: Write + Seek>(assign: &[u8], sink: W) -> Result<W, WriteError> {
    let mut writer = Writer::new(sink)?;
    let mut wildcards = Vec::new();
    let mut seen = [false; 256];
    let mut key = Vec::new();
    let mut ended = false;
    for (number, line) in (1..).zip(assign.split(|&octet| octet == b'\n')) {
        if line.first() == Some(&b'.') {
            ended = true;
            break;
        }
        let Some((name, record)) = split_line(line) else {
            // What follows the last LF is no line; it is the dot that is missing.
            if line.is_empty() && number == 1 + memchr::memchr_iter(b'\n', assign).count() {
                break;
            }
            let warning = Warning::new(number, line, crate::control::Problem::BadAssignment);
            return Err(AssignError::BadLine(warning).into());
        };
        key.clear();
        key.push(b'!');
        key.extend(name[1..].iter().map(u8::to_ascii_lowercase));
        if name[0] != b'+' {
            key.push(0);
        } else if let Some(&last) = key[1..].last()
            && !std::mem::replace(&mut seen[usize::from(last)], true)
        {
            // In lower case as the keys are: a capital would never be met.
            wildcards.push(last);
        }
        let record: Vec<u8> = record
            .iter()
            .map(|&octet| if octet == b':' { 0 } else { octet })
            .collect();
        writer.add(&key, &record)?;
    }
    if !ended {
        return Err(AssignError::NoDot.into());
    }
    writer.add(b"", &wildcards)?;
    Ok(writer.finish()?)
}

/// The part before the first colon, and the six fields after it with the colons between them.
fn split_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut colons = memchr::memchr_iter(b':', line);
    let first = colons.next().filter(|&first| first > 0)?;
    let seventh = colons.nth(5)?;
    let record = &line[first + 1..seventh];
    // What a home is relative to nobody could tell.
    let home = record.split(|&octet| octet == b':').nth(3)?;
    let good = home.starts_with(b"/") && memchr::memchr(0, line).is_none();
    good.then(|| (&line[..first], record))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGN: &[u8] = b"=joe:joe:500:100:/home/joe:::\n\
        +joe-:joe:500:100:/home/joe:-::\n\
        +joe-list-:lists:502:100:/home/lists:-:l-:\n\
        =Joe-x:ann:501:100:/home/ann:-:fixed:comment\n\
        =joe:late:1:1:/:::\n\
        +bigX:big:7:7:/big:-:pre:\n\
        +:alias:600:600:/var/qmail/alias:-::\n\
        .\nanything\n";

    fn found(assignments: &Assignments, local: &str) -> String {
        match assignments.find(local.as_bytes()).unwrap() {
            None => "nobody".to_owned(),
            Some(Assignment {
                user,
                uid,
                gid,
                home,
                dash,
                extension,
            }) => {
                let text = [&user[..], b" ", &home, b" ", &dash, b" ", &extension].concat();
                format!("{uid} {gid} {}", crate::Escaped(&text))
            }
        }
    }

    #[test]
    fn the_best_line_wins() {
        let assignments = Assignments::parse(ASSIGN).unwrap();
        for (local, want) in [
            ("joe", "500 100 joe /home/joe  "),
            ("JOE", "500 100 joe /home/joe  "),
            ("joe-", "500 100 joe /home/joe - "),
            ("Joe-Shop", "500 100 joe /home/joe - Shop"),
            ("joe-X", "501 100 ann /home/ann - fixed"),
            ("joe-x-y", "500 100 joe /home/joe - x-y"),
            ("joe-list-Qmail", "502 100 lists /home/lists - l-Qmail"),
            ("bigxy", "7 7 big /big - prey"),
            ("nobody", "600 600 alias /var/qmail/alias - nobody"),
            ("", "600 600 alias /var/qmail/alias - "),
        ] {
            assert_eq!(found(&assignments, local), want, "{local}");
        }
        let long = vec![b'-'; LOCAL_PART_OCTETS_MAX + 1];
        assert_eq!(assignments.find(&long), Ok(None));
        let empty = Assignments::parse(b".\n").unwrap();
        assert_eq!(found(&empty, "joe"), "nobody");
    }

    #[test]
    fn the_table_is_that_of_newu() {
        let file = write_cdb(ASSIGN, io::Cursor::new(Vec::new()))
            .unwrap()
            .into_inner();
        let cdb = Cdb::new(file).unwrap();
        let records: Vec<_> = cdb.iter().map(|record| record.unwrap()).collect();
        assert_eq!(
            records[0],
            (&b"!joe\0"[..], &b"joe\x00500\x00100\0/home/joe\0\0"[..])
        );
        assert_eq!(records[2].0, b"!joe-list-");
        assert_eq!(
            records[3],
            (
                &b"!joe-x\0"[..],
                &b"ann\x00501\x00100\0/home/ann\0-\0fixed"[..]
            )
        );
        assert_eq!(
            records[6],
            (
                &b"!"[..],
                &b"alias\x00600\x00600\0/var/qmail/alias\0-\0"[..]
            )
        );
        assert_eq!(records[7], (&b""[..], &b"-x"[..]));
    }

    #[test]
    fn a_bad_file_is_refused_whole() {
        for (assign, error) in [
            (
                "",
                "bad format in users/assign: no line with a dot at the end; write `.` there",
            ),
            (
                "=a:b:1:1:/:::\n",
                "bad format in users/assign: no line with a dot at the end; write `.` there",
            ),
            (
                "=a:b:1:1:/:::\n=a:b:1:1:/::\n.\n",
                "bad format in users/assign: line 2, `=a:b:1:1:/::`: not seven colons; \
                 write =LOCAL:USER:UID:GID:HOME:DASH:EXT:",
            ),
            (
                "\n.\n",
                "bad format in users/assign: line 1, ``: not seven colons; write =LOCAL:USER:UID:GID:HOME:DASH:EXT:",
            ),
        ] {
            assert_eq!(
                Assignments::parse(assign.as_bytes())
                    .unwrap_err()
                    .to_string(),
                error
            );
        }
        for assign in [
            &b":b:1:1:/::::\n.\n"[..],
            b"=a\0:b:1:1:/:::\n.\n",
            b"no colon\n.\n",
        ] {
            assert!(matches!(
                Assignments::parse(assign),
                Err(AssignError::BadLine(_))
            ));
        }
    }

    #[test]
    fn a_table_that_is_none_is_noticed() {
        assert_eq!(
            Assignments::open(Bytes::new()).unwrap_err(),
            UsersError::Cdb(CdbError::Short)
        );
        let empty = Bytes::from(vec![0; 2048]);
        assert_eq!(
            Assignments::open(empty).unwrap_err(),
            UsersError::NoWildcards
        );
        let mut writer = Writer::new(io::Cursor::new(Vec::new())).unwrap();
        writer.add(b"!joe\0", b"joe\x00500").unwrap();
        writer.add(b"!ann\0", b"ann\x00-1\x00100\0/\0\0").unwrap();
        writer.add(b"", b"").unwrap();
        let file = writer.finish().unwrap().into_inner();
        let assignments = Assignments::open(file.into()).unwrap();
        for local in [&b"joe"[..], b"ann"] {
            assert_eq!(
                assignments.find(local),
                Err(UsersError::BadRecord(local.to_vec()))
            );
        }
        assert_eq!(assignments.find(b"eve"), Ok(None));
    }
}
