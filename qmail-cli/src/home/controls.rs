//! The control files that `qmail serve` knows, read into values.
//!
//! The classic files mean what they always meant. New ones:
//!
//! | file | kind, default | meaning |
//! |---|---|---|
//! | relayclients | list, none | addresses and networks whose clients may send anywhere: `10.0.0.0/8`, `10.1.`, `::1` |
//! | concurrencyincoming | number, 2000 | most SMTP, QMTP and QMQP sessions at a time |
//! | concurrencypop3 | number, 2000 | most POP3 sessions at a time |
//! | concurrencyperip | number, 100 | most sessions of one service from one address; relay clients and loopback aside |
//! | concurrencydestination | number, 10 | most remote deliveries at a time to one destination; with less than concurrencyremote, a slow host cannot hold them all |
//! | bounceformat | line, qsbmf | what bounces look like: `qsbmf`, as qmail writes them, or `dsn`, reports as in RFC 3464 |
//! | bouncemaxbytes | number, 0 | most bytes of a message that its bounce carries; 0 is no limit |
//! | remotetls | `off`, `opportunistic`, `required` or `verified`; `opportunistic` | TLS to other hosts, see `TlsPolicy` |
//! | checkpassword | line, none | program and arguments that check names and passwords in place of users/passwords |
//! | timeoutpop3d | number, 1200 | seconds that a POP3 client may be idle |
//! | loghash | number, 0 | 1 logs the SHA-256 of each message that comes in |
//! | queueextra | list, none | addresses that get every message besides its own recipients |
//! | timeoutprogram | number, 3600 | seconds that a program which mail is delivered to may run |
//! | patrn | octal, 002 | mode bits that a home directory or instruction file must not have |
//! | mboxlinks | number, 1 | 0 refuses mbox files that are symbolic links |
//!
//! Those about how SMTP clients come in stand in [`entrance`](super::entrance).
//!
//! A file that cannot be read, or says what cannot be, stops the start.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qmail_core::Address;
use qmail_core::bounce::Form;
use qmail_core::control::{Map, Set};
use qmail_core::route::{BadMailFrom, RcptHosts, SmtpRoutes, Tables};

use qmail_deliver::{Strictness, TlsPolicy};

use super::Home;
use super::directory::{ControlError, Directory};
use super::entrance::{EntranceControls, tls};
use super::extra::extra_recipients;
use crate::checkpassword::Checker;
use crate::serve::Networks;
use crate::tls::ServerTls;

/// Most parallel deliveries or sessions that a control file can ask for.
const CONCURRENCY_MAX: u64 = 100_000;

/// Longest timeout in seconds that a control file can ask for: a day.
const TIMEOUT_MAX: u64 = 86_400;

/// queuelifetime when it is not set: one week.
const LIFETIME: Duration = Duration::from_secs(604_800);

/// timeoutpop3d when it is not set.
const POP3_TIMEOUT: Duration = Duration::from_secs(1200);

/// timeoutconnect when it is not set.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The configuration of a home.
#[derive(Debug)]
pub(crate) struct Controls {
    /// SMTP in.
    pub(crate) smtp: SmtpControls,
    /// How SMTP clients come in.
    pub(crate) entrance: EntranceControls,
    /// POP3.
    pub(crate) pop3: Pop3Controls,
    /// The queue.
    pub(crate) queue: QueueControls,
    /// Local deliveries: patrn, mboxlinks.
    pub(crate) strictness: Strictness,
    /// timeoutprogram.
    pub(crate) program_time_max: Duration,
    /// SMTP out.
    pub(crate) remote: RemoteControls,
    /// checkpassword.
    pub(crate) checkpassword: Option<Checker>,
    /// What is strange and can be lived with: for the log.
    pub(crate) warnings: Vec<String>,
}

