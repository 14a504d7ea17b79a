//! `sendmail`, also as `mailq`: the command line that other programs expect, over qmail-inject.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::applet::{Applet, Call, Kind};
use crate::getopt::{BadOption, Getopt, Opt};
use crate::home::Home;
use crate::{classic, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["sendmail", "mailq"],
    kind: Kind::Classic,
    summary: "take a message the way sendmail does, or show the queue",
    run,
};

const NAME: &str = "sendmail";

const USAGE: &str = "usage: sendmail [-t] [-f sender] [-F name] [-bm | -bp | -bs] [recip ...]";

/// Options of other sendmails, accepted and without effect: what they ask for happens anyway, or has no meaning here.
const LETTERS: &str = "tb:f:r:F:vimxnsUGe:o:p:B:h:N:R:V:O:L:C:E?J?q?d?A?";

/// What the environment of a local SMTP session says.
const LOCAL_SESSION: [(&str, &str); 8] = [
    ("RELAYCLIENT", ""),
    ("DATABYTES", "0"),
    ("PROTO", "TCP"),
    ("TCPLOCALIP", "127.0.0.1"),
    ("TCPLOCALHOST", "localhost"),
    ("TCPREMOTEIP", "127.0.0.1"),
    ("TCPREMOTEHOST", "localhost"),
    ("TCPREMOTEINFO", "sendmail-bs"),
];

/// What `-b` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Deliver,
    ShowQueue,
    Smtp,
}

#[derive(Debug, PartialEq, Eq)]
struct Options<'a> {
    mode: Mode,
    from_header: bool,
    sender: Option<&'a [u8]>,
    name: Option<&'a [u8]>,
    recipients: &'a [OsString],
}

#[derive(Debug, PartialEq, Eq)]
enum Misuse {
    Option(BadOption),
    Mode,
}

fn run(call: &Call) -> ExitCode {
    if call
        .arguments
        .first()
        .is_some_and(|first| first == "--help")
    {
        exit::print(&format!(
            "{USAGE}\nQueues the message on standard input for the recipients, with -t also for those of its header.\n"
        ));
        return ExitCode::SUCCESS;
    }
    let options = match parse(&call.arguments) {
        Ok(options) => options,
        Err(Misuse::Option(bad)) => {
            return exit::fatal(NAME, &format_args!("{bad}; {USAGE}"), exit::PERMANENT);
        }
        Err(Misuse::Mode) => {
            return exit::fatal(
                NAME,
                &format_args!("-b needs m, p or s; {USAGE}"),
                exit::PERMANENT,
            );
        }
    };
    let home = Home::choose(None, None);
    if let Err(error) = std::env::set_current_dir(home.path()) {
        let words = format!(
            "unable to switch to home directory {}: {error}",
            home.path().display()
        );
        return exit::fatal(NAME, &words, exit::TEMPORARY);
    }
    let (program, mode) = match options.mode {
        _ if call.name == "mailq" => ("qmail-qread", Mode::ShowQueue),
        Mode::ShowQueue => ("qmail-qread", Mode::ShowQueue),
        Mode::Smtp => ("qmail-smtpd", Mode::Smtp),
        Mode::Deliver => ("qmail-inject", Mode::Deliver),
    };
    let mut command = match classic::command(&home, program) {
        Ok(command) => command,
        Err(error) => {
            return exit::fatal(
                NAME,
                &format_args!("unable to run {program}: {error}"),
                exit::TEMPORARY,
            );
        }
    };
    match mode {
        Mode::Deliver => deliver(&options, &mut command),
        Mode::Smtp if std::env::var_os("PROTO").is_none() => {
            command.envs(LOCAL_SESSION);
        }
        Mode::Smtp | Mode::ShowQueue => {}
    }
    // Comes back only if it failed.
    let error = command.exec();
    exit::fatal(
        NAME,
        &format_args!("unable to run {program}: {error}"),
        exit::TEMPORARY,
    )
}

