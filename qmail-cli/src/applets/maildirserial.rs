//! `maildirserial`: hands the messages of a Maildir to a client that sends them, and removes what was sent. `maildirsmtp` and
//! `maildirqmtp` are that with SMTP and QMTP.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::UNIX_EPOCH;

use crate::applet::{Applet, Call, Kind};
use crate::classic;
use crate::exit;
use crate::getopt::Getopt;
use crate::home::Home;
use crate::injection::octets;
use crate::maildir_bounce::{self, Bounced};
use crate::maildir_files::{self, Entry};
use crate::serial_message::{FRUITLESS, read_envelope};

pub(crate) const APPLET: Applet = Applet {
    names: &["maildirserial"],
    kind: Kind::Classic,
    summary: "have a client send the messages of a Maildir",
    run,
};

pub(crate) const MAILDIRSMTP: Applet = Applet {
    names: &["maildirsmtp"],
    kind: Kind::Classic,
    summary: "send the messages of a Maildir to a host by SMTP",
    run: smtp,
};

pub(crate) const MAILDIRQMTP: Applet = Applet {
    names: &["maildirqmtp"],
    kind: Kind::Classic,
    summary: "send the messages of a Maildir to a host by QMTP",
    run: qmtp,
};

/// After so many seconds, two weeks, a message is too old to be tried again.
const LIFETIME: &str = "1209600";

/// So many runs of the client without a single result end it.
const ROUNDS_MAX: u32 = 3;

/// Longest result in octets, with its name.
const RESULT_OCTETS_MAX: u64 = 16 * 1024;

struct Options<'a> {
    bounce: bool,
    /// In seconds.
    lifetime: Option<u64>,
    prefix: &'a [u8],
    client: &'a [OsString],
}

fn run(call: &Call) -> ExitCode {
    let mut options = Options {
        bounce: false,
        lifetime: None,
        prefix: b"",
        client: &[],
    };
    let mut getopt = Getopt::new(&call.arguments, "bBt:");
    for option in getopt.by_ref() {
        let Ok(option) = option else {
            return usage(call);
        };
        match option.letter {
            b't' => match std::str::from_utf8(option.argument).map(str::parse) {
                Ok(Ok(seconds)) => options.lifetime = Some(seconds),
                _ => return usage(call),
            },
            letter => options.bounce = letter == b'b',
        }
    }
    let [directory, prefix, client @ ..] = getopt.operands() else {
        return usage(call);
    };
    if client.is_empty() {
        return usage(call);
    }
    options.prefix = octets(prefix);
    options.client = client;
    if let Err(error) = std::env::set_current_dir(directory) {
        let words = format!("unable to chdir to {}: {error}", directory.display());
        return exit::fatal(call.name, &words, exit::TEMPORARY);
    }
    match send_all(&options) {
        Ok(code) => code,
        Err(words) => exit::fatal(call.name, &words, exit::TEMPORARY),
    }
}

fn usage(call: &Call) -> ExitCode {
    let usage = "usage: maildirserial [ -bB ] [ -t seconds ] dir prefix client [ arg ... ]";
    exit::fatal(call.name, &usage, exit::PERMANENT)
}

fn smtp(call: &Call) -> ExitCode {
    match &call.arguments[..] {
        [directory, prefix, host, helo, ..] => by_network(
            call,
            "serialsmtp",
            "25",
            [directory, prefix, host],
            Some(helo),
        ),
        _ => exit::fatal(
            call.name,
            &"usage: maildirsmtp dir prefix host helohost",
            exit::PERMANENT,
        ),
    }
}

fn qmtp(call: &Call) -> ExitCode {
    match &call.arguments[..] {
        [directory, prefix, host, ..] => {
            by_network(call, "serialqmtp", "209", [directory, prefix, host], None)
        }
        _ => exit::fatal(
            call.name,
            &"usage: maildirqmtp dir prefix host",
            exit::PERMANENT,
        ),
    }
}

/// Becomes maildirserial with tcpclient and this client.
fn by_network(
    call: &Call,
    client: &str,
    port: &str,
    [directory, prefix, host]: [&OsString; 3],
    helo: Option<&OsString>,
) -> ExitCode {
    let failed = |error: io::Error| {
        let words = format!("unable to run maildirserial: {error}");
        exit::fatal(call.name, &words, exit::TEMPORARY)
    };
    let mut command = match classic::command(&Home::choose(None, None), "maildirserial") {
        Ok(command) => command,
        Err(error) => return failed(error),
    };
    command
        .args(["-b", "-t", LIFETIME, "--"])
        .args([directory, prefix])
        .args(["tcpclient", "-RHl0", "--"])
        .arg(host)
        .args([port, client])
        .arg(prefix)
        .args(helo);
    // Comes back only if it failed.
    failed(command.exec())
}

/// What is known of the Maildir during a run.
#[derive(Default)]
struct Progress {
    /// Files that are not tried any more in this run.
    dead: HashSet<PathBuf>,
    /// Runs of the client since the last result.
    fruitless: u32,
}

fn send_all(options: &Options<'_>) -> Result<ExitCode, String> {
    let here = Path::new("");
    maildir_files::clean(here);
    let mut progress = Progress::default();
    loop {
        let files = maildir_files::list(here)
            .map_err(|error| format!("unable to scan the Maildir: {error}"))?;
        let usable: Vec<_> = files
            .into_iter()
            .filter(|file| !progress.dead.contains(&file.path) && has_prefix(file, options.prefix))
            .collect();
        if usable.is_empty() {
            return Ok(if progress.dead.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(exit::TEMPORARY)
            });
        }
        if progress.fruitless == ROUNDS_MAX {
            return Err("making no progress, giving up".to_owned());
        }
        progress.fruitless += 1;
        if let Some(code) = run_client(options, &usable, &mut progress)? {
            return Ok(code);
        }
    }
}

