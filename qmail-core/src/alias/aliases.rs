//! `/etc/aliases`, as newaliases(1) reads it.

use super::words::{read, tokens};
use super::{Record, TARGET_OCTETS_MAX, Word, WordsError};
use crate::header::HostRules;
use crate::header::token::Kind;

/// A mistake in an alias file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct AliasError {
    /// The first line of the alias it is in, counted from 1.
    pub line: usize,
    /// What it is.
    pub problem: AliasProblem,
}

/// What is wrong with an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AliasProblem {
    /// It cannot be read.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// Nobody gets its mail.
    #[error("alias without recipients")]
    NoRecipient,
    /// Mail cannot be appended to files here.
    #[error("file delivery is not supported")]
    File,
    /// Programs are not possible here: this is a list.
    #[error("program delivery is not supported in a list")]
    Program,
    /// More than [`TARGET_OCTETS_MAX`] octets.
    #[error("address longer than {TARGET_OCTETS_MAX} octets")]
    TooLong,
}

/// Reads an alias file: the records of its database, in order.
///
/// An alias without a host counts for all hosts: its target is `name@`. An alias `owner-name` also makes its own address the
/// owner of `name`.
///
/// ```
/// use qmail_core::alias::aliases;
/// use qmail_core::header::HostRules;
/// let rules = HostRules::standard(b"mail.example.org", b"example.org", b"example.org");
/// let records = aliases(b"postmaster: root\nnews: \"|post news\", ann@shop\n", &rules)?;
/// assert_eq!(records[0].key, b":postmaster@");
/// assert_eq!(records[0].data, b"&root@mail.example.org\0");
/// assert_eq!(records[1].data, b"!post news\0&ann@shop.example.org\0");
/// # Ok::<(), qmail_core::alias::AliasError>(())
/// ```
///
/// # Errors
///
/// The first mistake.
pub fn aliases(text: &[u8], rules: &HostRules) -> Result<Vec<Record>, AliasError> {
    let mut records = Vec::new();
    for (line, logical) in logical_lines(text) {
        read_alias(&logical, rules, &mut records)
            .map_err(|problem| AliasError { line, problem })?;
    }
    Ok(records)
}

/// The lines with those that continue them, and the numbers of the first. Comments are left out with what continues them.
fn logical_lines(text: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut lines: Vec<(usize, Vec<u8>)> = Vec::new();
    for (number, line) in (1..).zip(text.split(|&octet| octet == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line.first(), lines.last_mut()) {
            (None, _) => {}
            (Some(b' ' | b'\t'), Some((_, logical))) => {
                logical.push(b'\n');
                logical.extend_from_slice(line);
            }
            _ => lines.push((number, line.to_vec())),
        }
    }
    lines.retain(|(_, logical)| logical.first() != Some(&b'#'));
    lines
}

fn read_alias(
    line: &[u8],
    rules: &HostRules,
    records: &mut Vec<Record>,
) -> Result<(), AliasProblem> {
    let tokens = tokens(line)?;
    // The alias ends at its colon; without one the first word is the alias all the same.
    let colon = tokens.iter().position(|token| token.kind == Kind::Colon);
    let (alias, recipients) = match colon {
        Some(colon) => (read(&tokens[..colon])?, read(&tokens[colon + 1..])?),
        None => {
            let mut words = read(&tokens)?.into_iter();
            (words.by_ref().take(1).collect(), words.collect())
        }
    };
    let mut words = alias.into_iter();
    let Some(alias) = words.next() else {
        return if recipients.is_empty() {
            Ok(())
        } else {
            Err(AliasProblem::NoRecipient)
        };
    };
    let mut data = Vec::new();
    for word in words.chain(recipients) {
        command(&word, rules, &mut data)?;
    }
    if data.is_empty() {
        return Err(AliasProblem::NoRecipient);
    }
    let mut target = alias.octets.to_ascii_lowercase();
    if !alias.has_host {
        target.push(b'@');
    }
    if target.len() > TARGET_OCTETS_MAX {
        return Err(AliasProblem::TooLong);
    }
    if let Some(owned) = target.strip_prefix(b"owner-") {
        records.push(Record {
            key: [b"?", owned].concat(),
            data: alias.address(rules),
        });
    }
    records.push(Record {
        key: [b":", &target[..]].concat(),
        data,
    });
    Ok(())
}

