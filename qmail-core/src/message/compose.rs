//! Completing a message as new-inject and ofmipd do (mess822): every field read, the header written anew in one order.
//!
//! Feed the fields to a [`Composition`], in order, then [`finish`](Composition::finish) it. No field is an error; address
//! fields of one name become one list, hosts are rewritten by [`HostRules`], the date is normalised.
//!
//! A header so written has first the fields of the way it came (Received, Delivered-To, Errors-To, Return-Receipt-To,
//! Resent-), then Date, Message-ID, From, Sender, Reply-To, Mail-Reply-To, Mail-Followup-To, To, Cc,
//! Notice-Requested-Upon-Delivery-To, then all others as they were.

use crate::header::mailbox::{self, Mailbox};
use crate::header::{Field, FieldDate, HostRules};
use crate::message::{Addresses, Options, Stamp};

/// What a [`Composition`] goes by. Start with [`ComposeSettings::new`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ComposeSettings {
    /// How hosts are rewritten.
    pub rules: HostRules,
    /// The rest. The host in Message-ID is already rewritten.
    pub options: Options,
    /// Who a message without From is from, already rewritten; `None` for the sender.
    pub from: Option<Mailbox<'static>>,
    /// The default sender (QMAILSUSER, QMAILSHOST), not yet rewritten; `None` for that of `from`.
    pub sender: Option<Vec<u8>>,
    /// Incoming Return-Path and Envelope-Sender fields set the sender, incoming Envelope-Recipients the recipients.
    pub envelope_fields: bool,
}

impl ComposeSettings {
    /// A message without From is from its sender; fields may tell the envelope.
    pub fn new(rules: HostRules, options: Options) -> Self {
        Self {
            rules,
            options,
            from: None,
            sender: None,
            envelope_fields: true,
        }
    }
}

/// An address would have a line break or a NUL, which no header, envelope or SMTP command may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line break or NUL in address: {}", crate::Escaped(.0))]
pub struct ControlOctet(pub Vec<u8>);

/// The lists of addresses that a composition knows, in the order of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    From,
    Sender,
    ReplyTo,
    MailReplyTo,
    MailFollowupTo,
    To,
    Cc,
    NoticeTo,
    Bcc,
    ApparentlyTo,
    ReturnPath,
    EnvelopeSender,
    EnvelopeRecipients,
}

/// Names of the lists. Those up to [`SHOWN`] are written.
const LISTS: [(&[u8], List); 13] = [
    (b"From", List::From),
    (b"Sender", List::Sender),
    (b"Reply-To", List::ReplyTo),
    (b"Mail-Reply-To", List::MailReplyTo),
    (b"Mail-Followup-To", List::MailFollowupTo),
    (b"To", List::To),
    (b"Cc", List::Cc),
    (b"Notice-Requested-Upon-Delivery-To", List::NoticeTo),
    (b"Bcc", List::Bcc),
    (b"Apparently-To", List::ApparentlyTo),
    (b"Return-Path", List::ReturnPath),
    (b"Envelope-Sender", List::EnvelopeSender),
    (b"Envelope-Recipients", List::EnvelopeRecipients),
];

/// How many of [`LISTS`] are part of a finished header.
const SHOWN: usize = 8;

/// Fields that tell the way of a message; so do all that begin with `Resent-`.
const TRACE: [&[u8]; 4] = [
    b"Received",
    b"Delivered-To",
    b"Errors-To",
    b"Return-Receipt-To",
];

/// A message being composed.
///
/// ```
/// use qmail_core::header::{Field, HostRules};
/// use qmail_core::header::mailbox::Mailbox;
/// use qmail_core::message::{Options, Stamp, compose::{ComposeSettings, Composition}};
///
/// let rules = HostRules::standard(b"h.example", b"example", b"example");
/// let mut settings = ComposeSettings::new(rules, Options::new("h.example"));
/// settings.from = Some(Mailbox::new(&b"joe@h.example"[..]));
/// let mut composition = Composition::new(&settings);
/// composition.field(&Field::parse(b"Subject: x\n").unwrap());
/// composition.field(&Field::parse(b"To: The Boss <boss>\n").unwrap());
/// let message = composition.finish(Stamp::new(0, 77))?;
/// assert_eq!(
///     String::from_utf8(message.header)?,
///     "Date: 1 Jan 1970 00:00:00 -0000\n\
///      Message-ID: <19700101000000.77.qmail@h.example>\n\
///      From: joe@h.example\n\
///      To: \"The Boss\" <boss@h.example>\n\
///      Subject: x\n",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Composition<'s> {
    settings: &'s ComposeSettings,
    trace: Vec<u8>,
    date: Option<FieldDate>,
    message_id: Vec<u8>,
    lists: [Vec<Mailbox<'static>>; LISTS.len()],
    others: Vec<u8>,
    sender: Option<Vec<u8>>,
    arguments: Addresses,
    from_header: bool,
    from: Option<Mailbox<'static>>,
}

