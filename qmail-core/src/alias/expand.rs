//! Looking an address up in a forwarding database, down to the last recipient (fastforward(1)).

use std::borrow::Cow;
use std::collections::HashSet;

use super::list::entries;
use crate::cdb::{ReadError, Table};

/// What an address stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// Programs to run, in order, each with its first octet: `|` for the message alone, `!` for the message with the lines of
    /// preline(1) in front.
    pub programs: Vec<Vec<u8>>,
    /// Who gets the message, in order, each once.
    pub recipients: Vec<Vec<u8>>,
    /// The owner of the address, who becomes the sender unless the message is a bounce.
    pub owner: Option<Vec<u8>>,
    /// A list was read; it may have been empty.
    pub had_list: bool,
}

/// Why an address was not expanded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError<E> {
    /// The database cannot be read.
    #[error(transparent)]
    Cdb(#[from] ReadError),
    /// A record of the database is not what setforward(1) writes.
    #[error("the database holds commands that are none")]
    BadRecord,
    /// A list cannot be read.
    #[error("{0}")]
    List(E),
}

/// Finds out what an address stands for. `None` if it is not in the database.
///
/// The address itself is looked for as `user@host`, then `@host`, then `user@`. What it leads to is looked for as it stands; an
/// address that has an owner of its own is mailed to rather than expanded, so that its mail gets that owner as sender. Every
/// address and list is handled once, so loops end. `read_list` gives the octets of a binary list.
///
/// ```
/// use std::io::Cursor;
/// use qmail_core::alias::{expand, forwards};
/// use qmail_core::cdb::{Cdb, Writer};
/// let mut writer = Writer::new(Cursor::new(Vec::new()))?;
/// for record in forwards(b"root@: ann@example.org, joe@example.net; joe@example.net: joe@x.example;")? {
///     writer.add(&record.key, &record.data)?;
/// }
/// let cdb = Cdb::new(writer.finish()?.into_inner())?;
/// let expansion = expand(&cdb, b"Root@example.org", |_| Err("no lists"))?.expect("it is there");
/// assert_eq!(expansion.recipients, [&b"ann@example.org"[..], b"joe@x.example"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`ExpandError`].
pub fn expand<E>(
    cdb: &impl Table,
    address: &[u8],
    mut read_list: impl FnMut(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Option<Expansion>, ExpandError<E>> {
    let Some(commands) = search(cdb, b':', address)? else {
        return Ok(None);
    };
    let mut expansion = Expansion {
        owner: search(cdb, b'?', address)?.map(Cow::into_owned),
        ..Expansion::default()
    };
    let mut work = Vec::new();
    expansion.take(&commands, &mut work)?;
    let mut seen = HashSet::new();
    while let Some(next) = work.pop() {
        if !seen.insert(next.clone()) {
            continue;
        }
        let Some(address) = next.strip_prefix(b"&") else {
            expansion.had_list = true;
            let list = read_list(&next).map_err(ExpandError::List)?;
            work.extend(entries(&list).rev().map(<[u8]>::to_vec));
            continue;
        };
        match get(cdb, b':', address)? {
            Some(commands) if get(cdb, b'?', address)?.is_none() => {
                expansion.take(&commands, &mut work)?;
            }
            _ => expansion.recipients.push(address.to_vec()),
        }
    }
    Ok(Some(expansion))
}

impl Expansion {
    /// Sorts commands: programs are kept, the rest is put on top of the work, the first of them topmost.
    fn take<E>(&mut self, commands: &[u8], work: &mut Vec<Vec<u8>>) -> Result<(), ExpandError<E>> {
        let commands = commands.strip_suffix(b"\0").ok_or(ExpandError::BadRecord)?;
        let first = work.len();
        for command in commands.split(|&octet| octet == 0) {
            match command.first() {
                Some(b'|' | b'!') => self.programs.push(command.to_vec()),
                Some(b'.' | b'/' | b'&') => work.push(command.to_vec()),
                _ => return Err(ExpandError::BadRecord),
            }
        }
        work[first..].reverse();
        Ok(())
    }
}

/// The ways to find the address that mail came for.
fn search<'c>(
    cdb: &'c impl Table,
    kind: u8,
    address: &[u8],
) -> Result<Option<Cow<'c, [u8]>>, ReadError> {
    let at = memchr::memrchr(b'@', address).unwrap_or(address.len());
    let (user, host) = address.split_at(at);
    let user = [user, b"@"].concat();
    for target in [address, host, &user] {
        if let Some(data) = get(cdb, kind, target)? {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn get<'c>(
    cdb: &'c impl Table,
    kind: u8,
    target: &[u8],
) -> Result<Option<Cow<'c, [u8]>>, ReadError> {
    let mut key = vec![kind];
    key.extend(target.iter().map(u8::to_ascii_lowercase));
    cdb.first(&key)
}
