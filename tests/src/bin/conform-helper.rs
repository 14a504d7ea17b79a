//! Becomes another program after doing what a parent cannot do safely between fork and exec.
//!
//! ```text
//! conform-helper net67 PORT PROGRAM [ARG...]   connect to 127.0.0.1:PORT, as descriptors 6 and 7 of PROGRAM
//! conform-helper drop UID PROGRAM [ARG...]     become this user and group, without supplementary groups
//! ```
//!
//! Exit code 111, with a line on standard error, if PROGRAM could not be started.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some((mode, number)) = arguments.next().zip(arguments.next()) else {
        return trouble("usage: conform-helper net67 PORT | drop UID, PROGRAM [ARG...]");
    };
    let Some(number) = number.to_str().and_then(|number| number.parse().ok()) else {
        return trouble("PORT and UID are numbers");
    };
    let Some(program) = arguments.next() else {
        return trouble("no program is named");
    };
    let reason = match mode.to_str() {
        Some("net67") => net67(number, &program, arguments),
        Some("drop") => drop_to(number, &program, arguments),
        _ => return trouble("the modes are net67 and drop"),
    };
    trouble(&format!("{}: {reason}", program.display()))
}

/// Connects and runs the program with the connection as descriptors 6 and 7. Returns only if that fails.
fn net67(
    port: u32,
    program: &OsString,
    arguments: impl Iterator<Item = OsString>,
) -> std::io::Error {
    let prepare = || -> std::io::Result<[OwnedFd; 2]> {
        let port = u16::try_from(port).map_err(|_| std::io::Error::other("no such port"))?;
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let both = [
            fcntl_dupfd_cloexec(&connection, 6)?,
            fcntl_dupfd_cloexec(&connection, 7)?,
        ];
        for (end, wanted) in both.iter().zip([6, 7]) {
            if end.as_raw_fd() != wanted {
                return Err(std::io::Error::other(
                    "descriptors 6 and 7 are in use already",
                ));
            }
            fcntl_setfd(end, FdFlags::empty())?;
        }
        Ok(both)
    };
    match prepare() {
        Ok(_ends) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

/// Runs the program as another user. Returns only if that fails.
fn drop_to(
    user: u32,
    program: &OsString,
    arguments: impl Iterator<Item = OsString>,
) -> std::io::Error {
    // The standard library empties the list of supplementary groups when root sets a user and no list.
    Command::new(program)
        .args(arguments)
        .gid(user)
        .uid(user)
        .exec()
}

fn trouble(what: &str) -> ExitCode {
    eprintln!("conform-helper: {what}");
    ExitCode::from(111)
}
