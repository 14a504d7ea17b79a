//! Rules on who may connect, and what a program is told of it: the text and the cdb of tcprules(1).
//!
//! | step | use |
//! |---|---|
//! | a line of text into records of the cdb | [`records`] |
//! | the rule for a peer | [`find`] |
//! | what it says | [`Rule`] |
//!
//! A record's data is `D` NUL for a refusal, and `+NAME=VALUE` NUL for each variable. Nothing here opens a file.

use std::net::Ipv6Addr;

use crate::cdb::{Cdb, CdbError};
use crate::control::suffixes;
use crate::decimal::push_decimal;

/// The records that a line of rules stands for: key and data, in the order in which they go into the cdb.
///
/// A line is `ADDRESS:allow` or `ADDRESS:deny`, then any number of `,NAME=QVALUEQ`, where Q is any octet that VALUE does
/// not hold. Blanks at its end do not count. A comment (`#`), an empty line and a line without colon are no records.
///
/// `10.1-3.` stands for `10.1.`, `10.2.` and `10.3.`; the upper end is at most 255, and a range whose ends are the wrong
/// way round is empty. An address with `=` or `@` has no ranges: names hold hyphens. IPv6 addresses become what TCPREMOTEIP
/// has. Of one that stands for many the colons count, and the case is all that is mended: `2001:DB8::deny` is for all that begin with
/// `2001:db8:`.
///
/// ```
/// use qmail_core::tcprules::records;
/// let found = records(b"10.1-2.:allow,RELAYCLIENT=\"\"").unwrap();
/// assert_eq!(found[0].key, b"10.1.");
/// assert_eq!(found[0].data, b"+RELAYCLIENT=\0");
/// assert_eq!(found[1].key, b"10.2.");
/// assert!(records(b"10.:permit").is_err());
/// ```
///
/// # Errors
///
/// The line is none of these.
pub fn records(line: &[u8]) -> Result<Vec<Record>, BadRule> {
    let line = trimmed(line);
    if line.first() == Some(&b'#') {
        return Ok(Vec::new());
    }
    if memchr::memchr(b':', line).is_none() {
        return Ok(Vec::new());
    }
    // IPv6 addresses have colons of their own: the first one that an instruction follows is meant.
    let instructed = |colon: &usize| {
        let rest = &line[colon + 1..];
        rest.starts_with(b"deny") || rest.starts_with(b"allow")
    };
    let mut colons = memchr::memchr_iter(b':', line);
    let colon = colons.find(instructed).ok_or(BadRule)?;
    let data = data(&line[colon + 1..])?;
    let keys = keys(&line[..colon])?;
    let record = |key| Record {
        key,
        data: data.clone(),
    };
    Ok(keys.into_iter().map(record).collect())
}

/// A record of the cdb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The address.
    pub key: Vec<u8>,
    /// The instructions.
    pub data: Vec<u8>,
}

/// A line that is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse this line")]
pub struct BadRule;

/// Largest number in a range: an octet of an address.
const RANGE_END_MAX: u64 = 255;

fn trimmed(line: &[u8]) -> &[u8] {
    let blank = |&octet: &u8| matches!(octet, b' ' | b'\t' | b'\n');
    let end = line.iter().rposition(|octet| !blank(octet));
    &line[..end.map_or(0, |last| last + 1)]
}

fn data(instructions: &[u8]) -> Result<Vec<u8>, BadRule> {
    let (mut data, mut rest) = if let Some(rest) = instructions.strip_prefix(b"deny") {
        (b"D\0".to_vec(), rest)
    } else {
        let rest = instructions.strip_prefix(b"allow").ok_or(BadRule)?;
        (Vec::new(), rest)
    };
    while !rest.is_empty() {
        let setting = rest.strip_prefix(b",").ok_or(BadRule)?;
        let equals = memchr::memchr(b'=', setting).ok_or(BadRule)?;
        let (&quote, value) = setting[equals + 1..].split_first().ok_or(BadRule)?;
        let end = memchr::memchr(quote, value).ok_or(BadRule)?;
        // A NUL would end the setting in the cdb, and what follows would be another instruction.
        if memchr::memchr(0, &setting[..equals]).is_some() || value[..end].contains(&0) {
            return Err(BadRule);
        }
        data.push(b'+');
        data.extend_from_slice(&setting[..=equals]);
        data.extend_from_slice(&value[..end]);
        data.push(0);
        rest = &value[end + 1..];
    }
    Ok(data)
}

