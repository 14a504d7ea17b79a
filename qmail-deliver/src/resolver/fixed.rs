//! A resolver that knows what it was told.

use std::collections::HashMap;
use std::net::IpAddr;

use async_trait::async_trait;
use bytes::Bytes;

use super::{LookupError, MailExchanger, Resolver};

/// A fixed table of names, for tests and for hosts that must not ask anybody.
///
/// A name that was never mentioned does not exist; one that was has no records but those given.
///
/// ```
/// # async fn example() -> Result<(), qmail_deliver::LookupError> {
/// use qmail_deliver::{FixedResolver, Resolver};
/// let resolver = FixedResolver::new()
///     .with_mx("example.org", 10, "mx.example.org")
///     .with_address("mx.example.org", [192, 0, 2, 1]);
/// assert_eq!(resolver.mx(b"Example.ORG").await?.len(), 1);
/// assert!(resolver.addresses(b"example.org").await?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct FixedResolver {
    names: HashMap<Bytes, Entry>,
    pointers: HashMap<IpAddr, Vec<Bytes>>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    mx: Vec<MailExchanger>,
    addresses: Vec<IpAddr>,
    texts: Vec<Bytes>,
    failing: bool,
}

impl FixedResolver {
    /// No names at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mail exchanger. An empty `host` is a null MX (RFC 7505).
    #[must_use]
    pub fn with_mx(mut self, domain: &str, preference: u16, host: &str) -> Self {
        let host = Bytes::copy_from_slice(host.as_bytes());
        self.entry(domain)
            .mx
            .push(MailExchanger { preference, host });
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn with_address(mut self, host: &str, address: impl Into<IpAddr>) -> Self {
        self.entry(host).addresses.push(address.into());
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn with_txt(mut self, name: &str, text: &str) -> Self {
        let text = Bytes::copy_from_slice(text.as_bytes());
        self.entry(name).texts.push(text);
        self
    }

    /// Adds the name of an address.
    #[must_use]
    pub fn with_ptr(mut self, address: impl Into<IpAddr>, name: &str) -> Self {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.pointers.entry(address.into()).or_default().push(name);
        self
    }

    /// Every question about this name fails temporarily.
    #[must_use]
    pub fn with_failure(mut self, name: &str) -> Self {
        self.entry(name).failing = true;
        self
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        self.names
            .entry(Bytes::from(name.to_ascii_lowercase()))
            .or_default()
    }

    fn find(&self, name: &[u8]) -> Result<&Entry, LookupError> {
        match self.names.get(name.to_ascii_lowercase().as_slice()) {
            None => Err(LookupError::NoSuchName),
            Some(entry) if entry.failing => {
                Err(LookupError::Temporary("so the table says".to_owned()))
            }
            Some(entry) => Ok(entry),
        }
    }
}

#[async_trait]
impl Resolver for FixedResolver {
    async fn mx(&self, domain: &[u8]) -> Result<Vec<MailExchanger>, LookupError> {
        Ok(self.find(domain)?.mx.clone())
    }

    async fn addresses(&self, host: &[u8]) -> Result<Vec<IpAddr>, LookupError> {
        let mut addresses = self.find(host)?.addresses.clone();
        addresses.sort_by_key(IpAddr::is_ipv6);
        Ok(addresses)
    }

    async fn ptr(&self, address: IpAddr) -> Result<Vec<Bytes>, LookupError> {
        self.pointers
            .get(&address)
            .cloned()
            .ok_or(LookupError::NoSuchName)
    }

    async fn txt(&self, name: &[u8]) -> Result<Vec<Bytes>, LookupError> {
        Ok(self.find(name)?.texts.clone())
    }
}
