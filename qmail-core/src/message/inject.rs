//! Completing a message as qmail-inject does (qmail-inject(8), qmail-header(5)).
//!
//! Feed the fields of a header to an [`Injection`], in order, then [`finish`](Injection::finish) it: out come the complete
//! header, the sender and the recipients. The body is none of its business. Everything that can be wrong with a header is
//! known before anything must be queued.

mod identity;
mod known;

pub use identity::Identity;

use crate::header::address_list::{ListError, rewrite};
use crate::header::date::write_date;
use crate::header::token::{Grammar, Kind, Lexer, Token};
use crate::header::{Field, Qualifier};
use crate::message::{Addresses, Options, Stamp};
use crate::{is_plain_local_part, quote_address};
use known::{Known, Use};

/// What an [`Injection`] goes by. Start with [`Settings::new`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Default host, default domain, plus domain.
    pub qualifier: Qualifier,
    /// Who a message without From is from.
    pub from: Identity,
    /// User of the default sender (QMAILSUSER); `None` for that of `from`.
    pub sender_user: Option<Vec<u8>>,
    /// Host of the default sender (QMAILSHOST); `None` for that of `from`.
    pub sender_host: Option<Vec<u8>>,
    /// The rest.
    pub options: Options,
}

impl Settings {
    /// The default sender is that of From.
    pub fn new(qualifier: Qualifier, options: Options, from: Identity) -> Self {
        Self {
            qualifier,
            from,
            sender_user: None,
            sender_host: None,
            options,
        }
    }
}

/// Why a message is not made. `Display` is what qmail-inject says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// A field that must be understood is not: a sender field, a field with a line break in an address, or the field that
    /// should have named the recipients.
    #[error("unable to parse this line:\n{}", String::from_utf8_lossy(field).trim_end_matches('\n'))]
    Field {
        /// The field, whole.
        field: Vec<u8>,
        /// What is wrong with it.
        #[source]
        source: ListError,
    },
    /// An address that was given by itself is none.
    #[error("unable to parse address: {}", String::from_utf8_lossy(.0))]
    Address(Vec<u8>),
    /// The user or host of the default sender has a line break or a NUL.
    #[error("line break in user or host name")]
    Identity,
}

impl InjectError {
    /// Appends what `Display` shows, with the octets as they are.
    pub fn write(&self, sink: &mut Vec<u8>) {
        match self {
            Self::Field { field, .. } => {
                sink.extend_from_slice(b"unable to parse this line:\n");
                sink.extend_from_slice(field.strip_suffix(b"\n").unwrap_or(field));
            }
            Self::Address(address) => {
                sink.extend_from_slice(b"unable to parse address: ");
                sink.extend_from_slice(address);
            }
            Self::Identity => sink.extend_from_slice(self.to_string().as_bytes()),
        }
    }
}

/// A message on its way to completeness.
///
/// ```
/// use qmail_core::header::{Field, Qualifier};
/// use qmail_core::message::{Options, Stamp, inject::{Identity, Injection, Settings}};
///
/// let qualifier = Qualifier::new(b"example.org", b"example.org", b"example.org")?;
/// let settings = Settings::new(qualifier, Options::new("example.org"), Identity::new("joe"));
/// let mut injection = Injection::new(&settings);
/// injection.field(&Field::parse(b"To: ann, bob@x.example\n").unwrap())?;
/// injection.field(&Field::parse(b"Bcc: eve\n").unwrap())?;
/// let message = injection.finish(Stamp::new(0, 77))?;
/// assert_eq!(
///     String::from_utf8(message.header)?,
///     "Date: 1 Jan 1970 00:00:00 -0000\n\
///      Message-ID: <19700101000000.77.qmail@example.org>\n\
///      From: joe@example.org\n\
///      To: ann@example.org, bob@x.example\n",
/// );
/// assert_eq!(message.sender, b"joe@example.org");
/// assert_eq!(message.recipients.iter().collect::<Vec<_>>(), [
///     &b"bob@x.example"[..], b"ann@example.org", b"eve@example.org",
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Injection<'s> {
    settings: &'s Settings,
    /// Fields that stay, rewritten.
    kept: Vec<u8>,
    seen: Seen,
    arguments: Addresses,
    from_header: bool,
    recipients: Addresses,
    resent_recipients: Addresses,
    /// Addresses of To and Cc, for Mail-Followup-To, and how many there were after each field.
    followup: Addresses,
    followup_fields: Vec<usize>,
    to_mailing_list: bool,
    sender: Option<Vec<u8>>,
    return_path: Option<Vec<u8>>,
    /// The first recipient field that could not be read, plain and resent.
    malformed: Option<InjectError>,
    resent_malformed: Option<InjectError>,
    line_ends: LineEnds,
}