fn has_prefix(file: &Entry, prefix: &[u8]) -> bool {
    if prefix.is_empty() {
        return true;
    }
    let envelope = File::open(&file.path).and_then(|file| read_envelope(&mut BufReader::new(file)));
    matches!(envelope, Ok(Some(lines)) if lines.recipient.starts_with(prefix))
}

/// Runs the client once on these files. `Some`: the exit code to end with.
fn run_client(
    options: &Options<'_>,
    files: &[Entry],
    progress: &mut Progress,
) -> Result<Option<ExitCode>, String> {
    let program = &options.client[0];
    let mut child = Command::new(program)
        .args(&options.client[1..])
        .env(FRUITLESS, (progress.fruitless - 1).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("unable to run {}: {error}", program.display()))?;
    let results = std::thread::scope(|scope| {
        if let Some(mut names) = child.stdin.take() {
            scope.spawn(move || {
                for file in files {
                    let name = file.path.as_os_str().as_bytes();
                    // A client that reads no further has had enough.
                    if names.write_all(&[name, b"\0"].concat()).is_err() {
                        break;
                    }
                }
            });
        }
        read_results(options, files, &mut child, progress)
    });
    let status = child
        .wait()
        .map_err(|error| format!("unable to wait for {}: {error}", program.display()))?;
    results?;
    match status.code() {
        Some(100) => Ok(Some(ExitCode::from(exit::PERMANENT))),
        Some(_) => Ok(None),
        None => Err(format!("{} crashed", program.display())),
    }
}

/// Reads on to the end of a line, and keeps nothing of it. `false`: the input ended first.
fn ends_line(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let piece = input.fill_buf()?;
        if piece.is_empty() {
            return Ok(false);
        }
        let end = memchr::memchr(b'\n', piece);
        let octets = end.map_or(piece.len(), |end| end + 1);
        input.consume(octets);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn read_results(
    options: &Options<'_>,
    files: &[Entry],
    child: &mut Child,
    progress: &mut Progress,
) -> Result<(), String> {
    let Some(output) = child.stdout.take() else {
        return Ok(());
    };
    let mut output = BufReader::new(output);
    let trouble = |error: io::Error| format!("unable to read results: {error}");
    loop {
        let mut name = Vec::new();
        let mut rest = Vec::new();
        (&mut output)
            .take(RESULT_OCTETS_MAX)
            .read_until(0, &mut name)
            .map_err(trouble)?;
        (&mut output)
            .take(RESULT_OCTETS_MAX)
            .read_until(b'\n', &mut rest)
            .map_err(trouble)?;
        if rest.len() as u64 == RESULT_OCTETS_MAX && rest.last() != Some(&b'\n') {
            // What it says at such length still counts, if it comes to an end.
            if ends_line(&mut output).map_err(trouble)? {
                rest.push(b'\n');
            }
        }
        let (Some(0), Some(b'\n')) = (name.pop(), rest.pop()) else {
            // The end, or a result that the client did not finish.
            return Ok(());
        };
        let Some((&status, text)) = rest.split_first() else {
            continue;
        };
        let path = Path::new(OsStr::from_bytes(&name));
        // Only files that were handed out are touched, whatever the client says.
        let Some(file) = files.iter().find(|file| file.path == path) else {
            continue;
        };
        progress.fruitless = 0;
        let done = finish(options, file, status, text);
        if !done || fs::remove_file(&file.path).is_err() {
            if done {
                log(&[b"warning: unable to unlink ", &name]);
            }
            progress.dead.insert(file.path.clone());
        }
    }
}

/// Tells of a result, and bounces if that is asked for. `true`: the file can go.
fn finish(options: &Options<'_>, file: &Entry, status: u8, text: &[u8]) -> bool {
    let name = file.path.as_os_str().as_bytes();
    let now = UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs());
    let too_old = status == b'Z'
        && options
            .lifetime
            .is_some_and(|lifetime| now.saturating_sub(file.modified) > lifetime);
    match status {
        b'K' => {
            log(&[b"info: ", name, b" succeeded: ", text]);
            return true;
        }
        b'D' => {}
        _ if too_old => {}
        _ => {
            log(&[b"info: ", name, b" failed temporarily: ", text]);
            return false;
        }
    }
    if !options.bounce {
        log(&[b"info: ", name, b" failed: ", text]);
        return false;
    }
    log(&[b"info: ", name, b" bounced: ", text]);
    match maildir_bounce::bounce(&file.path, options.prefix, text, too_old) {
        Ok(Bounced::Returned(qp)) => {
            log(&[b"info: returned ", name, format!(": qp {qp}").as_bytes()]);
            true
        }
        Ok(Bounced::Discarded) => {
            log(&[b"info: discarding ", name, b": triple bounce"]);
            true
        }
        Err(words) => {
            log(&[b"warning: unable to bounce ", name, b": ", &words]);
            false
        }
    }
}

/// A line of the log. Control octets are shown as `?`: a server chose the text.
fn log(parts: &[&[u8]]) {
    let mut line = b"maildirserial: ".to_vec();
    line.extend(parts.concat().into_iter().map(|octet| {
        if octet.is_ascii_control() {
            b'?'
        } else {
            octet
        }
    }));
    line.push(b'\n');
    let _ = io::stderr().write_all(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_in_lf_and_not_with_the_input() {
        for (input, found) in [
            ("rest\nnext", true),
            ("\n", true),
            ("rest", false),
            ("", false),
        ] {
            let ended = ends_line(&mut input.as_bytes());
            assert_eq!(ended.expect("memory can be read"), found, "{input:?}");
        }
    }
}
