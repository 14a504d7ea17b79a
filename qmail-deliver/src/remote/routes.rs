//! Where a domain's mail goes next.

use std::fmt;

use bytes::Bytes;
use qmail_core::route::{Relay, RelayHost, RelayProtocol, SmtpRoute, SmtpRoutes};
use qmail_core::{Address, Escaped};

/// The next hop of a recipient. Equal ones can share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum NextHop {
    /// The mail exchangers of this domain, in lower case.
    Exchangers(Bytes),
    /// A relay; its name is in lower case, and looked up by address alone.
    Relay(Relay),
}

impl NextHop {
    /// Where control/smtproutes or the domain says; `None` for a recipient without domain.
    pub(super) fn of(recipient: &Address, routes: &SmtpRoutes) -> Option<Self> {
        Some(Self::of_domain(recipient.domain()?, routes))
    }

    /// The same for a domain.
    pub(super) fn of_domain(domain: &[u8], routes: &SmtpRoutes) -> Self {
        match routes.find(domain) {
            SmtpRoute::MxAsUsual => Self::Exchangers(domain.to_ascii_lowercase().into()),
            SmtpRoute::Relay(relay) => {
                let mut relay = relay.clone();
                if let RelayHost::Name(name) = &mut relay.host {
                    *name = name.to_ascii_lowercase().into();
                }
                Self::Relay(relay)
            }
        }
    }

    /// What is spoken there.
    pub(super) fn protocol(&self) -> RelayProtocol {
        match self {
            Self::Exchangers(_) => RelayProtocol::Smtp,
            Self::Relay(relay) => relay.protocol,
        }
    }

    /// The key of its [`qmail_core::Destination`].
    ///
    /// A domain may be spelt like the key of a relay, and a relay may have several logins; then these share a limit, and
    /// nothing else, because jobs are taken apart by next hop again.
    pub(super) fn key(&self) -> Bytes {
        match self {
            Self::Exchangers(domain) => domain.clone(),
            Self::Relay(relay) => {
                let port = relay.port.to_string();
                match &relay.host {
                    RelayHost::Name(name) => [name, &b":"[..], port.as_bytes()].concat().into(),
                    RelayHost::Address(address) => Bytes::from(format!("[{address}]:{port}")),
                }
            }
        }
    }
}

/// The key of the [`qmail_core::Destination`] of a recipient under these routes, as [`RemoteDelivery`](crate::RemoteDelivery) says it:
/// for a queue whose remote deliveries are made by another process.
pub fn next_hop_key(recipient: &Address, routes: &SmtpRoutes) -> Bytes {
    NextHop::of(recipient, routes).map_or_else(Bytes::new, |hop| hop.key())
}

/// Escaped, for logs.
impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.key()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_of_one_relay_share_a_key() {
        let routes = b".sub:Relay:2525\nsub:relay:2525\nother:relay\nhere:\nip:[::1]:26\nas:relay:2525 joe x\n";
        let routes = SmtpRoutes::parse(routes, &mut Vec::new());
        let hop = |address: &'static str| NextHop::of(&Address::new(address).unwrap(), &routes);
        for (address, key) in [
            ("a@b.sub", "relay:2525"),
            ("a@SUB", "relay:2525"),
            ("a@as", "relay:2525"),
            ("a@other", "relay:25"),
            ("a@Here", "here"),
            ("a@ip", "[::1]:26"),
            ("a@b@C", "c"),
            ("a@", ""),
        ] {
            assert_eq!(hop(address).expect("a domain").key(), key, "{address}");
        }
        assert_eq!(hop("a"), None);
        assert_eq!(hop("a@b.sub"), hop("a@SUB"));
        assert_ne!(hop("a@relay:2525"), hop("a@sub"), "a spelling is no relay");
        assert_ne!(
            hop("a@as"),
            hop("a@sub"),
            "another login is another connection"
        );
    }
}
