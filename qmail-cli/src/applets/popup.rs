//! `qmail-popup`: asks a POP3 client for name and password, and runs a checkpassword program with them.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use qmail_core::pump::Pump;
use qmail_core::{Credentials, Machine as _};
use qmail_pop3::{Config, Event, Greeting, LoginAnswer, Session, Timestamp};

use crate::applet::{Applet, Call, Kind};
use crate::checkpassword::{self, GiveError};
use crate::ucspi::unix_seconds;
use crate::{exit, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-popup"],
    kind: Kind::Classic,
    summary: "ask a POP3 client for its password, and run a program that checks it",
    run,
};

/// Exits 1 in every case, as listeners and their logs know it.
fn run(call: &Call) -> ExitCode {
    let [host, program, arguments @ ..] = call.arguments.as_slice() else {
        exit::print("-ERR usage: popup hostname subprogram\r\n");
        return ExitCode::FAILURE;
    };
    let timestamp = Timestamp::of_process(std::process::id(), unix_seconds(), host.as_bytes());
    let mut subprogram = Command::new(program);
    subprogram.args(arguments);
    if stdio::run(converse(timestamp, subprogram)).is_err() {
        exit::print("-ERR out of memory\r\n");
    }
    ExitCode::FAILURE
}

async fn converse(timestamp: Timestamp, mut subprogram: Command) -> io::Result<()> {
    let greeting = Greeting::Apop(timestamp.clone());
    let session = Session::new(Arc::new(Config::classic()), greeting, Instant::now());
    let mut pump = Pump::new(session, stdio::connection(), Instant::now);
    while let Some(event) = pump.next_event().await? {
        if let Event::Login {
            question,
            credentials,
        } = event
        {
            // What was answered before must be out before another program writes there.
            let mut replies = Vec::new();
            pump.machine().poll_transmit(&mut replies);
            let mut out = io::stdout().lock();
            out.write_all(&replies)?;
            out.flush()?;
            let answer = check(&mut subprogram, &credentials, &timestamp);
            pump.machine()
                .answer_login(Instant::now(), question, answer);
        }
    }
    Ok(())
}

/// Runs the subprogram to its end. If it says yes, the whole session has taken place below it.
fn check(
    subprogram: &mut Command,
    credentials: &Credentials,
    timestamp: &Timestamp,
) -> LoginAnswer {
    let failed = |text: &'static str| LoginAnswer::Failed(Bytes::from_static(text.as_bytes()));
    let Some(record) = checkpassword::record(credentials, timestamp.as_bytes()) else {
        return LoginAnswer::Refused;
    };
    match checkpassword::give(&record, subprogram) {
        Ok(()) => {}
        Err(GiveError::Open) => return failed("unable to open pipe"),
        Err(GiveError::Write) => return failed("unable to write pipe"),
    }
    match subprogram.status() {
        Ok(status) => verdict(status),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock
            ) =>
        {
            failed("unable to fork")
        }
        Err(error) => {
            let program = OsString::from(subprogram.get_program());
            exit::warn(
                "qmail-popup",
                &format_args!("unable to run {}: {error}", program.display()),
            );
            LoginAnswer::Refused
        }
    }
}

fn verdict(status: ExitStatus) -> LoginAnswer {
    match status.code() {
        Some(0) => LoginAnswer::HandedOver,
        Some(_) => LoginAnswer::Refused,
        None => LoginAnswer::Failed(Bytes::from_static(b"aack, child crashed")),
    }
}
