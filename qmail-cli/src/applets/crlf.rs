//! `addcr` and `delcr`: from lines that end in LF to lines that end in CR LF, and back.

use std::process::ExitCode;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::interpose::{self, Filter, ReaderGone};

pub(crate) const ADDCR: Applet = Applet {
    names: &["addcr"],
    kind: Kind::Classic,
    summary: "put a CR before each LF",
    run: add,
};

pub(crate) const DELCR: Applet = Applet {
    names: &["delcr"],
    kind: Kind::Classic,
    summary: "take the CR before each LF away",
    run: delete,
};

fn add(call: &Call) -> ExitCode {
    run(call, Adder)
}

fn delete(call: &Call) -> ExitCode {
    run(call, Deleter::default())
}

fn run(call: &Call, filter: impl Filter) -> ExitCode {
    if !call.arguments.is_empty() {
        let usage = format!("usage: {} < input > output", call.name);
        return exit::fatal(call.name, &usage, exit::PERMANENT);
    }
    interpose::filter(filter, ReaderGone::Loss)
}

/// Puts a CR before each LF, whether there is one or not.
struct Adder;

impl Filter for Adder {
    fn take(&mut self, octets: &[u8], sink: &mut Vec<u8>) {
        for &octet in octets {
            if octet == b'\n' {
                sink.push(b'\r');
            }
            sink.push(octet);
        }
    }
}

/// Takes one CR before each LF away.
#[derive(Default)]
struct Deleter {
    /// A CR was read of which is not known what follows.
    held: bool,
}

impl Filter for Deleter {
    fn take(&mut self, octets: &[u8], sink: &mut Vec<u8>) {
        for &octet in octets {
            if std::mem::take(&mut self.held) && octet != b'\n' {
                sink.push(b'\r');
            }
            match octet {
                b'\r' => self.held = true,
                _ => sink.push(octet),
            }
        }
    }

    fn end(&mut self, sink: &mut Vec<u8>) {
        if self.held {
            sink.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(mut filter: impl Filter, pieces: [&[u8]; 2]) -> String {
        let mut sink = Vec::new();
        for piece in pieces {
            filter.take(piece, &mut sink);
        }
        filter.end(&mut sink);
        sink.escape_ascii().to_string()
    }

    #[test]
    fn one_cr_comes_or_goes_however_it_is_cut() {
        let input = b"a\nb\r\n\r\r\nc\rd\n\n\r";
        for cut in 0..=input.len() {
            let pieces = [&input[..cut], &input[cut..]];
            assert_eq!(
                filtered(Adder, pieces),
                r"a\r\nb\r\r\n\r\r\r\nc\rd\r\n\r\n\r"
            );
            assert_eq!(
                filtered(Deleter::default(), pieces),
                r"a\nb\n\r\nc\rd\n\n\r"
            );
        }
    }
}
