//! `qmail-inject`: completes a message and queues it.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use qmail_core::header::{Qualifier, Splitter};
use qmail_core::message::inject::{Identity, InjectError, Injection, Settings};

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::getopt::Getopt;
use crate::home::Home;
use crate::injection::{
    self, HEADER_OCTETS_MAX, Recipients, Target, Trouble, enter_home, first_variable, host_control,
    mailing_lists, read_header, warn_of_nobody,
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
    if call
        .arguments
        .first()
        .is_some_and(|first| first == "--help")
    {
        exit::print(USAGE);
        return ExitCode::SUCCESS;
    }
    match inject(&call.arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.report(NAME, USAGE.lines().next().unwrap_or_default()),
    }
}

impl From<InjectError> for Trouble {
    fn from(error: InjectError) -> Self {
        let mut words = Vec::new();
        error.write(&mut words);
        Self::Input(words)
    }
}

/// What the command line asks for.
struct Options {
    print: bool,
    sender: Option<Vec<u8>>,
    recipients: Recipients,
}

fn parse(arguments: &[OsString]) -> Result<(Options, &[OsString]), Trouble> {
    let mut options = Options {
        print: false,
        sender: None,
        recipients: Recipients::ArgumentsElseHeader,
    };
    let mut getopt = Getopt::new(arguments, "aAhHnNf:");
    for option in getopt.by_ref() {
        let option = option.map_err(Trouble::Usage)?;
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

fn inject(arguments: &[OsString]) -> Result<(), Trouble> {
    let (options, operands) = parse(arguments)?;
    let lists = mailing_lists().map_err(|_| Trouble::Read)?;
    let home = enter_home()?;
    let mut settings = settings(&home)?;
    settings.mailing_lists = lists;

    let mut injection = Injection::new(&settings);
    if let Some(sender) = &options.sender {
        injection.sender(sender)?;
    }
    injection.recipients_from_header(options.recipients.count_header(operands.len()));
    if options.recipients.count_arguments() {
        for operand in operands {
            injection.recipient(injection::octets(operand))?;
        }
    }

    let mut input = io::stdin().lock();
    let splitter = Splitter::with_mbox_lines(HEADER_OCTETS_MAX);
    let (end, start) = read_header(&mut input, splitter, |field| injection.field(field))?;
    let mut message = injection.finish(injection::stamp().map_err(|_| Trouble::Read)?)?;

    let mut target = if options.print {
        let mut target = Target::print();
        target.write(b"Return-Path: <");
        target.write(&message.quoted_sender());
        target.write(b">\n");
        target
    } else {
        if let Some(malformed) = message.malformed.take() {
            return Err(malformed.into());
        }
        if message.recipients.is_empty() {
            warn_of_nobody(NAME);
        }
        Target::Queue(QueueProgram::start().map_err(Trouble::Queue)?)
    };
    target.write(&message.header);
    target.finish(
        &mut input,
        (end, &start),
        message.crlf,
        &message.sender,
        message.recipients.iter(),
    )
}

/// What the home and the environment say.
fn settings(home: &Home) -> Result<Settings, Trouble> {
    let control =
        |variable, file| host_control(home, variable, file, file).map_err(|_| Trouble::Read);
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
