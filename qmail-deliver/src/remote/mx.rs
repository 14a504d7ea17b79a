//! From a next hop to the addresses that are worth connecting to, in order (RFC 5321 section 5.1, RFC 7505).

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use futures::future::join_all;
use qmail_core::Outcome;
use qmail_core::route::{Relay, RelayHost};
use rand::RngExt;
use rand::rngs::StdRng;

use super::routes::NextHop;
use super::texts::{
    LISTED_AS_EXCHANGER, LOOKUP_FAILED, NO_EXCHANGER, deferred, failed, no_mail_for, no_such_host,
};
use crate::{LookupError, MailExchanger, Resolver};

/// Most exchangers of a domain whose addresses are looked up: the best ones.
const EXCHANGERS_MAX: usize = 16;

/// An address that is worth connecting to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The name whose address it is, in lower case; empty where the address stands for itself. A certificate has to be for
    /// it, where one is asked for.
    pub(super) name: Bytes,
}

/// An address of an exchanger, and how good it is: the lower, the better.
struct Preferred {
    preference: u16,
    name: Bytes,
    address: IpAddr,
}

/// The addresses of a next hop, best first.
///
/// `own` are the addresses of this host: it never connects to itself, or to an exchanger that is no better than itself,
/// except by a route that says so.
pub(super) async fn addresses(
    resolver: &dyn Resolver,
    hop: &NextHop,
    own: &[IpAddr],
    rng: StdRng,
) -> Result<Vec<Target>, Outcome> {
    let (found, port) = match hop {
        NextHop::Relay(relay) => (of_relay(resolver, &relay.host).await?, relay.port),
        NextHop::Exchangers(domain) => {
            let found = of_domain(resolver, domain, rng).await?;
            (without_self(without_nowhere(found)?, own)?, Relay::PORT)
        }
    };
    let mut targets: Vec<Target> = Vec::with_capacity(found.len());
    for (name, address) in found {
        // An IPv4 address in the clothes of IPv6 is the same host.
        let address = SocketAddr::new(address.to_canonical(), port);
        if !targets.iter().any(|target| target.address == address) {
            targets.push(Target { address, name });
        }
    }
    Ok(targets)
}

/// The addresses of a relay, each with its name.
async fn of_relay(
    resolver: &dyn Resolver,
    host: &RelayHost,
) -> Result<Vec<(Bytes, IpAddr)>, Outcome> {
    match host {
        RelayHost::Address(address) => Ok(vec![(Bytes::new(), *address)]),
        RelayHost::Name(name) => {
            let addresses = of_name(resolver, name).await?;
            let named = addresses.into_iter().map(|address| (name.clone(), address));
            Ok(named.collect())
        }
    }
}

/// All addresses of the domain's exchangers, best first.
async fn of_domain(
    resolver: &dyn Resolver,
    domain: &[u8],
    rng: StdRng,
) -> Result<Vec<Preferred>, Outcome> {
    if let Some(address) = literal(domain) {
        return Ok(vec![Preferred {
            preference: 0,
            name: Bytes::new(),
            address,
        }]);
    }
    let exchangers = match resolver.mx(domain).await {
        Ok(exchangers) => exchangers,
        Err(LookupError::NoSuchName) => Vec::new(),
        Err(LookupError::Temporary(_)) => return Err(deferred(LOOKUP_FAILED)),
    };
    if exchangers.is_empty() {
        let addresses = of_name(resolver, domain).await?;
        let itself = |address| Preferred {
            preference: 0,
            name: Bytes::copy_from_slice(domain),
            address,
        };
        return Ok(addresses.into_iter().map(itself).collect());
    }
    let exchangers = in_order(exchangers, rng);
    if exchangers.is_empty() {
        return Err(no_mail_for(domain));
    }
    let lookups = exchangers
        .iter()
        .map(|exchanger| of_exchanger(resolver, &exchanger.host));
    let (mut found, mut later) = (Vec::new(), false);
    for (exchanger, addresses) in exchangers.iter().zip(join_all(lookups).await) {
        match addresses {
            Ok(addresses) => found.extend(addresses.into_iter().map(|address| Preferred {
                preference: exchanger.preference,
                name: exchanger.host.to_ascii_lowercase().into(),
                address,
            })),
            Err(LookupError::NoSuchName) => {}
            Err(LookupError::Temporary(_)) => later = true,
        }
    }
    match (found.is_empty(), later) {
        (false, _) => Ok(found),
        (true, true) => Err(deferred(LOOKUP_FAILED)),
        (true, false) => Err(failed(NO_EXCHANGER)),
    }
}