/// SMTP in.
#[derive(Debug)]
pub(crate) struct SmtpControls {
    /// smtpgreeting, else me.
    pub(crate) greeting: Bytes,
    /// timeoutsmtpd: how long a read may take; `None` leaves it to the server's defaults.
    pub(crate) timeout: Option<Duration>,
    /// databytes; 0 is no limit.
    pub(crate) message_octets_max: Option<u64>,
    /// rcpthosts with morercpthosts.cdb.
    pub(crate) rcpthosts: RcptHosts,
    /// There is no rcpthosts: mail is taken for what is delivered here, too.
    pub(crate) rcpthosts_missing: bool,
    /// localiphost, else me: the name that replaces a literal of this host.
    pub(crate) own_literal_host: Option<Bytes>,
    /// badmailfrom.
    pub(crate) badmailfrom: BadMailFrom,
    /// relayclients.
    pub(crate) relayclients: Networks,
    /// concurrencyincoming.
    pub(crate) sessions_max: usize,
    /// concurrencyperip.
    pub(crate) sessions_per_address_max: usize,
}

/// POP3.
#[derive(Debug)]
pub(crate) struct Pop3Controls {
    /// Name in the greeting: me.
    pub(crate) hostname: Bytes,
    /// timeoutpop3d.
    pub(crate) timeout: Duration,
    /// concurrencypop3.
    pub(crate) sessions_max: usize,
    /// concurrencyperip.
    pub(crate) sessions_per_address_max: usize,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct QueueControls {
    /// locals, percenthack, virtualdomains, envnoathost.
    pub(crate) tables: Arc<Tables>,
    /// queuelifetime.
    pub(crate) lifetime: Duration,
    /// concurrencylocal; 0 holds local mail.
    pub(crate) local_max: usize,
    /// concurrencyremote; 0 holds remote mail.
    pub(crate) remote_max: usize,
    /// concurrencydestination.
    pub(crate) destination_max: usize,
    /// bouncefrom.
    pub(crate) bounce_from: Bytes,
    /// bouncehost.
    pub(crate) bounce_host: Bytes,
    /// bounceformat.
    pub(crate) bounce_form: Form,
    /// bouncemaxbytes; `None` is no limit.
    pub(crate) bounce_message_octets_max: Option<u64>,
    /// doublebounceto.
    pub(crate) double_bounce_to: Bytes,
    /// doublebouncehost.
    pub(crate) double_bounce_host: Bytes,
    /// loghash is not 0.
    pub(crate) log_hashes: bool,
    /// queueextra.
    pub(crate) extra_recipients: Vec<Address>,
}

/// SMTP out.
#[derive(Debug)]
pub(crate) struct RemoteControls {
    /// helohost, else me.
    pub(crate) helo_host: Bytes,
    /// smtproutes.
    pub(crate) routes: SmtpRoutes,
    /// timeoutconnect.
    pub(crate) connect_timeout: Duration,
    /// timeoutremote: how long one step may take; `None` leaves it to the client's defaults.
    pub(crate) timeout: Option<Duration>,
    /// remotetls.
    pub(crate) tls: TlsPolicy,
}

impl Controls {
    /// Reads everything.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read, or says what cannot be.
    pub(crate) fn read(home: &Home) -> Result<Self, ControlError> {
        let directory = Directory::new(&home.control());
        let tls = tls(&directory)?;
        Self::read_beside(home, directory, tls)
    }

    /// Reads everything but the certificate with its key: another process has them, and this is TLS by it.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub(crate) fn read_without_key(
        home: &Home,
        tls: Option<ServerTls>,
    ) -> Result<Self, ControlError> {
        Self::read_beside(home, Directory::new(&home.control()), tls)
    }

    fn read_beside(
        home: &Home,
        directory: Directory,
        tls: Option<ServerTls>,
    ) -> Result<Self, ControlError> {
        let mut reader = Reader::new(directory)?;
        let queue = QueueControls::read_from(home, &mut reader)?;
        let smtp = SmtpControls::read(&mut reader)?;
        let entrance = EntranceControls::read(&mut reader.directory, tls)?;
        let per_address = smtp.sessions_per_address_max;
        let pop3 = Pop3Controls {
            hostname: reader.called("me")?,
            timeout: reader
                .directory
                .seconds("timeoutpop3d")?
                .unwrap_or(POP3_TIMEOUT),
            sessions_max: reader.directory.count("concurrencypop3", 2000)?,
            sessions_per_address_max: per_address,
        };
        let remote = RemoteControls::read_from(&mut reader)?;
        Ok(Self {
            smtp,
            entrance,
            pop3,
            queue,
            strictness: super::strictness(home)?,
            program_time_max: super::program_time_max(home)?,
            remote,
            checkpassword: reader
                .directory
                .line("checkpassword")?
                .and_then(|line| Checker::parse(&String::from_utf8_lossy(&line))),
            warnings: reader.directory.warnings,
        })
    }
}

