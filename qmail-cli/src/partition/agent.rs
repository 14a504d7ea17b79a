//! The process that delivers for one user, with that user's rights and no others: the launcher started it, and hands it message after
//! message. It does what qmail-local(8) does. Programs of the user run below it, so it is not locked down.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use qmail_core::dot_qmail::Mailbox;
use qmail_core::{Outcome, ReversePath};
use qmail_deliver::{FileContent, LocalAgent, Maildirs, Parcel, ParcelContent, Programs};
use qmail_queue::helpers::spawn::Refusal;
use rustix::fs::Mode;

use super::channel::Channel;
use super::complaints::Complaints;
use super::requests::Request;
use super::serving::{Ends, serve};
use crate::home::{ControlError, Home, program_time_max, strictness};
use crate::injection::octets;
use crate::submission_client::SocketSubmit;
use crate::{exit, stdio};

/// What is kept of the output of a program, as qmail-lspawn keeps it.
const REPORT_OCTETS_MAX: usize = 3000;

/// A user, and what it takes to deliver to its mailbox.
struct Local {
    agent: LocalAgent,
    user: Bytes,
    home: Bytes,
    default_delivery: Bytes,
}

/// The arguments are the user, its home, and the instructions of those who have none.
pub(super) fn run(home: &Home, arguments: &[OsString]) -> ExitCode {
    let [user, user_home, default_delivery] = arguments else {
        return ExitCode::from(exit::PERMANENT);
    };
    // What is delivered is nobody else's business.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bytes = |word: &OsString| Bytes::copy_from_slice(octets(word));
    let agent = match agent(home) {
        Ok(agent) => agent,
        Err(error) => return exit::fatal("qmail", &error, exit::TEMPORARY),
    };
    let local = Local {
        agent,
        user: bytes(user),
        home: bytes(user_home),
        default_delivery: bytes(default_delivery),
    };
    let served = stdio::run(async {
        let channel = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        let ends = Ends {
            requests: &channel,
            reports: &channel,
            asker: "launcher",
        };
        serve(ends, &Complaints::of("agent"), async |request, message| {
            vec![local.deliver(request, message).await]
        })
        .await
    });
    match served.and_then(|served| served) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::TEMPORARY),
    }
}

fn agent(home: &Home) -> Result<LocalAgent, ControlError> {
    let host = rustix::system::uname();
    let host = host.nodename().to_bytes();
    let maildirs = Maildirs::new(host, std::process::id(), SystemTime::now);
    let programs = Programs::captured(REPORT_OCTETS_MAX)
        .with_time_max(program_time_max(home)?)
        .with_variable("PATH", home.search_path());
    let agent = LocalAgent::new(maildirs, SystemTime::now)
        .with_strictness(strictness(home)?)
        .with_programs(programs)
        .with_submit(Arc::new(SocketSubmit {
            socket: home.submission_socket(),
            quotes: false,
        }));
    Ok(agent)
}

impl Local {
    async fn deliver(&self, request: Request, message: Option<OwnedFd>) -> Outcome {
        let Ok([sender, local, dash, extension, host]) = <[Bytes; 5]>::try_from(request.texts)
        else {
            return Refusal::NoHost.outcome();
        };
        let Some(message) = message else {
            return Refusal::CannotOpen.outcome();
        };
        let Ok(sender) = ReversePath::new(sender) else {
            return Refusal::AddressTooLong.outcome();
        };
        let message = FileContent::new(File::from(message));
        let mailbox = Mailbox {
            user: self.user.clone(),
            home: self.home.clone(),
            local,
            dash,
            extension,
            host,
        };
        let parcel = Parcel {
            sender: &sender,
            content: ParcelContent::File(&message),
        };
        self.agent
            .deliver(&mailbox, &self.default_delivery, parcel)
            .await
    }
}
