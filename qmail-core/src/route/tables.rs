//! The queue's tables: locals, percenthack, virtualdomains, envnoathost (qmail-send(8)).

use bytes::{BufMut, Bytes, BytesMut};

use crate::control::{Map, Set};
use crate::{Address, AddressError};

/// Which recipients are local, and how they are rewritten.
///
/// ```
/// use qmail_core::{Address, control::{Map, Set}, route::{Route, Tables}};
///
/// let mut tables = Tables::new("mail.example.org");
/// tables.locals = Set::parse(b"example.org\n");
/// tables.virtual_domains = Map::parse(b"shop.example.net:alias-shop\n", &mut Vec::new());
///
/// let route = |address| tables.route(&Address::new(address).unwrap()).unwrap();
/// let address = |address| Address::new(address).unwrap();
/// assert_eq!(route("joe@Example.ORG"), Route::Local(address("joe@Example.ORG")));
/// assert_eq!(
///     route("info@shop.example.net"),
///     Route::Local(address("alias-shop-info@shop.example.net")),
/// );
/// assert_eq!(route("ann@elsewhere.example"), Route::Remote(address("ann@elsewhere.example")));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tables {
    /// The host of a recipient without `@` (control/envnoathost).
    pub host_without_at: Bytes,
    /// Domains whose mail is delivered here (control/locals). Exact names, no wildcards.
    pub locals: Set,
    /// Domains at which `user%host` means `user@host` (control/percenthack).
    pub percent_hack: Set,
    /// Prefixes by whole address, domain, `.suffix` of a domain, or the empty key (control/virtualdomains). An empty
    /// prefix says: not virtual.
    pub virtual_domains: Map<Bytes>,
}

/// What [`Tables::route`] says of a recipient: the channel, and the address as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Delivered by this host.
    Local(Address),
    /// Sent on to another one.
    Remote(Address),
}

impl Route {
    /// The address, whatever the channel.
    pub fn address(&self) -> &Address {
        match self {
            Self::Local(address) | Self::Remote(address) => address,
        }
    }
}

impl Tables {
    /// Tables in which nothing is local. Set the fields that have entries.
    pub fn new(host_without_at: impl Into<Bytes>) -> Self {
        Self {
            host_without_at: host_without_at.into(),
            locals: Set::default(),
            percent_hack: Set::default(),
            virtual_domains: Map::default(),
        }
    }

    /// Routes a recipient.
    ///
    /// In this order: without `@` it gets [`host_without_at`](Self::host_without_at); the percent hack is undone as
    /// often as it applies; a local domain is local; a virtual domain is local under its prefix (tried: the whole
    /// address, the domain, its suffixes, the empty key; the first hit decides); everything else is remote. A prefix
    /// never applies twice, and virtual domains never override local ones.
    ///
    /// # Errors
    ///
    /// The rewritten address does not fit the queue: the recipient must fail, for neither channel may have it as it
    /// was.
    pub fn route(&self, recipient: &Address) -> Result<Route, AddressError> {
        let address = self.complete(recipient)?;
        let domain = address.domain().unwrap_or_default();
        if self.locals.contains(domain) {
            return Ok(Route::Local(address));
        }
        let prefix = self.virtual_domains.get(address.as_bytes());
        match prefix.or_else(|| self.virtual_domains.get_host(domain)) {
            Some(prefix) if !prefix.is_empty() => {
                let mut octets =
                    BytesMut::with_capacity(prefix.len() + 1 + address.as_bytes().len());
                octets.put_slice(prefix);
                octets.put_u8(b'-');
                octets.put_slice(address.as_bytes());
                Address::new(octets).map(Route::Local)
            }
            _ => Ok(Route::Remote(address)),
        }
    }

    /// Whether mail for this address ends here: its domain is in [`locals`](Self::locals), or it or its domain has a
    /// prefix in [`virtual_domains`](Self::virtual_domains), the empty key left out.
    ///
    /// This is what a server accepts from anybody when there is no control/rcpthosts. The percent hack is not looked
    /// at, and the entry for every host does not count, lest the server relay for the world.
    pub fn receives(&self, recipient: &Address) -> bool {
        let Some(domain) = recipient.domain() else {
            return true;
        };
        if self.locals.contains(domain) {
            return true;
        }
        match self.virtual_domains.get(recipient.as_bytes()) {
            Some(prefix) => !prefix.is_empty(),
            None => self
                .virtual_domains
                .get_host_key(domain)
                .is_some_and(|(prefix, key_octets)| key_octets > 0 && !prefix.is_empty()),
        }
    }

