//! `qmail-pop3d`: serves a Maildir by POP3 to a client that is logged in.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use qmail_core::Escaped;
use qmail_pop3::{Config, MaildirMaildrop, MaildirOptions, serve_maildrop};

use crate::applet::{Applet, Call, Kind};
use crate::{exit, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-pop3d"],
    kind: Kind::Classic,
    summary: "serve a Maildir by POP3 on standard input and output",
    run,
};

fn run(call: &Call) -> ExitCode {
    if rustix::process::getuid().is_root() {
        eprintln!("qmail-pop3d invoked as uid 0, terminating");
        return ExitCode::FAILURE;
    }
    let Some(maildir) = call.arguments.first() else {
        exit::print("-ERR this user has no $HOME/Maildir\r\n");
        return ExitCode::SUCCESS;
    };
    let maildrop = MaildirMaildrop::new(
        PathBuf::from(maildir),
        MaildirOptions::classic(),
        SystemTime::now(),
    );
    let served = stdio::run(serve_maildrop(
        Arc::new(Config::classic()),
        stdio::connection(),
        Instant::now,
        Box::new(maildrop),
    ));
    if let Ok(served) = served
        && let Some(trouble) = served.trouble
    {
        let words = trouble.to_string();
        exit::warn("qmail-pop3d", &Escaped(words.as_bytes()));
    }
    ExitCode::SUCCESS
}