fn keys(address: &[u8]) -> Result<Vec<Vec<u8>>, BadRule> {
    if let Some(key) = ipv6_key(address) {
        return Ok(vec![key]);
    }
    let hyphen = match memchr::memchr(b'-', address) {
        Some(hyphen) if memchr::memchr2(b'=', b'@', address).is_none() => hyphen,
        _ => return Ok(vec![address.to_vec()]),
    };
    let before = &address[..hyphen];
    let start = memchr::memrchr(b'.', before).map_or(0, |dot| dot + 1);
    let after = &address[hyphen + 1..];
    let end = memchr::memchr(b'.', after).unwrap_or(after.len());
    let first = number(&before[start..])?;
    let last = number(&after[..end])?.min(RANGE_END_MAX);
    Ok((first..=last)
        .map(|octet| {
            let mut key = before[..start].to_vec();
            push_decimal(&mut key, octet);
            key.extend_from_slice(&after[end..]);
            key
        })
        .collect())
}

/// The key of an IPv6 address, perhaps behind an ident answer, as TCPREMOTEIP has it, or of the beginning of one in lower case.
fn ipv6_key(address: &[u8]) -> Option<Vec<u8>> {
    let start = memchr::memrchr(b'@', address).map_or(0, |at| at + 1);
    let (info, ip) = address.split_at(start);
    let in_ipv6 = |octet: &u8| octet.is_ascii_hexdigit() || matches!(octet, b':' | b'.');
    if memchr::memchr(b':', ip).is_none() || !ip.iter().all(in_ipv6) {
        return None;
    }
    let ip = std::str::from_utf8(ip).ok()?;
    let ip = match ip.parse::<Ipv6Addr>() {
        Ok(whole) => whole.to_string(),
        Err(_) => ip.to_ascii_lowercase(),
    };
    Some([info, ip.as_bytes()].concat())
}

/// A number; one too large to count is larger than any that matters.
fn number(digits: &[u8]) -> Result<u64, BadRule> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadRule);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BadRule)?;
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// Who connects.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its address, as TCPREMOTEIP has it.
    pub address: &'a [u8],
    /// Its name, as TCPREMOTEHOST has it.
    pub host: Option<&'a [u8]>,
    /// What its ident server says, as TCPREMOTEINFO has it.
    pub info: Option<&'a [u8]>,
}

/// The rule for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// The address that it stands under.
    pub key: Vec<u8>,
    data: &'a [u8],
}

impl<'a> Rule<'a> {
    /// What it says, in order.
    pub fn instructions(&self) -> impl Iterator<Item = Instruction<'a>> + use<'a> {
        let whole = match memchr::memrchr(0, self.data) {
            Some(end) => &self.data[..end],
            // Not made by tcprules: nothing in it is complete.
            None => &[],
        };
        whole.split(|&octet| octet == 0).filter_map(|instruction| {
            match instruction.split_first()? {
                (b'D', _) => Some(Instruction::Deny),
                (b'+', setting) => {
                    let equals = memchr::memchr(b'=', setting)?;
                    Some(Instruction::Set {
                        name: &setting[..equals],
                        value: &setting[equals + 1..],
                    })
                }
                _ => None,
            }
        })
    }

    /// Whether the peer is to be turned away.
    pub fn denies(&self) -> bool {
        self.instructions()
            .any(|instruction| instruction == Instruction::Deny)
    }
}

/// One thing that a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction<'a> {
    /// The peer is to be turned away.
    Deny,
    /// An environment variable for the program.
    Set {
        /// Its name.
        name: &'a [u8],
        /// Its value; may be empty.
        value: &'a [u8],
    },
}