/// Lowest preference first, equal ones in random order; null MXs, which say nothing beside others, are left out.
fn in_order(exchangers: Vec<MailExchanger>, mut rng: StdRng) -> Vec<MailExchanger> {
    let mut drawn: Vec<_> = exchangers
        .into_iter()
        .filter(|exchanger| !exchanger.is_null())
        .map(|exchanger| (exchanger.preference, rng.random::<u64>(), exchanger))
        .collect();
    drawn.sort_by_key(|(preference, draw, _)| (*preference, *draw));
    drawn
        .into_iter()
        .map(|(_, _, exchanger)| exchanger)
        .take(EXCHANGERS_MAX)
        .collect()
}

/// Some name an address where a host belongs; what they mean is clear.
async fn of_exchanger(resolver: &dyn Resolver, host: &Bytes) -> Result<Vec<IpAddr>, LookupError> {
    match literal(host) {
        Some(address) => Ok(vec![address]),
        None => resolver.addresses(host).await,
    }
}

/// The addresses of a name that must have one.
async fn of_name(resolver: &dyn Resolver, name: &[u8]) -> Result<Vec<IpAddr>, Outcome> {
    match resolver.addresses(name).await {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) | Err(LookupError::NoSuchName) => Err(no_such_host(name)),
        Err(LookupError::Temporary(_)) => Err(deferred(LOOKUP_FAILED)),
    }
}

/// Drops this host and every exchanger that is not better than it.
fn without_self(found: Vec<Preferred>, own: &[IpAddr]) -> Result<Vec<(Bytes, IpAddr)>, Outcome> {
    let is_own = |address: &IpAddr| {
        let address = address.to_canonical();
        address.is_unspecified() || own.iter().any(|own| own.to_canonical() == address)
    };
    let best_own = found
        .iter()
        .filter(|found| is_own(&found.address))
        .map(|found| found.preference)
        .min();
    let better: Vec<_> = found
        .into_iter()
        .filter(|found| best_own.is_none_or(|own| found.preference < own))
        .map(|found| (found.name, found.address))
        .collect();
    if better.is_empty() {
        return Err(failed(LISTED_AS_EXCHANGER));
    }
    Ok(better)
}

/// Drops addresses that are no host's beyond this link: whoever owns a domain could have us talk to what listens there for this
/// host alone. A route may name one.
fn without_nowhere(mut found: Vec<Preferred>) -> Result<Vec<Preferred>, Outcome> {
    found.retain(|found| match found.address.to_canonical() {
        IpAddr::V4(address) => {
            !address.is_link_local() && !address.is_multicast() && !address.is_broadcast()
        }
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_multicast(),
    });
    if found.is_empty() {
        return Err(failed(NO_EXCHANGER));
    }
    Ok(found)
}