impl QueueControls {
    fn read_from(home: &Home, reader: &mut Reader) -> Result<Self, ControlError> {
        let tables = reader.tables()?;
        if reader.directory.file("locals")?.is_none() {
            reader.named("locals")?;
        }
        let directory = &mut reader.directory;
        let lifetime = directory.integer("queuelifetime")?;
        let local_max = directory.count("concurrencylocal", 10)?;
        let remote_max = directory.count("concurrencyremote", 20)?;
        let destination_max = directory.count("concurrencydestination", 10)?.max(1);
        let bounce_from = directory.line("bouncefrom")?;
        let bounce_form = bounce_form(directory)?;
        let log_hashes = directory.integer("loghash")?;
        let bounce_message_octets_max = directory.integer("bouncemaxbytes")?;
        let double_bounce_to = directory.line("doublebounceto")?;
        Ok(Self {
            tables: Arc::new(tables),
            lifetime: lifetime.map_or(LIFETIME, Duration::from_secs),
            local_max,
            remote_max,
            destination_max,
            bounce_from: bounce_from.unwrap_or_else(|| Bytes::from_static(b"MAILER-DAEMON")),
            bounce_host: reader.called("bouncehost")?,
            bounce_form,
            bounce_message_octets_max: bounce_message_octets_max.filter(|&octets| octets > 0),
            double_bounce_to: double_bounce_to.unwrap_or_else(|| Bytes::from_static(b"postmaster")),
            double_bounce_host: reader.called("doublebouncehost")?,
            log_hashes: log_hashes.is_some_and(|on| on > 0),
            extra_recipients: extra_recipients(home)?,
        })
    }
}

/// What qmail-send needs, read as it reads them: a number is its leading digits, or the default.
pub(crate) struct SendControls {
    pub(crate) queue: QueueControls,
    /// What is strange and can be lived with: for the log.
    pub(crate) warnings: Vec<String>,
    /// As it was at the start: it is not read again.
    me: Option<Bytes>,
}

impl SendControls {
    /// Reads them at the start.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or neither locals nor `me`.
    pub(crate) fn read(home: &Home) -> Result<Self, ControlError> {
        let mut reader = Reader::new(Directory::lenient(&home.control()))?;
        Ok(Self {
            queue: QueueControls::read_from(home, &mut reader)?,
            warnings: reader.directory.warnings,
            me: reader.me,
        })
    }

    /// Reads locals and virtualdomains again, and nothing else; the rest of the tables stays as it was.
    ///
    /// # Errors
    ///
    /// The name of the file that cannot be read.
    pub(crate) fn reread(&self, home: &Home) -> Result<Tables, &'static str> {
        let mut reader = Reader {
            directory: Directory::lenient(&home.control()),
            me: self.me.clone(),
        };
        let mut tables = self.queue.tables.as_ref().clone();
        tables.locals = reader.locals().map_err(|_| "locals")?;
        tables.virtual_domains = reader.virtual_domains().map_err(|_| "virtualdomains")?;
        Ok(tables)
    }
}

impl RemoteControls {
    /// Reads remotetls alone.
    ///
    /// # Errors
    ///
    /// It cannot be read, or names no policy.
    pub(crate) fn read_tls(home: &Home) -> Result<TlsPolicy, ControlError> {
        tls_policy(&Directory::new(&home.control()))
    }

    /// Reads nothing else, and numbers and routes as qmail-remote does.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or no name for this host.
    pub(crate) fn read(home: &Home) -> Result<Self, ControlError> {
        Self::read_from(&mut Reader::new(Directory::lenient(&home.control()))?)
    }

