//! `tcpserver`: accepts TCP connections and runs a program for each.
//!
//! The listener runs this binary again for each connection, as `tcpserver-child`: that process looks up names, asks the
//! ident server, goes by the rules, and becomes the program. So a slow name server holds up one connection only.

mod child;
mod listener;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::getopt::Getopt;
use crate::ucspi::variable;

pub(crate) const TCPSERVER: Applet = Applet {
    names: &["tcpserver"],
    kind: Kind::Classic,
    summary: "accept TCP connections and run a program for each",
    run,
};

pub(crate) const CHILD: Applet = Applet {
    names: &["tcpserver-child"],
    kind: Kind::Internal,
    summary: "what tcpserver runs for each connection",
    run: child::run,
};

const USAGE: &str = "usage: tcpserver [-1UXpPhHrRoOdDqQv] [-c limit] [-x rules.cdb] [-B banner] [-g gid] [-u uid] \
    [-b backlog] [-l localname] [-t timeout] host port program [arg ...]";

/// Most children at a time that -c can ask for.
const LIMIT_MAX: u32 = 100_000;

/// What is asked for, checked.
struct Options<'a> {
    print_port: bool,
    /// -x, and whether a missing file lets everybody in (-X).
    rules: Option<PathBuf>,
    rules_may_be_missing: bool,
    look_up_remote: bool,
    /// The name of the peer counts only if it has the peer's address.
    paranoid: bool,
    ident: Option<Duration>,
    no_delay: bool,
    verbosity: Verbosity,
    limit: u32,
    backlog: i32,
    banner: Vec<u8>,
    gid: Option<u32>,
    uid: Option<u32>,
    local_name: Option<Vec<u8>>,
    host: &'a OsString,
    port: &'a OsString,
    program: &'a [OsString],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Verbosity {
    /// Nothing at all.
    Silent,
    /// Errors.
    Quiet,
    /// Every connection.
    Verbose,
}

fn run(call: &Call) -> ExitCode {
    match Options::parse(&call.arguments) {
        Ok(options) => listener::run(&options, &call.arguments),
        Err(words) => exit::fatal("tcpserver", &words, exit::PERMANENT),
    }
}

impl<'a> Options<'a> {
    fn parse(arguments: &'a [OsString]) -> Result<Self, String> {
        let usage = |why: &str| format!("{why}; {USAGE}");
        let number = |argument: &[u8]| {
            let digits = std::str::from_utf8(argument).ok();
            let number = digits.and_then(|digits| digits.parse::<u32>().ok());
            number.ok_or_else(|| usage("no number"))
        };
        let from_environment = |name: &str| {
            let value = variable(name).ok_or_else(|| usage("-U needs UID and GID"))?;
            number(&value)
        };
        let nothing = &[];
        let mut options = Self {
            print_port: false,
            rules: None,
            rules_may_be_missing: false,
            look_up_remote: true,
            paranoid: false,
            ident: None,
            no_delay: false,
            verbosity: Verbosity::Quiet,
            limit: 40,
            backlog: 20,
            banner: Vec::new(),
            gid: None,
            uid: None,
            local_name: None,
            host: arguments.first().ok_or(USAGE)?,
            port: arguments.first().ok_or(USAGE)?,
            program: nothing,
        };
        let (mut ident, mut ident_timeout) = (true, 26);
        let mut getopt = Getopt::new(arguments, "1UXpPhHrRoOdDqQvc:x:B:g:u:b:l:t:");
        for option in getopt.by_ref() {
            let option = option.map_err(|error| usage(&error.to_string()))?;
            let argument = option.argument;
            match option.letter {
                b'1' => options.print_port = true,
                b'U' => {
                    options.uid = Some(from_environment("UID")?);
                    options.gid = Some(from_environment("GID")?);
                }
                b'X' => options.rules_may_be_missing = true,
                b'p' => options.paranoid = true,
                b'P' => options.paranoid = false,
                b'h' => options.look_up_remote = true,
                b'H' => options.look_up_remote = false,
                b'r' => ident = true,
                b'R' => ident = false,
                // Source routes are the only IP options that do harm, and Linux answers none (ip-sysctl,
                // accept_source_route): there is nothing to keep and nothing to kill.
                b'o' | b'O' => {}
                b'd' => options.no_delay = false,
                b'D' => options.no_delay = true,
                b'q' => options.verbosity = Verbosity::Silent,
                b'Q' => options.verbosity = Verbosity::Quiet,
                b'v' => options.verbosity = Verbosity::Verbose,
                b'c' => options.limit = number(argument)?,
                b'x' => {
                    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(argument);
                    options.rules = Some(path.into());
                }
                b'B' => options.banner = argument.to_vec(),
                b'g' => options.gid = Some(number(argument)?),
                b'u' => options.uid = Some(number(argument)?),
                b'b' => options.backlog = number(argument)?.try_into().unwrap_or(i32::MAX),
                b'l' => options.local_name = Some(argument.to_vec()),
                _ => ident_timeout = number(argument)?,
            }
        }
        options.ident = ident.then(|| Duration::from_secs(ident_timeout.into()));
        // With 0 nobody would ever be let in.
        if !(1..=LIMIT_MAX).contains(&options.limit) {
            return Err(usage("-c needs a number from 1 to 100000"));
        }
        let [host, port, program @ ..] = getopt.operands() else {
            return Err(USAGE.to_owned());
        };
        if program.is_empty() {
            return Err(USAGE.to_owned());
        }
        (options.host, options.port, options.program) = (host, port, program);
        Ok(options)
    }
}
