//! `qbiff`: tells a user who is logged in of new mail.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use qmail_core::header::{Field, HeaderEnd, Splitter};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::applet::{Applet, Call, Kind};
use crate::injection::{read_file, read_header, standard_input};
use crate::utmp;

pub(crate) const APPLET: Applet = Applet {
    names: &["qbiff"],
    kind: Kind::Classic,
    summary: "tell a user who is logged in of new mail",
    run,
};

/// How much of subject and body is shown, in octets.
const TEXT_OCTETS_MAX: usize = 78;

/// A longer field is not looked at.
const FIELD_OCTETS_MAX: usize = 64 * 1024;

const UTMP: &str = "/var/run/utmp";

/// The mode bit by which a user allows messages (mesg(1)).
const MESSAGES_ALLOWED: u32 = 0o100;

fn run(_: &Call) -> ExitCode {
    // Mail must not be lost over a notice.
    let _ = tell();
    ExitCode::SUCCESS
}

fn tell() -> io::Result<()> {
    let variable = |name: &str| {
        let value = std::env::var_os(name).map(OsString::into_vec);
        value.ok_or(io::ErrorKind::NotFound)
    };
    let user = variable("USER")?;
    let sender = variable("SENDER")?;
    let local = variable("LOCAL")?;
    let Some(utmp) = read_file(Path::new(UTMP))? else {
        return Ok(());
    };
    let mut sessions = utmp::sessions(&utmp)
        .filter(|session| session.user == user)
        .peekable();
    if sessions.peek().is_none() {
        return Ok(());
    }
    let text = text()?;
    let mut notice = b"\r\n\x07*** TO <".to_vec();
    notice.extend(masked(&local, b'_'));
    notice.extend_from_slice(b"> FROM <");
    notice.extend(masked(&sender, b'_'));
    notice.extend_from_slice(b">\r\n    ");
    notice.extend(masked(&text, b'/'));
    notice.extend_from_slice(b"\r\n");
    for session in sessions {
        if is_plain(session.line) {
            let _ = write(session.line, &notice);
        }
    }
    Ok(())
}

/// The subject and what follows of the body.
fn text() -> io::Result<Vec<u8>> {
    let mut subject = Vec::new();
    let mut input = standard_input();
    let header = read_header(
        &mut input,
        Splitter::with_mbox_lines(FIELD_OCTETS_MAX),
        |field: &Field<'_>| {
            if field.is(b"Subject") {
                subject = field.value().trim_ascii_start().to_vec();
                subject.push(b'\n');
            }
            Ok::<(), ()>(())
        },
    );
    let Ok((end, start)) = header else {
        return Ok(subject);
    };
    let mut text = subject;
    if end != HeaderEnd::EndOfInput {
        text.extend_from_slice(&start);
        if text.len() < TEXT_OCTETS_MAX {
            let rest = (TEXT_OCTETS_MAX - text.len()) as u64;
            input.take(rest).read_to_end(&mut text)?;
        }
    }
    text.truncate(TEXT_OCTETS_MAX);
    Ok(text)
}

/// No escape sequence of a stranger reaches the terminal.
fn masked(octets: &[u8], mask: u8) -> impl Iterator<Item = u8> {
    octets.iter().map(move |&octet| match octet {
        b' '..=b'~' => octet,
        _ => mask,
    })
}

/// Nothing that leads out of /dev.
fn is_plain(line: &[u8]) -> bool {
    !line.is_empty() && line[0] != b'/' && !line.contains(&b'.')
}

fn write(line: &[u8], notice: &[u8]) -> io::Result<()> {
    let terminal = Path::new("/dev").join(OsStr::from_bytes(line));
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut terminal = File::from(openat(CWD, &terminal, flags, Mode::empty())?);
    let metadata = terminal.metadata()?;
    if metadata.uid() == rustix::process::getuid().as_raw()
        && metadata.mode() & MESSAGES_ALLOWED != 0
    {
        terminal.write_all(notice)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_stay_below_dev() {
        for (line, plain) in [
            ("pts/1", true),
            ("tty1", true),
            ("/etc/x", false),
            ("../x", false),
            ("", false),
        ] {
            assert_eq!(is_plain(line.as_bytes()), plain, "{line}");
        }
    }

    #[test]
    fn no_octet_of_a_stranger_steers_a_terminal() {
        let octets: Vec<u8> = (0..=255).collect();
        let shown: Vec<u8> = masked(&octets, b'_').collect();
        assert_eq!(shown.len(), octets.len());
        assert!(shown.iter().all(|octet| matches!(octet, b' '..=b'~')));
        assert_eq!(
            &shown[usize::from(b' ')..=usize::from(b'~')],
            &octets[32..127]
        );
    }
}