/// `d.d.d.d`, `[d.d.d.d]` and `[IPv6:...]` (RFC 5321 section 4.1.3); the tag may be missing.
fn literal(domain: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(domain).ok()?;
    let Some(inner) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    else {
        return text.parse().ok().map(IpAddr::V4);
    };
    let inner = match inner.split_at_checked(5) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case("IPv6:") => rest,
        _ => inner,
    };
    inner.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;
    use crate::FixedResolver;

    const OWN: &[IpAddr] = &[IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 200))];

    fn names() -> FixedResolver {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.200".parse().unwrap();
        FixedResolver::new()
            .with_mx("example.org", 20, "far.test")
            .with_mx("example.org", 10, "near.test")
            .with_address("near.test", v6)
            .with_address("near.test", [192, 0, 2, 1])
            .with_address("far.test", [192, 0, 2, 2])
            .with_address("self.test", [192, 0, 2, 200])
            .with_address("mapped.test", mapped)
            .with_address("zero.test", [0, 0, 0, 0])
            .with_mx("null.test", 0, "")
            .with_address("null.test", [192, 0, 2, 3])
            .with_mx("half-null.test", 0, "")
            .with_mx("half-null.test", 5, "far.test")
            .with_mx("backup.test", 10, "near.test")
            .with_mx("backup.test", 20, "self.test")
            .with_mx("backup.test", 20, "far.test")
            .with_mx("loop.test", 10, "self.test")
            .with_mx("loop.test", 20, "far.test")
            .with_mx("loop6.test", 0, "mapped.test")
            .with_address(
                "clothed.test",
                "::ffff:192.0.2.8".parse::<IpAddr>().unwrap(),
            )
            .with_mx("gone.test", 10, "nowhere.test")
            .with_failure("broken.test")
            .with_mx("partly.test", 10, "broken.test")
            .with_mx("partly.test", 20, "far.test")
            .with_mx("later.test", 10, "broken.test")
            .with_mx("later.test", 10, "nowhere.test")
            .with_mx("literal.test", 7, "192.0.2.9")
            .with_mx("dup.test", 1, "far.test")
            .with_mx("dup.test", 2, "far.test")
            .with_txt("empty.test", "no address")
    }

    async fn shown(hop: &NextHop, seed: u64) -> String {
        let rng = StdRng::seed_from_u64(seed);
        match addresses(&names(), hop, OWN, rng).await {
            Ok(found) => {
                let found: Vec<_> = found
                    .iter()
                    .map(|target| target.address.to_string())
                    .collect();
                found.join(" ")
            }
            Err(outcome) => {
                let text = String::from_utf8_lossy(outcome.report().as_bytes());
                format!("{}{text}", char::from(outcome.letter()))
            }
        }
    }

    #[tokio::test]
    async fn where_a_domain_leads() {
        let no_host = |host| format!("DSorry, I couldn't find any host named {host}. (#5.1.2)\n");
        let looping = format!("D{LISTED_AS_EXCHANGER}");
        for (domain, expected) in [
            ("example.org", "192.0.2.1:25 [2001:db8::1]:25 192.0.2.2:25"),
            ("far.test", "192.0.2.2:25"),
            ("192.0.2.7", "192.0.2.7:25"),
            ("[192.0.2.7]", "192.0.2.7:25"),
            ("[ipv6:2001:db8::7]", "[2001:db8::7]:25"),
            ("[2001:db8::7]", "[2001:db8::7]:25"),
            ("2001:db8::7", &no_host("2001:db8::7")),
            ("[192.0.2.257]", &no_host("[192.0.2.257]")),
            ("[]", &no_host("[]")),
            ("", &no_host("")),
            ("nowhere.test", &no_host("nowhere.test")),
            ("empty.test", &no_host("empty.test")),
            (
                "null.test",
                "DSorry, null.test does not accept mail. (#5.1.10)\n",
            ),
            ("half-null.test", "192.0.2.2:25"),
            ("backup.test", "192.0.2.1:25 [2001:db8::1]:25"),
            ("loop.test", &looping),
            ("loop6.test", &looping),
            ("self.test", &looping),
            ("zero.test", &looping),
            ("[192.0.2.200]", &looping),
            ("gone.test", &format!("D{NO_EXCHANGER}")),
            ("broken.test", &format!("Z{LOOKUP_FAILED}")),
            ("partly.test", "192.0.2.2:25"),
            ("later.test", &format!("Z{LOOKUP_FAILED}")),
            ("literal.test", "192.0.2.9:25"),
            ("clothed.test", "192.0.2.8:25"),
            ("dup.test", "192.0.2.2:25"),
        ] {
            let hop = NextHop::Exchangers(Bytes::copy_from_slice(domain.as_bytes()));
            assert_eq!(shown(&hop, 1).await, expected, "{domain}");
        }
    }

    #[tokio::test]
    async fn a_relay_is_taken_at_its_word() {
        let v4: IpAddr = [192, 0, 2, 200].into();
        for (hop, expected) in [
            (RelayHost::Address(v4), "192.0.2.200:26"),
            (RelayHost::Name("self.test".into()), "192.0.2.200:26"),
            (
                RelayHost::Name("example.org".into()),
                "DSorry, I couldn't find any host named example.org. (#5.1.2)\n",
            ),
            (
                RelayHost::Name("broken.test".into()),
                &format!("Z{LOOKUP_FAILED}"),
            ),
        ] {
            let hop = NextHop::Relay(Relay::new(hop, 26));
            assert_eq!(shown(&hop, 1).await, expected);
        }
    }

    #[test]
    fn equals_are_shuffled_and_the_seed_decides() {
        let exchangers: Vec<_> = [
            (10, "a"),
            (10, "b"),
            (10, "c"),
            (0, "first"),
            (65535, "last"),
        ]
        .into_iter()
        .map(|(preference, host)| MailExchanger {
            preference,
            host: host.into(),
        })
        .collect();
        let order = |seed| {
            let ordered = in_order(exchangers.clone(), StdRng::seed_from_u64(seed));
            ordered
                .into_iter()
                .map(|exchanger| exchanger.host)
                .collect::<Vec<_>>()
        };
        let orders: HashSet<_> = (0..100).map(order).collect();
        assert_eq!(orders.len(), 6, "all orders of the three equals");
        for order in &orders {
            assert_eq!(
                (&order[0][..], &order[4][..]),
                (&b"first"[..], &b"last"[..])
            );
        }
        assert_eq!(order(7), order(7));
    }

    #[test]
    fn only_the_best_exchangers_are_looked_at() {
        let exchangers = (0..60)
            .rev()
            .map(|preference| MailExchanger {
                preference,
                host: "x".into(),
            })
            .collect();
        let ordered = in_order(exchangers, StdRng::seed_from_u64(1));
        assert_eq!(ordered.len(), EXCHANGERS_MAX);
        assert_eq!(
            usize::from(ordered.last().unwrap().preference),
            EXCHANGERS_MAX - 1
        );
    }
}