    fn read_from(reader: &mut Reader) -> Result<Self, ControlError> {
        Ok(Self {
            helo_host: reader.named("helohost")?,
            routes: reader.directory.parsed("smtproutes", SmtpRoutes::parse)?,
            connect_timeout: reader
                .directory
                .seconds("timeoutconnect")?
                .unwrap_or(CONNECT_TIMEOUT),
            timeout: reader.directory.seconds("timeoutremote")?,
            tls: tls_policy(&reader.directory)?,
        })
    }
}

/// What a receiver of mail needs: SMTP in, and what is delivered here. Nothing else is read, so nothing else can stop a
/// classic program.
pub(crate) struct ReceiverControls {
    pub(crate) smtp: SmtpControls,
    pub(crate) tables: Arc<Tables>,
    /// What is strange and can be lived with: for the log.
    pub(crate) warnings: Vec<String>,
}

impl ReceiverControls {
    /// Reads them as the classic programs do: a number is its leading digits, or the default.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or no name for this host.
    pub(crate) fn read(home: &Home) -> Result<Self, ControlError> {
        let mut reader = Reader::new(Directory::lenient(&home.control()))?;
        Ok(Self {
            smtp: SmtpControls::read(&mut reader)?,
            tables: Arc::new(reader.tables()?),
            warnings: reader.directory.warnings,
        })
    }
}

impl SmtpControls {
    fn read(reader: &mut Reader) -> Result<Self, ControlError> {
        // Any text.
        let greeting = reader.or_me(reader.directory.line("smtpgreeting")?)?;
        let own_literal_host = match reader.directory.host("localiphost")? {
            Some(host) => Some(host),
            None => reader.me.clone(),
        };
        let directory = &mut reader.directory;
        let rcpthosts = directory.file("rcpthosts")?;
        if rcpthosts.is_none() {
            directory.warnings.push(
                "control/rcpthosts is missing: mail is only accepted for the domains in locals, virtualdomains and morercpthosts.cdb"
                    .to_owned(),
            );
        }
        let hosts = RcptHosts::parse(rcpthosts.as_deref().unwrap_or_default());
        Ok(Self {
            greeting,
            timeout: directory.seconds("timeoutsmtpd")?,
            message_octets_max: directory.integer("databytes")?.filter(|&octets| octets > 0),
            rcpthosts: match directory.cdb("morercpthosts.cdb")? {
                Some(more) => hosts.with_more(more),
                None => hosts,
            },
            rcpthosts_missing: rcpthosts.is_none(),
            own_literal_host,
            badmailfrom: directory.parsed("badmailfrom", |file, _| BadMailFrom::parse(file))?,
            relayclients: networks(directory, "relayclients")?,
            sessions_max: directory.count("concurrencyincoming", 2000)?,
            sessions_per_address_max: directory.count("concurrencyperip", 100)?,
        })
    }
}

/// A control directory and the name that most of its files fall back to.
struct Reader {
    directory: Directory,
    me: Option<Bytes>,
}

impl Reader {
    fn new(directory: Directory) -> Result<Self, ControlError> {
        let me = directory.host("me")?;
        if me.as_ref().is_some_and(|me| me.is_empty()) {
            return Err(ControlError::Bad {
                path: directory.path("me"),
                value: String::new(),
                remedy: "write the name of this host, such as mail.example.org",
            });
        }
        Ok(Self { directory, me })
    }

    /// A name that must be somewhere.
    fn named(&self, file: &str) -> Result<Bytes, ControlError> {
        self.or_me(self.directory.host(file)?)
    }

    fn or_me(&self, line: Option<Bytes>) -> Result<Bytes, ControlError> {
        line.or_else(|| self.me.clone())
            .ok_or_else(|| ControlError::Missing {
                path: self.directory.path("me"),
                remedy: "write the name of this host, such as mail.example.org, into it",
            })
    }

    /// One that has a last resort when `me` is missing too.
    fn called(&self, file: &str) -> Result<Bytes, ControlError> {
        Ok(self
            .directory
            .host(file)?
            .or_else(|| self.me.clone())
            .unwrap_or_else(|| Bytes::copy_from_slice(file.as_bytes())))
    }

