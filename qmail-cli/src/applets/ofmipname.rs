//! `ofmipname`: makes the table of names that ofmipd reads.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use qmail_core::cdb;

use crate::applet::{Applet, Call, Kind};
use crate::exit;

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
    let [table, temporary] = &call.arguments[..] else {
        return exit::fatal(NAME, &"usage: ofmipname cdb tmp", exit::PERMANENT);
    };
    let (table, temporary) = (Path::new(table), Path::new(temporary));
    match make(table, temporary) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble { what, error }) => {
            // The old table stays. What was written of a new one is in nobody's way.
            exit::fatal(
                NAME,
                &format_args!("unable to {what}: {error}"),
                exit::TEMPORARY,
            )
        }
    }
}

struct Trouble {
    what: String,
    error: io::Error,
}

fn make(table: &Path, temporary: &Path) -> Result<(), Trouble> {
    let trouble = |what: String| move |error| Trouble { what, error };
    let mut input = Vec::new();
    io::stdin()
        .lock()
        .take(INPUT_OCTETS_MAX)
        .read_to_end(&mut input)
        .map_err(trouble("read input".to_owned()))?;
    let creating = || format!("create {}", temporary.display());
    // Mode 0644, whatever the caller's mask takes away.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(temporary)
        .map_err(trouble(creating()))?;
    let writing = || format!("write {}", temporary.display());
    let mut writer = cdb::Writer::new(file).map_err(trouble(writing()))?;
    for line in input.split(|&octet| octet == b'\n') {
        if let Some((key, data)) = record(line) {
            writer.add(key, &data).map_err(trouble(writing()))?;
        }
    }
    let file = writer.finish().map_err(trouble(writing()))?;
    file.sync_all().map_err(trouble(writing()))?;
    drop(file);
    fs::rename(temporary, table).map_err(trouble(format!(
        "move {} to {}",
        temporary.display(),
        table.display()
    )))
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
