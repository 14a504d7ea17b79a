//! The seam to the domain name system.

mod fixed;
mod hickory;

use std::net::IpAddr;

use async_trait::async_trait;
use bytes::Bytes;

pub use fixed::FixedResolver;
pub use hickory::{HickoryResolver, ResolverError};

/// Most records of one answer that are looked at; the rest is dropped. A domain that needs more is playing games.
pub const ANSWERS_MAX: usize = 64;

/// Answers what mail asks of the domain name system.
///
/// Names are octets without a final dot, and are always taken as complete: no search list. An answer without records
/// (the name exists, but has none of this type) is `Ok` and empty, which is not [`LookupError::NoSuchName`].
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Mail exchangers of a domain, in no order. A null MX (RFC 7505) is among them as it is: see
    /// [`MailExchanger::is_null`].
    ///
    /// # Errors
    ///
    /// As [`LookupError`] tells.
    async fn mx(&self, domain: &[u8]) -> Result<Vec<MailExchanger>, LookupError>;

    /// Addresses of a host: those of IPv4 first.
    ///
    /// # Errors
    ///
    /// As [`LookupError`] tells. If one family has an answer and the other fails, the answer counts.
    async fn addresses(&self, host: &[u8]) -> Result<Vec<IpAddr>, LookupError>;

    /// Names of an address.
    ///
    /// # Errors
    ///
    /// As [`LookupError`] tells.
    async fn ptr(&self, address: IpAddr) -> Result<Vec<Bytes>, LookupError>;

    /// Texts of a name, each with its strings joined.
    ///
    /// # Errors
    ///
    /// As [`LookupError`] tells.
    async fn txt(&self, name: &[u8]) -> Result<Vec<Bytes>, LookupError>;
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailExchanger {
    /// The lower, the better.
    pub preference: u16,
    /// Name of the host, without a final dot; empty for the root.
    pub host: Bytes,
}

impl MailExchanger {
    /// Whether this record says that the domain takes no mail (RFC 7505).
    pub fn is_null(&self) -> bool {
        self.host.is_empty()
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// There is no such name, of any type; or the octets are no name that could exist. Asking again will not help.
    #[error("no such name")]
    NoSuchName,
    /// Nobody answered in time, or the answer was of no use. Asking later may help.
    #[error("temporary failure: {0}")]
    Temporary(String),
}
