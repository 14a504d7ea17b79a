//! `qmail-inject`: completes a message and queues it.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use qmail_core::QueueFailure;
use qmail_core::header::{Qualifier, Splitter};
use qmail_core::message::inject::{Identity, InjectError, Injection, Settings};

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::getopt::{BadOption, Getopt};
use crate::home::Home;
use crate::injection::{
    self, HEADER_OCTETS_MAX, HeaderError, Target, copy_body, first_variable, host_control,
    mailing_lists, read_header,
};
use crate::queue_program::QueueProgram;

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-inject"],
    kind: Kind::Classic,
    summary: "complete a message from standard input and queue it",
    run,
};

const NAME: &str = "qmail-inject";

const USAGE: &str = "usage: qmail-inject [-nNaAhH] [-f sender] [recip ...]\n\
    Completes the message on standard input and queues it. -a: only the recipients given; -h: only those of the header;\n\
    -H: both; -A: those given if any, else those of the header. -n: print the message instead. -f: the envelope sender.\n";

fn run(call: &Call) -> ExitCode {
    match inject(&call.arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(bad)) => exit::fatal(
            NAME,
            &format_args!("{bad}; {}", USAGE.lines().next().unwrap_or_default()),
            exit::PERMANENT,
        ),
        Err(Failure::Help) => {
            exit::print(USAGE);
            ExitCode::SUCCESS
        }
        Err(Failure::Message(error)) => {
            let mut words = Vec::new();
            error.write(&mut words);
            exit::fatal_octets(NAME, &words, exit::PERMANENT)
        }
        Err(Failure::Memory) => exit::fatal(NAME, &"out of memory", exit::TEMPORARY),
        Err(Failure::Read) => exit::fatal(NAME, &"read error", exit::TEMPORARY),
        Err(Failure::Home(home, error)) => exit::fatal(
            NAME,
            &format_args!(
                "unable to switch to home directory {}: {error}",
                home.path().display()
            ),
            exit::TEMPORARY,
        ),
        Err(Failure::Write(error)) => exit::fatal(
            NAME,
            &format_args!("unable to write the message: {error}"),
            exit::TEMPORARY,
        ),
        Err(Failure::Queue(failure)) => {
            let code = if failure.is_temporary() {
                exit::TEMPORARY
            } else {
                exit::PERMANENT
            };
            exit::fatal_octets(NAME, &failure.text, code)
        }
    }
}

enum Failure {
    Usage(BadOption),
    Help,
    Message(InjectError),
    Memory,
    /// The classic programs have one text for standard input, control files and lists of addresses.
    Read,
    Home(Home, io::Error),
    Write(io::Error),
    Queue(QueueFailure),
}

impl From<InjectError> for Failure {
    fn from(error: InjectError) -> Self {
        Self::Message(error)
    }
}

/// What the command line asks for.
struct Options {
    print: bool,
    sender: Option<Vec<u8>>,
    recipients: Recipients,
}

/// Whose recipients count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recipients {
    Arguments,
    Header,
    Both,
    ArgumentsElseHeader,
}

fn parse(arguments: &[OsString]) -> Result<(Options, &[OsString]), Failure> {
    if arguments.first().is_some_and(|first| first == "--help") {
        return Err(Failure::Help);
    }
    let mut options = Options {
        print: false,
        sender: None,
        recipients: Recipients::ArgumentsElseHeader,
    };
    let mut getopt = Getopt::new(arguments, "aAhHnNf:");
    for option in getopt.by_ref() {
        let option = option.map_err(Failure::Usage)?;
        match option.letter {
            b'a' => options.recipients = Recipients::Arguments,
            b'A' => options.recipients = Recipients::ArgumentsElseHeader,
            b'h' => options.recipients = Recipients::Header,
            b'H' => options.recipients = Recipients::Both,
            b'n' => options.print = true,
            b'N' => options.print = false,
            _ => options.sender = Some(option.argument.to_vec()),
        }
    }
    Ok((options, getopt.operands()))
}

