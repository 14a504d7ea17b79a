//! `fastforward`: forwards a message by a database of aliases.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use qmail_core::alias::{Expansion, expand};

use crate::alias_tools::{envelope_lines, run_command, say};
use crate::applet::{Applet, Call, Kind};
use crate::cdb_file;
use crate::delivery::{self, variable};
use crate::exit;
use crate::getopt::Getopt;

pub(crate) const APPLET: Applet = Applet {
    names: &["fastforward"],
    kind: Kind::Classic,
    summary: "forward a message by a database of aliases",
    run,
};

/// Largest list in octets that is read.
const LIST_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// A list must be readable by everybody: what is in it is seen in bounces.
const WORLD_READABLE: u32 = 0o444;

#[derive(Default)]
struct Options {
    /// Say what would be done.
    rehearse: bool,
    /// Pass on what is not in the database.
    pass: bool,
    /// The recipient is `DEFAULT@HOST`.
    default: bool,
}

fn run(call: &Call) -> ExitCode {
    let mut options = Options::default();
    let mut getopt = Getopt::new(&call.arguments, "nNpPdD");
    for option in getopt.by_ref() {
        match option.map(|option| option.letter) {
            Ok(letter @ (b'n' | b'N')) => options.rehearse = letter == b'n',
            Ok(letter @ (b'p' | b'P')) => options.pass = letter == b'p',
            Ok(letter) => options.default = letter == b'd',
            Err(_) => return usage(call),
        }
    }
    let Some(database) = getopt.operands().first() else {
        return usage(call);
    };
    match deliver(call, &options, database) {
        Ok(code) | Err(code) => code,
    }
}

fn usage(call: &Call) -> ExitCode {
    let usage = "usage: fastforward [ -nNpPdD ] data.cdb";
    exit::fatal(call.name, &usage, exit::PERMANENT)
}

fn deliver(call: &Call, options: &Options, database: &OsString) -> Result<ExitCode, ExitCode> {
    let recipient = recipient(call, options)?;
    let temporary = |words: &dyn std::fmt::Display| exit::fatal(call.name, words, exit::TEMPORARY);
    let trouble = |words: &dyn std::fmt::Display| {
        temporary(&format_args!(
            "unable to read {}: {words}",
            database.display()
        ))
    };
    let cdb = cdb_file::open(Path::new(database)).map_err(|error| trouble(&error))?;
    let expansion = expand(&cdb, &recipient, read_list).map_err(|error| trouble(&error))?;
    let Some(expansion) = expansion else {
        if options.pass {
            return Ok(ExitCode::SUCCESS);
        }
        say(&[b"Sorry, no mailbox here by that name. (#5.1.1)"]);
        return Err(ExitCode::from(exit::PERMANENT));
    };
    if expansion.programs.is_empty() && expansion.recipients.is_empty() && !expansion.had_list {
        say(&[b"Sorry, this address leads back to itself and to nobody else. (#5.4.6)"]);
        return Err(ExitCode::from(exit::PERMANENT));
    }
    let sender = sender(&expansion);
    if options.rehearse {
        rehearse(&expansion, &sender);
        return Ok(ExitCode::SUCCESS);
    }
    for program in &expansion.programs {
        let (kind, command) = program.split_at(1);
        let head = if kind == b"!" {
            envelope_lines()
        } else {
            Vec::new()
        };
        run_command(call.name, command, &head)?;
    }
    if !expansion.recipients.is_empty() {
        forward(call, &sender, &expansion)?;
    }
    Ok(if options.pass {
        ExitCode::from(99)
    } else {
        ExitCode::SUCCESS
    })
}

/// The address that the mail came for.
fn recipient(call: &Call, options: &Options) -> Result<Vec<u8>, ExitCode> {
    if !options.default {
        return variable(call.name, "RECIPIENT");
    }
    let local = match std::env::var_os("DEFAULT") {
        Some(default) => default.into_vec(),
        None => variable(call.name, "EXT")?,
    };
    Ok([&local[..], b"@", &variable(call.name, "HOST")?].concat())
}

/// The owner, unless the message is a bounce.
fn sender(expansion: &Expansion) -> Vec<u8> {
    let sender = std::env::var_os("SENDER").map(OsString::into_vec);
    let sender = sender.unwrap_or_else(|| b"original envelope sender".to_vec());
    match &expansion.owner {
        Some(owner) if !matches!(&sender[..], b"" | b"#@[]") => owner.clone(),
        _ => sender,
    }
}

fn read_list(name: &[u8]) -> Result<Vec<u8>, String> {
    let path = OsStr::from_bytes(name);
    let trouble = |error: io::Error| format!("list {}: {error}", path.display());
    let file = File::open(path).map_err(trouble)?;
    let metadata = file.metadata().map_err(trouble)?;
    if metadata.mode() & WORLD_READABLE != WORLD_READABLE {
        return Err(format!("{} is not world-readable", path.display()));
    }
    let mut list = Vec::new();
    file.take(LIST_OCTETS_MAX + 1)
        .read_to_end(&mut list)
        .map_err(trouble)?;
    if list.len() as u64 > LIST_OCTETS_MAX {
        return Err(trouble(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(list)
}

fn rehearse(expansion: &Expansion, sender: &[u8]) {
    for program in &expansion.programs {
        say(&[b"run ", program]);
    }
    if expansion.recipients.is_empty() {
        say(&[b"no forwarding"]);
        return;
    }
    say(&[b"from <", sender, b">"]);
    for recipient in &expansion.recipients {
        say(&[b"to <", recipient, b">"]);
    }
}

fn forward(call: &Call, sender: &[u8], expansion: &Expansion) -> Result<(), ExitCode> {
    let line = std::env::var_os("DTLINE").unwrap_or_default().into_vec();
    delivery::rewound().map_err(|error| {
        let words = format!("unable to rewind message: {error}");
        exit::fatal(call.name, &words, exit::TEMPORARY)
    })?;
    let recipients = expansion.recipients.iter().map(|recipient| &recipient[..]);
    let qp =
        delivery::forward(&line, sender, recipients).map_err(|error| error.fatal(call.name))?;
    say(&[format!("{}: qp {qp}", call.name).as_bytes()]);
    Ok(())
}