/// Appends what a recipient of an alias is in the database.
fn command(word: &Word, rules: &HostRules, data: &mut Vec<u8>) -> Result<(), AliasProblem> {
    let start = data.len();
    if word.is_list {
        data.extend(word.list_name());
        data.extend_from_slice(b".bin");
    } else if let Some(program) = word.program() {
        data.push(b'!');
        data.extend_from_slice(program);
    } else {
        address(word, rules, data)?;
    }
    end_entry(start, data)
}

/// Reads the text of a list for newinclude(1): a binary list.
///
/// Lines starting with `#` are ignored. `:include:name` names another binary list, as it stands there.
///
/// # Errors
///
/// The first mistake; a program or a file is one.
pub fn include_list(text: &[u8], rules: &HostRules) -> Result<Vec<u8>, AliasError> {
    let mut list = Vec::new();
    for (line, octets) in (1..).zip(text.split(|&octet| octet == b'\n')) {
        if octets.first() != Some(&b'#') {
            include_line(octets, rules, &mut list)
                .map_err(|problem| AliasError { line, problem })?;
        }
    }
    Ok(list)
}

fn include_line(line: &[u8], rules: &HostRules, list: &mut Vec<u8>) -> Result<(), AliasProblem> {
    for word in super::words(line)? {
        let start = list.len();
        if word.is_list {
            list.extend(word.list_name());
        } else if word.program().is_some() {
            return Err(AliasProblem::Program);
        } else {
            address(&word, rules, list)?;
        }
        end_entry(start, list)?;
    }
    Ok(())
}

fn address(word: &Word, rules: &HostRules, sink: &mut Vec<u8>) -> Result<(), AliasProblem> {
    if word.is_file() {
        return Err(AliasProblem::File);
    }
    sink.push(b'&');
    sink.extend(word.address(rules));
    Ok(())
}

fn end_entry(start: usize, sink: &mut Vec<u8>) -> Result<(), AliasProblem> {
    if sink.len() - start > TARGET_OCTETS_MAX {
        return Err(AliasProblem::TooLong);
    }
    sink.push(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let rules = HostRules::standard(b"h.example", b"example", b"plus.example");
        match aliases(text.as_bytes(), &rules) {
            Ok(records) => {
                let records = records.iter().map(|record| {
                    format!(
                        "{}={}",
                        record.key.escape_ascii(),
                        record.data.escape_ascii()
                    )
                });
                records.collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn aliases_become_records() {
        for (text, want) in [
            ("", ""),
            ("# a: b\n c: d\n", ""),
            ("a: b", ":a@=&b@h.example\\x00"),
            ("A b", ":a@=&b@h.example\\x00"),
            ("a:\n\n  b@c.d,\n e\n", ":a@=&b@c.d\\x00&e@h.example\\x00"),
            ("@x.y: b@c.d", ":@x.y=&b@c.d\\x00"),
            ("a: :include:l", ":a@=./l.bin\\x00"),
            ("a: \"|x y\"", ":a@=!x y\\x00"),
            (
                "owner-l: bob",
                "?l@=owner-l@h.example :owner-l@=&bob@h.example\\x00",
            ),
            ("\n\na:\n", "line 3: alias without recipients"),
            ("a: /b", "line 1: file delivery is not supported"),
            ("a: (b", "line 1: unbalanced quote, bracket or parenthesis"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn lists_have_neither_programs_nor_files() {
        let rules = HostRules::standard(b"h.example", b"example", b"plus.example");
        let list = include_list(b"# c\nbob, A <a@b.c>\n:include:x.bin", &rules);
        assert_eq!(list.unwrap(), b"&bob@h.example\0&a@b.c\0./x.bin\0");
        for (text, line, problem) in [
            (&b"\n\"|x\""[..], 2, AliasProblem::Program),
            (b"/x", 1, AliasProblem::File),
        ] {
            assert_eq!(
                include_list(text, &rules),
                Err(AliasError { line, problem })
            );
        }
    }
}
