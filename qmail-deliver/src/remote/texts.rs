//! What is said of a delivery: the very words of qmail-remote(8), put together as qmail-rspawn(8) does.

use std::net::IpAddr;

use qmail_core::{Outcome, Report};

/// What became of one message at one host, as qmail-remote(8) reports it: something of each recipient that the dialogue got
/// to, and of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteReport {
    /// Of each recipient, in order; `None` if the dialogue did not get so far.
    pub recipients: Vec<Option<RecipientReport>>,
    /// Of the message. It holds for those recipients that the host took.
    pub message: Outcome,
}

/// What a host said of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientReport {
    /// The host took it: what becomes of the message becomes of it.
    Taken,
    /// The host did not.
    Refused(Outcome),
    /// What became of it, whatever became of the message: the last word of an LMTP server, or an earlier transaction.
    Settled(Outcome),
}

impl RemoteReport {
    /// A report of a message of which no recipient was tried.
    pub(super) fn of_message(message: Outcome) -> Self {
        Self {
            recipients: Vec::new(),
            message,
        }
    }

    /// One outcome for each of `count` recipients: that of the message, overridden by what the host said of the recipient.
    ///
    /// The message's text follows the recipient's unless the message fared better than the recipient.
    pub fn outcomes(&self, count: usize) -> Vec<Outcome> {
        (0..count)
            .map(
                |at| match self.recipients.get(at).and_then(Option::as_ref) {
                    None | Some(RecipientReport::Taken) => self.message.clone(),
                    Some(RecipientReport::Settled(outcome)) => outcome.clone(),
                    Some(RecipientReport::Refused(Outcome::Failed(own))) => {
                        Outcome::Failed(self.joined(own, 0))
                    }
                    Some(RecipientReport::Refused(own)) => {
                        Outcome::Deferred(self.joined(own.report(), 1))
                    }
                },
            )
            .collect()
    }

    /// What is known of each recipient after this transaction, for a report that goes on.
    pub(super) fn settled(&self) -> Vec<Option<RecipientReport>> {
        self.outcomes(self.recipients.len())
            .into_iter()
            .map(|outcome| Some(RecipientReport::Settled(outcome)))
            .collect()
    }

    fn joined(&self, own: &Report, rank_of_own: u8) -> Report {
        if rank(&self.message) > rank_of_own {
            return own.clone();
        }
        Report::new([own.as_bytes(), self.message.report().as_bytes()].concat())
    }

    /// Appends the output of qmail-remote(8): `r`, `h` or `s` and a text for each recipient, `K`, `Z` or `D` and a text for
    /// the message, each ended by a NUL.
    pub fn write(&self, sink: &mut Vec<u8>) {
        for recipient in self.recipients.iter().flatten() {
            match recipient {
                RecipientReport::Taken | RecipientReport::Settled(Outcome::Delivered(_)) => {
                    sink.push(b'r');
                }
                RecipientReport::Refused(outcome) | RecipientReport::Settled(outcome) => {
                    let failed = matches!(outcome, Outcome::Failed(_));
                    sink.push(if failed { b'h' } else { b's' });
                    sink.extend_from_slice(outcome.report().as_bytes());
                }
            }
            sink.push(0);
        }
        sink.push(self.message.letter());
        sink.extend_from_slice(self.message.report().as_bytes());
        sink.push(0);
    }
}

/// The better, the higher.
fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Failed(_) => 0,
        Outcome::Deferred(_) => 1,
        Outcome::Delivered(_) => 2,
    }
}

/// A text of several pieces, with the words of the host if it said any.
pub(super) fn report(text: impl AsRef<[u8]>, said: Option<&[u8]>) -> Report {
    let mut report = text.as_ref().to_vec();
    report.push(b'\n');
    if let Some(said) = said {
        report.extend_from_slice(b"Remote host said: ");
        report.extend(said.iter().map(|&octet| match octet {
            b'\n' => b'\n',
            octet if octet < b' ' || octet == 0x7f => b'?',
            octet => octet,
        }));
        if report.last() != Some(&b'\n') {
            report.push(b'\n');
        }
    }
    Report::new(report)
}

