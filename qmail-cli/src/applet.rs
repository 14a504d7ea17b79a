//! The table of programs, and the choice of one by name.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::manual::Manual;
use crate::privilege::is_setuid;
use crate::{applets, exit};

/// One program of the multi-call binary. Its code is one file in `applets/`.
pub(crate) struct Applet {
    /// What it answers to, matched exactly; the first is the one that is shown.
    pub(crate) names: &'static [&'static str],
    /// Where those names count.
    pub(crate) kind: Kind,
    /// One line for `qmail help`, without a full stop.
    pub(crate) summary: &'static str,
    /// Runs it. Returns the exit code; only `main` exits.
    pub(crate) run: fn(&Call) -> ExitCode,
}

/// How a program is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By a link of its name, as scripts and other programs call it; or as `qmail NAME`, where a leading `qmail-` of the name
    /// may be left out.
    Classic,
    /// As `qmail NAME` only.
    Command,
    /// As `qmail NAME`, by this binary itself: not shown to people.
    Internal,
}

/// How a program was called.
pub(crate) struct Call {
    /// Which of its names was used.
    pub(crate) name: &'static str,
    /// What follows the name.
    pub(crate) arguments: Vec<OsString>,
}

/// All programs, sorted by first name. A test checks the order and that no name is taken twice.
pub(crate) const APPLETS: &[Applet] = &[
    applets::tools822::DATE,
    applets::tools822::FIELD,
    applets::tools822::HEADER,
    applets::print822::APPLET,
    applets::tools822::RECEIVED,
    applets::crlf::ADDCR,
    applets::links::APPLET,
    applets::conditions::BOUNCESAYING,
    applets::checkpassword::APPLET,
    applets::checkpassword::ACCOUNT,
    applets::log_reports::COLUMNT,
    applets::completions::APPLET,
    applets::conditions::CONDREDIRECT,
    applets::fixcrio::FILTER,
    applets::predate::DATEMAIL,
    applets::crlf::DELCR,
    applets::doctor::APPLET,
    applets::dot_forward::APPLET,
    applets::conditions::EXCEPT,
    applets::fastforward::APPLET,
    applets::fixcrio::FIXCRIO,
    applets::conditions::FORWARD,
    applets::tools822::IFTOCC,
    applets::install::APPLET,
    applets::maildir2mbox::APPLET,
    applets::maildirmake::APPLET,
    applets::maildirserial::MAILDIRQMTP,
    applets::maildirserial::APPLET,
    applets::maildirserial::MAILDIRSMTP,
    applets::predate::MAILSUBJ,
    applets::manual::APPLET,
    applets::matchup::APPLET,
    applets::new_inject::APPLET,
    applets::forward_files::NEWALIASES,
    applets::forward_files::NEWINCLUDE,
    applets::ofmipd::APPLET,
    applets::ofmipname::APPLET,
    applets::partitioned::PARTY,
    applets::passwd::APPLET,
    applets::predate::PREDATE,
    applets::preline::APPLET,
    applets::forward_files::PRINTFORWARD,
    applets::forward_files::PRINTMAILLIST,
    applets::qbiff::APPLET,
    applets::clean::APPLET,
    applets::getpw::APPLET,
    applets::inject::APPLET,
    applets::local::APPLET,
    applets::lspawn::APPLET,
    applets::newmrh::APPLET,
    applets::newu::APPLET,
    applets::pop3d::APPLET,
    applets::popup::APPLET,
    applets::pw2u::APPLET,
    applets::qmqpc::APPLET,
    applets::qmtpd::QMQPD,
    applets::qmtpd::QMTPD,
    applets::qread::QREAD,
    applets::qread::QSTAT,
    applets::enqueue::APPLET,
    applets::remote::APPLET,
    applets::rspawn::APPLET,
    applets::send::APPLET,
    applets::showctl::APPLET,
    applets::smtpd::APPLET,
    applets::start::APPLET,
    applets::tcpto::TCPOK,
    applets::tcpto::TCPTO,
    applets::qreceipt::APPLET,
    applets::queue::APPLET,
    applets::rblsmtpd::APPLET,
    applets::recordio::FILTER,
    applets::recordio::RECORDIO,
    applets::sendmail::APPLET,
    applets::serialqmtp::APPLET,
    applets::serialsmtp::APPLET,
    applets::serve::APPLET,
    applets::forward_files::SETFORWARD,
    applets::setlock::APPLET,
    applets::forward_files::SETMAILLIST,
    applets::splogger::APPLET,
    applets::partitioned::APPLET,
    applets::start::CHILD,
    applets::tcp_env::APPLET,
    applets::tcpclient::APPLET,
    applets::tcprules::TCPRULES,
    applets::tcprules::TCPRULESCHECK,
    applets::tcpserver::TCPSERVER,
    applets::tcpserver::CHILD,
    applets::log_filters::XQP,
    applets::log_filters::XRECIPIENT,
    applets::log_filters::XSENDER,
    applets::log_reports::ZDDIST,
    applets::log_reports::ZDEFERRALS,
    applets::log_reports::ZFAILURES,
    applets::log_reports::ZOVERALL,
    applets::log_reports::ZRECIPIENTS,
    applets::log_reports::ZRHOSTS,
    applets::log_reports::ZRXDELAY,
    applets::log_reports::ZSENDERS,
    applets::log_reports::ZSENDMAIL,
    applets::log_reports::ZSUCCESSES,
    applets::log_reports::ZSUIDS,
];