/// Which fields there were.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    date: bool,
    message_id: bool,
    from: bool,
    to_or_cc: bool,
    followup: bool,
    resent: bool,
    resent_date: bool,
    resent_message_id: bool,
    resent_from: bool,
    resent_to_or_cc: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnds {
    Unknown,
    CrLf,
    Lf,
}

/// A complete message, but for its body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// All fields, lines ending in LF, without the empty line.
    pub header: Vec<u8>,
    /// The envelope sender, empty for none.
    pub sender: Vec<u8>,
    /// The envelope recipients: arguments in order, then those of each field from the last to the first.
    pub recipients: Addresses,
    /// All lines of the header ended in CR LF, and are now without CR. The body should lose its CRs too.
    pub crlf: bool,
    /// There is no recipient, and this field is why: a message must not be lost silently.
    pub malformed: Option<InjectError>,
}

impl Message {
    /// The sender as a Return-Path field shows it, see [`Address::quoted`](crate::Address::quoted).
    pub fn quoted_sender(&self) -> Vec<u8> {
        let mut sink = Vec::new();
        quote_address(&self.sender, &mut sink);
        sink
    }
}

impl<'s> Injection<'s> {
    /// A message whose recipients are those of its header.
    pub fn new(settings: &'s Settings) -> Self {
        Self {
            settings,
            kept: Vec::new(),
            seen: Seen::default(),
            arguments: Addresses::default(),
            from_header: true,
            recipients: Addresses::default(),
            resent_recipients: Addresses::default(),
            followup: Addresses::default(),
            followup_fields: Vec::new(),
            to_mailing_list: false,
            sender: None,
            return_path: None,
            malformed: None,
            resent_malformed: None,
            line_ends: LineEnds::Unknown,
        }
    }

    /// Whether the recipients of the header count. They do unless this says otherwise.
    pub fn recipients_from_header(&mut self, from_header: bool) {
        self.from_header = from_header;
    }

    /// Adds a recipient that is not in the header, as [`complete_argument`] reads it.
    ///
    /// # Errors
    ///
    /// It is no address, or has no local part.
    pub fn recipient(&mut self, argument: &[u8]) -> Result<(), InjectError> {
        let address = complete_argument(argument, &self.settings.qualifier)?;
        // `@host` is nobody. In a header it is a source route, and `""@host` somebody.
        if address.is_empty() || memchr::memrchr(b'@', &address) == Some(0) {
            return Err(InjectError::Address(argument.to_vec()));
        }
        self.arguments.push(&address);
        Ok(())
    }

    /// Sets the sender, whatever the header says, as [`complete_argument`] reads it; empty for none.
    ///
    /// # Errors
    ///
    /// It is no address.
    pub fn sender(&mut self, argument: &[u8]) -> Result<(), InjectError> {
        self.sender = Some(complete_argument(argument, &self.settings.qualifier)?);
        Ok(())
    }

    /// Takes the next field of the header.
    ///
    /// # Errors
    ///
    /// A field that tells about senders cannot be read, or an address has a line break or NUL inside. Fields that name
    /// recipients are kept as they are if they cannot be read.
    pub fn field(&mut self, field: &Field<'_>) -> Result<(), InjectError> {
        self.note_line_ends(field.raw());
        let Some(known) = Known::of(field) else {
            field.write(&mut self.kept);
            return Ok(());
        };
        self.note(known);
        match known.treatment() {
            Use::Copy => field.write(&mut self.kept),
            Use::Drop => {}
            Use::MessageId if self.settings.options.drop_message_id => {}
            Use::MessageId => field.write(&mut self.kept),
            Use::Sender if known == Known::From && self.settings.options.drop_from => {}
            Use::Sender => self.rewrite(field, |_| ())?,
            Use::ReturnPath => self.read_return_path(field)?,
            Use::Recipients => self.read_recipients(field, known)?,
        }
        Ok(())
    }