/// A composed message, but for its body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Composed {
    /// All fields, lines ending in LF, without the empty line.
    pub header: Vec<u8>,
    /// The envelope sender, empty for none.
    pub sender: Vec<u8>,
    /// The envelope recipients: arguments, then To, Cc, Bcc, Apparently-To, each from left to right.
    pub recipients: Addresses,
}

impl Composed {
    /// Appends `Envelope-Sender` and `Envelope-Recipients`, as new-inject prints them.
    pub fn write_envelope(&self, sink: &mut Vec<u8>) {
        sink.extend_from_slice(b"Envelope-Sender: ");
        Mailbox::new(&self.sender[..]).write(sink);
        sink.extend_from_slice(b"\nEnvelope-Recipients:\n");
        for recipient in self.recipients.iter() {
            sink.extend_from_slice(b"  ");
            mailbox::write_address(recipient, sink);
            sink.extend_from_slice(b",\n");
        }
    }
}

impl<'s> Composition<'s> {
    /// A message whose recipients are those of its header.
    pub fn new(settings: &'s ComposeSettings) -> Self {
        Self {
            settings,
            trace: Vec::new(),
            date: None,
            message_id: Vec::new(),
            lists: Default::default(),
            others: Vec::new(),
            sender: None,
            arguments: Addresses::default(),
            from_header: true,
            from: None,
        }
    }

    /// Whether the recipients of the header count. They do unless this says otherwise.
    pub fn recipients_from_header(&mut self, from_header: bool) {
        self.from_header = from_header;
    }

    /// Adds a recipient that is not in the header: an address in internal form, whose host is rewritten.
    ///
    /// # Errors
    ///
    /// It has a line break or a NUL.
    pub fn recipient(&mut self, address: &[u8]) -> Result<(), ControlOctet> {
        let address = self.settings.complete(address)?;
        self.arguments.push(&address);
        Ok(())
    }

    /// Sets the sender, whatever the header says: an address in internal form, whose host is rewritten; empty for none.
    ///
    /// # Errors
    ///
    /// It has a line break or a NUL.
    pub fn sender(&mut self, address: &[u8]) -> Result<(), ControlOctet> {
        self.sender = Some(self.settings.complete(address)?);
        Ok(())
    }

    /// Makes From this mailbox, as it is, whatever the header says. An empty name is shown as one.
    pub fn from(&mut self, mailbox: Mailbox<'_>) {
        self.from = Some(mailbox.into_owned());
    }

    /// Takes the next field of the header.
    pub fn field(&mut self, field: &Field<'_>) {
        let name = field.name();
        if is_trace(name) {
            self.trace.extend_from_slice(field.raw());
        } else if field.is(b"Date") {
            self.date = FieldDate::read(field.value()).or(self.date);
        } else if field.is(b"Message-ID") {
            if !self.settings.options.drop_message_id {
                self.message_id.extend_from_slice(field.raw());
            }
        } else if let Some(index) = LISTS.iter().position(|(known, _)| field.is(known)) {
            self.read_list(index, field.value());
        } else if !field.is(b"Content-Length") {
            self.others.extend_from_slice(field.raw());
        }
    }

    fn read_list(&mut self, index: usize, value: &[u8]) {
        let dropped = match LISTS[index].1 {
            List::From => self.settings.options.drop_from || self.from.is_some(),
            List::ReturnPath => self.settings.options.drop_return_path,
            _ => false,
        };
        if dropped {
            return;
        }
        let mut mailboxes = Vec::new();
        mailbox::read(value, &mut mailboxes);
        for mut mailbox in mailboxes {
            if let Some(address) = &mut mailbox.address {
                self.settings.rules.apply(address.to_mut());
            }
            self.lists[index].push(mailbox.into_owned());
        }
    }

    fn list(&self, list: List) -> &[Mailbox<'static>] {
        &self.lists[list as usize]
    }

    fn addresses(&self, list: List) -> impl Iterator<Item = &[u8]> {
        self.list(list)
            .iter()
            .filter_map(|mailbox| mailbox.address.as_deref())
    }

    /// Completes the message.
    ///
    /// # Errors
    ///
    /// An address has a line break or a NUL, which only escapes could bring in.
    pub fn finish(mut self, stamp: Stamp) -> Result<Composed, ControlOctet> {
        self.check()?;
        let sender = self.make_sender(stamp)?;
        self.make_from(&sender);
        self.make_followup();
        let recipients = self.make_recipients();
        Ok(Composed {
            header: self.write(stamp),
            sender,
            recipients,
        })
    }

