//! `setlock`: runs a program while a file is locked.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::getopt::Getopt;

pub(crate) const APPLET: Applet = Applet {
    names: &["setlock"],
    kind: Kind::Classic,
    summary: "run a program while a file is locked",
    run,
};

#[derive(Default)]
struct Options {
    /// Give up if somebody else has the lock.
    no_delay: bool,
    /// Giving up is no failure.
    quiet: bool,
}

fn run(call: &Call) -> ExitCode {
    let mut options = Options::default();
    let mut getopt = Getopt::new(&call.arguments, "nNxX");
    for option in getopt.by_ref() {
        match option.map(|option| option.letter) {
            Ok(letter @ (b'n' | b'N')) => options.no_delay = letter == b'n',
            Ok(letter) => options.quiet = letter == b'x',
            Err(_) => return usage(call),
        }
    }
    let [file, program, arguments @ ..] = getopt.operands() else {
        return usage(call);
    };
    locked(call, &options, file, program, arguments)
}

fn locked(
    call: &Call,
    options: &Options,
    file: &OsString,
    program: &OsString,
    arguments: &[OsString],
) -> ExitCode {
    let give_up = |what: &str, errno: Errno| {
        if options.quiet {
            return ExitCode::SUCCESS;
        }
        let words = format!("unable to {what} {}: {errno}", file.display());
        exit::fatal(call.name, &words, exit::TEMPORARY)
    };
    // Without CLOEXEC: the program keeps the file open, and with it the lock.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
    let lock = match openat(CWD, file, flags, Mode::RUSR | Mode::WUSR) {
        Ok(lock) => lock,
        Err(errno) => return give_up("open", errno),
    };
    let operation = if options.no_delay {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::LockExclusive
    };
    let mut result = flock(&lock, operation);
    while result == Err(Errno::INTR) {
        result = flock(&lock, operation);
    }
    if let Err(errno) = result {
        return give_up("lock", errno);
    }
    // Comes back only if it failed.
    let error = Command::new(program).args(arguments).exec();
    let words = format!("unable to run {}: {error}", program.display());
    exit::fatal(call.name, &words, exit::TEMPORARY)
}

fn usage(call: &Call) -> ExitCode {
    let usage = "usage: setlock [ -nNxX ] file program [ arg ... ]";
    exit::fatal(call.name, &usage, exit::PERMANENT)
}
