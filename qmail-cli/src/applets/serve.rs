//! `qmail serve`: a mail system in one process.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::applet::{Applet, Call, Kind};
use crate::home::{Home, SpoolKind};
use crate::serve::{self, LogFormat, Mailbox};
use crate::service_manager::Socket;
use crate::{command_line, exit, service_manager};

pub(crate) const APPLET: Applet = Applet {
    names: &["serve"],
    kind: Kind::Command,
    summary: "a mail system in one process: SMTP, queue, delivery, POP3",
    run,
};

const AFTER_HELP: &str = "\
The first start makes the home: control files, a queue, one user whose password is printed. Later starts use it.

The log goes to standard output, in the lines of qmail-send.

Signals: TERM and INT end it (a second one at once); ALRM tries all deferred mail now; HUP reads these control files again: \
locals, percenthack, virtualdomains, envnoathost, smtproutes, rcpthosts, morercpthosts.cdb, badmailfrom, databytes, \
relayclients, smtpgreeting, timeoutsmtpd, timeoutpop3d, queuelifetime, servercert.pem, all that begin with concurrency, and \
all of qmail-control(5) about how clients come in. What is in users/ counts at once. Everything else needs a restart.

Examples:
  qmail serve
  qmail serve --home /var/mail-home --smtp 0.0.0.0:25 --smtp '[::]:25' --pop3 none
  qmail serve --mailbox ann=/srv/mail/ann --log-format json";

/// A mail system in one unprivileged process: SMTP in, queue, local and remote delivery, POP3.
#[derive(Debug, Parser)]
#[command(name = "qmail serve", after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Where everything is kept [default: $QMAIL_HOME, else ./qmail-home]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,

    /// Take mail by SMTP here; may be repeated; `none` for nowhere [default: 127.0.0.1:2525, or the sockets of a service manager]
    #[arg(long, value_name = "ADDR:PORT")]
    smtp: Vec<Listener>,

    /// Take mail of users who log in here, with STARTTLS (control/servercert.pem); may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    submission: Vec<SocketAddr>,

    /// The same, encrypted from the start; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    smtps: Vec<SocketAddr>,

    /// Take mail by LMTP here; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    lmtp: Vec<SocketAddr>,

    /// Take mail by QMTP here; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    qmtp: Vec<SocketAddr>,

    /// Take mail by QMQP here, of clients that may relay (control/relayclients, control/smtprules); may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    qmqp: Vec<SocketAddr>,

    /// Give mail out by POP3 here; may be repeated; `none` for nowhere [default: 127.0.0.1:2110, or the sockets of a service
    /// manager]
    #[arg(long, value_name = "ADDR:PORT")]
    pop3: Vec<Listener>,

    /// The same, encrypted from the start (control/servercert.pem); may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    pop3s: Vec<SocketAddr>,

    /// Accept and queue mail only
    #[arg(long)]
    no_deliver: bool,

    /// A further local user, with an existing or new Maildir; may be repeated. A user without a password gets one, which is
    /// printed
    #[arg(long, value_name = "USER=MAILDIR", value_parser = mailbox)]
    mailbox: Vec<Mailbox>,

    /// Let every local user log in with any password. For tests: only if all listeners are on loopback addresses
    #[arg(long)]
    any_password: bool,

    /// Where queued mail is kept: in a journal, in qmail's directories, or in memory, which loses it at the end of the process
    /// [default: where it is; a new home has a journal]
    #[arg(long, value_enum)]
    spool: Option<SpoolOption>,

    /// Ask this name server; may be repeated [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "ADDR:PORT")]
    resolver: Vec<SocketAddr>,

    /// Form of the log: lines of qmail-send, or one JSON object a line
    #[arg(long, value_enum, default_value_t = LogOption::Classic)]
    log_format: LogOption,
}

/// Where mail is taken and given out if nothing else is said.
const SMTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2525);
const POP3: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2110);

#[derive(Clone, Copy, Debug)]
enum Listener {
    At(SocketAddr),
    None,
}

impl std::str::FromStr for Listener {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::None);
        }
        text.parse().map(Self::At).map_err(
            |_| "write an IP address and a port, as 127.0.0.1:2525 or [::1]:2525, or `none`",
        )
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SpoolOption {
    Journal,
    Split,
    Memory,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogOption {
    Classic,
    Json,
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
    let options = match lower(arguments, sockets) {
        Ok(options) => options,
        Err(words) => return exit::fatal("qmail", &words, exit::PERMANENT),
    };
    match serve::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal("qmail", &error, exit::TEMPORARY),
    }
}

/// Checks what the options mean together.
fn lower(arguments: Arguments, sockets: Vec<Socket>) -> Result<serve::Options, &'static str> {
    let default = |address| sockets.is_empty().then_some(address);
    let (smtp, pop3) = (
        addresses(
            &arguments.smtp,
            default(SMTP),
            "--smtp none cannot stand beside another --smtp",
        )?,
        addresses(
            &arguments.pop3,
            default(POP3),
            "--pop3 none cannot stand beside another --pop3",
        )?,
    );
    let listeners = [
        &smtp,
        &arguments.submission,
        &arguments.smtps,
        &arguments.lmtp,
        &arguments.qmtp,
        &arguments.qmqp,
        &pop3,
        &arguments.pop3s,
    ];
    let all_loopback = listeners
        .iter()
        .all(|addresses| addresses.iter().all(|address| address.ip().is_loopback()))
        && sockets.iter().all(Socket::is_loopback);
    if arguments.any_password && !all_loopback {
        return Err(
            "--any-password would open every mailbox, and relaying, to the network; listen on loopback addresses only, such as 127.0.0.1:2110",
        );
    }
    let mut users = HashSet::new();
    if !arguments
        .mailbox
        .iter()
        .all(|mailbox| users.insert(&mailbox.user))
    {
        return Err("--mailbox names one user twice; a user has one Maildir");
    }
    Ok(serve::Options {
        queue_elsewhere: false,
        home: Home::choose(arguments.home, Some("qmail-home")),
        smtp,
        submission: arguments.submission,
        submissions: arguments.smtps,
        lmtp: arguments.lmtp,
        qmtp: arguments.qmtp,
        qmqp: arguments.qmqp,
        pop3,
        pop3s: arguments.pop3s,
        sockets,
        deliver: !arguments.no_deliver,
        mailboxes: arguments.mailbox,
        any_password: arguments.any_password,
        spool: arguments.spool.map(|spool| match spool {
            SpoolOption::Journal => SpoolKind::Journal,
            SpoolOption::Split => SpoolKind::Split,
            SpoolOption::Memory => SpoolKind::Memory,
        }),
        log_format: match arguments.log_format {
            LogOption::Classic => LogFormat::Classic,
            LogOption::Json => LogFormat::Json,
        },
        name_servers: arguments.resolver,
    })
}