    /// No address may hold what would break a line. Only escapes bring such octets in.
    fn check(&self) -> Result<(), ControlOctet> {
        let mut addresses = self
            .lists
            .iter()
            .flatten()
            .filter_map(|mailbox| mailbox.address.as_deref());
        addresses.try_for_each(check)
    }

    fn make_sender(&self, stamp: Stamp) -> Result<Vec<u8>, ControlOctet> {
        if let Some(sender) = &self.sender {
            return Ok(sender.clone());
        }
        let settings = self.settings;
        if settings.envelope_fields {
            for list in [List::EnvelopeSender, List::ReturnPath] {
                if let Some(sender) = self.addresses(list).next() {
                    return Ok(sender.to_vec());
                }
            }
        }
        let from = || settings.from.as_ref()?.address.as_deref();
        let default = settings.sender.as_deref().or_else(from);
        let mut sender = settings.complete(default.unwrap_or_default())?;
        let at = memchr::memrchr(b'@', &sender).unwrap_or(sender.len());
        let host = sender.split_off(at);
        settings.options.vary_sender(stamp, &mut sender);
        sender.extend_from_slice(&host);
        settings.options.mark_sender(&mut sender);
        Ok(sender)
    }

    fn make_from(&mut self, sender: &[u8]) {
        if let Some(from) = self.from.take() {
            self.lists[List::From as usize] = vec![from];
        } else if self.list(List::From).is_empty() {
            let from = self.settings.from.clone();
            let from = from.unwrap_or_else(|| Mailbox::new(sender.to_vec()));
            self.lists[List::From as usize] = vec![from];
        }
    }

    fn make_followup(&mut self) {
        let lists = &self.settings.options.mailing_lists;
        let is_list = |address: &[u8]| lists.contains(address);
        let to_list = self
            .addresses(List::To)
            .chain(self.addresses(List::Cc))
            .any(is_list);
        if to_list && self.list(List::MailFollowupTo).is_empty() {
            let followup = [self.list(List::To), self.list(List::Cc)].concat();
            self.lists[List::MailFollowupTo as usize] = followup;
        }
    }

    fn make_recipients(&self) -> Addresses {
        let mut recipients = self.arguments.clone();
        if !self.from_header {
            return recipients;
        }
        let envelope = &[List::EnvelopeRecipients][..];
        let header = &[List::To, List::Cc, List::Bcc, List::ApparentlyTo][..];
        let from_envelope =
            self.settings.envelope_fields && !self.list(List::EnvelopeRecipients).is_empty();
        for &list in if from_envelope { envelope } else { header } {
            let somebody = |address: &&[u8]| !address.is_empty();
            recipients.extend(self.addresses(list).filter(somebody));
        }
        recipients
    }

    fn write(self, stamp: Stamp) -> Vec<u8> {
        let mut header = self.trace;
        header.extend_from_slice(b"Date: ");
        let now = i64::try_from(stamp.seconds).unwrap_or(i64::MAX);
        self.date
            .unwrap_or_else(|| FieldDate::from_unix(now))
            .write(&mut header);
        header.push(b'\n');
        if self.message_id.is_empty() {
            header.extend_from_slice(b"Message-ID: ");
            stamp.write_message_id(&self.settings.options.id_host, &mut header);
            header.push(b'\n');
        }
        header.extend_from_slice(&self.message_id);
        let [to, cc] = [List::To, List::Cc].map(|list| self.lists[list as usize].is_empty());
        for (index, (name, list)) in LISTS.iter().enumerate().take(SHOWN) {
            if *list == List::To && to && cc {
                header.extend_from_slice(b"Cc: recipient list not shown: ;\n");
            }
            mailbox::write(name, &self.lists[index], &mut header);
        }
        header.extend_from_slice(&self.others);
        header
    }
}

impl ComposeSettings {
    /// An address in internal form with its host rewritten.
    ///
    /// # Errors
    ///
    /// It has a line break or a NUL.
    pub fn complete(&self, address: &[u8]) -> Result<Vec<u8>, ControlOctet> {
        check(address)?;
        let mut address = address.to_vec();
        self.rules.apply(&mut address);
        Ok(address)
    }
}

fn check(address: &[u8]) -> Result<(), ControlOctet> {
    match memchr::memchr3(b'\r', b'\n', 0, address) {
        Some(_) => Err(ControlOctet(address.to_vec())),
        None => Ok(()),
    }
}

fn is_trace(name: &[u8]) -> bool {
    let resent = name
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"Resent-"));
    resent || TRACE.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
