//! `predate`, `datemail` and `mailsubj`: programs that put fields before a message and hand it to another program.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, ExitCode, Stdio};

use qmail_core::header::date::write_local_date;

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::{classic, exit};

pub(crate) const PREDATE: Applet = Applet {
    names: &["predate"],
    kind: Kind::Classic,
    summary: "put a Date in local time before a message, for another program",
    run: predate,
};

pub(crate) const DATEMAIL: Applet = Applet {
    names: &["datemail"],
    kind: Kind::Classic,
    summary: "sendmail, with a Date in local time",
    run: datemail,
};

pub(crate) const MAILSUBJ: Applet = Applet {
    names: &["mailsubj"],
    kind: Kind::Classic,
    summary: "send standard input with a subject to some recipients",
    run: mailsubj,
};

fn predate(call: &Call) -> ExitCode {
    let Some((program, arguments)) = call.arguments.split_first() else {
        return exit::fatal(
            "predate",
            &"usage: predate child [arg ...]",
            exit::PERMANENT,
        );
    };
    let mut child = Command::new(program);
    child.args(arguments);
    feed("predate", child, date_field)
}

fn datemail(call: &Call) -> ExitCode {
    match classic::command(&Home::choose(None, None), "sendmail") {
        Ok(mut child) => {
            child.args(&call.arguments);
            feed("datemail", child, date_field)
        }
        Err(error) => exit::fatal(
            "datemail",
            &format_args!("unable to run sendmail: {error}"),
            exit::TEMPORARY,
        ),
    }
}

fn mailsubj(call: &Call) -> ExitCode {
    let Some((subject, recipients)) = call.arguments.split_first() else {
        return exit::fatal(
            "mailsubj",
            &"usage: mailsubj subject recip ...",
            exit::PERMANENT,
        );
    };
    match classic::command(&Home::choose(None, None), "qmail-inject") {
        Ok(child) => feed("mailsubj", child, || {
            Ok(subject_fields(subject, recipients))
        }),
        Err(error) => exit::fatal(
            "mailsubj",
            &format_args!("unable to run qmail-inject: {error}"),
            exit::TEMPORARY,
        ),
    }
}

/// `Date`, with the offset of local time.
fn date_field() -> io::Result<Vec<u8>> {
    let seconds = std::time::UNIX_EPOCH
        .elapsed()
        .map_err(io::Error::other)?
        .as_secs();
    let seconds = i64::try_from(seconds).map_err(io::Error::other)?;
    let mut field = b"Date: ".to_vec();
    write_local_date(
        seconds,
        classic::local_zone().offset_at(seconds),
        &mut field,
    );
    field.push(b'\n');
    Ok(field)
}

/// `Subject` and `To`, in header syntax as they were given, and an empty line. A line break would be a field of its own:
/// it becomes a blank.
fn subject_fields(subject: &OsString, recipients: &[OsString]) -> Vec<u8> {
    let mut fields = b"Subject: ".to_vec();
    push_line(subject, &mut fields);
    fields.extend_from_slice(b"\nTo:");
    for recipient in recipients {
        fields.push(b' ');
        push_line(recipient, &mut fields);
    }
    fields.extend_from_slice(b"\n\n");
    fields
}

fn push_line(word: &OsString, sink: &mut Vec<u8>) {
    let octets = word.as_bytes().iter();
    sink.extend(octets.map(|&octet| {
        if matches!(octet, b'\n' | b'\r') {
            b' '
        } else {
            octet
        }
    }));
}

/// Runs a child with the fields and then standard input as its own, and gives its exit code back.
fn feed(name: &str, mut child: Command, fields: impl FnOnce() -> io::Result<Vec<u8>>) -> ExitCode {
    let fail = |what: &str, error: &io::Error| {
        exit::fatal(
            name,
            &format_args!("unable to {what}: {error}"),
            exit::TEMPORARY,
        )
    };
    let fields = match fields() {
        Ok(fields) => fields,
        Err(error) => return fail("read the clock", &error),
    };
    child.stdin(Stdio::piped());
    let program = child.get_program().to_string_lossy().into_owned();
    let mut child = match child.spawn() {
        Ok(child) => child,
        Err(error) => return fail(&format!("run {program}"), &error),
    };
    let mut read_error = None;
    if let Some(mut pipe) = child.stdin.take() {
        // A child that does not read on is not our trouble: its exit code counts.
        let mut reads = pipe.write_all(&fields).is_ok();
        let mut buffer = vec![0; 64 * 1024];
        let mut input = io::stdin().lock();
        while reads {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(octets) => reads = pipe.write_all(&buffer[..octets]).is_ok(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    read_error = Some(error);
                    // Half a message must not look like a whole one.
                    let _ = child.kill();
                    break;
                }
            }
        }
    }
    match (child.wait(), read_error) {
        (_, Some(error)) => fail("read the message", &error),
        (Err(error), None) => fail(&format!("wait for {program}"), &error),
        (Ok(status), None) => match status.code() {
            Some(code) => ExitCode::from(code as u8),
            None => exit::fatal(name, &format_args!("{program} crashed"), exit::TEMPORARY),
        },
    }
}
