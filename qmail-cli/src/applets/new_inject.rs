//! `new-inject`: writes the header of a message anew and queues it (mess822).

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use qmail_core::QueueFailure;
use qmail_core::header::Splitter;
use qmail_core::header::mailbox::Mailbox;
use qmail_core::message::compose::{ComposeSettings, Composition, ControlOctet};

use crate::applet::{Applet, Call, Kind};
use crate::getopt::{BadOption, Getopt};
use crate::home::Home;
use crate::injection::{
    self, HEADER_OCTETS_MAX, HeaderError, Target, copy_body, first_variable, mailing_lists,
    read_header,
};
use crate::queue_program::QueueProgram;
use crate::{composition, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["new-inject"],
    kind: Kind::Classic,
    summary: "write the header of a message anew and queue it",
    run,
};

const NAME: &str = "new-inject";

const USAGE: &str = "usage: new-inject [-nNaAhHFIMRS] [-f sender] [recip ...]";

fn run(call: &Call) -> ExitCode {
    if call
        .arguments
        .first()
        .is_some_and(|first| first == "--help")
    {
        exit::print(&format!(
            "{USAGE}\nRewrites the header of the message on standard input and queues it; -n prints it instead.\n"
        ));
        return ExitCode::SUCCESS;
    }
    match inject(&call.arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(bad)) => {
            exit::fatal(NAME, &format_args!("{bad}; {USAGE}"), exit::PERMANENT)
        }
        Err(Failure::Address(error)) => exit::fatal(NAME, &error, exit::PERMANENT),
        Err(Failure::EmptyRecipient) => {
            exit::fatal(NAME, &"empty recipient address", exit::PERMANENT)
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
    Address(ControlOctet),
    EmptyRecipient,
    Memory,
    Read,
    Home(Home, io::Error),
    Write(io::Error),
    Queue(QueueFailure),
}

impl From<ControlOctet> for Failure {
    fn from(error: ControlOctet) -> Self {
        Self::Address(error)
    }
}

/// Whose recipients count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recipients {
    Arguments,
    Header,
    Both,
    ArgumentsElseHeader,
}

/// What the command line asks for.
struct Options {
    print: bool,
    sender: Option<Vec<u8>>,
    recipients: Recipients,
    /// The letters of QMAILINJECT, in lower case.
    letters: Vec<u8>,
}

fn parse(arguments: &[OsString]) -> Result<(Options, &[OsString]), Failure> {
    let mut options = Options {
        print: false,
        sender: None,
        recipients: Recipients::ArgumentsElseHeader,
        letters: first_variable(&["QMAILINJECT"])
            .unwrap_or_default()
            .to_ascii_lowercase(),
    };
    let mut getopt = Getopt::new(arguments, "aAhHnNFIMRSf:");
    for option in getopt.by_ref() {
        let option = option.map_err(Failure::Usage)?;
        match option.letter {
            b'a' => options.recipients = Recipients::Arguments,
            b'A' => options.recipients = Recipients::ArgumentsElseHeader,
            b'h' => options.recipients = Recipients::Header,
            b'H' => options.recipients = Recipients::Both,
            b'n' => options.print = true,
            b'N' => options.print = false,
            b'f' => options.sender = Some(option.argument.to_vec()),
            letter => options.letters.push(letter.to_ascii_lowercase()),
        }
    }
    Ok((options, getopt.operands()))
}

fn inject(arguments: &[OsString]) -> Result<(), Failure> {
    let (options, operands) = parse(arguments)?;
    let lists = mailing_lists().map_err(|_| Failure::Read)?;
    // Relative to the directory of the caller, as the list file is.
    let rewrite_file = std::env::var_os("QMAILREWRITEFILE")
        .map(PathBuf::from)
        .map(|file| std::path::absolute(&file).unwrap_or(file));
    let home = Home::choose(None, None);
    std::env::set_current_dir(home.path()).map_err(|error| Failure::Home(home.clone(), error))?;
    let rules =
        composition::host_rules(&home, rewrite_file.as_deref()).map_err(|_| Failure::Read)?;
    let id_host = composition::id_host(&home, &rules).map_err(|_| Failure::Read)?;

    let user = first_variable(&["QMAILUSER", "MAILUSER", "USER", "LOGNAME"])
        .unwrap_or_else(|| b"anonymous".to_vec());
    let host = first_variable(&["QMAILHOST", "MAILHOST"]).unwrap_or_default();
    let mut settings = ComposeSettings::new(
        rules,
        id_host,
        Mailbox {
            name: None,
            address: None,
        },
    );
    let sender_user = first_variable(&["QMAILSUSER"]);
    let sender_host = first_variable(&["QMAILSHOST"]);
    let sender = [
        sender_user.as_ref().unwrap_or(&user),
        &b"@"[..],
        sender_host.as_ref().unwrap_or(&host),
    ]
    .concat();
    settings.sender = Some(sender);
    settings.from = Mailbox {
        name: first_variable(&["QMAILNAME", "MAILNAME", "NAME"]),
        address: Some(settings.complete(&[&user[..], b"@", &host].concat())?),
    };
    let has = |letter: u8| options.letters.contains(&letter);
    settings.drop_return_path = has(b's');
    settings.drop_from = has(b'f');
    settings.drop_message_id = has(b'i');
    settings.verp_per_recipient = has(b'r');
    settings.verp_per_message = has(b'm');
    settings.mailing_lists = lists;

    let mut composition = Composition::new(&settings);
    if let Some(sender) = &options.sender {
        composition.sender(sender)?;
    }
    let (from_arguments, from_header) = match options.recipients {
        Recipients::Arguments => (true, false),
        Recipients::Header => (false, true),
        Recipients::Both => (true, true),
        Recipients::ArgumentsElseHeader => (true, operands.is_empty()),
    };
    composition.recipients_from_header(from_header);
    if from_arguments {
        for operand in operands {
            let address = injection::octets(operand);
            if address.is_empty() || address[0] == b'@' {
                return Err(Failure::EmptyRecipient);
            }
            composition.recipient(address)?;
        }
    }

    let mut input = io::stdin().lock();
    let header = read_header(&mut input, Splitter::new(HEADER_OCTETS_MAX), |field| {
        composition.field(field);
        Ok::<(), std::convert::Infallible>(())
    });
    let (end, start) = header.map_err(|error| match error {
        HeaderError::Read(_) => Failure::Read,
        HeaderError::TooLong => Failure::Memory,
        HeaderError::Field(never) => match never {},
    })?;
    let message = composition.finish(injection::stamp().map_err(|_| Failure::Read)?)?;

    let mut target = if options.print {
        let mut envelope = Vec::new();
        message.write_envelope(&mut envelope);
        let mut target = Target::print();
        target.write(&envelope);
        target
    } else {
        if message.recipients.is_empty() {
            eprintln!("{NAME}: warning: no recipients, so nobody gets this message");
        }
        Target::Queue(QueueProgram::start().map_err(Failure::Queue)?)
    };
    target.write(&message.header);
    if copy_body(&mut input, end, &start, false, |octets| {
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
