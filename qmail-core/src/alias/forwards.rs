//! The text of forwarding databases: `target: command, command;` (setforward(1), printforward(1)).

use super::TARGET_OCTETS_MAX;

/// A record of a forwarding database.
///
/// The key is `:target` for commands, each of them followed by a NUL; or `?target` for the address of the owner. Targets are in
/// lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What is looked up.
    pub key: Vec<u8>,
    /// What is found.
    pub data: Vec<u8>,
}

/// Why text is no text of a forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardsError {
    /// A second colon in one instruction.
    #[error("line {0}: two colons without a semicolon between them; is one missing?")]
    TwoColons(usize),
    /// A comma or semicolon before the colon.
    #[error("line {0}: comma or semicolon before the colon")]
    NoColon(usize),
    /// A NUL.
    #[error("line {0}: NUL")]
    Nul(usize),
    /// A line feed in an address, which an escape has brought in.
    #[error("line {0}: line break in an address")]
    LineBreak(usize),
    /// More than [`TARGET_OCTETS_MAX`] octets.
    #[error("line {0}: address longer than {TARGET_OCTETS_MAX} octets")]
    TooLong(usize),
    /// The text ends inside an instruction.
    #[error("line {0}: the last instruction does not end with a semicolon")]
    Unfinished(usize),
    /// A record of a database has a key or data that no text makes.
    #[error("the database holds a record that is none")]
    BadRecord,
}

/// Reads instructions. `#` starts a comment, `\` takes away the meaning of the next octet, blanks and line ends mean nothing.
///
/// ```
/// use qmail_core::alias::forwards;
/// let records = forwards(b"Staff@example.org: ann@example.org, |log\\ it, ?owner@example.org; # done\n")?;
/// assert_eq!(records[0].key, b"?staff@example.org");
/// assert_eq!(records[1].data, b"&ann@example.org\0|log it\0");
/// # Ok::<(), qmail_core::alias::ForwardsError>(())
/// ```
///
/// # Errors
///
/// As [`ForwardsError`], with the number of the line.
pub fn forwards(text: &[u8]) -> Result<Vec<Record>, ForwardsError> {
    let mut reader = Reader {
        line: 1,
        target: None,
        word: Vec::new(),
        commands: Vec::new(),
        records: Vec::new(),
    };
    let mut octets = text.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            b'\n' => reader.line += 1,
            b' ' | b'\t' => {}
            b'#' => {
                octets.by_ref().find(|&octet| octet == b'\n');
                reader.line += 1;
            }
            b'\\' => match octets.next() {
                Some(octet) => reader.octet(octet)?,
                None => return Err(ForwardsError::Unfinished(reader.line)),
            },
            b':' => reader.colon()?,
            b',' => reader.end_of_command()?,
            b';' => reader.end_of_instruction()?,
            octet => reader.octet(octet)?,
        }
    }
    if reader.target.is_some() || !reader.word.is_empty() {
        return Err(ForwardsError::Unfinished(reader.line));
    }
    Ok(reader.records)
}

struct Reader {
    line: usize,
    /// In lower case, once its colon was read.
    target: Option<Vec<u8>>,
    word: Vec<u8>,
    commands: Vec<u8>,
    records: Vec<Record>,
}

impl Reader {
    fn octet(&mut self, octet: u8) -> Result<(), ForwardsError> {
        self.line += usize::from(octet == b'\n');
        match octet {
            0 => Err(ForwardsError::Nul(self.line)),
            octet => {
                self.word.push(octet);
                Ok(())
            }
        }
    }

    fn colon(&mut self) -> Result<(), ForwardsError> {
        let mut target = std::mem::take(&mut self.word);
        target.make_ascii_lowercase();
        if target.len() > TARGET_OCTETS_MAX {
            return Err(ForwardsError::TooLong(self.line));
        }
        match self.target.replace(target) {
            Some(_) => Err(ForwardsError::TwoColons(self.line)),
            None => Ok(()),
        }
    }

