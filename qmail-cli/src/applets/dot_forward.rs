//! `dot-forward`: follows the `.forward` files of sendmail.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::ExitCode;

use qmail_core::alias::{Word, words};
use qmail_core::header::HostRules;

use crate::alias_tools::{envelope_lines, host_rules, run_command, say};
use crate::applet::{Applet, Call, Kind};
use crate::delivery::{self, variable};
use crate::exit;
use crate::getopt::Getopt;
use crate::home::Home;
use crate::injection::{octets, read_file};

pub(crate) const APPLET: Applet = Applet {
    names: &["dot-forward"],
    kind: Kind::Classic,
    summary: "follow the .forward file of a user, as sendmail has it",
    run,
};

/// Exit code for a message that has been dealt with.
const DONE: u8 = 99;

/// What a recipient of the file is.
enum Recipient {
    /// The user: the message goes on to the next instruction.
    Direct,
    Program(Vec<u8>),
    Address(Vec<u8>),
}

/// Who the message is for.
struct Delivery {
    /// Say what would be done.
    rehearse: bool,
    user: Vec<u8>,
    /// `user@host`
    address: Vec<u8>,
    rules: HostRules,
}

fn run(call: &Call) -> ExitCode {
    let mut rehearse = false;
    let mut getopt = Getopt::new(&call.arguments, "nN");
    for option in getopt.by_ref() {
        match option {
            Ok(option) => rehearse = option.letter == b'n',
            Err(_) => return usage(call),
        }
    }
    let files = getopt.operands();
    if files.is_empty() {
        return usage(call);
    }
    match follow_all(call, rehearse, files) {
        Ok(code) | Err(code) => code,
    }
}

fn usage(call: &Call) -> ExitCode {
    let usage = "usage: dot-forward [ -nN ] file ...";
    exit::fatal(call.name, &usage, exit::PERMANENT)
}

fn follow_all(call: &Call, rehearse: bool, files: &[OsString]) -> Result<ExitCode, ExitCode> {
    let user = variable(call.name, "USER")?;
    let host = std::env::var_os("HOST").unwrap_or_default().into_vec();
    let delivery = Delivery {
        rehearse,
        address: [&user[..], b"@", &host].concat(),
        user,
        rules: host_rules(&Home::choose(None, None)).map_err(|error| {
            let words = format!("unable to read controls: {error}");
            exit::fatal(call.name, &words, exit::TEMPORARY)
        })?,
    };
    for file in files {
        let fatal = |words: &dyn std::fmt::Display| exit::fatal(call.name, words, exit::TEMPORARY);
        let text = read_file(Path::new(file))
            .map_err(|error| fatal(&format_args!("unable to read {}: {error}", file.display())))?;
        let Some(text) = text else {
            continue;
        };
        let recipients = delivery
            .recipients(&text)
            .map_err(|words| fatal(&format_args!("{}: {words}", file.display())))?;
        if !recipients.is_empty() {
            return delivery.carry_out(call, &recipients);
        }
        if rehearse {
            say(&[b"skipping empty file ", octets(file)]);
        }
    }
    if rehearse {
        say(&[b"direct delivery"]);
    }
    Ok(ExitCode::SUCCESS)
}

impl Delivery {
    fn recipients(&self, text: &[u8]) -> Result<Vec<Recipient>, String> {
        let mut recipients = Vec::new();
        for (number, line) in (1..).zip(text.split(|&octet| octet == b'\n')) {
            if line.first() == Some(&b'#') {
                continue;
            }
            let words = words(line).map_err(|error| format!("line {number}: {error}"))?;
            for word in words {
                recipients.push(self.recipient(&word)?);
            }
        }
        Ok(recipients)
    }

    fn recipient(&self, word: &Word) -> Result<Recipient, String> {
        let own = if word.has_host {
            &self.address
        } else {
            &self.user
        };
        if word.octets.eq_ignore_ascii_case(own) {
            return Ok(Recipient::Direct);
        }
        if word.is_file() {
            let file = word.octets.escape_ascii();
            return Err(format!("file delivery {file} not supported"));
        }
        Ok(match word.program() {
            Some(command) => Recipient::Program(command.to_vec()),
            None => Recipient::Address(word.address(&self.rules)),
        })
    }

    fn carry_out(&self, call: &Call, recipients: &[Recipient]) -> Result<ExitCode, ExitCode> {
        let mut direct = false;
        let mut addresses = Vec::new();
        for recipient in recipients {
            match recipient {
                Recipient::Direct => direct = true,
                Recipient::Program(command) if self.rehearse => {
                    say(&[b"pipe through ", command]);
                }
                Recipient::Program(command) => {
                    run_command(call.name, command, &envelope_lines())?;
                }
                Recipient::Address(address) if self.rehearse => say(&[b"forward ", address]),
                Recipient::Address(address) => addresses.push(&address[..]),
            }
        }
        if self.rehearse {
            if direct {
                say(&[b"direct delivery"]);
            }
            return Ok(ExitCode::SUCCESS);
        }
        if !addresses.is_empty() {
            self.forward(call, &addresses)?;
        }
        Ok(if direct {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(DONE)
        })
    }

    fn forward(&self, call: &Call, addresses: &[&[u8]]) -> Result<(), ExitCode> {
        let sender = variable(call.name, "NEWSENDER")?;
        let line = std::env::var_os("DTLINE").unwrap_or_default().into_vec();
        delivery::rewound().map_err(|error: io::Error| {
            let words = format!("unable to rewind message: {error}");
            exit::fatal(call.name, &words, exit::TEMPORARY)
        })?;
        let sent = delivery::forward(&line, &sender, addresses.iter().copied());
        let qp = sent.map_err(|error| error.fatal(call.name))?;
        say(&[format!("{}: info: qp {qp}", call.name).as_bytes()]);
        Ok(())
    }
}
