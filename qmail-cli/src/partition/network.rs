//! The network party: speaks SMTP on ports that the supervisor opened, and hands messages to the writer. Once it has read the control
//! files it can open no file; to have them read again it is started again.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use super::Party;
use super::maildrop_client::Login;
use super::party::lock_down;
use super::password_client::PasswordsParty;
use super::plumbing::FIRST_LISTENER;
use super::{key_client, sockets};
use crate::home::Home;
use crate::serve::{self, Elsewhere, ElsewhereLogins, LogFormat};
use crate::service_manager::Socket;
use crate::{exit, inherited};

pub(super) fn run(home: &Home, arguments: &[OsString]) -> ExitCode {
    let prepared = listeners(arguments).and_then(|listeners| {
        let tls = key_client::server_tls(sockets::keys(home))
            .map_err(|error| format!("cannot ask the keys party: {error}"))?;
        let passwords = PasswordsParty::new(sockets::passwords(home))
            .map_err(|error| format!("cannot ask the passwords party: {error}"))?;
        let passwords = Arc::new(passwords);
        let mail = Arc::clone(&passwords);
        let logins = ElsewhereLogins {
            passwords,
            mail: Arc::new(move || Box::new(Login::new(Arc::clone(&mail)))),
        };
        Ok((listeners, Elsewhere { tls, logins }))
    });
    let (ports, elsewhere) = match prepared {
        Ok(prepared) => prepared,
        Err(words) => return exit::fatal("network", &words, exit::TEMPORARY),
    };
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
        sockets: ports,
        deliver: false,
        mailboxes: Vec::new(),
        any_password: false,
        spool: None,
        queue_elsewhere: true,
        log_format: LogFormat::Classic,
        name_servers: Vec::new(),
    };
    let lock = || lock_down(Party::Network, home).map_err(|error| error.to_string());
    match serve::run_network(&options, elsewhere, lock) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal("network", &error, exit::TEMPORARY),
    }
}

/// What the supervisor opened, from [`FIRST_LISTENER`] on: each argument says what one is for.
fn listeners(arguments: &[OsString]) -> Result<Vec<Socket>, String> {
    let services = serve::services();
    let socket = |(descriptor, name): (i32, &OsString)| {
        let service = services.iter().find(|&service| name == service);
        let file: File = inherited::copy(descriptor).map_err(|error| error.to_string())?;
        Ok(Socket {
            service: service.ok_or("a port is for nothing that is known")?,
            listener: TcpListener::from(OwnedFd::from(file)),
        })
    };
    (FIRST_LISTENER..).zip(arguments).map(socket).collect()
}
