//! The control files that say how clients come in by SMTP, QMTP and QMQP: TLS, logins, rules, lists, limits. None is classic.
//!
//! | file | kind, default | meaning |
//! |---|---|---|
//! | servercert.pem | PEM, none | the chain of certificates, this host's first, and its key; with it TLS is offered |
//! | serverkey.pem | PEM, servercert.pem | the key, if it is kept apart |
//! | authmechanisms | list, PLAIN LOGIN | how clients may log in, in this order; empty: not at all |
//! | authinclear | number, 0 | 1: also without TLS |
//! | proxyclients | networks, none | proxies, whose connections begin with a PROXY header |
//! | smtprules | rules of tcprules, none | who may come in; RELAYCLIENT, DATABYTES and RBLSMTPD are understood; names are looked up if one has a `=` |
//! | dnsbl | list, none | DNS lists whose clients are refused; after `+` one whose clients are not |
//! | connectionsperminute | number, 0 | most connections in a minute from one address, relay clients aside; 0: any number |
//! | greetdelay | number, 0 | seconds before the greeting; who does not wait for it is sent away |
//! | timeoutident | number, 0 | seconds to wait for the client's ident answer; 0: it is not asked |
//! | timeoutdata | number, 3600 | seconds that one message may take, or a connection by QMTP or QMQP |
//! | smtperrors | number, 50 | most errors in a session |
//! | smtprecipients | number, 20000 | most recipients of a message; 100 is the least |
//! | checkrecipients | number, 0 | 1: recipients of local domains that nobody is are refused at RCPT |
//! | chunking | number, 0 | 1: CHUNKING is offered |

use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use qmail_core::cdb::{Cdb, Writer};
use qmail_core::control;
use qmail_core::sasl::Mechanism;
use qmail_core::tcprules;

use super::Home;
use super::controls::networks;
use super::directory::{ControlError, Directory};
use crate::dns_lists::List;
use crate::serve::Networks;
use crate::tls::ServerTls;

/// Longest greetdelay in seconds: RFC 5321 section 4.5.3.2.1 lets clients wait five minutes.
const GREET_DELAY_MAX: u64 = 60;

/// Longest timeoutident in seconds.
const IDENT_WAIT_MAX: u64 = 60;

/// Least and most of smtprecipients: RFC 5321 section 4.5.3.1.8, and what a session's memory is bounded for.
const RECIPIENTS: std::ops::RangeInclusive<u64> = 100..=100_000;

/// How SMTP clients come in.
#[derive(Debug)]
pub(crate) struct EntranceControls {
    /// servercert.pem and serverkey.pem.
    pub(crate) tls: Option<ServerTls>,
    /// authmechanisms.
    pub(crate) mechanisms: Vec<Mechanism>,
    /// authinclear.
    pub(crate) login_in_clear: bool,
    /// proxyclients.
    pub(crate) proxies: Networks,
    /// smtprules.
    pub(crate) rules: Option<ConnectionRules>,
    /// dnsbl.
    pub(crate) lists: Vec<List>,
    /// connectionsperminute.
    pub(crate) per_minute_max: Option<u32>,
    /// greetdelay.
    pub(crate) greet_delay: Option<Duration>,
    /// timeoutident.
    pub(crate) ident_wait: Option<Duration>,
    /// timeoutdata.
    pub(crate) data_timeout: Option<Duration>,
    /// smtperrors.
    pub(crate) errors_max: Option<u32>,
    /// smtprecipients.
    pub(crate) recipients_max: Option<usize>,
    /// checkrecipients.
    pub(crate) check_recipients: bool,
    /// chunking.
    pub(crate) chunking: bool,
}

/// Rules on who may connect.
#[derive(Debug)]
pub(crate) struct ConnectionRules {
    /// Looked up as those of tcpserver are.
    pub(crate) cdb: Cdb<Bytes>,
    /// Whether one of them is about the name of a client, which has to be looked up then.
    pub(crate) by_name: bool,
}

impl EntranceControls {
    /// Reads all of them but the certificate.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read, or says what cannot be.
    pub(super) fn read(
        directory: &mut Directory,
        tls: Option<ServerTls>,
    ) -> Result<Self, ControlError> {
        Ok(Self {
            tls,
            mechanisms: mechanisms(directory)?,
            login_in_clear: directory.flag("authinclear")?,
            proxies: networks(directory, "proxyclients")?,
            rules: rules(directory)?,
            lists: lists(directory)?,
            per_minute_max: directory
                .integer("connectionsperminute")?
                .and_then(positive),
            greet_delay: directory
                .integer("greetdelay")?
                .and_then(|seconds| wait(seconds, GREET_DELAY_MAX)),
            ident_wait: directory
                .integer("timeoutident")?
                .and_then(|seconds| wait(seconds, IDENT_WAIT_MAX)),
            data_timeout: directory.seconds("timeoutdata")?,
            errors_max: directory.integer("smtperrors")?.map(saturated),
            recipients_max: directory.integer("smtprecipients")?.map(|count| {
                let count = count.clamp(*RECIPIENTS.start(), *RECIPIENTS.end());
                usize::try_from(count).unwrap_or(usize::MAX)
            }),
            check_recipients: directory.flag("checkrecipients")?,
            chunking: directory.flag("chunking")?,
        })
    }
}

