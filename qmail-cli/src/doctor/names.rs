//! What the domain name system says of this host and its domains.

use std::net::IpAddr;
use std::time::Duration;

use qmail_deliver::{LookupError, Resolver};
use tokio::time::timeout;

use super::{Findings, World, list};

/// Longest wait for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Most domains that are asked for; the rest is likely to be as these are.
const DOMAINS_MAX: usize = 50;

pub(super) async fn check(world: &World<'_>, findings: &mut Findings) {
    let Some(resolver) = world.resolver else {
        return;
    };
    let me = list(world.home, "me").and_then(|lines| lines.into_iter().next());
    let own = Own {
        resolver,
        addresses: &world.own_addresses,
    };
    if let Some(me) = me.as_deref().filter(|me| me.contains('.')) {
        match own.addresses_of(me).await {
            Ok(addresses) if addresses.is_empty() => no_address(me, findings),
            Err(Unknown::NoSuchName) => no_address(me, findings),
            Ok(_) => {}
            Err(Unknown::NoAnswer(error)) => {
                findings.warning(
                    format!("the name server does not answer ({error})"),
                    "look at /etc/resolv.conf: without it no mail goes out; --offline leaves this out",
                );
                return;
            }
        }
    }
    let domains = list(world.home, "locals").or_else(|| me.map(|me| vec![me]));
    let named = domains
        .unwrap_or_default()
        .into_iter()
        .filter(|domain| domain.contains('.'));
    for domain in named.take(DOMAINS_MAX) {
        exchangers(&own, &domain, findings).await;
    }
}

fn no_address(me: &str, findings: &mut Findings) {
    findings.warning(
        format!("control/me is {me}, which has no address in the DNS: other hosts may refuse mail from it"),
        "give it an A or AAAA record, or write another name into control/me",
    );
}

/// Whether mail for a domain that is delivered here gets here.
async fn exchangers(own: &Own<'_>, domain: &str, findings: &mut Findings) {
    let Ok(hosts) = own.exchangers_of(domain).await else {
        return;
    };
    let here = |addresses: &[IpAddr]| {
        addresses
            .iter()
            .any(|address| own.addresses.contains(address))
    };
    if hosts.is_empty() {
        let addresses = own.addresses_of(domain).await.unwrap_or_default();
        if !here(&addresses) {
            findings.warning(
                format!("{domain} is delivered here, but has no MX record, and its address is not this host's"),
                "add an MX record that names this host, or take it out of control/locals",
            );
        }
        return;
    }
    if hosts.iter().any(|(_, host)| host.is_empty()) {
        findings.error(
            format!("{domain} is delivered here, but its MX record says that it takes no mail"),
            "name this host in its MX record",
        );
        return;
    }
    for (_, host) in &hosts {
        if own
            .addresses_of(host)
            .await
            .is_ok_and(|addresses| here(&addresses))
        {
            return;
        }
    }
    findings.warning(
        format!("{domain} is delivered here, but none of its mail exchangers has an address of this host"),
        "that is right behind a NAT or a gateway; else mend the MX record or control/locals",
    );
}

enum Unknown {
    NoSuchName,
    NoAnswer(String),
}

struct Own<'a> {
    resolver: &'a dyn Resolver,
    addresses: &'a [IpAddr],
}

impl Own<'_> {
    async fn addresses_of(&self, host: &str) -> Result<Vec<IpAddr>, Unknown> {
        in_time(self.resolver.addresses(host.as_bytes())).await
    }

    /// Preference and name of each.
    async fn exchangers_of(&self, domain: &str) -> Result<Vec<(u16, String)>, Unknown> {
        let found = match in_time(self.resolver.mx(domain.as_bytes())).await {
            Err(Unknown::NoSuchName) => Vec::new(),
            found => found?,
        };
        Ok(found
            .into_iter()
            .map(|mx| {
                (
                    mx.preference,
                    String::from_utf8_lossy(&mx.host).into_owned(),
                )
            })
            .collect())
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, LookupError>>) -> Result<T, Unknown> {
    match timeout(ANSWER_WAIT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(LookupError::NoSuchName)) => Err(Unknown::NoSuchName),
        Ok(Err(error)) => Err(Unknown::NoAnswer(error.to_string())),
        Err(_) => Err(Unknown::NoAnswer("nothing came in time".to_owned())),
    }
}