fn inject(arguments: &[OsString]) -> Result<(), Failure> {
    let (options, operands) = parse(arguments)?;
    let lists = mailing_lists().map_err(|_| Failure::Read)?;
    let home = Home::choose(None, None);
    std::env::set_current_dir(home.path()).map_err(|error| Failure::Home(home.clone(), error))?;
    let mut settings = settings(&home)?;
    settings.mailing_lists = lists;

    let mut injection = Injection::new(&settings);
    if let Some(sender) = &options.sender {
        injection.sender(sender)?;
    }
    let (from_arguments, from_header) = match options.recipients {
        Recipients::Arguments => (true, false),
        Recipients::Header => (false, true),
        Recipients::Both => (true, true),
        Recipients::ArgumentsElseHeader => (true, operands.is_empty()),
    };
    injection.recipients_from_header(from_header);
    if from_arguments {
        for operand in operands {
            injection.recipient(injection::octets(operand))?;
        }
    }

    let mut input = io::stdin().lock();
    let splitter = Splitter::with_mbox_lines(HEADER_OCTETS_MAX);
    let header = read_header(&mut input, splitter, |field| injection.field(field));
    let (end, start) = header.map_err(|error| match error {
        HeaderError::Read(_) => Failure::Read,
        HeaderError::TooLong => Failure::Memory,
        HeaderError::Field(error) => Failure::Message(error),
    })?;
    let mut message = injection.finish(injection::stamp().map_err(|_| Failure::Read)?)?;

    let mut target = if options.print {
        Target::print()
    } else {
        if let Some(malformed) = message.malformed.take() {
            return Err(malformed.into());
        }
        if message.recipients.is_empty() {
            // Scripts rely on exit code 0; a person is told.
            eprintln!("{NAME}: warning: no recipients, so nobody gets this message");
        }
        Target::Queue(QueueProgram::start().map_err(Failure::Queue)?)
    };
    if options.print {
        target.write(b"Return-Path: <");
        target.write(&message.quoted_sender());
        target.write(b">\n");
    }
    target.write(&message.header);
    if copy_body(&mut input, end, &start, message.crlf, |octets| {
        target.write(octets)
    })
    .is_err()
    {
        if let Target::Queue(queue) = target {
            queue.abort();
        }
        return Err(Failure::Read);
    }
    match target {
        Target::Print(mut out, result) => result
            .and_then(|()| io::Write::flush(&mut out))
            .map_err(Failure::Write),
        Target::Queue(queue) => {
            let recipients = message.recipients.iter();
            queue
                .finish(&message.sender, recipients)
                .map_err(Failure::Queue)
                .map(|_| ())
        }
    }
}

/// What the home and the environment say.
fn settings(home: &Home) -> Result<Settings, Failure> {
    let control =
        |variable, file| host_control(home, variable, file, file).map_err(|_| Failure::Read);
    let default_domain = control("QMAILDEFAULTDOMAIN", "defaultdomain")?;
    let default_host = control("QMAILDEFAULTHOST", "defaulthost")?;
    let plus_domain = control("QMAILPLUSDOMAIN", "plusdomain")?;
    let id_host = control("QMAILIDHOST", "idhost")?;
    let qualifier = Qualifier::new(&default_host, &default_domain, &plus_domain)
        .map_err(|_| InjectError::Address(default_host.clone()))?;

    let user = first_variable(&["QMAILUSER", "MAILUSER", "USER", "LOGNAME"]);
    let mut from = Identity::new(user.unwrap_or_else(|| b"anonymous".to_vec()));
    from.host = first_variable(&["QMAILHOST", "MAILHOST"]);
    from.name = first_variable(&["QMAILNAME", "MAILNAME", "NAME"]);
    let letters = first_variable(&["QMAILINJECT"]).unwrap_or_default();
    let has = |letter: u8| letters.contains(&letter);
    from.name_in_comment = has(b'c');

    let mut settings = Settings::new(qualifier, id_host, from);
    settings.sender_user = first_variable(&["QMAILSUSER"]);
    settings.sender_host = first_variable(&["QMAILSHOST"]);
    settings.drop_return_path = has(b's');
    settings.drop_from = has(b'f');
    settings.drop_message_id = has(b'i');
    settings.verp_per_recipient = has(b'r');
    settings.verp_per_message = has(b'm');
    Ok(settings)
}