    /// The address that a sender knows, for bounces: without the prefix that [`Tables::route`] put in front.
    ///
    /// Works for prefixes that came by a domain and for those that came by a whole address, where the classic
    /// qmail-send forgot the latter. The address stays as it is if no entry explains its prefix.
    ///
    /// ```
    /// use qmail_core::{control::Map, route::Tables};
    /// let mut tables = Tables::new("example.org");
    /// tables.virtual_domains = Map::parse(b"v.example:bob\nann@w.example:eve\n", &mut Vec::new());
    /// assert_eq!(tables.strip_prefix(b"bob-joe@v.example"), b"joe@v.example");
    /// assert_eq!(tables.strip_prefix(b"eve-ann@w.example"), b"ann@w.example");
    /// assert_eq!(tables.strip_prefix(b"eve-joe@w.example"), b"eve-joe@w.example");
    /// ```
    pub fn strip_prefix<'a>(&self, recipient: &'a [u8]) -> &'a [u8] {
        if self.virtual_domains.is_empty() {
            return recipient;
        }
        let at = memchr::memrchr(b'@', recipient).unwrap_or(recipient.len());
        // Whole addresses first, as `route` looks them up first.
        for dash in memchr::memchr_iter(b'-', &recipient[..at]) {
            let (prefix, rest) = (&recipient[..dash], &recipient[dash + 1..]);
            if self
                .virtual_domains
                .get(rest)
                .is_some_and(|entry| entry == prefix)
                && !prefix.is_empty()
            {
                return rest;
            }
        }
        let domain = recipient.get(at + 1..).unwrap_or_default();
        let stripped = self
            .virtual_domains
            .get_host(domain)
            .filter(|prefix| !prefix.is_empty())
            .and_then(|prefix| recipient.strip_prefix(&prefix[..])?.strip_prefix(b"-"));
        stripped.unwrap_or(recipient)
    }

    /// The address with a domain, and without percent hacks.
    fn complete(&self, recipient: &Address) -> Result<Address, AddressError> {
        let mut octets = match recipient.domain() {
            Some(domain) if !self.percent_hack.contains(domain) => return Ok(recipient.clone()),
            Some(_) => BytesMut::from(recipient.as_bytes()),
            None => {
                let mut octets = BytesMut::from(recipient.as_bytes());
                octets.put_u8(b'@');
                octets.put_slice(&self.host_without_at);
                octets
            }
        };
        while let Some(at) = memchr::memrchr(b'@', &octets) {
            if !self.percent_hack.contains(&octets[at + 1..]) {
                break;
            }
            let Some(percent) = memchr::memrchr(b'%', &octets[..at]) else {
                break;
            };
            octets.truncate(at);
            octets[percent] = b'@';
        }
        Address::new(octets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tables() -> Tables {
        let mut tables = Tables::new("nowhere");
        tables.locals = Set::parse(b"here\nlocal.example\nhack\n");
        tables.percent_hack = Set::parse(b"hack\nhack2");
        tables.virtual_domains = Map::parse(
            b"v:bob\n.v:sub\nnot.v:\njoe@v:joe\nhere:never\nself@hack3:hh\ntwice:one\ntwice:two\ndash:a-b\n",
            &mut Vec::new(),
        );
        tables
    }

    fn show(route: &Route) -> String {
        match route {
            Route::Local(address) => format!("local {address}"),
            Route::Remote(address) => format!("remote {address}"),
        }
    }

    #[test]
    fn recipients_are_rewritten_in_order() {
        for (recipient, route) in [
            ("joe", "remote joe@nowhere"),
            ("", "remote @nowhere"),
            ("joe@here", "local joe@here"),
            ("Joe@HERE", "local Joe@HERE"),
            ("joe@a.here", "remote joe@a.here"),
            ("a@b@here", "local a@b@here"),
            ("joe@v", "local joe-joe@v"),
            ("JOE@V", "local joe-JOE@V"),
            ("ann@v", "local bob-ann@v"),
            ("ann@a.b.v", "local sub-ann@a.b.v"),
            ("ann@not.v", "remote ann@not.v"),
            ("ann@twice", "local two-ann@twice"),
            ("ann@dash", "local a-b-ann@dash"),
            ("joe%here@hack", "local joe@here"),
            ("joe%v%hack2@hack", "local joe-joe@v"),
            ("joe@hack", "local joe@hack"),
            ("joe%x@elsewhere", "remote joe%x@elsewhere"),
            ("joe@", "remote joe@"),
            ("%@hack", "remote @"),
        ] {
            let address = Address::new(recipient).unwrap();
            assert_eq!(
                show(&tables().route(&address).unwrap()),
                route,
                "{recipient}"
            );
        }
    }

    #[test]
    fn the_percent_hack_sees_the_presumed_host() {
        let mut tables = tables();
        tables.host_without_at = Bytes::from_static(b"hack");
        let route = tables.route(&Address::new("joe%here").unwrap()).unwrap();
        assert_eq!(show(&route), "local joe@here");
    }

    #[test]
    fn the_empty_key_is_for_every_host() {
        let mut tables = tables();
        tables.virtual_domains = Map::parse(b":all\nnot:\n", &mut Vec::new());
        for (recipient, route, receives) in [
            ("joe@x", "local all-joe@x", false),
            ("joe@", "local all-joe@", false),
            ("joe@not", "remote joe@not", false),
            ("joe@here", "local joe@here", true),
            ("joe", "local all-joe@nowhere", true),
        ] {
            let address = Address::new(recipient).unwrap();
            assert_eq!(show(&tables.route(&address).unwrap()), route);
            assert_eq!(tables.receives(&address), receives, "{recipient}");
        }
    }

    #[test]
    fn what_is_received_without_rcpthosts() {
        for (recipient, receives) in [
            ("joe@here", true),
            ("joe%x@hack", true),
            ("joe%here@hack2", false),
            ("x@a.v", true),
            ("x@not.v", false),
            ("self@hack3", true),
            ("other@hack3", false),
            ("joe@elsewhere", false),
        ] {
            let address = Address::new(recipient).unwrap();
            assert_eq!(tables().receives(&address), receives, "{recipient}");
        }
    }

    #[test]
    fn an_address_that_outgrows_the_queue_is_refused() {
        let long = Address::new([&[b'x'; 999][..], b"@v"].concat()).unwrap();
        assert_eq!(tables().route(&long), Err(AddressError::TooLong));
        let long = Address::new(vec![b'x'; 1000]).unwrap();
        assert_eq!(tables().route(&long), Err(AddressError::TooLong));
    }

    #[test]
    fn prefixes_are_stripped_for_bounces() {
        for (recipient, stripped) in [
            ("bob-ann@v", "ann@v"),
            ("bob-ann@V", "ann@V"),
            ("sub-ann@x.v", "ann@x.v"),
            ("joe-joe@v", "joe@v"),
            ("joe-ann@v", "joe-ann@v"),
            ("bobann@v", "bobann@v"),
            ("a-b-ann@dash", "ann@dash"),
            ("hh-self@hack3", "self@hack3"),
            ("hh-other@hack3", "hh-other@hack3"),
            ("-x@not.v", "-x@not.v"),
            ("no-at", "no-at"),
            ("", ""),
        ] {
            assert_eq!(
                tables().strip_prefix(recipient.as_bytes()),
                stripped.as_bytes(),
                "{recipient}"
            );
        }
    }

    proptest! {
        #[test]
        fn routing_is_stable_and_can_be_undone(
            local in "[a-z%@.]{0,8}", domain in "(here|v|a[.]v|not[.]v|hack|hack2|dash|x)"
        ) {
            let tables = tables();
            let address = Address::new(format!("{local}@{domain}")).unwrap();
            let routed = tables.route(&address).unwrap();
            let complete = tables.complete(&address).unwrap();
            prop_assert_eq!(tables.strip_prefix(routed.address().as_bytes()), complete.as_bytes());
            match &routed {
                // What was found remote stays as it is, however often it is asked.
                Route::Remote(remote) => prop_assert_eq!(&tables.route(remote).unwrap(), &routed),
                Route::Local(local) => prop_assert_eq!(local.domain(), complete.domain()),
            }
        }
    }
}