    /// What is delivered here. Without locals and `me` no domain is local.
    fn tables(&mut self) -> Result<Tables, ControlError> {
        let mut tables = Tables::new(self.called("envnoathost")?);
        tables.locals = self.locals()?;
        let directory = &mut self.directory;
        tables.percent_hack = directory.parsed("percenthack", |file, _| Set::parse(file))?;
        tables.virtual_domains = self.virtual_domains()?;
        Ok(tables)
    }

    fn locals(&self) -> Result<Set, ControlError> {
        Ok(match self.directory.file("locals")? {
            Some(file) => Set::parse(&file),
            None => self.me.clone().into_iter().collect(),
        })
    }

    fn virtual_domains(&mut self) -> Result<Map<Bytes>, ControlError> {
        self.directory.parsed("virtualdomains", Map::parse)
    }
}

impl Directory {
    /// How many at a time.
    fn count(&mut self, name: &str, default: u64) -> Result<usize, ControlError> {
        let count = self.integer(name)?.unwrap_or(default);
        Ok(usize::try_from(count.min(CONCURRENCY_MAX)).unwrap_or(usize::MAX))
    }

    /// Whether: 0 or 1.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, ControlError> {
        match self.integer(name)? {
            None | Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(value) => Err(ControlError::Bad {
                path: self.path(name),
                value: value.to_string(),
                remedy: "write 1 for yes, or 0 for no",
            }),
        }
    }

    /// How long to wait.
    pub(super) fn seconds(&mut self, name: &str) -> Result<Option<Duration>, ControlError> {
        let seconds = self.integer(name)?;
        Ok(seconds.map(|seconds| Duration::from_secs(seconds.clamp(1, TIMEOUT_MAX))))
    }
}

fn bounce_form(directory: &Directory) -> Result<Form, ControlError> {
    match directory.line("bounceformat")?.as_deref() {
        None | Some(b"qsbmf") => Ok(Form::Qsbmf),
        Some(b"dsn") => Ok(Form::DeliveryStatus),
        Some(other) => Err(ControlError::Bad {
            path: directory.path("bounceformat"),
            value: qmail_core::Escaped(other).to_string(),
            remedy: "no form of a bounce; write qsbmf or dsn",
        }),
    }
}

/// A word that is none of these is never passed over: mail would go out with less protection than somebody wanted.
fn tls_policy(directory: &Directory) -> Result<TlsPolicy, ControlError> {
    let Some(word) = directory.line("remotetls")? else {
        return Ok(TlsPolicy::default());
    };
    match &word[..] {
        b"off" => Ok(TlsPolicy::Off),
        b"opportunistic" => Ok(TlsPolicy::Opportunistic),
        b"required" => Ok(TlsPolicy::Required),
        b"verified" => Ok(TlsPolicy::Verified),
        _ => Err(ControlError::Bad {
            path: directory.path("remotetls"),
            value: qmail_core::Escaped(&word).to_string(),
            remedy: "write off, opportunistic, required or verified",
        }),
    }
}

