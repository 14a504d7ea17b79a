//! `recordio`: shows on descriptor 2 what a program and its client say to each other.
//!
//! Two filters, one for each direction, are this binary again as `record-filter`. The process itself becomes the program.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::applet::{Applet, Call, Kind};
use crate::interpose::{Direction, Filter, ReaderGone};
use crate::{exit, interpose};

pub(crate) const RECORDIO: Applet = Applet {
    names: &["recordio"],
    kind: Kind::Classic,
    summary: "run a program and show what it and its client say",
    run,
};

pub(crate) const FILTER: Applet = Applet {
    names: &["record-filter"],
    kind: Kind::Internal,
    summary: "one direction of recordio",
    run: filter,
};

/// Most octets of data in one line that is shown; what is longer gets several. With this a line is written by one call that
/// no other process writes into, if it goes to a pipe.
const LINE_OCTETS_MAX: usize = 1024;

fn run(call: &Call) -> ExitCode {
    let [program, arguments @ ..] = call.arguments.as_slice() else {
        return exit::fatal(
            "recordio",
            &"usage: recordio program [arg ...]",
            exit::PERMANENT,
        );
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let label = |direction| {
        let mark = match direction {
            Direction::In => "<",
            Direction::Out => ">",
        };
        vec![std::process::id().to_string(), mark.to_owned()]
    };
    let (what, error) = match interpose::connect(&mut command, FILTER.names[0], label) {
        Ok(()) => (format!("run {}", program.display()), command.exec()),
        Err(error) => ("start the filters".to_owned(), error),
    };
    exit::fatal(
        "recordio",
        &format_args!("unable to {what}: {error}"),
        exit::TEMPORARY,
    )
}

fn filter(call: &Call) -> ExitCode {
    let [process, mark] = call.arguments.as_slice() else {
        return ExitCode::from(exit::PERMANENT);
    };
    let recorder = Recorder {
        label: format!("{} {} ", process.display(), mark.display()).into_bytes(),
        show: |line: &[u8]| {
            let _ = std::io::stderr().write_all(line);
        },
    };
    interpose::filter(recorder, ReaderGone::End)
}

/// Shows octets, and passes them on as they are.
struct Recorder<S> {
    /// Whose they are, and which way they go.
    label: Vec<u8>,
    /// Takes a line.
    show: S,
}

impl<S: FnMut(&[u8])> Recorder<S> {
    /// Control octets are shown as `?`: what a client sends cannot look like a line of its own.
    fn line(&mut self, data: &[u8], end: &[u8]) {
        let mask = |&octet: &u8| {
            if octet.is_ascii_control() {
                b'?'
            } else {
                octet
            }
        };
        let mut line = self.label.clone();
        line.extend(data.iter().map(mask));
        line.extend_from_slice(end);
        (self.show)(&line);
    }
}

impl<S: FnMut(&[u8])> Filter for Recorder<S> {
    fn take(&mut self, octets: &[u8], sink: &mut Vec<u8>) {
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let (mut data, end) = match line.strip_suffix(b"\n") {
                Some(data) => (data, b" \n"),
                None => (line, b"+\n"),
            };
            while data.len() > LINE_OCTETS_MAX {
                let (first, rest) = data.split_at(LINE_OCTETS_MAX);
                self.line(first, b"+\n");
                data = rest;
            }
            self.line(data, end);
        }
        sink.extend_from_slice(octets);
    }

    fn end(&mut self, _sink: &mut Vec<u8>) {
        self.line(b"", b"[EOF]\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of these pieces; all of them pass.
    fn shown(pieces: &[&[u8]]) -> String {
        let (mut lines, mut sink) = (Vec::new(), Vec::new());
        let mut recorder = Recorder {
            label: b"7 < ".to_vec(),
            show: |line: &[u8]| lines.extend_from_slice(line),
        };
        for piece in pieces {
            recorder.take(piece, &mut sink);
        }
        recorder.end(&mut sink);
        assert_eq!(sink, pieces.concat());
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn lines_show_how_they_end() {
        assert_eq!(
            shown(&[b"EHLO x\r\nMAIL", b" FROM:<>\r\n", b"\n7 < QUIT\x1b\0"]),
            "7 < EHLO x? \n7 < MAIL+\n7 <  FROM:<>? \n7 <  \n7 < 7 < QUIT??+\n7 < [EOF]\n"
        );
        assert_eq!(shown(&[]), "7 < [EOF]\n");
    }

    #[test]
    fn a_long_line_is_several() {
        for (octets, lines) in [(1023, 1), (1024, 1), (1025, 2), (2048, 2), (2049, 3)] {
            let line = [&vec![b'x'; octets][..], b"\n"].concat();
            let shown = shown(&[&line]);
            assert_eq!(shown.matches("7 < x").count(), lines, "{octets}");
            assert_eq!(shown.matches("x \n").count(), 1, "{octets}");
            assert_eq!(shown.matches('x').count(), octets);
        }
    }
}