impl EntranceControls {
    /// Whether a rule is about names of clients.
    pub(crate) fn wants_names(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.by_name)
    }

    /// Whether the domain name system has to be asked about clients.
    pub(crate) fn wants_resolver(&self) -> bool {
        !self.lists.is_empty() || self.wants_names()
    }
}

/// The certificate of this host, for a program that serves one connection.
///
/// # Errors
///
/// It cannot be read, or is none.
pub(crate) fn server_tls(home: &Home) -> Result<Option<ServerTls>, ControlError> {
    tls(&Directory::new(&home.control()))
}

/// servercert.pem and serverkey.pem.
pub(super) fn tls(directory: &Directory) -> Result<Option<ServerTls>, ControlError> {
    let Some(certificates) = directory.octets("servercert.pem")? else {
        return Ok(None);
    };
    let key = directory.octets("serverkey.pem")?;
    let key = key.as_deref().unwrap_or(&certificates);
    ServerTls::new(&certificates, key)
        .map(Some)
        .map_err(|error| ControlError::Bad {
            path: directory.path("servercert.pem"),
            value: error.to_string(),
            remedy: "put the chain of certificates there, this host's first, and its key there or into serverkey.pem",
        })
}

fn mechanisms(directory: &Directory) -> Result<Vec<Mechanism>, ControlError> {
    let Some(file) = directory.file("authmechanisms")? else {
        return Ok(vec![Mechanism::Plain, Mechanism::Login]);
    };
    control::list(&file)
        .map(|line| {
            Mechanism::named(line.octets).ok_or_else(|| ControlError::Bad {
                path: directory.path("authmechanisms"),
                value: qmail_core::Escaped(line.octets).to_string(),
                remedy: "write PLAIN, LOGIN, SCRAM-SHA-256 or CRAM-MD5, one in a line",
            })
        })
        .collect()
}

fn rules(directory: &mut Directory) -> Result<Option<ConnectionRules>, ControlError> {
    const NAME: &str = "smtprules";
    let Some(file) = directory.file(NAME)? else {
        return Ok(None);
    };
    let bad = |value: &dyn std::fmt::Display, remedy| ControlError::Bad {
        path: directory.path(NAME),
        value: value.to_string(),
        remedy,
    };
    let mut writer =
        Writer::new(Cursor::new(Vec::new())).map_err(|error| bad(&error, "too much of it"))?;
    let mut warnings = Vec::new();
    let mut by_name = false;
    for line in file.split(|&octet| octet == b'\n') {
        let shown = qmail_core::Escaped(line);
        let records = tcprules::records(line).map_err(|_| {
            bad(
                &shown,
                "write ADDRESS:allow or ADDRESS:deny, then ,NAME=\"VALUE\" if wanted",
            )
        })?;
        for record in records {
            by_name |= record.key.contains(&b'=');
            for name in variables(&record.data) {
                if !matches!(name, b"RELAYCLIENT" | b"DATABYTES" | b"RBLSMTPD") {
                    warnings.push(format!(
                        "`{shown}`: only RELAYCLIENT, DATABYTES and RBLSMTPD mean something here"
                    ));
                }
            }
            writer
                .add(&record.key, &record.data)
                .map_err(|error| bad(&error, "write fewer rules"))?;
        }
    }
    let cdb = writer
        .finish()
        .map_err(|error| bad(&error, "write fewer rules"))?
        .into_inner();
    let cdb = Cdb::new(Bytes::from(cdb)).map_err(|error| bad(&error, "write fewer rules"))?;
    for warning in warnings {
        directory.warn(NAME, &warning);
    }
    Ok(Some(ConnectionRules { cdb, by_name }))
}

/// The names that a record sets.
fn variables(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&octet| octet == 0).filter_map(|instruction| {
        let setting = instruction.strip_prefix(b"+")?;
        setting.split(|&octet| octet == b'=').next()
    })
}

fn lists(directory: &Directory) -> Result<Vec<List>, ControlError> {
    let file = directory.file("dnsbl")?.unwrap_or_default();
    control::list(&file)
        .map(|line| {
            let (allow, base) = match line.octets.strip_prefix(b"+") {
                Some(base) => (true, base),
                None => (false, line.octets),
            };
            let name = |octet: &u8| octet.is_ascii_alphanumeric() || b".-_".contains(octet);
            if base.is_empty() || !base.iter().all(name) {
                return Err(ControlError::Bad {
                    path: directory.path("dnsbl"),
                    value: qmail_core::Escaped(line.octets).to_string(),
                    remedy: "write the domain of a list, such as list.example.org, after + for one that lets in",
                });
            }
            let base = base.to_vec();
            // A list that cannot be asked is no reason to refuse mail.
            let closed = false;
            Ok(if allow {
                List::Allow { base, closed }
            } else {
                List::Block {
                    base,
                    permanent: true,
                    closed,
                }
            })
        })
        .collect()
}

fn positive(count: u64) -> Option<u32> {
    (count > 0).then(|| saturated(count))
}

fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn wait(seconds: u64, most: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.min(most)))
}