fn parse(arguments: &[OsString]) -> Result<Options<'_>, Misuse> {
    let mut options = Options {
        mode: Mode::Deliver,
        from_header: false,
        sender: None,
        name: None,
        recipients: &[],
    };
    let mut getopt = Getopt::new(arguments, LETTERS);
    for option in getopt.by_ref() {
        let Opt { letter, argument } = option.map_err(Misuse::Option)?;
        match letter {
            b't' => options.from_header = true,
            b'f' | b'r' => options.sender = Some(without_brackets(argument)),
            b'F' => options.name = Some(argument),
            b'b' => {
                options.mode = match argument {
                    b"m" => Mode::Deliver,
                    b"p" => Mode::ShowQueue,
                    b"s" => Mode::Smtp,
                    _ => return Err(Misuse::Mode),
                }
            }
            _ => {}
        }
    }
    options.recipients = getopt.operands();
    Ok(options)
}

/// `-f <joe@x>` is what `-f joe@x` is, and `-f <>` the empty sender.
fn without_brackets(sender: &[u8]) -> &[u8] {
    sender
        .strip_prefix(b"<")
        .and_then(|sender| sender.strip_suffix(b">"))
        .unwrap_or(sender)
}

/// Arguments and environment of qmail-inject.
fn deliver(options: &Options<'_>, command: &mut Command) {
    command.arg(if options.from_header { "-H" } else { "-a" });
    if let Some(sender) = options.sender {
        command.arg("-f").arg(OsStr::from_bytes(sender));
        if !sender.is_empty() {
            for variable in ["QMAILNAME", "MAILNAME", "NAME", "QMAILHOST", "MAILHOST"] {
                command.env_remove(variable);
            }
            let at = memchr::memrchr(b'@', sender);
            command.env(
                "QMAILUSER",
                OsStr::from_bytes(&sender[..at.unwrap_or(sender.len())]),
            );
            if let Some(at) = at {
                command.env("QMAILHOST", OsStr::from_bytes(&sender[at + 1..]));
            }
        }
    }
    // After the sender, which forgets all other names: in whatever order they were given.
    if let Some(name) = options.name {
        command.env("MAILNAME", OsStr::from_bytes(name));
    }
    command.arg("--").args(options.recipients);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ')
            .filter(|word| !word.is_empty())
            .map(OsString::from)
            .collect()
    }

    #[test]
    fn options_of_other_sendmails_are_taken() {
        let line = "-oi -oem -odb -i -v -m -em -x -B8BITMIME -p esmtp -q30m -N never -R hdrs -V id -O a=b -Lx -G -U -n -Am -C f -d0 -h 5 -s a -t";
        let arguments = words(line);
        let options = parse(&arguments).unwrap();
        assert_eq!(options.recipients, ["a", "-t"]);
        assert!(!options.from_header);
    }

    #[test]
    fn brackets_of_a_sender_go() {
        for (line, sender) in [
            ("-f <>", ""),
            ("-f<a@b>", "a@b"),
            ("-r a@b", "a@b"),
            ("-f <a", "<a"),
        ] {
            assert_eq!(
                parse(&words(line)).unwrap().sender,
                Some(sender.as_bytes()),
                "{line}"
            );
        }
    }

    #[test]
    fn the_name_survives_the_sender() {
        for line in ["-F Joe -f a@b", "-f a@b -F Joe"] {
            let arguments = words(line);
            let mut command = Command::new("x");
            deliver(&parse(&arguments).unwrap(), &mut command);
            let names: Vec<_> = command
                .get_envs()
                .filter(|(name, _)| *name == "MAILNAME")
                .collect();
            assert_eq!(
                names,
                [(OsStr::new("MAILNAME"), Some(OsStr::new("Joe")))],
                "{line}"
            );
        }
    }

    #[test]
    fn misuse_is_told() {
        assert_eq!(parse(&words("-bd")), Err(Misuse::Mode));
        assert_eq!(
            parse(&words("-f")),
            Err(Misuse::Option(BadOption::NoArgument(b'f')))
        );
        assert_eq!(
            parse(&words("-z")),
            Err(Misuse::Option(BadOption::Unknown(b'z')))
        );
    }
}
