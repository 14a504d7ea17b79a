//! `new-inject`: writes the header of a message anew and queues it (mess822).

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use qmail_core::header::Splitter;
use qmail_core::header::mailbox::Mailbox;
use qmail_core::message::compose::{ComposeSettings, Composition, ControlOctet};

use crate::applet::{Applet, Call, Kind};
use crate::getopt::Getopt;
use crate::injection::{
    self, HEADER_OCTETS_MAX, Recipients, Target, Trouble, enter_home, first_variable,
    mailing_lists, read_header, warn_of_nobody,
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
        Err(trouble) => trouble.report(NAME, USAGE),
    }
}

impl From<ControlOctet> for Trouble {
    fn from(error: ControlOctet) -> Self {
        Self::Input(error.to_string().into_bytes())
    }
}

/// What the command line asks for.
struct Options {
    print: bool,
    sender: Option<Vec<u8>>,
    recipients: Recipients,
    /// The letters of QMAILINJECT, in lower case.
    letters: Vec<u8>,
}

fn parse(arguments: &[OsString]) -> Result<(Options, &[OsString]), Trouble> {
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
        let option = option.map_err(Trouble::Usage)?;
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

fn inject(arguments: &[OsString]) -> Result<(), Trouble> {
    let (options, operands) = parse(arguments)?;
    let lists = mailing_lists().map_err(|_| Trouble::Read)?;
    // Relative to the directory of the caller, as the list file is.
    let rewrite_file = std::env::var_os("QMAILREWRITEFILE")
        .map(PathBuf::from)
        .map(|file| std::path::absolute(&file).unwrap_or(file));
    let home = enter_home()?;
    let rules =
        composition::host_rules(&home, rewrite_file.as_deref()).map_err(|_| Trouble::Read)?;
    let id_host = composition::id_host(&home, &rules).map_err(|_| Trouble::Read)?;

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
    composition.recipients_from_header(options.recipients.count_header(operands.len()));
    if options.recipients.count_arguments() {
        for operand in operands {
            let address = injection::octets(operand);
            if address.is_empty() || address[0] == b'@' {
                return Err(Trouble::Input(b"empty recipient address".to_vec()));
            }
            composition.recipient(address)?;
        }
    }

    let mut input = io::stdin().lock();
    let (end, start) = read_header(&mut input, Splitter::new(HEADER_OCTETS_MAX), |field| {
        composition.field(field);
        Ok::<(), Infallible>(())
    })?;
    let message = composition.finish(injection::stamp().map_err(|_| Trouble::Read)?)?;

    let mut target = if options.print {
        let mut envelope = Vec::new();
        message.write_envelope(&mut envelope);
        let mut target = Target::print();
        target.write(&envelope);
        target
    } else {
        if message.recipients.is_empty() {
            warn_of_nobody(NAME);
        }
        Target::Queue(QueueProgram::start().map_err(Trouble::Queue)?)
    };
    target.write(&message.header);
    target.finish(
        &mut input,
        (end, &start),
        false,
        &message.sender,
        message.recipients.iter(),
    )
}
