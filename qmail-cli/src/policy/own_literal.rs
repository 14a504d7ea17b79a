//! Address literals of this host in envelope addresses (qmail-smtpd(8), control/localiphost).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use nix::net::if_::InterfaceFlags;
use qmail_core::{Address, ReversePath};

/// Replaces the literal of an address of this host, as in `joe@[192.0.2.1]`, by its name.
#[derive(Clone, Debug)]
pub(crate) struct OwnLiteral {
    addresses: Vec<IpAddr>,
    /// control/localiphost.
    host: Bytes,
}

impl OwnLiteral {
    /// For these addresses; that of no interface, 0.0.0.0 or `::`, always counts.
    pub(crate) fn new(addresses: Vec<IpAddr>, host: Bytes) -> Self {
        Self { addresses, host }
    }

    /// The sender under the name of this host, which may be longer than a client could send; `None` if it stays as it is.
    pub(crate) fn sender(&self, sender: &ReversePath) -> Option<ReversePath> {
        ReversePath::new(self.replaced(sender.as_bytes())?).ok()
    }

    /// The recipient under the name of this host; `None` if it stays as it is.
    pub(crate) fn recipient(&self, recipient: &Address) -> Option<Address> {
        Address::new(self.replaced(recipient.as_bytes())?).ok()
    }

    fn replaced(&self, address: &[u8]) -> Option<Vec<u8>> {
        let at = memchr::memrchr(b'@', address)?;
        let literal = literal(&address[at + 1..])?;
        let own = literal.is_unspecified() || self.addresses.contains(&literal);
        own.then(|| [&address[..=at], &self.host].concat())
    }
}

/// The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
fn literal(domain: &[u8]) -> Option<IpAddr> {
    let inner = domain.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let inner = std::str::from_utf8(inner).ok()?;
    match inner.split_at_checked(5) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case("IPv6:") => {
            rest.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => inner.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// The addresses of all interfaces that are up.
pub(crate) fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    Ok(interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let address = interface.address?;
            match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => Some(v4.ip().into()),
                (_, Some(v6)) => Some(v6.ip().into()),
                _ => None,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_literal_of_this_host_is_replaced() {
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("an address"));
        let own = OwnLiteral::new(addresses.to_vec(), Bytes::from_static(b"here"));
        for (address, replaced) in [
            ("joe@[192.0.2.1]", Some("joe@here")),
            ("a@[192.0.2.1]@[192.0.2.1]", Some("a@[192.0.2.1]@here")),
            ("joe@[0.0.0.0]", Some("joe@here")),
            ("joe@[ipv6:2001:DB8::1]", Some("joe@here")),
            ("joe@[2001:db8::1]", None),
            ("joe@[192.0.2.2]", None),
            ("joe@[192.0.2.257]", None),
            ("joe@192.0.2.1", None),
            ("joe@[192.0.2.1].x", None),
            ("joe@[192.0.2.1", None),
            ("joe", None),
        ] {
            let address = Address::new(address.as_bytes().to_vec()).expect("an address");
            let found = own.recipient(&address);
            assert_eq!(
                found.as_ref().map(Address::as_bytes),
                replaced.map(str::as_bytes)
            );
        }
        assert_eq!(own.sender(&ReversePath::Null), None);
    }
}
