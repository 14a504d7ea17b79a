//! `qmail-inject`: completes a message and queues it.

use std::ffi::OsString;
use std::process::ExitCode;

use qmail_core::header::{Qualifier, Splitter};
use qmail_core::message;
use qmail_core::message::inject::{Identity, InjectError, Injection, Settings};

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::home::Home;
use crate::injection::{
    self, HEADER_OCTETS_MAX, Options, Target, Trouble, User, enter_home, first_variable,
    host_control, mailing_lists, read_header, standard_input, warn_of_nobody,
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

fn inject(arguments: &[OsString]) -> Result<(), Trouble> {
    // In this order, by which it is decided what is told of several troubles. The path of the lists may be relative.
    let lists = mailing_lists().map_err(|_| Trouble::Read)?;
    let home = enter_home()?;
    let mut settings = settings(&home)?;
    settings.options.mailing_lists = lists;
    let options = Options::parse(arguments, "aAhHnNf:")?;

    let mut injection = Injection::new(&settings);
    if let Some(sender) = options.sender {
        injection.sender(sender)?;
    }
    injection.recipients_from_header(options.recipients_from_header());
    for recipient in options.recipients() {
        injection.recipient(recipient)?;
    }

    let mut input = standard_input();
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
    let hosts = [&default_host, &default_domain, &plus_domain];
    let qualifier = Qualifier::new(hosts[0], hosts[1], hosts[2]).map_err(|_| {
        let is_none = |host: &&Vec<u8>| Qualifier::new(host, b"", b"").is_err();
        let host = hosts.into_iter().find(is_none).unwrap_or(hosts[0]);
        InjectError::Address(host.clone())
    })?;

    let letters = first_variable(&["QMAILINJECT"]).unwrap_or_default();
    let mut options = message::Options::new(id_host);
    options.read_letters(&letters);

    let user = User::from_environment();
    let mut from = Identity::new(user.user);
    from.host = user.host;
    from.name = user.name;
    from.name_in_comment = letters.contains(&b'c');

    let mut settings = Settings::new(qualifier, options, from);
    settings.sender_user = user.sender_user;
    settings.sender_host = user.sender_host;
    Ok(settings)
}
