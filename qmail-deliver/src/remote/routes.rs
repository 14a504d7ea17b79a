//! Where a domain's mail goes next.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use qmail_core::route::{Relay, RelayHost, SmtpRoute, SmtpRoutes};
use qmail_core::{Address, Escaped};

/// The next hop of a recipient. Equal ones can share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum NextHop {
    /// The mail exchangers of this domain, in lower case.
    Exchangers(Bytes),
    /// A relay given by name, which is looked up by address alone.
    RelayName(Bytes, u16),
    /// A relay given by address.
    RelayAddress(IpAddr, u16),
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
            SmtpRoute::Relay(Relay { host, port }) => match host {
                RelayHost::Name(name) => Self::RelayName(name.to_ascii_lowercase().into(), *port),
                RelayHost::Address(address) => Self::RelayAddress(*address, *port),
            },
        }
    }

    /// The key of its [`qmail_core::Destination`].
    ///
    /// A domain may be spelt like the key of a relay; then the two share a limit, and nothing else, because jobs are taken
    /// apart by next hop again.
    pub(super) fn key(&self) -> Bytes {
        match self {
            Self::Exchangers(domain) => domain.clone(),
            Self::RelayName(name, port) => {
                Bytes::from([name, &b":"[..], port.to_string().as_bytes()].concat())
            }
            Self::RelayAddress(address, port) => Bytes::from(format!("[{address}]:{port}")),
        }
    }
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
        let routes = b".sub:Relay:2525\nsub:relay:2525\nother:relay\nhere:\nip:[::1]:26\n";
        let routes = SmtpRoutes::parse(routes, &mut Vec::new());
        let hop = |address: &'static str| NextHop::of(&Address::new(address).unwrap(), &routes);
        for (address, key) in [
            ("a@b.sub", "relay:2525"),
            ("a@SUB", "relay:2525"),
            ("a@other", "relay:25"),
            ("a@Here", "here"),
            ("a@ip", "[::1]:26"),
            ("a@b@C", "c"),
            ("a@", ""),
        ] {
            assert_eq!(hop(address).expect("a domain").key(), key, "{address}");
        }
        assert_eq!(hop("a"), None);
        assert_ne!(hop("a@relay:2525"), hop("a@sub"), "a spelling is no relay");
    }
}
