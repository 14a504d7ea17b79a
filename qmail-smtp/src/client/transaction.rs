//! What a client session is given to do.

use bytes::Bytes;
use qmail_core::{Address, ReversePath};

use super::Extensions;
use crate::BodyType;
use crate::dsn::{self, ENVID_OCTETS_MAX, ORCPT_OCTETS_MAX, RcptParameters, Return, encode_xtext};

/// One message to be sent; its text comes later.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transaction {
    /// Where bounces go.
    pub sender: ReversePath,
    /// One or more. [`Event::Recipient`](super::Event::Recipient) names them by their place here.
    pub recipients: Vec<Address>,
    /// How many octets the text has, for SIZE; an estimate will do (RFC 1870 section 5). Default: not said.
    pub octets: Option<u64>,
    /// What the text consists of, for BODY. Default: not said.
    pub body: Option<BodyType>,
    /// How much of the message a bounce is to bring back. Default: not said. This and the next two are said to a server that
    /// announces DSN (RFC 3461), and to no other.
    pub ret: Option<Return>,
    /// What the sender knows the message by, for ENVID; at most 100 octets as it is coded. Default: not said.
    pub envelope_id: Option<Bytes>,
    /// NOTIFY and ORCPT of each recipient, by its place in [`Self::recipients`]; for those beyond the end nothing is said. Default:
    /// empty. A server session's [`RcptParameters`] can be passed on as they are.
    pub parameters: Vec<RcptParameters>,
}

impl Transaction {
    /// From and to these, with the rest as it is by default.
    pub fn new(sender: ReversePath, recipients: Vec<Address>) -> Self {
        Self {
            sender,
            recipients,
            octets: None,
            body: None,
            ret: None,
            envelope_id: None,
            parameters: Vec::new(),
        }
    }

    /// Whether it needs SMTPUTF8 (RFC 6531): some address is UTF-8 beyond ASCII. Header fields are not looked at.
    pub fn needs_utf8(&self) -> bool {
        self.sender.is_utf8() || self.recipients.iter().any(Address::is_utf8)
    }

    /// Whether a server with these extensions can be given it.
    pub(super) fn check(&self, extensions: &Extensions) -> Result<(), StartError> {
        if self.recipients.is_empty() {
            return Err(StartError::NoRecipient);
        }
        if let ReversePath::Address(sender) = &self.sender
            && !is_sendable(sender)
        {
            return Err(StartError::Sender);
        }
        if let Some(index) = self.recipients.iter().position(|to| !is_sendable(to)) {
            return Err(StartError::Recipient { index });
        }
        if !self.wishes_are_sendable() {
            return Err(StartError::Parameters);
        }
        if !extensions.smtp_utf8 {
            if self.sender.is_utf8() {
                return Err(StartError::Utf8Sender);
            }
            if let Some(index) = self.recipients.iter().position(Address::is_utf8) {
                return Err(StartError::Utf8Recipient { index });
            }
        }
        if let (Some(octets), Some(octets_max)) = (self.octets, extensions.message_octets_max)
            && octets > octets_max
        {
            return Err(StartError::TooLarge { octets_max });
        }
        match self.within(extensions) {
            taken if taken < self.recipients.len() => {
                Err(StartError::TooManyRecipients { most: taken })
            }
            _ => Ok(()),
        }
    }

    /// Whether ENVID and every ORCPT can be coded.
    fn wishes_are_sendable(&self) -> bool {
        let fits = |text: &Bytes, octets_max| encode_xtext(text, octets_max).is_some();
        let id = self.envelope_id.as_ref();
        let mut originals = self.parameters.iter().filter_map(|it| it.original.as_ref());
        id.is_none_or(|id| fits(id, ENVID_OCTETS_MAX))
            && originals.all(|it| dsn::is_original(it) && fits(it, ORCPT_OCTETS_MAX))
    }

    /// Writes RET and ENVID.
    pub(super) fn write_wishes(&self, sink: &mut Vec<u8>) {
        match self.ret {
            Some(Return::Full) => sink.extend_from_slice(b" RET=FULL"),
            Some(Return::Headers) => sink.extend_from_slice(b" RET=HDRS"),
            None => {}
        }
        if let Some(id) = &self.envelope_id {
            write_xtext(b" ENVID=", id, ENVID_OCTETS_MAX, sink);
        }
    }

