//! `fixcrio`: puts the CR before each LF that a client or a program forgot.
//!
//! Two filters, one for each direction, are this binary again as `crlf-filter`. The process itself becomes the program, so
//! that its exit code is the program's.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::applet::{Applet, Call, Kind};
use crate::interpose::{Filter, ReaderGone};
use crate::{exit, interpose};

pub(crate) const FIXCRIO: Applet = Applet {
    names: &["fixcrio"],
    kind: Kind::Classic,
    summary: "run a program with CR LF line ends in both directions",
    run,
};

pub(crate) const FILTER: Applet = Applet {
    names: &["crlf-filter"],
    kind: Kind::Internal,
    summary: "one direction of fixcrio",
    run: filter,
};

fn run(call: &Call) -> ExitCode {
    let [program, arguments @ ..] = call.arguments.as_slice() else {
        return exit::fatal(
            "fixcrio",
            &"usage: fixcrio program [arg ...]",
            exit::PERMANENT,
        );
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let (what, error) = match interpose::connect(&mut command, FILTER.names[0], |_| Vec::new()) {
        Ok(()) => {
            let error = command.exec();
            (format!("run {}", program.display()), error)
        }
        Err(error) => ("start the filters".to_owned(), error),
    };
    exit::fatal(
        "fixcrio",
        &format_args!("unable to {what}: {error}"),
        exit::TEMPORARY,
    )
}

fn filter(_call: &Call) -> ExitCode {
    interpose::filter(Fixer::default(), ReaderGone::End)
}

/// Puts a CR before each LF that has none; what came before counts.
#[derive(Default)]
struct Fixer {
    after_cr: bool,
}

impl Filter for Fixer {
    fn take(&mut self, octets: &[u8], sink: &mut Vec<u8>) {
        for &octet in octets {
            if octet == b'\n' && !self.after_cr {
                sink.push(b'\r');
            }
            sink.push(octet);
            self.after_cr = octet == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lf_gets_one_cr_however_it_is_cut() {
        let (input, want) = (b"a\nb\r\nc\rd\n\r\n\n", b"a\r\nb\r\nc\rd\r\n\r\n\r\n");
        for cut in 0..=input.len() {
            let (mut fixer, mut fixed) = (Fixer::default(), Vec::new());
            fixer.take(&input[..cut], &mut fixed);
            fixer.take(&input[cut..], &mut fixed);
            assert_eq!(fixed, want);
        }
    }
}
