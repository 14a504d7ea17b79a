//! What qmail-inject, new-inject and sendmail have in common: environment, control files, reading a message.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use qmail_core::control::{self, Set};
use qmail_core::header::{Field, FieldTooLong, HeaderEnd, Part, Splitter};
use qmail_core::message::{BodyText, Stamp};
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::home::Home;
use crate::queue_program::QueueProgram;

/// Longest header in octets that is held. Beyond it there is "no memory": fields are needed before anything is written.
pub(crate) const HEADER_OCTETS_MAX: usize = 1 << 30;

/// Largest control file or list of addresses in octets that is read.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

const CHUNK_OCTETS: usize = 64 * 1024;

/// The value of the first of these variables that is set.
pub(crate) fn first_variable(names: &[&str]) -> Option<Vec<u8>> {
    names
        .iter()
        .find_map(|name| std::env::var_os(name))
        .map(OsString::into_vec)
}

/// A file, or `None` if it does not exist.
pub(crate) fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut octets = Vec::new();
    file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(octets))
}

/// The first line of a control file: the variable if it is set, else the file, else control/me, else `default`.
pub(crate) fn host_control(
    home: &Home,
    variable: &str,
    file: &str,
    default: &str,
) -> io::Result<Vec<u8>> {
    if let Some(value) = std::env::var_os(variable) {
        return Ok(value.into_vec());
    }
    for name in [file, "me"] {
        if let Some(octets) = read_file(&home.control().join(name))? {
            return Ok(control::line(&octets).to_vec());
        }
    }
    Ok(default.into())
}

/// The list of addresses that QMAILMFTFILE names; a file that is missing is an empty list.
pub(crate) fn mailing_lists() -> io::Result<Set> {
    let Some(path) = std::env::var_os("QMAILMFTFILE") else {
        return Ok(Set::default());
    };
    Ok(read_file(Path::new(&path))?.map_or_else(Set::default, |file| Set::parse(&file)))
}

/// Now, and a number that no other message of this second has: the process id with six random digits behind it, because
/// in containers many processes share their ids.
pub(crate) fn stamp() -> io::Result<Stamp> {
    let seconds = std::time::UNIX_EPOCH
        .elapsed()
        .map_err(io::Error::other)?
        .as_secs();
    let random = SysRng.try_next_u64().map_err(io::Error::other)? % 1_000_000;
    let unique = u64::from(std::process::id()) * 1_000_000 + random;
    Ok(Stamp { seconds, unique })
}

/// Reads a header from `input`, and gives each field to `take`.
///
/// Returns why the header ended, and what was read beyond it.
pub(crate) fn read_header<E>(
    input: &mut impl Read,
    mut splitter: Splitter,
    mut take: impl FnMut(&Field<'_>) -> Result<(), E>,
) -> Result<(HeaderEnd, Vec<u8>), HeaderError<E>> {
    let mut buffer = vec![0; CHUNK_OCTETS];
    let mut total = 0usize;
    loop {
        let octets = read_some(input, &mut buffer).map_err(HeaderError::Read)?;
        if octets == 0 {
            break;
        }
        total += octets;
        let mut piece = &buffer[..octets];
        while let Some(part) = splitter.next(&mut piece)? {
            match part {
                Part::Field(field) => take(&field).map_err(HeaderError::Field)?,
                Part::Body { end, start } => return Ok((end, [start, piece].concat())),
            }
        }
        if total > HEADER_OCTETS_MAX {
            return Err(HeaderError::TooLong);
        }
    }
    while let Some(part) = splitter.finish() {
        match part {
            Part::Field(field) => take(&field).map_err(HeaderError::Field)?,
            Part::Body { end, start } => return Ok((end, start.to_vec())),
        }
    }
    Ok((HeaderEnd::EndOfInput, Vec::new()))
}

/// Why a header was not read.
#[derive(Debug)]
pub(crate) enum HeaderError<E> {
    Read(io::Error),
    TooLong,
    Field(E),
}

impl<E> From<FieldTooLong> for HeaderError<E> {
    fn from(_: FieldTooLong) -> Self {
        Self::TooLong
    }
}

/// Passes on the body: what was read beyond the header, then the rest of `input`.
pub(crate) fn copy_body(
    input: &mut impl Read,
    end: HeaderEnd,
    start: &[u8],
    crlf: bool,
    mut sink: impl FnMut(&[u8]),
) -> io::Result<()> {
    if end == HeaderEnd::EndOfInput {
        return Ok(());
    }
    sink(b"\n");
    let mut body = BodyText::new(crlf);
    body.write(start, &mut sink);
    let mut buffer = vec![0; CHUNK_OCTETS];
    loop {
        match read_some(input, &mut buffer)? {
            0 => break,
            octets => body.write(&buffer[..octets], &mut sink),
        }
    }
    body.finish(sink);
    Ok(())
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Where a finished message goes: to the queue, or to standard output.
pub(crate) enum Target {
    Queue(QueueProgram),
    Print(io::BufWriter<io::StdoutLock<'static>>, io::Result<()>),
}

impl Target {
    /// Standard output.
    pub(crate) fn print() -> Self {
        Self::Print(io::BufWriter::new(io::stdout().lock()), Ok(()))
    }

    /// Writes text of the message; trouble is told at the end.
    pub(crate) fn write(&mut self, octets: &[u8]) {
        match self {
            Self::Queue(queue) => queue.write(octets),
            Self::Print(out, result) => {
                if result.is_ok() {
                    *result = io::Write::write_all(out, octets);
                }
            }
        }
    }
}

/// The octets of an argument.
pub(crate) fn octets(argument: &OsStr) -> &[u8] {
    argument.as_bytes()
}