    /// Completes the message.
    ///
    /// # Errors
    ///
    /// The default sender or From cannot be made.
    pub fn finish(self, stamp: Stamp) -> Result<Message, InjectError> {
        let settings = self.settings;
        let sender = match (&self.sender, &self.return_path) {
            (Some(sender), _) => sender.clone(),
            (None, Some(path)) => {
                let mut sender = path.clone();
                settings.options.mark_sender(&mut sender);
                sender
            }
            (None, None) => settings.default_sender(stamp)?,
        };
        let crlf = self.line_ends == LineEnds::CrLf;
        let mut header = Vec::with_capacity(self.kept.len() + 512);
        self.add_fields(stamp, &mut header)?;
        if crlf {
            push_without_cr(&self.kept, &mut header);
        } else {
            header.extend_from_slice(&self.kept);
        }
        let mut recipients = self.arguments;
        let mut malformed = None;
        if self.from_header {
            let (addresses, bad) = if self.seen.resent {
                (&self.resent_recipients, self.resent_malformed)
            } else {
                (&self.recipients, self.malformed)
            };
            if recipients.is_empty() {
                recipients = addresses.clone();
            } else {
                recipients.extend(addresses.iter());
            }
            malformed = bad.filter(|_| recipients.is_empty());
        }
        Ok(Message {
            header,
            sender,
            recipients,
            crlf,
            malformed,
        })
    }

    fn note(&mut self, known: Known) {
        let seen = &mut self.seen;
        seen.resent |= known.is_resent();
        match known {
            Known::Date => seen.date = true,
            Known::MessageId => seen.message_id |= !self.settings.options.drop_message_id,
            Known::From => seen.from |= !self.settings.options.drop_from,
            Known::To | Known::Cc => seen.to_or_cc = true,
            Known::MailFollowupTo => seen.followup = true,
            Known::ResentDate => seen.resent_date = true,
            Known::ResentMessageId => seen.resent_message_id = true,
            Known::ResentFrom => seen.resent_from = true,
            Known::ResentTo | Known::ResentCc => seen.resent_to_or_cc = true,
            _ => {}
        }
    }

    fn note_line_ends(&mut self, raw: &[u8]) {
        let all_crlf = || memchr::memchr_iter(b'\n', raw).all(|lf| lf > 0 && raw[lf - 1] == b'\r');
        self.line_ends = match self.line_ends {
            LineEnds::Unknown | LineEnds::CrLf if all_crlf() => LineEnds::CrLf,
            _ => LineEnds::Lf,
        };
    }

    /// Keeps a field rewritten.
    fn rewrite(&mut self, field: &Field<'_>, each: impl FnMut(&[u8])) -> Result<(), InjectError> {
        let start = self.kept.len();
        self.kept.extend_from_slice(field.name());
        self.kept.push(b':');
        let rewritten = rewrite(
            field.value(),
            &self.settings.qualifier,
            &mut self.kept,
            each,
        );
        if let Err(source) = rewritten {
            self.kept.truncate(start);
            return Err(InjectError::Field {
                field: field.raw().to_vec(),
                source,
            });
        }
        self.kept.push(b'\n');
        Ok(())
    }

    fn read_return_path(&mut self, field: &Field<'_>) -> Result<(), InjectError> {
        if self.settings.options.drop_return_path {
            return Ok(());
        }
        let start = self.kept.len();
        let mut last = None;
        self.rewrite(field, |address| last = Some(address.to_vec()))?;
        self.kept.truncate(start);
        self.return_path = self.return_path.take().or(last);
        Ok(())
    }

    fn read_recipients(&mut self, field: &Field<'_>, known: Known) -> Result<(), InjectError> {
        let mut found = Addresses::default();
        let start = self.kept.len();
        let result = self.rewrite(field, |address| {
            if !address.is_empty() {
                found.push(address);
            }
        });
        if known.is_blind() {
            self.kept.truncate(start);
        }
        match result {
            Ok(()) => self.collect(&found, known),
            Err(
                error @ InjectError::Field {
                    source: ListError::ControlOctet,
                    ..
                },
            ) => return Err(error),
            Err(error) => {
                if !known.is_blind() {
                    field.write(&mut self.kept);
                }
                let malformed = if known.is_resent() {
                    &mut self.resent_malformed
                } else {
                    &mut self.malformed
                };
                malformed.get_or_insert(error);
            }
        }
        Ok(())
    }

    fn collect(&mut self, found: &Addresses, known: Known) {
        let recipients = if known.is_resent() {
            &mut self.resent_recipients
        } else {
            &mut self.recipients
        };
        recipients.extend(found.iter().rev());
        let lists = &self.settings.options.mailing_lists;
        if matches!(known, Known::To | Known::Cc) && !lists.is_empty() {
            self.to_mailing_list |= found.iter().any(|address| lists.contains(address));
            self.followup.extend(found.iter());
            self.followup_fields.push(self.followup.len());
        }
    }

