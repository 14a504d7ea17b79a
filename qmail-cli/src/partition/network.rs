//! The network party: speaks SMTP on ports that the supervisor opened, and hands messages to the writer. Once it has read the control
//! files it can open no file; to have them read again it is started again.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use super::Party;
use super::party::lock_down;
use super::plumbing::FIRST_LISTENER;
use crate::home::Home;
use crate::serve::{self, LogFormat};
use crate::service_manager::Socket;
use crate::{exit, inherited};

pub(super) fn run(home: &Home, arguments: &[OsString]) -> ExitCode {
    let count = arguments
        .first()
        .and_then(|count| count.to_str()?.parse().ok());
    let options = serve::Options {
        home: home.clone(),
        smtp: Vec::new(),
        submission: Vec::new(),
        submissions: Vec::new(),
        lmtp: Vec::new(),
        qmtp: Vec::new(),
        qmqp: Vec::new(),
        pop3: Vec::new(),
        pop3s: Vec::new(),
        sockets: sockets(count.unwrap_or(0)),
        deliver: false,
        mailboxes: Vec::new(),
        any_password: false,
        spool: None,
        queue_elsewhere: true,
        log_format: LogFormat::Classic,
        name_servers: Vec::new(),
    };
    let lock = || lock_down(Party::Network, home).map_err(|error| error.to_string());
    match serve::run_network(&options, lock) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal("network", &error, exit::TEMPORARY),
    }
}

/// What the supervisor opened: so many, from [`FIRST_LISTENER`] on.
fn sockets(count: i32) -> Vec<Socket> {
    (FIRST_LISTENER..FIRST_LISTENER + count)
        .filter_map(|descriptor| inherited::copy(descriptor).ok())
        .map(|file: File| Socket {
            service: "smtp",
            listener: TcpListener::from(OwnedFd::from(file)),
        })
        .collect()
}
