//! The programs that make and show the files of fastforward: `setforward`, `printforward`, `setmaillist`, `printmaillist`,
//! `newaliases` and `newinclude`.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use qmail_core::alias::{self, ForwardsError};
use qmail_core::cdb::Cdb;

use crate::alias_tools::{host_rules, read_input, with_suffix, write_records};
use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::home::Home;
use crate::injection::read_file;
use crate::replace::{ReplaceError, replace};

pub(crate) const SETFORWARD: Applet = Applet {
    names: &["setforward"],
    kind: Kind::Classic,
    summary: "make a database of aliases for fastforward",
    run: |call| finish(call, set_forward(call)),
};

pub(crate) const PRINTFORWARD: Applet = Applet {
    names: &["printforward"],
    kind: Kind::Classic,
    summary: "show a database of aliases as text",
    run: |call| finish(call, print_forward()),
};

pub(crate) const SETMAILLIST: Applet = Applet {
    names: &["setmaillist"],
    kind: Kind::Classic,
    summary: "make a binary mailing list for fastforward",
    run: |call| finish(call, set_maillist(call)),
};

pub(crate) const PRINTMAILLIST: Applet = Applet {
    names: &["printmaillist"],
    kind: Kind::Classic,
    summary: "show a binary mailing list as text",
    run: |call| finish(call, print_maillist()),
};

pub(crate) const NEWALIASES: Applet = Applet {
    names: &["newaliases"],
    kind: Kind::Classic,
    summary: "make the database of /etc/aliases",
    run: |call| finish(call, new_aliases(call)),
};

pub(crate) const NEWINCLUDE: Applet = Applet {
    names: &["newinclude"],
    kind: Kind::Classic,
    summary: "make a binary mailing list of a list of sendmail",
    run: |call| finish(call, new_include(call)),
};

/// The alias file, if none is named.
const ALIASES: &str = "/etc/aliases";

/// Why a program ends, and with which exit code.
struct Failure {
    code: u8,
    words: String,
}

impl Failure {
    fn permanent(words: impl Display) -> Self {
        Self {
            code: exit::PERMANENT,
            words: words.to_string(),
        }
    }

    fn temporary(words: impl Display) -> Self {
        Self {
            code: exit::TEMPORARY,
            words: words.to_string(),
        }
    }
}

/// Trouble with standard input or standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::temporary(format_args!("unable to read or write: {error}"))
    }
}

impl From<ReplaceError<io::Error>> for Failure {
    fn from(error: ReplaceError<io::Error>) -> Self {
        Self::temporary(error)
    }
}

fn finish(call: &Call, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::fatal(call.name, &failure.words, failure.code),
    }
}

/// The two file names of the command line: the file to make, and the name it has until it is whole.
fn names(call: &Call) -> Result<(&Path, &Path), Failure> {
    match &call.arguments[..] {
        [file, scratch, ..] => Ok((Path::new(file), Path::new(scratch))),
        _ => Err(Failure::permanent(format_args!(
            "usage: {} file tmp",
            call.name
        ))),
    }
}

fn set_forward(call: &Call) -> Result<(), Failure> {
    let (file, scratch) = names(call)?;
    let records = alias::forwards(&read_input()?).map_err(Failure::permanent)?;
    Ok(replace(file, scratch, |file| {
        write_records(file, &records)
    })?)
}

fn print_forward() -> Result<(), Failure> {
    let cdb = Cdb::new(read_input()?).map_err(Failure::permanent)?;
    let mut text = Vec::new();
    for record in cdb.iter() {
        let (key, data) = record.map_err(Failure::permanent)?;
        alias::describe(key, data, &mut text)
            .map_err(|error: ForwardsError| Failure::permanent(error))?;
    }
    print(&text)
}

fn set_maillist(call: &Call) -> Result<(), Failure> {
    let (file, scratch) = names(call)?;
    let list = alias::list_from_text(&read_input()?).map_err(Failure::temporary)?;
    write_list(file, scratch, &list)
}

fn print_maillist() -> Result<(), Failure> {
    let text = alias::describe_list(&read_input()?).map_err(Failure::permanent)?;
    print(&text)
}

fn new_aliases(call: &Call) -> Result<(), Failure> {
    let source = call
        .arguments
        .first()
        .map_or_else(|| PathBuf::from(ALIASES), PathBuf::from);
    let text = read_source(&source)?;
    let rules = host_rules(&Home::choose(None, None))?;
    let records = alias::aliases(&text, &rules)
        .map_err(|error| Failure::temporary(format_args!("{}, {error}", source.display())))?;
    let (file, scratch) = (with_suffix(&source, ".cdb"), with_suffix(&source, ".tmp"));
    Ok(replace(&file, &scratch, |file| {
        write_records(file, &records)
    })?)
}

fn new_include(call: &Call) -> Result<(), Failure> {
    let Some(source) = call.arguments.first().map(Path::new) else {
        return Err(Failure::permanent("usage: newinclude list"));
    };
    let text = read_source(source)?;
    let rules = host_rules(&Home::choose(None, None))?;
    let list = alias::include_list(&text, &rules)
        .map_err(|error| Failure::temporary(format_args!("{}, {error}", source.display())))?;
    write_list(
        &with_suffix(source, ".bin"),
        &with_suffix(source, ".tmp"),
        &list,
    )
}

fn read_source(path: &Path) -> Result<Vec<u8>, Failure> {
    let trouble = |words: &dyn Display| {
        Failure::temporary(format_args!("unable to read {}: {words}", path.display()))
    };
    match read_file(path) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(trouble(&"it does not exist")),
        Err(error) => Err(trouble(&error)),
    }
}

fn write_list(file: &Path, scratch: &Path, list: &[u8]) -> Result<(), Failure> {
    Ok(replace(file, scratch, |mut file: File| {
        file.write_all(list).map(|()| file)
    })?)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    Ok(out.flush()?)
}
