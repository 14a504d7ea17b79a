//! Reading a log on standard input, line by line, for the programs that make reports of it.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use qmail_queue::analog::Lines;

use crate::exit;

const CHUNK_OCTETS: usize = 64 * 1024;

/// Tells `each` every line, and writes what it appends to its sink on standard output. Returns the last line if it has no end.
///
/// # Errors
///
/// Standard input cannot be read, or standard output not written.
pub(crate) fn filter(mut each: impl FnMut(&[u8], &mut Vec<u8>)) -> io::Result<Lines> {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut lines = Lines::default();
    let mut chunk = vec![0; CHUNK_OCTETS];
    let mut sink = Vec::new();
    loop {
        let octets = match input.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if octets == 0 {
            output.flush()?;
            return Ok(lines);
        }
        lines.feed(&chunk[..octets], &mut |line| each(line, &mut sink));
        output.write_all(&sink)?;
        sink.clear();
    }
}

/// Tells `each` every line, the last one even if it has no end.
///
/// # Errors
///
/// Standard input cannot be read.
pub(crate) fn lines(mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let lines = filter(|line, _| each(line))?;
    if !lines.rest().is_empty() {
        each(lines.rest());
    }
    Ok(())
}

/// What a program that made a report ends with. A reader that went away is no trouble of ours.
pub(crate) fn end(name: &str, result: io::Result<()>) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit::fatal(
            name,
            &format_args!("unable to read standard input or to write the result: {error}"),
            exit::TEMPORARY,
        ),
        _ => ExitCode::SUCCESS,
    }
}
