//! The control files there are, and what each one says to a person: the knowledge of qmail-showctl(8).

/// A control file.
pub(crate) struct ControlFile {
    pub(crate) name: &'static str,
    pub(crate) kind: ControlKind,
    /// What is said before a value, and after it.
    pub(crate) words: (&'static str, &'static str),
}

/// How a control file is read.
#[derive(Clone, Copy)]
pub(crate) enum ControlKind {
    /// The first line.
    Line(Fallback),
    /// The digits that the first line begins with; the default.
    Number(u64),
    /// Every line that is no comment; what is said if there is no file.
    List(&'static str),
    /// A list that counts only beside rcpthosts.
    MoreRcptHosts,
    /// The database made of that list.
    MoreRcptHostsCdb,
    /// A file that counts as a whole, or that is nobody's business: only the words are said.
    Untold,
}

/// What stands in for a file that is not there.
#[derive(Clone, Copy)]
pub(crate) enum Fallback {
    /// The name of this host (me), else the name of the file.
    Me,
    /// These words.
    Words(&'static str),
}

const fn line(
    name: &'static str,
    fallback: Fallback,
    before: &'static str,
    after: &'static str,
) -> ControlFile {
    ControlFile {
        name,
        kind: ControlKind::Line(fallback),
        words: (before, after),
    }
}

const fn number(
    name: &'static str,
    default: u64,
    before: &'static str,
    after: &'static str,
) -> ControlFile {
    ControlFile {
        name,
        kind: ControlKind::Number(default),
        words: (before, after),
    }
}

const fn list(
    name: &'static str,
    default: &'static str,
    before: &'static str,
    after: &'static str,
) -> ControlFile {
    ControlFile {
        name,
        kind: ControlKind::List(default),
        words: (before, after),
    }
}

const TO: &str = "SMTP clients may send messages to recipients at ";

/// The classic ones, in the order of qmail-showctl.
pub(crate) const CLASSIC: &[ControlFile] = &[
    list(
        "badmailfrom",
        "Any MAIL FROM is allowed.",
        "",
        " not accepted in MAIL FROM.",
    ),
    line(
        "bouncefrom",
        Fallback::Words("MAILER-DAEMON"),
        "Bounce user name is ",
        ".",
    ),
    line("bouncehost", Fallback::Me, "Bounce host name is ", "."),
    number("concurrencylocal", 10, "Local concurrency is ", "."),
    number("concurrencyremote", 20, "Remote concurrency is ", "."),
    number("databytes", 0, "SMTP DATA limit is ", " bytes."),
    line(
        "defaultdomain",
        Fallback::Me,
        "Default domain name is ",
        ".",
    ),
    line("defaulthost", Fallback::Me, "Default host name is ", "."),
    line("doublebouncehost", Fallback::Me, "2B recipient host: ", "."),
    line(
        "doublebounceto",
        Fallback::Words("postmaster"),
        "2B recipient user: ",
        ".",
    ),
    line("envnoathost", Fallback::Me, "Presumed domain name is ", "."),
    line(
        "helohost",
        Fallback::Me,
        "SMTP client HELO host name is ",
        ".",
    ),
    line("idhost", Fallback::Me, "Message-ID host name is ", "."),
    line(
        "localiphost",
        Fallback::Me,
        "Local IP address becomes ",
        ".",
    ),
    list(
        "locals",
        "Messages for me are delivered locally.",
        "Messages for ",
        " are delivered locally.",
    ),
    line(
        "me",
        Fallback::Words("undefined! Uh-oh"),
        "My name is ",
        ".",
    ),
    list(
        "percenthack",
        "The percent hack is not allowed.",
        "The percent hack is allowed for user%host@",
        ".",
    ),
    line("plusdomain", Fallback::Me, "Plus domain name is ", "."),
    list("qmqpservers", "No QMQP servers.", "QMQP server: ", "."),
    number(
        "queuelifetime",
        604_800,
        "Message lifetime in the queue is ",
        " seconds.",
    ),
    list(
        "rcpthosts",
        "SMTP clients may send messages to any recipient.",
        TO,
        ".",
    ),
    ControlFile {
        name: "morercpthosts",
        kind: ControlKind::MoreRcptHosts,
        words: (TO, "."),
    },
    ControlFile {
        name: "morercpthosts.cdb",
        kind: ControlKind::MoreRcptHostsCdb,
        words: ("", ""),
    },
    line("smtpgreeting", Fallback::Me, "SMTP greeting: 220 ", "."),
    list(
        "smtproutes",
        "No artificial SMTP routes.",
        "SMTP route: ",
        "",
    ),
    number(
        "timeoutconnect",
        60,
        "SMTP client connection timeout is ",
        " seconds.",
    ),
    number(
        "timeoutremote",
        1200,
        "SMTP client data timeout is ",
        " seconds.",
    ),
    number(
        "timeoutsmtpd",
        1200,
        "SMTP server data timeout is ",
        " seconds.",
    ),
    list(
        "virtualdomains",
        "No virtual domains.",
        "Virtual domain: ",
        "",
    ),
];

const fn untold(name: &'static str, words: &'static str) -> ControlFile {
    ControlFile {
        name,
        kind: ControlKind::Untold,
        words: (words, ""),
    }
}

/// Our own, sorted; shown where they are set.
pub(crate) const OWN: &[ControlFile] = &[
    list(
        "accounts",
        "Accounts have their usual names.",
        "Account: ",
        ".",
    ),
    number("authinclear", 0, "Logins without TLS (1 yes, 0 no): ", "."),
    list(
        "authmechanisms",
        "Logins by PLAIN and LOGIN.",
        "Logins by ",
        ".",
    ),
    line(
        "bounceformat",
        Fallback::Words("qsbmf"),
        "The form of bounces is ",
        ".",
    ),
    number(
        "bouncemaxbytes",
        0,
        "Limit of the message in a bounce is ",
        " bytes.",
    ),
    line(
        "checkpassword",
        Fallback::Words(""),
        "Passwords are checked by ",
        ".",
    ),
    number(
        "checkrecipients",
        0,
        "Recipients without a mailbox are refused (1 yes, 0 no): ",
        ".",
    ),
    number("chunking", 0, "CHUNKING is offered (1 yes, 0 no): ", "."),
    number(
        "concurrencydestination",
        10,
        "Remote concurrency to one destination is ",
        ".",
    ),
    number("concurrencyincoming", 2000, "SMTP session limit is ", "."),
    number(
        "concurrencyperip",
        100,
        "Session limit of one address is ",
        ".",
    ),
    number("concurrencypop3", 2000, "POP3 session limit is ", "."),
    number(
        "connectionsperminute",
        0,
        "Limit of connections in a minute from one address is ",
        ".",
    ),
    list("dnsbl", "No DNS lists.", "DNS list: ", "."),
    number("greetdelay", 0, "SMTP greeting waits for ", " seconds."),
    number(
        "loghash",
        0,
        "Hashes of messages are logged (1 yes, 0 no): ",
        ".",
    ),
    number(
        "mboxlinks",
        1,
        "Mailbox files may be symbolic links (1 yes, 0 no): ",
        ".",
    ),
    line(
        "patrn",
        Fallback::Words("002"),
        "Mode bits that defer local mail are ",
        ".",
    ),
    list(
        "proxyclients",
        "No proxies.",
        "Connections from ",
        " begin with a PROXY header.",
    ),
    list(
        "queueextra",
        "No further recipients.",
        "Every message also goes to ",
        ".",
    ),
    list(
        "relayclients",
        "No relay clients.",
        "SMTP clients at ",
        " may send messages to any recipient.",
    ),
    line(
        "remotetls",
        Fallback::Words("opportunistic"),
        "TLS to other hosts is ",
        ".",
    ),
    untold(
        "servercert.pem",
        "The certificate of this host, with which TLS is offered.",
    ),
    untold("serverkey.pem", "The key of the certificate of this host."),
    number("smtperrors", 50, "SMTP session error limit is ", "."),
    number(
        "smtprecipients",
        20_000,
        "SMTP recipient limit of a message is ",
        ".",
    ),
    list(
        "smtprules",
        "No rules for SMTP clients.",
        "Rule for SMTP clients: ",
        "",
    ),
    number(
        "timeoutdata",
        3600,
        "SMTP server timeout of one message is ",
        " seconds.",
    ),
    number("timeoutident", 0, "Ident timeout is ", " seconds."),
    number(
        "timeoutpop3d",
        1200,
        "POP3 server data timeout is ",
        " seconds.",
    ),
    number(
        "timeoutprogram",
        3600,
        "Programs that mail is delivered to may run ",
        " seconds.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_explains_every_file() {
        let page = include_str!("../../man/qmail-control.md");
        for file in CLASSIC.iter().chain(OWN) {
            assert!(page.contains(&format!("`{}`", file.name)), "{}", file.name);
        }
        assert!(OWN.is_sorted_by_key(|file| file.name));
    }
}