/// `Connected to IP but ...`, with the words of the host.
pub(super) fn connected_but(address: IpAddr, what: &str, said: Option<&[u8]>) -> Report {
    report(format!("Connected to {address} but {what}"), said)
}

/// `IP ...`, with the words of the host.
pub(super) fn of_host(address: IpAddr, what: &str, said: Option<&[u8]>) -> Report {
    report(format!("{address} {what}"), said)
}

/// The name was looked up, and there is none.
pub(super) fn no_such_host(host: &[u8]) -> Outcome {
    Outcome::Failed(report(
        format!(
            "Sorry, I couldn't find any host named {}. (#5.1.2)",
            visible(host)
        ),
        None,
    ))
}

/// The domain says by a null MX (RFC 7505) that it takes no mail.
pub(super) fn no_mail_for(host: &[u8]) -> Outcome {
    Outcome::Failed(report(
        format!("Sorry, {} does not accept mail. (#5.1.10)", visible(host)),
        None,
    ))
}

/// An address that would not stay one argument of one command.
pub(super) fn unsendable(which: &str) -> Outcome {
    Outcome::Failed(report(
        format!("Sorry, SMTP cannot carry the address of this {which}. (#5.1.3)"),
        None,
    ))
}

/// A trouble and its status, with a warning in between if the host may have the message nevertheless.
pub(super) fn maybe_twice(trouble: &str, possible_duplicate: bool, status: &str) -> String {
    let warning = if possible_duplicate {
        "Possible duplicate! "
    } else {
        ""
    };
    format!("{trouble} {warning}{status}")
}

/// Octets that no name has are shown as `?`.
fn visible(host: &[u8]) -> String {
    host.iter()
        .map(|&octet| {
            if octet.is_ascii_graphic() {
                char::from(octet)
            } else {
                '?'
            }
        })
        .collect()
}

pub(super) fn failed(text: &'static str) -> Outcome {
    Outcome::Failed(Report::from(text))
}

pub(super) fn deferred(text: &'static str) -> Outcome {
    Outcome::Deferred(Report::from(text))
}

/// The connection ended, or the host was too slow.
pub(super) fn lost(address: IpAddr, possible_duplicate: bool) -> Outcome {
    let what = maybe_twice("connection died.", possible_duplicate, "(#4.4.2)");
    Outcome::Deferred(connected_but(address, &what, None))
}

/// The host took no recipient.
pub(super) fn giving_up(address: IpAddr) -> Outcome {
    Outcome::Failed(report(format!("Giving up on {address}."), None))
}

pub(super) fn too_large(address: IpAddr) -> Outcome {
    let what = "does not accept a message of this size. (#5.3.4)";
    Outcome::Failed(of_host(address, what, None))
}

/// The host does not announce SMTPUTF8 (RFC 6531 section 3.5).
pub(super) fn no_utf8(address: IpAddr) -> Outcome {
    let what = "does not accept internationalized addresses. (#5.6.7)";
    Outcome::Failed(of_host(address, what, None))
}

/// The host does not let us log in.
pub(super) fn no_login(address: IpAddr, why: &str) -> Outcome {
    let what = format!("there is no way to log in: {why}. (#4.7.0)");
    Outcome::Deferred(connected_but(address, &what, None))
}

/// The host takes no more recipients over one connection than it already has (RFC 9422).
pub(super) fn enough_for_now(address: IpAddr) -> Outcome {
    let what = "takes no more recipients over this connection. (#4.5.3)";
    Outcome::Deferred(of_host(address, what, None))
}

/// The host has no TLS, or none that will do.
pub(super) fn tls_failed(address: IpAddr, why: &str) -> Outcome {
    let what = format!("there is no TLS that I may use: {why}. (#4.7.5)");
    Outcome::Deferred(connected_but(address, &what, None))
}

