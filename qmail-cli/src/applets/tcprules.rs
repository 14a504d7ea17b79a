//! `tcprules` makes the cdb of rules that tcpserver goes by; `tcprulescheck` says what it would do.

use std::ffi::OsString;
use std::io::{self, BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use qmail_core::tcprules::{self, Instruction, Peer};

use crate::applet::{Applet, Call, Kind};
use crate::ucspi::variable;
use crate::{cdb_file, exit};

pub(crate) const TCPRULES: Applet = Applet {
    names: &["tcprules"],
    kind: Kind::Classic,
    summary: "compile rules on who may connect into a cdb",
    run: compile,
};

pub(crate) const TCPRULESCHECK: Applet = Applet {
    names: &["tcprulescheck"],
    kind: Kind::Classic,
    summary: "say what such rules mean for a peer",
    run: check,
};

/// Why there is no new cdb.
enum Failure {
    Line(Vec<u8>),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn compile(call: &Call) -> ExitCode {
    let [target, temporary] = call.arguments.as_slice() else {
        return usage("tcprules", "tcprules rules.cdb rules.tmp");
    };
    let made = cdb_file::replace(Path::new(target), Path::new(temporary), |cdb| {
        for line in io::stdin().lock().split(b'\n') {
            let line = line?;
            let records = tcprules::records(&line).map_err(|_| Failure::Line(line))?;
            for record in records {
                cdb.add(&record.key, &record.data)?;
            }
        }
        Ok(())
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Line(line)) => {
            let words = [b"unable to parse this line: ", line.as_slice()].concat();
            exit::fatal_octets("tcprules", &words, exit::PERMANENT)
        }
        Err(Failure::Io(error)) => exit::fatal(
            "tcprules",
            &format_args!(
                "unable to make {} by way of {}: {error}",
                target.display(),
                temporary.display()
            ),
            exit::TEMPORARY,
        ),
    }
}

fn check(call: &Call) -> ExitCode {
    let [file] = call.arguments.as_slice() else {
        return usage("tcprulescheck", "tcprulescheck rules.cdb");
    };
    match explain(file) {
        Ok(text) => {
            let mut out = io::stdout().lock();
            let _ = out.write_all(&text).and_then(|()| out.flush());
            ExitCode::SUCCESS
        }
        Err(error) => exit::fatal(
            "tcprulescheck",
            &format_args!("unable to read {}: {error}", file.display()),
            exit::TEMPORARY,
        ),
    }
}

fn explain(file: &OsString) -> io::Result<Vec<u8>> {
    let rules = cdb_file::read(Path::new(file))?.ok_or(io::ErrorKind::NotFound)?;
    let address = variable("TCPREMOTEIP").unwrap_or_else(|| "0.0.0.0".into());
    let (host, info) = (variable("TCPREMOTEHOST"), variable("TCPREMOTEINFO"));
    let peer = Peer {
        address: &address,
        host: host.as_deref(),
        info: info.as_deref(),
    };
    let Some(rule) = tcprules::find(&rules, peer).map_err(io::Error::other)? else {
        return Ok(b"default:\nallow connection\n".to_vec());
    };
    let mut text = [b"rule ", rule.key.as_slice(), b":\n"].concat();
    for instruction in rule.instructions() {
        match instruction {
            Instruction::Deny => {
                text.extend_from_slice(b"deny connection\n");
                return Ok(text);
            }
            Instruction::Set { name, value } => {
                text.extend_from_slice(
                    &[b"set environment variable ", name, b"=", value, b"\n"].concat(),
                );
            }
        }
    }
    text.extend_from_slice(b"allow connection\n");
    Ok(text)
}

fn usage(name: &str, line: &str) -> ExitCode {
    exit::fatal(name, &format_args!("usage: {line}"), exit::PERMANENT)
}
