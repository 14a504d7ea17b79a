//! What the programs of dot-forward and fastforward have in common.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use qmail_core::alias::Record;
use qmail_core::cdb::Writer;
use qmail_core::control;
use qmail_core::header::HostRules;

use crate::delivery::{self, Ended, FeedError};
use crate::exit;
use crate::home::Home;
use crate::injection::read_file;

/// Largest text on standard input in octets that is read: a million aliases have room.
const TEXT_OCTETS_MAX: u64 = 256 * 1024 * 1024;

/// How addresses without host or domain are completed: control/defaulthost, plusdomain and defaultdomain, each with
/// control/me as its default.
pub(crate) fn host_rules(home: &Home) -> io::Result<HostRules> {
    let value = |name: &str| -> io::Result<Vec<u8>> {
        for name in [name, "me"] {
            if let Some(file) = read_file(&home.control().join(name))? {
                return Ok(control::line(&file).to_vec());
            }
        }
        Ok(b"me".to_vec())
    };
    Ok(HostRules::standard(
        &value("defaulthost")?,
        &value("defaultdomain")?,
        &value("plusdomain")?,
    ))
}

/// All of standard input.
pub(crate) fn read_input() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let limited = io::stdin()
        .lock()
        .take(TEXT_OCTETS_MAX + 1)
        .read_to_end(&mut text)?;
    if limited as u64 > TEXT_OCTETS_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Writes a database of these records.
pub(crate) fn write_records(file: File, records: &[Record]) -> io::Result<File> {
    let mut writer = Writer::new(file)?;
    for record in records {
        writer.add(&record.key, &record.data)?;
    }
    writer.finish()
}

/// `path` with `suffix` behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Runs a command of the shell with `head` and the message, from its first octet, as input. Afterwards the message is at its
/// first octet again. `Err` has the exit code to end with: 99 is no way to stop here.
pub(crate) fn run_command(name: &str, command: &[u8], head: &[u8]) -> Result<(), ExitCode> {
    use std::os::unix::ffi::OsStrExt as _;
    let temporary = |words: &dyn std::fmt::Display| exit::fatal(name, words, exit::TEMPORARY);
    let rewind = || {
        delivery::rewound()
            .map_err(|error| temporary(&format_args!("unable to rewind message: {error}")))
    };
    let message = rewind()?;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(std::ffi::OsStr::from_bytes(command));
    let ended = if head.is_empty() {
        // The message itself, which the command may read as it likes.
        shell
            .stdin(message)
            .status()
            .map(Ended::from)
            .map_err(FeedError::Run)
    } else {
        delivery::feed(&mut shell, head)
    };
    let ended = ended.map_err(|error| match error {
        FeedError::Run(error) => temporary(&format_args!("unable to run /bin/sh: {error}")),
        FeedError::Read(error) => temporary(&format_args!("unable to read message: {error}")),
    })?;
    match ended {
        Ended::Exited(0) => rewind().map(drop),
        Ended::Exited(100 | 64 | 65 | 70 | 76 | 77 | 78 | 112) => {
            Err(ExitCode::from(exit::PERMANENT))
        }
        Ended::Exited(_) => Err(ExitCode::from(exit::TEMPORARY)),
        Ended::Crashed => Err(temporary(&"child crashed")),
    }
}

/// The lines of preline(1). One that is not set is left out.
pub(crate) fn envelope_lines() -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut lines = Vec::new();
    for name in ["UFLINE", "RPLINE", "DTLINE"] {
        lines.extend(std::env::var_os(name).unwrap_or_default().into_vec());
    }
    lines
}

/// A line on standard error, with the octets as they are.
pub(crate) fn say(parts: &[&[u8]]) {
    let mut line = parts.concat();
    line.push(b'\n');
    let _ = io::stderr().write_all(&line);
}
