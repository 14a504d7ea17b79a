//! What qmail-inject, new-inject and sendmail have in common: environment, control files, reading a message.

mod options;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;

use qmail_core::QueueFailure;
use qmail_core::control::{self, Set};
use qmail_core::header::{Field, FieldTooLong, HeaderEnd, Part, Splitter};
use qmail_core::message::{BodyText, Stamp};
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::exit;
use crate::getopt::BadOption;
use crate::home::Home;
use crate::queue_program::QueueProgram;

pub(crate) use options::{Options, User};

/// Longest header in octets that is held. Beyond it there is "no memory": fields are needed before anything is written.
pub(crate) const HEADER_OCTETS_MAX: usize = 1 << 30;

/// Largest control file or list of addresses in octets that is read.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

const CHUNK_OCTETS: usize = 64 * 1024;

/// The value of the first of these variables that is set.
pub(crate) fn first_variable(names: &[&str]) -> Option<Vec<u8>> {
    names
        .iter()
        .find_map(std::env::var_os)
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
    Ok(Stamp::new(seconds, unique))
}

/// Standard input, to be read in large pieces.
pub(crate) fn standard_input() -> BufReader<io::StdinLock<'static>> {
    BufReader::with_capacity(CHUNK_OCTETS, io::stdin().lock())
}

/// Reads a header from `input`, and gives each field to `take`.
///
/// Returns why the header ended, and what was taken of the body already.
pub(crate) fn read_header<E>(
    input: &mut impl BufRead,
    mut splitter: Splitter,
    mut take: impl FnMut(&Field<'_>) -> Result<(), E>,
) -> Result<(HeaderEnd, Vec<u8>), HeaderError<E>> {
    let mut total = 0usize;
    loop {
        let Some(chunk) = next_chunk(input).map_err(HeaderError::Read)? else {
            continue;
        };
        if chunk.is_empty() {
            break;
        }
        let mut piece = chunk;
        let body = loop {
            match splitter.next(&mut piece)? {
                Some(Part::Field(field)) => take(&field).map_err(HeaderError::Field)?,
                Some(Part::Body { end, start }) => break Some((end, start.to_vec())),
                None => break None,
            }
        };
        let taken = chunk.len() - piece.len();
        input.consume(taken);
        if let Some(body) = body {
            return Ok(body);
        }
        total += taken;
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

/// What is there of `input`, empty at its end; `None` if a signal came first.
fn next_chunk(input: &mut impl BufRead) -> io::Result<Option<&[u8]>> {
    match input.fill_buf() {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        chunk => chunk.map(Some),
    }
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

/// Why an injector gives up.
pub(crate) enum Trouble {
    Usage(BadOption),
    /// Something it was given is no address or no field; the octets say what.
    Input(Vec<u8>),
    Memory,
    /// The classic programs have one text for standard input, control files and lists of addresses.
    Read,
    Home(Home, io::Error),
    Write(io::Error),
    Queue(QueueFailure),
}

impl Trouble {
    /// The last words, and the exit code.
    pub(crate) fn report(self, name: &str, usage: &str) -> ExitCode {
        match self {
            Self::Usage(bad) => exit::fatal(name, &format_args!("{bad}; {usage}"), exit::PERMANENT),
            Self::Input(words) => exit::fatal_octets(name, &words, exit::PERMANENT),
            Self::Memory => exit::fatal(name, &"out of memory", exit::TEMPORARY),
            Self::Read => exit::fatal(name, &"read error", exit::TEMPORARY),
            Self::Home(home, error) => {
                let path = home.path().display();
                let words = format!("unable to switch to home directory {path}: {error}");
                exit::fatal(name, &words, exit::TEMPORARY)
            }
            Self::Write(error) => exit::fatal(
                name,
                &format_args!("unable to write the message: {error}"),
                exit::TEMPORARY,
            ),
            Self::Queue(failure) => {
                let code = if failure.is_temporary() {
                    exit::TEMPORARY
                } else {
                    exit::PERMANENT
                };
                exit::fatal_octets(name, &failure.text, code)
            }
        }
    }
}

impl<E: Into<Self>> From<HeaderError<E>> for Trouble {
    fn from(error: HeaderError<E>) -> Self {
        match error {
            HeaderError::Read(_) => Self::Read,
            HeaderError::TooLong => Self::Memory,
            HeaderError::Field(error) => error.into(),
        }
    }
}

impl From<Infallible> for Trouble {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Goes to the home, from where the queue program is called.
pub(crate) fn enter_home() -> Result<Home, Trouble> {
    let home = Home::choose(None, None);
    match std::env::set_current_dir(home.path()) {
        Ok(()) => Ok(home),
        Err(error) => Err(Trouble::Home(home, error)),
    }
}

/// Tells a person that nobody gets the message. The exit code stays 0: scripts rely on it.
pub(crate) fn warn_of_nobody(name: &str) {
    eprintln!("{name}: warning: no recipients, so nobody gets this message");
}

/// Passes on the body: what was taken of it with the header, then the rest of `input`.
pub(crate) fn copy_body(
    input: &mut impl BufRead,
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
    loop {
        let Some(chunk) = next_chunk(input)? else {
            continue;
        };
        if chunk.is_empty() {
            break;
        }
        body.write(chunk, &mut sink);
        let taken = chunk.len();
        input.consume(taken);
    }
    body.finish(sink);
    Ok(())
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
                    *result = out.write_all(octets);
                }
            }
        }
    }
}

impl Target {
    /// Passes on the body, and ends the message: queued for these recipients, or all printed.
    pub(crate) fn finish<'a>(
        mut self,
        input: &mut impl BufRead,
        (end, start): (HeaderEnd, &[u8]),
        crlf: bool,
        sender: &[u8],
        recipients: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Trouble> {
        let copied = copy_body(input, end, start, crlf, |octets| self.write(octets));
        match (self, copied) {
            (Self::Queue(queue), Err(_)) => {
                queue.abort();
                Err(Trouble::Read)
            }
            (Self::Print(..), Err(_)) => Err(Trouble::Read),
            (Self::Queue(queue), Ok(())) => queue
                .finish(sender, recipients)
                .map(|_| ())
                .map_err(Trouble::Queue),
            (Self::Print(mut out, result), Ok(())) => {
                result.and_then(|()| out.flush()).map_err(Trouble::Write)
            }
        }
    }
}

/// The octets of an argument.
pub(crate) fn octets(argument: &OsStr) -> &[u8] {
    argument.as_bytes()
}
