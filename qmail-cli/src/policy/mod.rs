//! Who may send what to whom: the decisions of an SMTP server, in one place.

mod own_literal;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use qmail_core::route::{BadMailFrom, RcptHosts, Tables};
use qmail_core::{Address, EnhancedStatus, Reply, ReversePath};
use qmail_smtp::server::{PATH_OCTETS_MAX, Verdict};

use crate::home::SmtpControls;
use crate::serve::Networks;

pub(crate) use own_literal::{OwnLiteral, own_addresses};

/// The rules of one configuration. A session keeps the rules that were in force when it began.
#[derive(Debug)]
pub(crate) struct Policy {
    /// What is delivered here: whom mail is taken for when rcpthosts is missing.
    tables: Arc<Tables>,
    /// control/rcpthosts with morercpthosts.cdb.
    rcpthosts: RcptHosts,
    rcpthosts_missing: bool,
    /// control/badmailfrom.
    badmailfrom: BadMailFrom,
    /// control/relayclients.
    relayclients: Networks,
    /// control/localiphost.
    own_literal: Option<OwnLiteral>,
}

/// Whether a client may send to every domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relaying {
    /// It may not.
    No,
    /// It may; this is appended to each recipient (RELAYCLIENT of qmail-smtpd(8)). Mostly empty.
    Yes(Bytes),
}

impl Policy {
    /// The rules of these control files. `own_addresses` are those of this host.
    pub(crate) fn new(
        controls: &SmtpControls,
        tables: Arc<Tables>,
        own_addresses: Vec<IpAddr>,
    ) -> Self {
        let own_literal = |host: &Bytes| OwnLiteral::new(own_addresses, host.clone());
        Self {
            tables,
            rcpthosts: controls.rcpthosts.clone(),
            rcpthosts_missing: controls.rcpthosts_missing,
            badmailfrom: controls.badmailfrom.clone(),
            relayclients: controls.relayclients.clone(),
            own_literal: controls.own_literal_host.as_ref().map(own_literal),
        }
    }

    /// Whether a client at this address may send to every domain.
    pub(crate) fn may_relay(&self, client: IpAddr) -> bool {
        self.relayclients.contains(client)
    }

    /// The right of a client at this address.
    pub(crate) fn relaying(&self, client: IpAddr) -> Relaying {
        if self.may_relay(client) {
            Relaying::Yes(Bytes::new())
        } else {
            Relaying::No
        }
    }

    /// The sender as it goes into the envelope. A bad sender is not refused here, but with each recipient.
    ///
    /// # Errors
    ///
    /// The reply to MAIL, where the name of this host makes it too long.
    pub(crate) fn sender(&self, sender: ReversePath) -> Result<ReversePath, Reply> {
        let own = self.own_literal.as_ref();
        match own.and_then(|own| own.sender(&sender)) {
            None => Ok(sender),
            Some(sender) if sender.as_bytes().len() <= PATH_OCTETS_MAX => Ok(sender),
            Some(_) => Err(too_long()),
        }
    }

    /// The recipient as it goes into the envelope, or with which reply it is not taken.
    ///
    /// A bad sender is only told here, as qmail-smtpd does: a client that is refused at MAIL tries again for days, one that is
    /// refused at RCPT bounces. `sender` is what [`sender`](Self::sender) made of it.
    pub(crate) fn recipient(
        &self,
        relaying: &Relaying,
        sender: &ReversePath,
        recipient: Address,
    ) -> Result<Address, NotTaken> {
        let own = self.own_literal.as_ref();
        let recipient = own
            .and_then(|own| own.recipient(&recipient))
            .unwrap_or(recipient);
        // What RELAYCLIENT appends does not count.
        if recipient.as_bytes().len() > PATH_OCTETS_MAX {
            return Err(NotTaken::Refused(too_long()));
        }
        if self.badmailfrom.refuses(sender) {
            return Err(NotTaken::Refused(refusal(BAD_SENDER)));
        }
        match self.relayed(relaying, recipient) {
            Ok(Some(recipient)) => Ok(recipient),
            Ok(None) => Err(NotTaken::Refused(refusal(NOT_ALLOWED))),
            Err(RelayError::TooLong) => Err(NotTaken::Refused(too_long())),
            Err(RelayError::Damaged) => Err(NotTaken::Unreadable),
        }
    }

    /// Relay control alone, for protocols that know nothing else (QMTP). `None`: not for this client.
    pub(crate) fn relayed(
        &self,
        relaying: &Relaying,
        recipient: Address,
    ) -> Result<Option<Address>, RelayError> {
        match relaying {
            Relaying::Yes(suffix) if suffix.is_empty() => return Ok(Some(recipient)),
            Relaying::Yes(suffix) => {
                return Address::new([recipient.as_bytes(), suffix].concat())
                    .map(Some)
                    .map_err(|_| RelayError::TooLong);
            }
            Relaying::No => {}
        }
        let allowed = self
            .rcpthosts
            .allows(&recipient)
            .map_err(|_| RelayError::Damaged)?
            || (self.rcpthosts_missing && self.tables.receives(&recipient));
        Ok(allowed.then_some(recipient))
    }
}

