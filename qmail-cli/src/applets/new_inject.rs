//! `new-inject`: writes the header of a message anew and queues it (mess822).

use std::borrow::Cow;
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use qmail_core::header::Splitter;
use qmail_core::header::mailbox::Mailbox;
use qmail_core::message;
use qmail_core::message::compose::{ComposeSettings, Composition, ControlOctet};

use crate::applet::{Applet, Call, Kind};
use crate::injection::{
    self, HEADER_OCTETS_MAX, Options, Target, Trouble, User, enter_home, first_variable,
    mailing_lists, read_header, standard_input, warn_of_nobody,
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

fn inject(arguments: &[OsString]) -> Result<(), Trouble> {
    let options = Options::parse(arguments, "aAhHnNFIMRSf:")?;
    let lists = mailing_lists().map_err(|_| Trouble::Read)?;
    // Relative to the directory of the caller, as the list file is.
    let rewrite_file = std::env::var_os("QMAILREWRITEFILE")
        .map(PathBuf::from)
        .map(|file| std::path::absolute(&file).unwrap_or(file));
    let home = enter_home()?;
    let rules =
        composition::host_rules(&home, rewrite_file.as_deref()).map_err(|_| Trouble::Read)?;
    let id_host = composition::id_host(&home, &rules).map_err(|_| Trouble::Read)?;

    let mut message_options = message::Options::new(id_host);
    let letters = first_variable(&["QMAILINJECT"]).unwrap_or_default();
    for letters in [&letters, &options.letters] {
        message_options.read_letters(&letters.to_ascii_lowercase());
    }
    message_options.mailing_lists = lists;

    let user = User::from_environment();
    let host = user.host.unwrap_or_default();
    let sender_user = user.sender_user.as_ref().unwrap_or(&user.user);
    let sender_host = user.sender_host.as_ref().unwrap_or(&host);
    let mut settings = ComposeSettings::new(rules, message_options);
    settings.sender = Some([sender_user, &b"@"[..], sender_host].concat());
    let address = settings.complete(&[&user.user[..], b"@", &host].concat())?;
    settings.from = Some(Mailbox {
        name: user.name.map(Cow::Owned),
        address: Some(Cow::Owned(address)),
    });

    let mut composition = Composition::new(&settings);
    if let Some(sender) = options.sender {
        composition.sender(sender)?;
    }
    composition.recipients_from_header(options.recipients_from_header());
    for recipient in options.recipients() {
        if recipient.is_empty() || recipient[0] == b'@' {
            return Err(Trouble::Input(b"empty recipient address".to_vec()));
        }
        composition.recipient(recipient)?;
    }

    let mut input = standard_input();
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