    fn end_of_command(&mut self) -> Result<(), ForwardsError> {
        let Some(target) = &self.target else {
            return Err(ForwardsError::NoColon(self.line));
        };
        let word = std::mem::take(&mut self.word);
        let is_address = !matches!(word.first(), Some(b'|' | b'!' | b'.' | b'/'));
        if is_address && word.len() > TARGET_OCTETS_MAX {
            return Err(ForwardsError::TooLong(self.line));
        }
        if is_address && word.contains(&b'\n') {
            return Err(ForwardsError::LineBreak(self.line));
        }
        match word.split_first() {
            None => {}
            Some((b'?', owner)) => self.records.push(Record {
                key: [b"?", &target[..]].concat(),
                data: owner.to_vec(),
            }),
            Some((&first, _)) => {
                if is_address && first != b'&' {
                    self.commands.push(b'&');
                }
                self.commands.extend_from_slice(&word);
                self.commands.push(0);
            }
        }
        Ok(())
    }

    fn end_of_instruction(&mut self) -> Result<(), ForwardsError> {
        self.end_of_command()?;
        let data = std::mem::take(&mut self.commands);
        if let Some(target) = self.target.take().filter(|_| !data.is_empty()) {
            self.records.push(Record {
                key: [b":", &target[..]].concat(),
                data,
            });
        }
        Ok(())
    }
}

/// Appends the text of one record, which [`forwards`] makes the same record of again.
///
/// # Errors
///
/// [`ForwardsError::BadRecord`].
pub fn describe(key: &[u8], data: &[u8], sink: &mut Vec<u8>) -> Result<(), ForwardsError> {
    match key.split_first() {
        Some((b'?', target)) => {
            write_escaped(target, sink);
            sink.extend_from_slice(b": ?");
            write_escaped(data, sink);
            sink.extend_from_slice(b";\n");
            Ok(())
        }
        Some((b':', target)) => {
            let commands = data.strip_suffix(b"\0").ok_or(ForwardsError::BadRecord)?;
            write_escaped(target, sink);
            sink.extend_from_slice(b":\n");
            for command in commands.split(|&octet| octet == 0) {
                sink.extend_from_slice(b", ");
                write_escaped(command, sink);
                sink.push(b'\n');
            }
            sink.extend_from_slice(b";\n");
            Ok(())
        }
        _ => Err(ForwardsError::BadRecord),
    }
}

fn write_escaped(octets: &[u8], sink: &mut Vec<u8>) {
    for &octet in octets {
        if matches!(octet, 0..=b' ' | b',' | b':' | b';' | b'\\' | b'#') {
            sink.push(b'\\');
        }
        sink.push(octet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_with_their_line() {
        use ForwardsError::{NoColon, Nul, TooLong, TwoColons, Unfinished};
        let long = format!("a: {};", "x".repeat(801));
        for (text, want) in [
            ("a@: b@c\n", Unfinished(2)),
            ("a\\", Unfinished(1)),
            ("x", Unfinished(1)),
            ("a: b:c;", TwoColons(1)),
            ("#\n\na, b: c;", NoColon(3)),
            (";", NoColon(1)),
            ("a: b\0;", Nul(1)),
            (&long, TooLong(1)),
        ] {
            assert_eq!(forwards(text.as_bytes()), Err(want), "{text}");
        }
        assert_eq!(forwards(b" # nothing\n"), Ok(Vec::new()));
    }

    proptest::proptest! {
        #[test]
        fn what_is_described_is_read_again(
            target in proptest::collection::vec(1..=255u8, 0..20),
            command in proptest::collection::vec(1..=255u8, 0..20),
        ) {
            let key = [b":", &target.to_ascii_lowercase()[..]].concat();
            // No address has a line break.
            let command: Vec<u8> = command.into_iter().filter(|&octet| octet != b'\n').collect();
            let record = Record { key, data: [b"&", &command[..], b"\0|x y\0"].concat() };
            let mut text = Vec::new();
            describe(&record.key, &record.data, &mut text).unwrap();
            proptest::prop_assert_eq!(forwards(&text), Ok(vec![record]));
        }
    }
}