pub(super) fn networks(directory: &Directory, name: &str) -> Result<Networks, ControlError> {
    let file = directory.file(name)?.unwrap_or_default();
    let lines = qmail_core::control::list(&file).map(|line| line.octets);
    Networks::parse(lines).map_err(|line| ControlError::Bad {
        path: directory.path(name),
        value: qmail_core::Escaped(line).to_string(),
        remedy: "no address or network; write 192.0.2.1, 192.0.2.0/24, 192.0.2. or 2001:db8::/32",
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use qmail_core::Address;

    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Controls, String> {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::choose(Some(directory.path().to_owned()), None);
        fs::create_dir(home.control()).unwrap();
        for (name, text) in files {
            fs::write(home.control().join(name), text).unwrap();
        }
        let prefix = format!("{}/", home.control().display());
        Controls::read(&home).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    #[test]
    fn me_alone_is_enough() {
        let controls = read(&[("me", "mail.example.org\n")]).unwrap();
        assert_eq!(controls.smtp.greeting, "mail.example.org");
        assert_eq!(controls.remote.helo_host, "mail.example.org");
        let joe = Address::new("joe@mail.example.org").unwrap();
        assert!(controls.queue.tables.receives(&joe));
        assert!(controls.smtp.rcpthosts_missing);
        assert_eq!(controls.smtp.message_octets_max, None);
        assert_eq!(controls.warnings.len(), 1, "{:?}", controls.warnings);
    }

    #[test]
    fn without_me_the_first_need_of_it_is_told() {
        let error = read(&[]).unwrap_err();
        assert_eq!(
            error,
            "me is missing: write the name of this host, such as mail.example.org, into it"
        );
        let controls = read(&[
            ("locals", "a\n"),
            ("smtpgreeting", "g\n"),
            ("helohost", "h\n"),
        ])
        .unwrap();
        assert_eq!(controls.queue.bounce_host, "bouncehost");
    }

    #[test]
    fn a_bad_value_is_told_with_file_and_remedy() {
        for (name, text, told) in [
            (
                "databytes",
                "lots",
                "databytes, line 1, `lots`: no number; write decimal digits only, or remove the file for the default",
            ),
            (
                "databytes",
                "10M",
                "databytes, line 1, `10M`: text after the number is ignored; write decimal digits only, or remove the file for the default",
            ),
            (
                "queuelifetime",
                "99999999999999999999",
                "queuelifetime, line 1, `99999999999999999999`: number too large; write a smaller one, or remove the file for the default",
            ),
            (
                "relayclients",
                "10.0.0.0/8\nall\n",
                "relayclients, `all`: no address or network; write 192.0.2.1, 192.0.2.0/24, 192.0.2. or 2001:db8::/32",
            ),
            (
                "smtproutes",
                "a:b:c\n",
                "smtproutes, line 1, `a:b:c`: port is no number from 1 to 65535, using the usual one; write HOST:RELAY:PORT, or remove the file for the default",
            ),
            (
                "locals",
                "a.example\n# b\r\nb.example\r\n",
                "locals, line 3, `b.example\\x0d`: control character; write printable text, in lines that end in LF alone, or remove the file for the default",
            ),
            (
                "helohost",
                "a\0b\n",
                "helohost, line 1, `a\\x00b`: control character; write printable text, in lines that end in LF alone, or remove the file for the default",
            ),
            (
                "smtproutes",
                ":relay:x joe secret\n",
                "smtproutes, line 1, `:relay:x`: port is no number from 1 to 65535, using the usual one; write HOST:RELAY:PORT, or remove the file for the default",
            ),
            (
                "remotetls",
                "yes\n",
                "remotetls, `yes`: write off, opportunistic, required or verified",
            ),
            (
                "me",
                "\n",
                "me, ``: write the name of one host, such as mail.example.org",
            ),
            (
                "me",
                "mail.example.org and more\n",
                "me, `mail.example.org and more`: write the name of one host, such as mail.example.org",
            ),
            (
                "bouncehost",
                "root@mail.example.org\n",
                "bouncehost, `root@mail.example.org`: write the name of one host, such as mail.example.org",
            ),
        ] {
            let error = read(&[("me", "m"), (name, text)]).unwrap_err();
            assert_eq!(error, told);
        }
    }

    #[test]
    fn what_was_always_passed_over_is_a_warning() {
        let controls = read(&[
            ("me", "m\n"),
            ("rcpthosts", "m\n"),
            ("virtualdomains", "no colon\n"),
            ("queuelifetime", "60 seconds\n"),
        ])
        .unwrap();
        assert_eq!(controls.queue.lifetime, Duration::from_secs(60));
        assert_eq!(
            controls.warnings,
            [
                "control/virtualdomains, line 1, `no colon`: line without a colon is ignored; write KEY:VALUE",
                "control/queuelifetime, line 1, `60 seconds`: text after the number is ignored; write decimal digits only",
            ]
        );
    }

    #[test]
    fn a_directory_in_place_of_a_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::choose(Some(directory.path().to_owned()), None);
        fs::create_dir_all(home.control().join("me")).unwrap();
        let error = Controls::read(&home).unwrap_err().to_string();
        assert!(error.contains("/control/me: "), "{error}");
    }
}