    /// The fields that are missing.
    fn add_fields(&self, stamp: Stamp, sink: &mut Vec<u8>) -> Result<(), InjectError> {
        let seen = self.seen;
        let (prefix, date, message_id, from, to_or_cc) = if seen.resent {
            (
                &b"Resent-"[..],
                seen.resent_date,
                seen.resent_message_id,
                seen.resent_from,
                seen.resent_to_or_cc,
            )
        } else {
            (
                &b""[..],
                seen.date,
                seen.message_id,
                seen.from,
                seen.to_or_cc,
            )
        };
        if !date {
            sink.extend_from_slice(prefix);
            sink.extend_from_slice(b"Date: ");
            write_date(stamp.seconds, sink);
            sink.push(b'\n');
        }
        if !message_id {
            sink.extend_from_slice(prefix);
            sink.extend_from_slice(b"Message-ID: ");
            stamp.write_message_id(&self.settings.options.id_host, sink);
            sink.push(b'\n');
        }
        if !from {
            sink.extend_from_slice(prefix);
            sink.extend_from_slice(b"From:");
            self.settings.from.write(&self.settings.qualifier, sink)?;
            sink.push(b'\n');
        }
        if !to_or_cc {
            sink.extend_from_slice(prefix);
            sink.extend_from_slice(b"Cc: recipient list not shown: ;\n");
        }
        if !seen.resent && !seen.followup && self.to_mailing_list {
            self.write_followup(sink);
        }
        Ok(())
    }

    /// Fields from the last to the first, addresses within a field in order.
    fn write_followup(&self, sink: &mut Vec<u8>) {
        sink.extend_from_slice(b"Mail-Followup-To: ");
        let ends = &self.followup_fields;
        let mut first = true;
        for field in (0..ends.len()).rev() {
            let start = field.checked_sub(1).map_or(0, |before| ends[before]);
            for address in self.followup.range(start, ends[field]) {
                if !std::mem::take(&mut first) {
                    sink.extend_from_slice(b",\n  ");
                }
                quote_address(address, sink);
            }
        }
        sink.push(b'\n');
    }
}

impl Settings {
    fn default_sender(&self, stamp: Stamp) -> Result<Vec<u8>, InjectError> {
        let mut user = self
            .sender_user
            .clone()
            .unwrap_or_else(|| self.from.user.clone());
        self.options.vary_sender(stamp, &mut user);
        let host = self.sender_host.as_deref().or(self.from.host.as_deref());
        let mut sender = identity::complete(&user, host, &self.qualifier, |address| {
            let mut sender = Vec::new();
            address
                .iter()
                .for_each(|token| token.write_value(&mut sender));
            sender
        })?;
        self.options.mark_sender(&mut sender);
        Ok(sender)
    }
}

/// Reads one address as a command line gives it, and completes it.
///
/// The local part, up to the last `@`, is taken as it is: `a b@h` and `"q"@h` need no escapes, and have none. The domain is
/// in header syntax. An empty argument stays empty; `#@[]` and `list-@h-@[]` stay as they are.
///
/// # Errors
///
/// The domain is none, or there is a line break or NUL.
pub fn complete_argument(argument: &[u8], qualifier: &Qualifier) -> Result<Vec<u8>, InjectError> {
    let bad = || InjectError::Address(argument.to_vec());
    if argument.is_empty() {
        return Ok(Vec::new());
    }
    // A line break is no blank here: nobody types one into an address.
    if memchr::memchr3(b'\r', b'\n', 0, argument).is_some() {
        return Err(bad());
    }
    let at = memchr::memrchr(b'@', argument);
    let local = &argument[..at.unwrap_or(argument.len())];
    let kind = if is_plain_local_part(local) {
        Kind::Atom
    } else {
        Kind::Quoted
    };
    let mut tokens = vec![Token::raw(kind, local)];
    if let Some(at) = at {
        tokens.push(Token::special(Kind::At));
        for token in Lexer::new(&argument[at + 1..], Grammar::Strict) {
            let token = token.map_err(|_| bad())?;
            match token.kind {
                Kind::Comment => {}
                Kind::Dot => tokens.push(token),
                // Two words in a row are no host, and must not become one.
                kind if kind.is_word()
                    && !tokens.last().is_some_and(|last| last.kind.is_word()) =>
                {
                    tokens.push(token);
                }
                _ => return Err(bad()),
            }
        }
    }
    qualifier.complete(&mut tokens);
    let mut address = Vec::with_capacity(argument.len() + 32);
    tokens
        .iter()
        .for_each(|token| token.write_value(&mut address));
    Ok(address)
}

fn push_without_cr(octets: &[u8], sink: &mut Vec<u8>) {
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(text) => {
                sink.extend_from_slice(text);
                sink.push(b'\n');
            }
            None => sink.extend_from_slice(line),
        }
    }
}

#[cfg(test)]
mod tests;
