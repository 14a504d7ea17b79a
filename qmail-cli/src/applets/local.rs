//! `qmail-local`: delivers the message on descriptor 0 to one mailbox.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use qmail_core::dot_qmail::Mailbox;
use qmail_core::{Outcome, ReversePath};
use qmail_deliver::{FileContent, LocalAgent, Maildirs, Parcel, ParcelContent, Programs};

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::getopt::Getopt;
use crate::home::{ControlError, Home, strictness};
use crate::inherited;
use crate::injection::octets;
use crate::queue_submit::QueueSubmit;

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-local"],
    kind: Kind::Classic,
    summary: "deliver a message to a mailbox, by its owner's instructions",
    run,
};

const USAGE: &str = "qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender defaultdelivery\n";

/// A command line understood.
struct Options {
    /// Say what would be done.
    rehearse: bool,
    mailbox: Mailbox,
    sender: ReversePath,
    default_delivery: Bytes,
}

fn run(call: &Call) -> ExitCode {
    let Some(options) = parse(&call.arguments) else {
        let _ = io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(exit::PERMANENT);
    };
    inherited::close_others();
    // What is delivered is nobody else's business.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return finish(&deferred(&format!("Unable to start: {error}. (#4.3.0)\n"))),
    };
    let agent = match agent() {
        Ok(agent) => agent,
        Err(error) => return finish(&deferred(&format!("{error}. (#4.3.5)\n"))),
    };
    runtime.block_on(async {
        // If it fails, programs are left with what we were started with.
        let _ = inherited::forget_ignored_signals();
        if options.rehearse {
            rehearse(&agent, &options).await
        } else {
            deliver(&agent, &options).await
        }
    })
}

fn parse(arguments: &[OsString]) -> Option<Options> {
    let mut rehearse = false;
    let mut getopt = Getopt::new(arguments, "nN");
    for option in getopt.by_ref() {
        rehearse = option.ok()?.letter == b'n';
    }
    let [
        user,
        home,
        local,
        dash,
        extension,
        host,
        sender,
        default_delivery,
    ] = getopt.operands().try_into().ok().map(|words: &[_; 8]| {
        words
            .each_ref()
            .map(|word| Bytes::copy_from_slice(octets(word)))
    })?;
    if !home.starts_with(b"/") {
        return None;
    }
    Some(Options {
        rehearse,
        sender: ReversePath::new(sender).ok()?,
        default_delivery,
        mailbox: Mailbox {
            user,
            home,
            local,
            dash,
            extension,
            host,
        },
    })
}

fn agent() -> Result<LocalAgent, ControlError> {
    let home = Home::choose(None, None);
    let host = rustix::system::uname();
    let host = host.nodename().to_bytes();
    let maildirs = Maildirs::new(host, std::process::id(), SystemTime::now);
    Ok(LocalAgent::new(maildirs, SystemTime::now)
        .with_strictness(strictness(&home)?)
        .with_programs(Programs::inherited())
        .with_submit(Arc::new(QueueSubmit {
            home: home.path().to_owned(),
        })))
}

async fn deliver(agent: &LocalAgent, options: &Options) -> ExitCode {
    let message = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(message) => FileContent::new(File::from(message)),
        Err(_) => return finish(&deferred("Unable to rewind message. (#4.3.0)\n")),
    };
    let parcel = Parcel {
        sender: &options.sender,
        content: ParcelContent::File(&message),
    };
    let outcome = agent
        .deliver(&options.mailbox, &options.default_delivery, parcel)
        .await;
    finish(&outcome)
}

async fn rehearse(agent: &LocalAgent, options: &Options) -> ExitCode {
    match agent
        .rehearse(&options.mailbox, &options.default_delivery)
        .await
    {
        Ok(rehearsal) => {
            if rehearsal.home_is_sticky {
                let _ = io::stderr().write_all(b"Warning: home directory is sticky.\n");
            }
            if rehearsal.group_may_write {
                let _ = io::stderr().write_all(b"Warning: home directory is group-writable.\n");
            }
            write_out(&rehearsal.plan.describe());
            match rehearsal.plan.error {
                None => ExitCode::SUCCESS,
                Some(error) => finish(&deferred(&format!("{error}\n"))),
            }
        }
        Err(outcome) => finish(&outcome),
    }
}

fn deferred(text: &str) -> Outcome {
    Outcome::Deferred(qmail_core::Report::new(text.to_owned()))
}

/// Tells what became of the message, where qmail-lspawn reads it.
fn finish(outcome: &Outcome) -> ExitCode {
    let text = outcome.report().as_bytes();
    match outcome {
        Outcome::Delivered(_) => {
            write_out(text);
            ExitCode::SUCCESS
        }
        Outcome::Deferred(_) => {
            let _ = io::stderr().write_all(text);
            ExitCode::from(exit::TEMPORARY)
        }
        Outcome::Failed(_) => {
            let _ = io::stderr().write_all(text);
            ExitCode::from(exit::PERMANENT)
        }
    }
}

fn write_out(text: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text);
    let _ = out.flush();
}
