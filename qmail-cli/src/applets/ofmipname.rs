//! `ofmipname`: makes the table of names that ofmipd reads.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use qmail_core::cdb;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::replace::replace;

pub(crate) const APPLET: Applet = Applet {
    names: &["ofmipname"],
    kind: Kind::Classic,
    summary: "make the table of names that ofmipd reads",
    run,
};

const NAME: &str = "ofmipname";

/// Largest input in octets: its database could not be larger either.
const INPUT_OCTETS_MAX: u64 = u32::MAX as u64;

fn run(call: &Call) -> ExitCode {
    let fatal = |words: &dyn fmt::Display| exit::fatal(NAME, words, exit::TEMPORARY);
    let [table, temporary] = &call.arguments[..] else {
        return exit::fatal(NAME, &"usage: ofmipname cdb tmp", exit::PERMANENT);
    };
    let (table, temporary) = (Path::new(table), Path::new(temporary));
    let mut input = Vec::new();
    let mut stdin = io::stdin().lock().take(INPUT_OCTETS_MAX);
    if let Err(error) = stdin.read_to_end(&mut input) {
        return fatal(&format_args!("unable to read input: {error}"));
    }
    let made = replace(table, temporary, |file| {
        write_table(&input, file)
            .map_err(|error| format!("unable to write {}: {error}", temporary.display()))
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        // The old table stays. What was written of a new one is in nobody's way.
        Err(error) => fatal(&error),
    }
}

fn write_table(input: &[u8], file: File) -> io::Result<File> {
    let mut writer = cdb::Writer::new(file)?;
    for line in input.split(|&octet| octet == b'\n') {
        if let Some((key, data)) = record(line) {
            writer.add(key, &data)?;
        }
    }
    writer.finish()
}

/// `key:name:address:`, as key and `name` NUL `address`. Comments and lines with fewer colons are no records.
fn record(line: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let mut fields = line.split(|&octet| octet == b':');
    let (key, name, address) = (fields.next()?, fields.next()?, fields.next()?);
    fields.next()?;
    (key.first() != Some(&b'#')).then(|| (key, [name, b"\0", address].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_records() {
        for (line, want) in [
            ("joe@x:Joe:j@y:", Some(("joe@x", "Joe\0j@y"))),
            ("joe@x::j@y:more", Some(("joe@x", "\0j@y"))),
            ("#joe@x:Joe:j@y:", None),
            ("joe@x:Joe:j@y", None),
            ("", None),
            (":::", Some(("", "\0"))),
        ] {
            let have = record(line.as_bytes());
            let want = want.map(|(key, data)| (key.as_bytes(), data.as_bytes().to_vec()));
            assert_eq!(have, want, "{line}");
        }
    }
}
