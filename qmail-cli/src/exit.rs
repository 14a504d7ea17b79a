//! Exit codes and last words. Programs return codes; only `main` exits.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// Wrong use, or a failure that stays: qmail's "hard" exit code.
pub(crate) const PERMANENT: u8 = 100;

/// A failure that may pass: qmail's "soft" exit code.
pub(crate) const TEMPORARY: u8 = 111;

/// Writes `NAME: fatal: WORDS` on standard error, one line, and gives the exit code back.
///
/// The words say what is wrong, where, and what to do. Control characters in them are masked: they may quote a file.
pub(crate) fn fatal(name: &str, words: &dyn fmt::Display, code: u8) -> ExitCode {
    let line = format!("{name}: fatal: {words}").replace(|c: char| c.is_control(), "?");
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::from(code)
}

/// Writes `NAME: fatal: WORDS` on standard error with the octets as they are: the classic programs repeat what they were
/// given, over several lines if it has them.
pub(crate) fn fatal_octets(name: &str, words: &[u8], code: u8) -> ExitCode {
    let line = [name.as_bytes(), b": fatal: ", words, b"\n"].concat();
    let _ = std::io::stderr().write_all(&line);
    ExitCode::from(code)
}

/// Writes text on standard output. A reader that went away is no trouble of ours.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