/// Runs the program that `argv` asks for.
///
/// This is the whole of the binary `qmail`, in the library so that another binary (a test's) can be it too.
pub fn main() -> ExitCode {
    run(std::env::args_os().collect())
}

/// The names of all classic programs that are there: those that `qmail applets --install` makes links for. Sorted.
pub fn applet_names() -> Vec<&'static str> {
    let mut names: Vec<_> = APPLETS
        .iter()
        .filter(|applet| applet.kind == Kind::Classic)
        .flat_map(|applet| applet.names)
        .copied()
        .collect();
    names.sort_unstable();
    names
}

fn run(argv: Vec<OsString>) -> ExitCode {
    let mut arguments = argv.into_iter();
    let called = arguments.next().unwrap_or_default();
    if is_setuid() {
        // The caller chooses every name this binary goes by: rights that were given to qmail-queue are for that alone.
        return (applets::enqueue::APPLET.run)(&Call {
            name: applets::enqueue::APPLET.names[0],
            arguments: arguments.collect(),
        });
    }
    if let Some((applet, name)) = by_link(&called) {
        return call(applet, name, arguments.collect());
    }
    let Some(wanted) = arguments.next() else {
        let _ = exit::fatal("qmail", &"which program? `qmail help` lists them", 0);
        return ExitCode::from(exit::PERMANENT);
    };
    match wanted.to_str() {
        Some("help" | "--help" | "-h") => {
            exit::print(&help());
            ExitCode::SUCCESS
        }
        Some("version" | "--version" | "-V") => {
            exit::print(concat!("qmail ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        _ => match by_command(&wanted) {
            Some((applet, name)) => call(applet, name, arguments.collect()),
            None => exit::fatal(
                "qmail",
                &format_args!(
                    "no program is named {}; `qmail help` lists them",
                    wanted.display()
                ),
                exit::PERMANENT,
            ),
        },
    }
}

/// Runs a program, or shows its page if `--help` is all that is asked for: no classic program has another use for that.
fn call(applet: &Applet, name: &'static str, arguments: Vec<OsString>) -> ExitCode {
    if applet.kind == Kind::Classic
        && arguments.len() == 1
        && arguments[0] == "--help"
        && let Some(manual) = Manual::written(name)
    {
        exit::print(&manual.text());
        return ExitCode::SUCCESS;
    }
    (applet.run)(&Call { name, arguments })
}

/// The classic program that a link of this name is.
fn by_link(called: &OsStr) -> Option<(&'static Applet, &'static str)> {
    let base = Path::new(called).file_name()?.to_str()?;
    find(base, |applet| applet.kind == Kind::Classic)
}

/// The program that `qmail WANTED` is. A command of that name comes first: `qmail queue` is not `qmail-queue`.
fn by_command(wanted: &OsStr) -> Option<(&'static Applet, &'static str)> {
    let wanted = wanted.to_str()?;
    find(wanted, |_| true).or_else(|| {
        find(&format!("qmail-{wanted}"), |applet| {
            applet.kind == Kind::Classic
        })
    })
}

fn find(wanted: &str, fits: impl Fn(&Applet) -> bool) -> Option<(&'static Applet, &'static str)> {
    APPLETS
        .iter()
        .filter(|applet| fits(applet))
        .find_map(|applet| {
            let name = applet.names.iter().find(|&&name| name == wanted)?;
            Some((applet, *name))
        })
}

fn help() -> String {
    let mut text = String::from(
        "A mail system. Usage: qmail PROGRAM [ARGUMENT...]; `qmail PROGRAM --help` says more.\n",
    );
    for (kind, title) in [
        (Kind::Command, "Programs"),
        (
            Kind::Classic,
            "Classic programs, also by a link of their name (`qmail applets --install DIR` makes the links)",
        ),
    ] {
        let applets: Vec<_> = APPLETS
            .iter()
            .filter(|applet| applet.kind == kind)
            .collect();
        if applets.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{title}:\n"));
        for applet in applets {
            text.push_str(&format!(
                "  {:<16} {}\n",
                applet.names.join(", "),
                applet.summary
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_no_name_is_taken_twice() {
        let first: Vec<_> = APPLETS.iter().map(|applet| applet.names[0]).collect();
        assert!(first.is_sorted(), "{first:?}");
        let mut all: Vec<_> = APPLETS.iter().flat_map(|applet| applet.names).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_command_is_no_link() {
        assert!(by_link(OsStr::new("/usr/bin/applets")).is_none());
        assert!(by_command(OsStr::new("applets")).is_some());
        assert!(by_command(OsStr::new("applet")).is_none());
        assert!(by_command(OsStr::new("")).is_none());
    }
}
