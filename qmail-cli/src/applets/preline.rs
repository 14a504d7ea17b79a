//! `preline`: puts the lines of the envelope before a message, for a program that wants them.

use std::process::{Command, ExitCode};

use crate::applet::{Applet, Call, Kind};
use crate::delivery::{self, Ended, FeedError, not_run, variable};
use crate::exit;
use crate::getopt::Getopt;

pub(crate) const APPLET: Applet = Applet {
    names: &["preline"],
    kind: Kind::Classic,
    summary: "put From, Return-Path and Delivered-To lines before a message",
    run,
};

fn run(call: &Call) -> ExitCode {
    match feed(call) {
        Ok(code) | Err(code) => code,
    }
}

fn feed(call: &Call) -> Result<ExitCode, ExitCode> {
    let usage = || {
        let usage = "usage: preline [ -frdFRD ] cmd [ arg ... ]";
        exit::fatal(call.name, &usage, exit::PERMANENT)
    };
    let mut lines = [("UFLINE", true), ("RPLINE", true), ("DTLINE", true)];
    let mut getopt = Getopt::new(&call.arguments, "frdFRD");
    for option in getopt.by_ref() {
        let letter = option.map_err(|_| usage())?.letter;
        let line = match letter.to_ascii_lowercase() {
            b'f' => 0,
            b'r' => 1,
            _ => 2,
        };
        lines[line].1 = letter.is_ascii_uppercase();
    }
    let (program, arguments) = getopt.operands().split_first().ok_or_else(usage)?;
    let mut head = Vec::new();
    for (name, wanted) in lines {
        if wanted {
            head.extend(variable(call.name, name)?);
        }
    }
    let mut command = Command::new(program);
    match delivery::feed(command.args(arguments), &head) {
        Ok(Ended::Exited(code)) => Ok(ExitCode::from(code)),
        Ok(Ended::Crashed) => Err(exit::fatal(call.name, &"child crashed", exit::TEMPORARY)),
        Err(FeedError::Run(error)) => {
            let words = format!("unable to run {}: {error}", program.display());
            Err(exit::fatal(call.name, &words, not_run(&error)))
        }
        Err(FeedError::Read(error)) => {
            let words = format!("unable to copy input: {error}");
            Err(exit::fatal(call.name, &words, exit::TEMPORARY))
        }
    }
}
