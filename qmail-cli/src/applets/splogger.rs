//! `splogger`: hands the lines of standard input to syslog.

use std::ffi::{CString, OsStr};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::syslog::{Facility, LogFlags, Priority, Severity, openlog, syslog};

use crate::applet::{Applet, Call, Kind};
use crate::exit;

pub(crate) const APPLET: Applet = Applet {
    names: &["splogger"],
    kind: Kind::Classic,
    summary: "hand log lines to syslog",
    run,
};

/// Longest piece of a line in octets that is one entry of the system's log.
const PIECE_OCTETS_MAX: usize = 799;

const CHUNK_OCTETS: usize = 16 * 1024;

fn run(call: &Call) -> ExitCode {
    // Further arguments are passed over. No argument can have it refuse to log: nobody would hear why.
    let mut arguments = call.arguments.iter().map(|argument| argument.as_os_str());
    let tag = arguments.next().unwrap_or(OsStr::new("splogger"));
    let facility = arguments
        .next()
        .map_or(Facility::LOG_MAIL, |number| facility_of(number.as_bytes()));
    // No argument of a program holds a NUL.
    let tag = CString::new(tag.as_bytes()).unwrap_or_default();
    // The C library keeps the pointer for as long as the process lives.
    let opened = openlog(
        Some(Box::leak(tag.into_boxed_c_str())),
        LogFlags::empty(),
        facility,
    );
    let result = opened.map_err(io::Error::from).and_then(|()| {
        log_input(|piece| {
            let line = [piece.stamp.as_bytes(), piece.text].concat();
            let priority = Priority::new(piece.severity, facility);
            Ok(syslog(priority, OsStr::from_bytes(&line))?)
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal(
            "splogger",
            &format_args!("unable to read standard input or to reach syslog: {error}"),
            exit::TEMPORARY,
        ),
    }
}

fn log_input(mut log: impl FnMut(&Piece<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut chunk = vec![0; CHUNK_OCTETS];
    let mut pieces = Pieces::default();
    loop {
        let octets = match input.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if octets == 0 {
            return Ok(());
        }
        for &octet in &chunk[..octets] {
            pieces.octet(octet, now, &mut log)?;
        }
    }
}

/// By its leading digits, none of which are 0. A number that has no name here is taken for mail.
fn facility_of(number: &[u8]) -> Facility {
    let digits = number.iter().take_while(|octet| octet.is_ascii_digit());
    let number = digits.fold(0_u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add((digit - b'0').into())
    });
    match number {
        // The system's library makes 1 of it for all but the kernel.
        0 => Facility::LOG_KERN,
        1 => Facility::LOG_USER,
        3 => Facility::LOG_DAEMON,
        4 => Facility::LOG_AUTH,
        5 => Facility::LOG_SYSLOG,
        6 => Facility::LOG_LPR,
        7 => Facility::LOG_NEWS,
        8 => Facility::LOG_UUCP,
        16 => Facility::LOG_LOCAL0,
        17 => Facility::LOG_LOCAL1,
        18 => Facility::LOG_LOCAL2,
        19 => Facility::LOG_LOCAL3,
        20 => Facility::LOG_LOCAL4,
        21 => Facility::LOG_LOCAL5,
        22 => Facility::LOG_LOCAL6,
        23 => Facility::LOG_LOCAL7,
        _ => Facility::LOG_MAIL,
    }
}

/// `SECONDS.MICROSECONDS`
fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}.{:06}", since.as_secs(), since.subsec_micros())
}

/// An entry of the system's log.
struct Piece<'a> {
    /// When its line began; with a `+` behind it if this is not the beginning, else a blank.
    stamp: &'a str,
    severity: Severity,
    text: &'a [u8],
}

/// Cuts lines into pieces. A last line without an end is none.
#[derive(Default)]
struct Pieces {
    text: Vec<u8>,
    /// Of the line that has begun.
    line: Option<(String, Severity)>,
}

impl Pieces {
    fn octet(
        &mut self,
        octet: u8,
        now: impl Fn() -> String,
        log: &mut impl FnMut(&Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if octet == b'\n' {
            self.piece(now, log)?;
            self.line = None;
            return Ok(());
        }
        self.text.push(match octet {
            b' '..=b'~' => octet,
            _ => b'?',
        });
        if self.text.len() == PIECE_OCTETS_MAX {
            self.piece(now, log)?;
        }
        Ok(())
    }

    fn piece(
        &mut self,
        now: impl Fn() -> String,
        log: &mut impl FnMut(&Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let begun = self.line.is_some();
        let (stamp, severity) = self
            .line
            .get_or_insert_with(|| (now(), severity(&self.text)));
        let mark = if begun { '+' } else { ' ' };
        let result = log(&Piece {
            stamp: &format!("{stamp}{mark}"),
            severity: *severity,
            text: &self.text,
        });
        self.text.clear();
        result
    }
}

fn severity(line: &[u8]) -> Severity {
    if line.starts_with(b"alert:") {
        Severity::LOG_ALERT
    } else if line.starts_with(b"warning:") {
        Severity::LOG_WARNING
    } else {
        Severity::LOG_INFO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(input: &[u8]) -> Vec<(String, Severity)> {
        let mut seen = Vec::new();
        let mut pieces = Pieces::default();
        for &octet in input {
            let now = || "9.5".to_owned();
            let mut log = |piece: &Piece<'_>| {
                let text = String::from_utf8_lossy(piece.text);
                seen.push((format!("{}{text}", piece.stamp), piece.severity));
                Ok(())
            };
            pieces.octet(octet, now, &mut log).unwrap();
        }
        seen
    }

    #[test]
    fn each_line_is_an_entry_of_its_severity() {
        assert_eq!(
            pieces(b"new msg 7\n\nwarning: caf\xe9\t\nalert: x\n alert: y\nno end"),
            [
                ("9.5 new msg 7".to_owned(), Severity::LOG_INFO),
                ("9.5 warning: caf??".to_owned(), Severity::LOG_WARNING),
                ("9.5 alert: x".to_owned(), Severity::LOG_ALERT),
                ("9.5  alert: y".to_owned(), Severity::LOG_INFO),
            ]
        );
    }

    #[test]
    fn a_long_line_is_several() {
        let line = [b"alert:".as_slice(), &[b'x'; 2 * 799 - 6], b"\nnext\n"].concat();
        let seen = pieces(&line);
        assert_eq!(seen.len(), 3);
        assert!(seen[0].0.starts_with("9.5 alert:xx"));
        assert!(seen[1].0.starts_with("9.5+xx"));
        assert_eq!(seen[1].0.len(), 4 + 799);
        assert_eq!(seen[1].1, Severity::LOG_ALERT);
        assert_eq!(seen[2], ("9.5 next".to_owned(), Severity::LOG_INFO));
    }

    #[test]
    fn facilities_are_numbers() {
        for (argument, facility) in [
            ("2", Facility::LOG_MAIL),
            ("3", Facility::LOG_DAEMON),
            ("16x", Facility::LOG_LOCAL0),
            ("mail", Facility::LOG_KERN),
            ("", Facility::LOG_KERN),
            ("-1", Facility::LOG_KERN),
            ("9", Facility::LOG_MAIL),
            ("300", Facility::LOG_MAIL),
            ("99999999999999999999999", Facility::LOG_MAIL),
        ] {
            assert_eq!(facility_of(argument.as_bytes()), facility, "{argument}");
        }
    }
}