/// Where to listen: `default` if nothing is said.
fn addresses(
    listeners: &[Listener],
    default: Option<SocketAddr>,
    contradiction: &'static str,
) -> Result<Vec<SocketAddr>, &'static str> {
    let addresses: Vec<_> = listeners
        .iter()
        .filter_map(|listener| match listener {
            Listener::At(address) => Some(*address),
            Listener::None => None,
        })
        .collect();
    if !addresses.is_empty() && addresses.len() < listeners.len() {
        return Err(contradiction);
    }
    if listeners.is_empty() {
        return Ok(default.into_iter().collect());
    }
    Ok(addresses)
}

fn mailbox(text: &str) -> Result<Mailbox, &'static str> {
    let (user, maildir) = text
        .split_once('=')
        .filter(|(user, maildir)| !user.is_empty() && !maildir.is_empty())
        .ok_or("write USER=MAILDIR")?;
    if user
        .bytes()
        .any(|octet| octet <= b' ' || matches!(octet, b':' | b'@' | 0x7f))
    {
        return Err("a user name has no spaces, colons or @");
    }
    Ok(Mailbox {
        user: user.to_ascii_lowercase(),
        maildir: std::path::absolute(Path::new(maildir)).map_err(|_| "MAILDIR is no path")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<serve::Options, String> {
        let argv = std::iter::once("serve").chain(arguments.iter().copied());
        let arguments = Arguments::try_parse_from(argv).map_err(|error| error.to_string())?;
        lower(arguments, Vec::new()).map_err(str::to_owned)
    }

    #[test]
    fn sockets_that_are_handed_over_replace_the_defaults() {
        let socket = |address| {
            vec![Socket {
                service: "smtp",
                listener: std::net::TcpListener::bind(address).unwrap(),
            }]
        };
        let parse = |arguments: &[&str], sockets| {
            let argv = std::iter::once("serve").chain(arguments.iter().copied());
            lower(Arguments::try_parse_from(argv).unwrap(), sockets)
        };
        let options = parse(&[], socket("127.0.0.1:0")).unwrap();
        assert!(options.smtp.is_empty() && options.pop3.is_empty());
        let options = parse(&["--pop3", "127.0.0.1:110"], socket("127.0.0.1:0")).unwrap();
        assert_eq!((options.smtp.len(), options.pop3.len()), (0, 1));
        assert!(parse(&["--any-password"], socket("127.0.0.1:0")).is_ok());
        assert!(parse(&["--any-password"], socket("0.0.0.0:0")).is_err());
    }

    #[test]
    fn the_defaults_are_loopback_and_high_ports() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.smtp, ["127.0.0.1:2525".parse().unwrap()]);
        assert_eq!(options.pop3, ["127.0.0.1:2110".parse().unwrap()]);
        assert!(options.deliver && !options.any_password);
    }

    #[test]
    fn listeners_repeat_and_none_stands_alone() {
        let options = parse(&[
            "--smtp",
            "0.0.0.0:25",
            "--smtp",
            "[::]:25",
            "--pop3",
            "none",
        ]);
        let options = options.unwrap();
        assert_eq!((options.smtp.len(), options.pop3.len()), (2, 0));
        assert!(parse(&["--smtp", "none", "--smtp", "0.0.0.0:25"]).is_err());
        assert!(parse(&["--smtp", "localhost"]).is_err());
    }

    #[test]
    fn any_password_is_for_loopback() {
        assert!(parse(&["--any-password"]).is_ok());
        assert!(parse(&["--any-password", "--pop3", "[::1]:110"]).is_ok());
        assert!(parse(&["--any-password", "--pop3", "none"]).is_ok());
        assert!(parse(&["--any-password", "--pop3", "0.0.0.0:110"]).is_err());
        assert!(parse(&["--any-password", "--submission", "0.0.0.0:587"]).is_err());
    }

    #[test]
    fn mailboxes_are_users_with_paths() {
        let options = parse(&["--mailbox", "Ann=/m/ann", "--mailbox", "bob=b=c"]).unwrap();
        assert_eq!(options.mailboxes[0].user, "ann");
        assert_eq!(options.mailboxes[0].maildir, Path::new("/m/ann"));
        assert!(options.mailboxes[1].maildir.ends_with("b=c"));
        for bad in ["ann", "=/m", "ann=", "a@b=/m", "a b=/m", "a:b=/m"] {
            assert!(parse(&["--mailbox", bad]).is_err(), "{bad}");
        }
        assert!(parse(&["--mailbox", "ann=/m", "--mailbox", "Ann=/n"]).is_err());
    }
}
