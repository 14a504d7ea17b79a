//! `xqp`, `xsender`, `xrecipient`: the lines of matchup about one message, sender or recipient (qmailanalog).

use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use qmail_queue::analog::Record;

use crate::applet::{Applet, Call, Kind};
use crate::{exit, log_input};

pub(crate) const XQP: Applet = applet(&["xqp"], "the lines of matchup about one message");
pub(crate) const XRECIPIENT: Applet =
    applet(&["xrecipient"], "the lines of matchup about one recipient");
pub(crate) const XSENDER: Applet = applet(&["xsender"], "the lines of matchup about one sender");

const fn applet(names: &'static [&'static str], summary: &'static str) -> Applet {
    Applet {
        names,
        kind: Kind::Classic,
        summary,
        run,
    }
}

fn run(call: &Call) -> ExitCode {
    let [wanted] = call.arguments.as_slice() else {
        let argument = match call.name {
            "xqp" => "QP, the number behind `qp` in the log",
            "xsender" => "ADDRESS; '' is the empty sender",
            _ => "CHANNEL.ADDRESS, as remote.joe@example.org",
        };
        let words = format_args!("usage: {} {argument}", call.name);
        return exit::fatal(call.name, &words, exit::PERMANENT);
    };
    // Addresses are in lower case in what matchup prints.
    let wanted = wanted.as_bytes().to_ascii_lowercase();
    let fits = |record: &Record<'_>| match call.name {
        "xqp" => record.qp() == wanted,
        "xsender" => record.sender() == [b"<", &wanted[..], b">"].concat(),
        _ => record.recipient() == Some(&wanted[..]),
    };
    let result = log_input::filter(|line, sink| {
        if Record::parse(line).is_some_and(|record| fits(&record)) {
            sink.extend_from_slice(line);
            sink.push(b'\n');
        }
    });
    log_input::end(call.name, result.map(drop))
}
