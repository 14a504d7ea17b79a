//! Who may send what to whom: the decisions of an SMTP server, in one place.

use std::net::IpAddr;
use std::sync::Arc;

use qmail_core::route::{BadMailFrom, RcptHosts, Tables};
use qmail_core::{Address, EnhancedStatus, Reply, ReversePath};

use super::networks::Networks;

/// The rules of one configuration. A session keeps the rules that were in force when it began.
#[derive(Debug)]
pub(crate) struct Policy {
    /// What is delivered here: whom mail is taken for when rcpthosts is missing.
    pub(crate) tables: Arc<Tables>,
    /// control/rcpthosts with morercpthosts.cdb.
    pub(crate) rcpthosts: Option<RcptHosts>,
    /// control/badmailfrom.
    pub(crate) badmailfrom: BadMailFrom,
    /// control/relayclients.
    pub(crate) relayclients: Networks,
}

impl Policy {
    /// Whether a client at this address may send to every domain.
    pub(crate) fn may_relay(&self, client: IpAddr) -> bool {
        self.relayclients.contains(client)
    }

    /// Whether this recipient is taken, or with which reply it is not.
    ///
    /// A bad sender is only told here, as qmail-smtpd does: a client that is refused at MAIL tries again for days, one that is
    /// refused at RCPT bounces.
    pub(crate) fn recipient(
        &self,
        may_relay: bool,
        sender: &ReversePath,
        recipient: &Address,
    ) -> Result<(), Reply> {
        if self.badmailfrom.refuses(sender) {
            return Err(Reply::new(
                553,
                Some(EnhancedStatus::permanent(7, 1)),
                "sorry, your envelope sender is in my badmailfrom list",
            ));
        }
        if may_relay {
            return Ok(());
        }
        let allowed = match &self.rcpthosts {
            Some(hosts) => hosts.allows(recipient).map_err(|_| {
                Reply::new(
                    451,
                    Some(EnhancedStatus::temporary(3, 0)),
                    "unable to read controls",
                )
            })?,
            None => self.tables.receives(recipient),
        };
        if allowed {
            Ok(())
        } else {
            Err(Reply::new(
                553,
                Some(EnhancedStatus::permanent(7, 1)),
                "sorry, that domain isn't in my list of allowed rcpthosts",
            ))
        }
    }
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
            rcpthosts: rcpthosts.map(RcptHosts::parse),
            badmailfrom: BadMailFrom::parse(b"@spam.example\n"),
            relayclients: Networks::parse([&b"10."[..]]).expect("a network"),
        }
    }

    #[test]
    fn relaying_is_for_relay_clients_only() {
        let reply =
            |policy: &Policy, client: &str, sender: &'static str, recipient: &'static str| {
                policy
                    .recipient(
                        policy.may_relay(client.parse().expect("an address")),
                        &ReversePath::new(sender).expect("an address"),
                        &Address::new(recipient).expect("an address"),
                    )
                    .err()
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