/// The first rule that fits, from the most to the least particular; `None`: the peer is let in, and nothing is set.
///
/// | tried in this order | for example |
/// |---|---|
/// | info at address, info at name | `joe@192.0.2.1`, `joe@=a.example` |
/// | address, name | `192.0.2.1`, `=a.example` |
/// | beginnings of the address, ends of the name, longest first | `192.0.2.`, `=.example` |
/// | any that has a name, any | `=`, the empty address |
///
/// For an IPv6 address, beginnings end in a colon: `2001:db8:`.
///
/// ```
/// use qmail_core::{cdb, tcprules};
/// let mut writer = cdb::Writer::new(std::io::Cursor::new(Vec::new()))?;
/// for line in ["10.:allow", ":deny"] {
///     for record in tcprules::records(line.as_bytes())? {
///         writer.add(&record.key, &record.data)?;
///     }
/// }
/// let rules = cdb::Cdb::new(writer.finish()?.into_inner())?;
/// let peer = |address| tcprules::Peer { address, host: None, info: None };
/// assert!(!tcprules::find(&rules, peer(b"10.1.2.3"))?.unwrap().denies());
/// assert!(tcprules::find(&rules, peer(b"192.0.2.1"))?.unwrap().denies());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The cdb is damaged: turn the peer away.
pub fn find<'a, D: AsRef<[u8]>>(
    rules: &'a Cdb<D>,
    peer: Peer<'_>,
) -> Result<Option<Rule<'a>>, CdbError> {
    let named = |host: &[u8]| [b"=", host].concat();
    let mut keys = Vec::new();
    if let Some(info) = peer.info {
        keys.push([info, b"@", peer.address].concat());
        if let Some(host) = peer.host {
            keys.push([info, b"@=", host].concat());
        }
    }
    keys.push(peer.address.to_vec());
    keys.extend(peer.host.map(named));
    let ends = |octet: &u8| matches!(octet, b'.' | b':');
    let address = peer.address;
    keys.extend(
        (1..=address.len())
            .rev()
            .filter(|&end| ends(&address[end - 1]))
            .map(|end| address[..end].to_vec()),
    );
    if let Some(host) = peer.host {
        keys.extend(suffixes(host).map(named));
        keys.push(named(b""));
    }
    keys.push(Vec::new());
    for key in keys {
        if let Some(data) = rules.get(&key)? {
            return Ok(Some(Rule { key, data }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::cdb::Writer;

    fn shown(line: &str) -> String {
        match records(line.as_bytes()) {
            Err(error) => error.to_string(),
            Ok(records) => records
                .iter()
                .map(|Record { key, data }| {
                    format!("{} {};", key.escape_ascii(), data.escape_ascii())
                })
                .collect(),
        }
    }

    #[test]
    fn lines_become_records() {
        for (line, want) in [
            ("1.2.3.4:allow", "1.2.3.4 ;"),
            (":deny \t", " D\\x00;"),
            ("a:allow,A=\"b\",C=/d,\"/", "a +A=b\\x00+C=d,\\\"\\x00;"),
            ("a:deny,A=\"\"", "a D\\x00+A=\\x00;"),
            ("#a:deny", ""),
            ("", ""),
            ("no colon", ""),
            ("1.2-3.4:allow", "1.2.4 ;1.3.4 ;"),
            ("1.254-999:allow", "1.254 ;1.255 ;"),
            ("1.3-2.:allow", ""),
            ("=a-b.example:allow", "=a-b.example ;"),
            ("a-b@1.2.3.4:allow", "a-b@1.2.3.4 ;"),
            ("1.a-b:deny", "unable to parse this line"),
            ("2001:db8::1:deny", "2001:db8::1 D\\x00;"),
            ("2001:db8::deny", "2001:db8: D\\x00;"),
            ("2001:DB8:0:0::A:deny", "2001:db8::a D\\x00;"),
            ("Joe@2001:DB8:0::B:deny", "Joe@2001:db8::b D\\x00;"),
            ("2001:DB8:5::deny", "2001:db8:5: D\\x00;"),
            ("=2001:DB8:5::deny", "=2001:DB8:5: D\\x00;"),
            ("a:allow,A=\"b:deny", "unable to parse this line"),
            ("a:x:y", "unable to parse this line"),
            ("a:permit", "unable to parse this line"),
            ("a:allowed", "unable to parse this line"),
            ("a:allow,A=\"b", "unable to parse this line"),
            ("a:allow,A", "unable to parse this line"),
            ("a:allow,A=", "unable to parse this line"),
        ] {
            assert_eq!(shown(line), want, "{line}");
        }
    }

    #[test]
    fn the_most_particular_rule_counts() {
        let keys = [
            "joe@10.1.2.3",
            "joe@=h.a.example",
            "10.1.2.3",
            "=h.a.example",
            "10.1.2.",
            "10.",
            "=.a.example",
            "=.example",
            "=",
            "",
        ];
        for first in 0..keys.len() {
            let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
            for key in &keys[first..] {
                writer.add(key.as_bytes(), b"").unwrap();
            }
            let rules = Cdb::new(writer.finish().unwrap().into_inner()).unwrap();
            let peer = Peer {
                address: b"10.1.2.3",
                host: Some(b"h.a.example"),
                info: Some(b"joe"),
            };
            let rule = find(&rules, peer).unwrap().expect("one fits");
            assert_eq!(rule.key, keys[first].as_bytes());
            let stranger = Peer {
                address: b"192.0.2.1",
                host: None,
                info: None,
            };
            assert_eq!(find(&rules, stranger).unwrap().unwrap().key, b"");
        }
    }

    #[test]
    fn foreign_data_is_no_instruction() {
        for (data, count) in [
            (&b"D"[..], 0),
            (b"D\0", 1),
            (b"+A=b\0+C", 1),
            (b"+A\0", 0),
            (b"x\0\0", 0),
        ] {
            let rule = Rule {
                key: Vec::new(),
                data,
            };
            assert_eq!(
                rule.instructions().count(),
                count,
                "{}",
                data.escape_ascii()
            );
        }
    }
}
