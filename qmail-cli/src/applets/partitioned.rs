//! `qmail start`: a mail system of parties that do not trust each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::{command_line, exit, partition, serve, service_manager};

pub(crate) const APPLET: Applet = Applet {
    names: &["start"],
    kind: Kind::Command,
    summary: "a mail system of parties that do not trust each other",
    run,
};

/// What the supervisor runs for each party.
pub(crate) const PARTY: Applet = Applet {
    names: &["party"],
    kind: Kind::Internal,
    summary: "a party of qmail start",
    run: partition::run_party,
};

const AFTER_HELP: &str = "\
Started by root in an installed home (see `qmail install`): opens the ports, then starts each party as the user of its own, locked \
down to what it needs. --check shows that. A party that dies is started again.

Signals: TERM ends it; HUP reads locals, virtualdomains, the certificate and all that is about clients again; ALRM tries all \
deferred mail now.

With control/servercert.pem there is TLS, and users of users/passwords (see `qmail passwd`) can log in; the POP3 maildrop of a \
user is Maildir in its home.

Without root, on a home of one's own, all parties are the one user; that is for trying it out.

Examples:
  qmail start --check
  qmail start --smtp 0.0.0.0:25 --smtp '[::]:25' ./Maildir/
  qmail start --submission 0.0.0.0:587 --smtps 0.0.0.0:465 --pop3s 0.0.0.0:995 ./Maildir/";

/// Where mail is taken if nothing else is said.
const SMTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 25);

/// A mail system of parties that do not trust each other: for root.
#[derive(Debug, Parser)]
#[command(name = "qmail start", after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The home [default: $QMAIL_HOME, else /var/qmail]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,

    /// Take mail by SMTP here; may be repeated [default: 0.0.0.0:25, or the sockets of a service manager]
    #[arg(long, value_name = "ADDR:PORT")]
    smtp: Vec<SocketAddr>,

    /// Take mail of users who log in here; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    submission: Vec<SocketAddr>,

    /// The same, encrypted from the start; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    smtps: Vec<SocketAddr>,

    /// Give mail out by POP3 here; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    pop3: Vec<SocketAddr>,

    /// The same, encrypted from the start; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    pop3s: Vec<SocketAddr>,

    /// Instructions for users who have no .qmail file
    #[arg(value_name = "DEFAULT_DELIVERY", default_value = "./Mailbox")]
    default_delivery: String,

    /// Write the log to standard output, instead of files in log/ of the home
    #[arg(long)]
    log_to_stdout: bool,

    /// Show each party with its account and what it may do, and start nothing
    #[arg(long)]
    check: bool,
}

fn run(call: &Call) -> ExitCode {
    let arguments: Arguments = match command_line::parse(call) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let sockets = match service_manager::sockets(&serve::services()) {
        Ok(sockets) => sockets,
        Err(error) => return exit::fatal("qmail", &error, exit::PERMANENT),
    };
    let mut smtp = arguments.smtp;
    if smtp.is_empty() && sockets.is_empty() {
        smtp.push(SMTP);
    }
    let options = partition::Options {
        home: Home::choose(arguments.home, None),
        ports: [
            ("smtp", smtp),
            ("submission", arguments.submission),
            ("smtps", arguments.smtps),
            ("pop3", arguments.pop3),
            ("pop3s", arguments.pop3s),
        ]
        .into_iter()
        .flat_map(|(service, addresses)| {
            addresses.into_iter().map(move |address| (service, address))
        })
        .collect(),
        sockets,
        default_delivery: arguments.default_delivery,
        log_to_stdout: arguments.log_to_stdout,
    };
    if arguments.check {
        return match partition::describe(&options.home) {
            Ok(text) => {
                exit::print(&text);
                ExitCode::SUCCESS
            }
            Err(error) => exit::fatal("qmail", &error, exit::TEMPORARY),
        };
    }
    match partition::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal("qmail", &error, exit::TEMPORARY),
    }
}