/// Why relay control has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayError {
    /// The address is too long with what is appended to it.
    TooLong,
    /// morercpthosts.cdb is damaged.
    Damaged,
}

/// Why a recipient is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// By this reply.
    Refused(Reply),
    /// morercpthosts.cdb is damaged: nobody can say.
    Unreadable,
}

impl NotTaken {
    /// The reply to RCPT in a session that goes on.
    pub(crate) fn reply(self) -> Reply {
        match self {
            Self::Refused(reply) => reply,
            Self::Unreadable => unreadable(451),
        }
    }

    /// As qmail-smtpd(8) takes it: it does no work without a control file, and closes.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Refused(reply) => Verdict::Reply(reply),
            Self::Unreadable => Verdict::Close(unreadable(421)),
        }
    }
}

fn unreadable(code: u16) -> Reply {
    let status = Some(EnhancedStatus::temporary(3, 0));
    Reply::new(code, status, "unable to read controls")
}

const BAD_SENDER: &str = "sorry, your envelope sender is in my badmailfrom list";

/// What a client is told of a recipient that it may not send to.
pub(crate) const NOT_ALLOWED: &str = "sorry, that domain isn't in my list of allowed rcpthosts";

fn too_long() -> Reply {
    Reply::new(555, Some(EnhancedStatus::permanent(5, 4)), "syntax error")
}

fn refusal(text: &'static str) -> Reply {
    Reply::new(553, Some(EnhancedStatus::permanent(7, 1)), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmail_core::control::Set;

    fn policy(rcpthosts: Option<&[u8]>) -> Policy {
        let mut tables = Tables::new("here.example");
        tables.locals = Set::parse(b"here.example\n");
        Policy {
            tables: Arc::new(tables),
            rcpthosts: RcptHosts::parse(rcpthosts.unwrap_or_default()),
            rcpthosts_missing: rcpthosts.is_none(),
            own_literal: None,
            badmailfrom: BadMailFrom::parse(b"@spam.example\n"),
            relayclients: Networks::parse([&b"10."[..]]).expect("a network"),
        }
    }

    #[test]
    fn the_name_of_this_host_counts() {
        let host = "x".repeat(100);
        let mut policy = policy(None);
        policy.own_literal = Some(OwnLiteral::new(Vec::new(), host.clone().into()));
        for (octets, fits) in [
            (PATH_OCTETS_MAX - 101, true),
            (PATH_OCTETS_MAX - 100, false),
        ] {
            let local = "j".repeat(octets);
            let address = format!("{local}@[0.0.0.0]");
            let sender = ReversePath::new(address.clone()).expect("an address");
            let sender = policy.sender(sender).map_err(|reply| reply.code());
            let own = format!("{local}@{host}");
            let expected = ReversePath::new(own).expect("an address");
            assert_eq!(sender, if fits { Ok(expected) } else { Err(555) });
            let recipient = policy.recipient(
                &Relaying::Yes(Bytes::new()),
                &ReversePath::Null,
                Address::new(address).expect("an address"),
            );
            assert_eq!(recipient.is_ok(), fits);
        }
    }

    #[test]
    fn relaying_is_for_relay_clients_only() {
        let reply =
            |policy: &Policy, client: &str, sender: &'static str, recipient: &'static str| {
                policy
                    .recipient(
                        &policy.relaying(client.parse().expect("an address")),
                        &ReversePath::new(sender).expect("an address"),
                        Address::new(recipient).expect("an address"),
                    )
                    .err()
                    .map(NotTaken::reply)
                    .map(|reply| (reply.code(), reply.status().expect("has one").to_string()))
            };
        let refused = Some((553, "5.7.1".to_owned()));
        for (rcpthosts, domain, allowed) in [
            (None, "a@here.example", true),
            (None, "a@listed.example", false),
            (Some(&b"listed.example\n"[..]), "a@listed.example", true),
            (Some(b"listed.example\n"), "a@here.example", false),
            (Some(b""), "a@here.example", false),
            (Some(b""), "a", true),
        ] {
            let policy = policy(rcpthosts);
            let expected = if allowed { None } else { refused.clone() };
            assert_eq!(
                reply(&policy, "192.0.2.1", "", domain),
                expected,
                "{domain}"
            );
            assert_eq!(reply(&policy, "10.0.0.1", "", domain), None);
            assert_eq!(
                reply(&policy, "10.0.0.1", "x@spam.example", domain),
                refused
            );
        }
    }
}
