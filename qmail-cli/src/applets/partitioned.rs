//! `qmail start`: a mail system of parties that do not trust each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::{command_line, exit, partition, service_manager};

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

Signals: TERM ends it; HUP reads the control files again; ALRM tries all deferred mail now.

Without root, on a home of one's own, all parties are the one user; that is for trying it out.

Examples:
  qmail start --check
  qmail start --smtp 0.0.0.0:25 --smtp '[::]:25' ./Maildir/";

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
    let sockets = match service_manager::sockets(partition::SERVICES) {
        Ok(sockets) => sockets,
        Err(error) => return exit::fatal("qmail", &error, exit::PERMANENT),
    };
    let mut smtp = arguments.smtp;
    if smtp.is_empty() && sockets.is_empty() {
        smtp.push(SMTP);
    }
    let options = partition::Options {
        home: Home::choose(arguments.home, None),
        smtp,
        sockets,
        default_delivery: arguments.default_delivery,
        log_to_stdout: arguments.log_to_stdout,
    };
    if arguments.check {
        exit::print(&partition::describe(&options.home));
        return ExitCode::SUCCESS;
    }
    match partition::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal("qmail", &error, exit::TEMPORARY),
    }
}
