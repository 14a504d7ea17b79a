//! Sets of client addresses, as control/relayclients lists them.

use std::net::{IpAddr, Ipv4Addr};

/// Networks of IPv4 and IPv6 addresses.
///
/// An IPv4 address that comes in by an IPv6 socket (`::ffff:10.1.2.3`) is the IPv4 address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// How many leading bits of `address` count.
    bits: u8,
}

impl Networks {
    /// One entry a line: an address (`10.1.2.3`, `fe80::1`), a network (`10.0.0.0/8`, `fd00::/8`), or an IPv4 prefix that ends
    /// in a dot (`10.1.`), as in rules of tcpserver.
    ///
    /// # Errors
    ///
    /// The first entry that is none of these.
    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, &'a [u8]> {
        lines
            .into_iter()
            .map(|line| Network::parse(line).ok_or(line))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether one of the networks holds `address`.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        if let Some(prefix) = text.strip_suffix('.') {
            return Self::from_prefix(prefix);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|octet| octet.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        (bits <= most).then_some(Self { address, bits })
    }

    fn from_prefix(prefix: &str) -> Option<Self> {
        let mut octets = [0; 4];
        let mut count = 0;
        for part in prefix.split('.') {
            let digits = !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
            *octets.get_mut(count).filter(|_| digits && count < 3)? = part.parse().ok()?;
            count += 1;
        }
        Some(Self {
            address: IpAddr::V4(Ipv4Addr::from(octets)),
            bits: u8::try_from(count * 8).ok()?,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        (own ^ other)
            .checked_shr(width - u32::from(self.bits))
            .unwrap_or(0)
            == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_say() {
        let networks = Networks::parse(
            [
                "127.0.0.0/8",
                "::1",
                "10.1.",
                "192.0.2.7",
                "fd00::/8",
                "198.51.100.128/25",
            ]
            .map(str::as_bytes),
        )
        .expect("all good");
        for (address, held) in [
            ("127.0.0.1", true),
            ("127.255.0.1", true),
            ("128.0.0.1", false),
            ("::1", true),
            ("::2", false),
            ("::ffff:127.0.0.1", true),
            ("10.1.255.3", true),
            ("10.2.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fdff::1", true),
            ("fe00::1", false),
            ("198.51.100.127", false),
            ("198.51.100.128", true),
        ] {
            assert_eq!(
                networks.contains(address.parse().expect("an address")),
                held,
                "{address}"
            );
        }
        let all = Networks::parse([&b"0.0.0.0/0"[..]]).expect("good");
        assert!(all.contains("1.2.3.4".parse().expect("an address")));
        assert!(!all.contains("::1".parse().expect("an address")));
    }

    #[test]
    fn what_is_no_network_is_told() {
        for line in [
            "example.org",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "1.2.3.4.",
            "1.2.3.",
            "300.",
            "+10.",
            ".",
            "10.0.0",
            "::/129",
            "127.0.0.1 # me",
        ] {
            let good = line == "1.2.3.";
            assert_eq!(Networks::parse([line.as_bytes()]).is_ok(), good, "{line}");
        }
    }
}