pub(super) const LOOKUP_FAILED: &str = "Sorry, I couldn't find any host by that name. (#4.1.2)\n";
pub(super) const NO_EXCHANGER: &str =
    "Sorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n";
pub(super) const LISTED_AS_EXCHANGER: &str = "Sorry. Although I'm listed as a best-preference MX or A for that host,\n\
    it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n";
pub(super) const NO_CONNECTION: &str =
    "Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n";
pub(super) const NO_DOMAIN: &str = "Sorry, address must include host name. (#5.1.3)\n";
pub(super) const PARTIAL_LINE: &str =
    "SMTP cannot transfer messages with partial final lines. (#5.6.2)\n";
pub(super) const UNREADABLE: &str = "Unable to read message. (#4.3.0)\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(letter: char, text: &'static str) -> Outcome {
        match letter {
            'r' | 'K' => Outcome::Delivered(Report::from(text)),
            's' | 'Z' => Outcome::Deferred(Report::from(text)),
            _ => Outcome::Failed(Report::from(text)),
        }
    }

    #[test]
    fn a_recipient_gets_the_worse_of_the_two() {
        for (recipient, message, expected) in [
            (None, 'K', "Km"),
            (None, 'Z', "Zm"),
            (None, 'D', "Dm"),
            (Some('r'), 'K', "Km"),
            (Some('r'), 'Z', "Zm"),
            (Some('r'), 'D', "Dm"),
            (Some('s'), 'K', "Zp"),
            (Some('s'), 'Z', "Zpm"),
            (Some('s'), 'D', "Zpm"),
            (Some('h'), 'K', "Dp"),
            (Some('h'), 'Z', "Dp"),
            (Some('h'), 'D', "Dpm"),
        ] {
            let report = RemoteReport {
                recipients: recipient
                    .map(|letter| match letter {
                        'r' => RecipientReport::Taken,
                        letter => RecipientReport::Refused(outcome(letter, "p")),
                    })
                    .map(Some)
                    .into_iter()
                    .collect(),
                message: outcome(message, "m"),
            };
            let outcomes = report.outcomes(1);
            let text = String::from_utf8_lossy(outcomes[0].report().as_bytes());
            let shown = format!("{}{text}", char::from(outcomes[0].letter()));
            assert_eq!(shown, expected, "{recipient:?} {message}");
        }
    }

    #[test]
    fn the_output_of_qmail_remote() {
        let report = RemoteReport {
            recipients: vec![
                Some(RecipientReport::Taken),
                Some(RecipientReport::Refused(outcome('h', "no\n"))),
                None,
                Some(RecipientReport::Refused(outcome('s', "later\n"))),
                Some(RecipientReport::Settled(outcome('K', "has it\n"))),
            ],
            message: outcome('K', "ok\n"),
        };
        let mut sink = Vec::new();
        report.write(&mut sink);
        assert_eq!(sink, b"r\0hno\n\0slater\n\0r\0Kok\n\0");
    }

    #[test]
    fn what_is_settled_stays() {
        let report = RemoteReport {
            recipients: vec![
                Some(RecipientReport::Settled(outcome('K', "has it"))),
                Some(RecipientReport::Settled(outcome('h', "full"))),
                Some(RecipientReport::Taken),
            ],
            message: outcome('Z', "died"),
        };
        let outcomes = report.outcomes(3);
        assert_eq!(outcomes[0], outcome('K', "has it"));
        assert_eq!(outcomes[1], outcome('h', "full"));
        assert_eq!(outcomes[2], outcome('Z', "died"));
    }

    #[test]
    fn what_a_host_says_stays_on_its_lines() {
        let said = report("x", Some(b"550-a\x1b[2J\0\n550 b\x7f\xe9"));
        assert_eq!(
            said.as_bytes(),
            b"x\nRemote host said: 550-a?[2J?\n550 b?\xe9\n"
        );
        assert_eq!(
            no_such_host(b"a b\n\xff.x").report().as_bytes(),
            b"Sorry, I couldn't find any host named a?b??.x. (#5.1.2)\n"
        );
    }
}
