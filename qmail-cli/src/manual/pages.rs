//! The pages, and which programs describe themselves.

use clap::{Command, CommandFactory as _};

use crate::applets;

/// Makes the description that a program parses its command line with.
type Describe = fn() -> Command;

/// The new programs, whose pages are their options. Sorted.
pub(crate) const COMMANDS: &[(&str, Describe)] = &[
    ("applets", applets::links::Options::command),
    ("completions", applets::completions::Arguments::command),
    ("doctor", applets::doctor::Arguments::command),
    ("install", applets::install::Arguments::command),
    ("manual", applets::manual::Arguments::command),
    ("passwd", applets::passwd::Arguments::command),
    ("queue", applets::queue::Arguments::command),
    ("serve", applets::serve::Arguments::command),
    ("start", applets::partitioned::Arguments::command),
];

macro_rules! pages {
    ($($name:literal)*) => {
        /// The pages of `man/`, by name. Sorted.
        pub(super) const PAGES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../man/", $name, ".md")))),*];
    };
}

pages! {
    "822date"
    "822field"
    "822header"
    "822print"
    "822received"
    "addcr"
    "bouncesaying"
    "checkpassword"
    "columnt"
    "condredirect"
    "datemail"
    "delcr"
    "dot-forward"
    "dot-qmail"
    "except"
    "fastforward"
    "fixcrio"
    "forward"
    "iftocc"
    "maildir2mbox"
    "maildirmake"
    "maildirqmtp"
    "maildirserial"
    "maildirsmtp"
    "mailsubj"
    "matchup"
    "new-inject"
    "newaliases"
    "newinclude"
    "ofmipd"
    "ofmipname"
    "predate"
    "preline"
    "printforward"
    "printmaillist"
    "qbiff"
    "qmail-clean"
    "qmail-command"
    "qmail-control"
    "qmail-getpw"
    "qmail-inject"
    "qmail-local"
    "qmail-log"
    "qmail-lspawn"
    "qmail-newmrh"
    "qmail-newu"
    "qmail-pop3d"
    "qmail-popup"
    "qmail-pw2u"
    "qmail-qmqpc"
    "qmail-qmqpd"
    "qmail-qmtpd"
    "qmail-qread"
    "qmail-qstat"
    "qmail-queue"
    "qmail-remote"
    "qmail-rspawn"
    "qmail-send"
    "qmail-showctl"
    "qmail-smtpd"
    "qmail-start"
    "qmail-tcpok"
    "qmail-tcpto"
    "qmail-users"
    "qreceipt"
    "rblsmtpd"
    "recordio"
    "sendmail"
    "serialqmtp"
    "serialsmtp"
    "setforward"
    "setlock"
    "setmaillist"
    "splogger"
    "tcp-env"
    "tcpclient"
    "tcprules"
    "tcprulescheck"
    "tcpserver"
    "xqp"
    "xrecipient"
    "xsender"
    "zddist"
    "zdeferrals"
    "zfailures"
    "zoverall"
    "zrecipients"
    "zrhosts"
    "zrxdelay"
    "zsenders"
    "zsendmail"
    "zsuccesses"
    "zsuids"
}