    /// Writes NOTIFY and ORCPT of a recipient.
    pub(super) fn write_wishes_of(&self, index: usize, sink: &mut Vec<u8>) {
        let Some(parameters) = self.parameters.get(index) else {
            return;
        };
        if let Some(notify) = parameters.notify {
            sink.extend_from_slice(b" NOTIFY=");
            notify.write(sink);
        }
        if let Some(original) = &parameters.original {
            write_xtext(b" ORCPT=", original, ORCPT_OCTETS_MAX, sink);
        }
    }

    /// How many of the recipients, from the first on, the server takes at once (RFC 9422).
    fn within(&self, extensions: &Extensions) -> usize {
        let limits = extensions.limits;
        let most = |limit: Option<u32>| {
            limit.map_or(usize::MAX, |limit| {
                usize::try_from(limit).unwrap_or(usize::MAX)
            })
        };
        let (most, domains_most) = (most(limits.rcpt_max), most(limits.rcpt_domain_max));
        let mut domains = std::collections::BTreeSet::new();
        self.recipients
            .iter()
            .take(most)
            .take_while(|recipient| {
                if domains_most == usize::MAX {
                    return true;
                }
                domains.insert(recipient.domain().unwrap_or_default().to_ascii_lowercase());
                domains.len() <= domains_most
            })
            .count()
    }
}

fn write_xtext(keyword: &[u8], text: &[u8], octets_max: usize, sink: &mut Vec<u8>) {
    // What cannot be coded was refused when the transaction began.
    if let Some(text) = encode_xtext(text, octets_max) {
        sink.extend_from_slice(keyword);
        sink.extend_from_slice(&text);
    }
}

/// Whether an address stays what it is within `MAIL FROM:<...>`. [`Address::quoted`] takes care of the local part, save of
/// what ends a line or a string for some reader; the domain goes out as it is.
fn is_sendable(address: &Address) -> bool {
    let (local_part, domain) = address.split();
    let breaks_line = |octet: &u8| matches!(octet, b'\r' | b'\n' | 0);
    let breaks_path = |octet: &u8| *octet <= b' ' || matches!(octet, 0x7f | b'<' | b'>');
    !local_part.iter().any(breaks_line) && !domain.unwrap_or_default().iter().any(breaks_path)
}

/// A name or address that would not stay what it is within a command line. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("octets that would break the command line")]
pub struct UnsendableError;

/// Why a [`Transaction`] was not started. Nothing was sent, and the session is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// [`Event::Ready`](super::Event::Ready) has not come, or was used up.
    #[error("the session is not ready for a transaction")]
    NotReady,
    /// There is none to send to.
    #[error("the transaction has no recipient")]
    NoRecipient,
    /// The sender has a CR, LF or NUL, or a domain with a control octet, a space or an angle bracket.
    #[error("the sender has octets that would break the command line")]
    Sender,
    /// So has this recipient.
    #[error("recipient {index} has octets that would break the command line")]
    Recipient {
        /// Its place in [`Transaction::recipients`].
        index: usize,
    },
    /// ENVID or an ORCPT is empty, too long, or has control octets; or the latter has no kind of address.
    #[error("a parameter for delivery status notifications cannot be sent")]
    Parameters,
    /// The sender is an internationalized address, and the server does not announce SMTPUTF8: permanent, 5.6.7 (RFC 6531
    /// section 3.5).
    #[error("the sender's address needs SMTPUTF8, which the server does not have")]
    Utf8Sender,
    /// So is this recipient.
    #[error("the address of recipient {index} needs SMTPUTF8, which the server does not have")]
    Utf8Recipient {
        /// Its place in [`Transaction::recipients`].
        index: usize,
    },
    /// The server announced that it takes no message of this size: permanent, 5.3.4.
    #[error("the server takes at most {octets_max} octets")]
    TooLarge {
        /// [`Extensions::message_octets_max`].
        octets_max: u64,
    },
    /// The server announced that it takes only so many of these recipients at once: send to the first `most`, 1 at least,
    /// and to the others in another transaction (RFC 9422).
    #[error("the server takes only the first {most} of the recipients at once")]
    TooManyRecipients {
        /// How many.
        most: usize,
    },
}
