//! The domain name system by hickory-resolver.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, TokioResolver};
use tokio::time::timeout;

use super::{ANSWERS_MAX, LookupError, MailExchanger, Resolver};

/// Longest that one question may take, retries and other name servers included.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Questions that may wait for one name server at a time; hickory's own 32 is less than one busy queue asks.
const QUESTIONS_MAX: usize = 512;

/// Asks the name servers of the system. Answers are kept for as long as they allow.
///
/// A question takes at most 30 s in all, of an answer at most [`ANSWERS_MAX`] records are looked at, and an alias chain is
/// followed for eight steps. An answer that does not fit a datagram is asked for again by TCP. `/etc/hosts` is not looked
/// at: the names of mail are those of the domain name system.
///
/// Cheap to clone; clones share one cache.
#[derive(Clone)]
pub struct HickoryResolver {
    resolver: TokioResolver,
    /// The same name servers without cache, for what hickory answers by itself.
    direct: NameServerPool<TokioRuntimeProvider>,
}

/// Why no resolver could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolverError {
    /// `/etc/resolv.conf` is there and makes no sense, or the resolver cannot be set up with it.
    #[error("cannot set up the resolver of the system: {0}")]
    Setup(String),
}

impl HickoryResolver {
    /// With the name servers and options of `/etc/resolv.conf`; without one, the name server of this host, as
    /// resolv.conf(5) says.
    ///
    /// # Errors
    ///
    /// [`ResolverError::Setup`] if the file cannot be parsed.
    pub fn system() -> Result<Self, ResolverError> {
        let (config, options) = match read_system_conf() {
            Ok(read) => read,
            // No file, or one without name servers.
            Err(NetError::Io(_)) => (
                ResolverConfig::from_name_servers(vec![NameServerConfig::udp_and_tcp(
                    IpAddr::from([127, 0, 0, 1]),
                )]),
                ResolverOpts::default(),
            ),
            Err(error) => return Err(ResolverError::Setup(error.to_string())),
        };
        Self::build(config, options)
    }

    /// With these name servers.
    ///
    /// # Errors
    ///
    /// [`ResolverError::Setup`] as hickory says.
    pub fn with_name_servers(
        servers: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Self, ResolverError> {
        Self::with_options(servers, ResolverOpts::default())
    }

    fn with_options(
        servers: impl IntoIterator<Item = SocketAddr>,
        options: ResolverOpts,
    ) -> Result<Self, ResolverError> {
        let servers = servers.into_iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        Self::build(
            ResolverConfig::from_name_servers(servers.collect()),
            options,
        )
    }

    fn build(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, ResolverError> {
        options.use_hosts_file = ResolveHosts::Never;
        options.max_active_requests = QUESTIONS_MAX;
        let failed = |error: NetError| ResolverError::Setup(error.to_string());
        let direct = NameServerPool::from_config(
            config.name_servers().to_vec(),
            Arc::new(PoolContext::new(
                options.clone(),
                TlsConfig::new().map_err(failed)?,
            )),
            TokioRuntimeProvider::default(),
        );
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(failed)?;
        Ok(Self { resolver, direct })
    }

    /// Asks for one type, and gives what `pick` finds in the answer.
    async fn ask<T>(
        &self,
        name: &[u8],
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, LookupError> {
        let name = parse(name).ok_or(LookupError::NoSuchName)?;
        let answer = timeout(LOOKUP_TIMEOUT, self.resolver.lookup(name, kind)).await;
        gather(answer.unwrap_or(Err(NetError::Timeout)), pick)
    }

    /// The name servers' own answer on the name of an address.
    async fn ask_directly(&self, address: IpAddr) -> Result<Lookup, NetError> {
        let query = Query::query(Name::from(address), RecordType::PTR);
        let asked = self
            .direct
            .lookup(query.clone(), DnsRequestOptions::default());
        let response = asked.first_answer().await?;
        let response = DnsError::from_response(response)?;
        Ok(Lookup::new_with_max_ttl(query, response.answers.clone()))
    }
}

impl std::fmt::Debug for HickoryResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HickoryResolver").finish_non_exhaustive()
    }
}

#[async_trait]
impl Resolver for HickoryResolver {
    async fn mx(&self, domain: &[u8]) -> Result<Vec<MailExchanger>, LookupError> {
        self.ask(domain, RecordType::MX, |data| match data {
            RData::MX(mx) => Some(MailExchanger {
                preference: mx.preference,
                host: unparse(&mx.exchange),
            }),
            _ => None,
        })
        .await
    }

    async fn addresses(&self, host: &[u8]) -> Result<Vec<IpAddr>, LookupError> {
        let (four, six) = tokio::join!(
            self.ask(host, RecordType::A, RData::ip_addr),
            self.ask(host, RecordType::AAAA, RData::ip_addr),
        );
        match (four, six) {
            (Ok(mut four), Ok(six)) => {
                four.extend(six);
                four.truncate(ANSWERS_MAX);
                Ok(four)
            }
            // What does not exist does so for both; whatever the other family says, it was asked of another server.
            (Err(LookupError::NoSuchName), Err(_)) | (Err(_), Err(LookupError::NoSuchName)) => {
                Err(LookupError::NoSuchName)
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn ptr(&self, address: IpAddr) -> Result<Vec<Bytes>, LookupError> {
        let pick = |data: &RData| match data {
            RData::PTR(name) => Some(unparse(name)),
            _ => None,
        };
        if address.is_loopback() {
            // hickory says `localhost` by itself (RFC 6761 section 6.3); the name servers may know better.
            let asked = timeout(LOOKUP_TIMEOUT, self.ask_directly(address)).await;
            return gather(asked.unwrap_or(Err(NetError::Timeout)), pick);
        }
        let asked = timeout(LOOKUP_TIMEOUT, self.resolver.reverse_lookup(address)).await;
        gather(asked.unwrap_or(Err(NetError::Timeout)), pick)
    }

    async fn txt(&self, name: &[u8]) -> Result<Vec<Bytes>, LookupError> {
        self.ask(name, RecordType::TXT, |data| match data {
            RData::TXT(text) => Some(Bytes::from(text.txt_data.concat())),
            _ => None,
        })
        .await
    }
}

/// Tells an empty answer, a name that does not exist and a failure apart.
fn gather<T>(
    answer: Result<Lookup, NetError>,
    pick: impl Fn(&RData) -> Option<T>,
) -> Result<Vec<T>, LookupError> {
    match answer {
        Ok(answer) => Ok(answer
            .answers()
            .iter()
            .filter_map(|record| pick(&record.data))
            .take(ANSWERS_MAX)
            .collect()),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
            ResponseCode::NoError => Ok(Vec::new()),
            ResponseCode::NXDomain => Err(LookupError::NoSuchName),
            code => Err(LookupError::Temporary(code.to_string())),
        },
        Err(error) => Err(LookupError::Temporary(error.to_string())),
    }
}

/// `None` if the octets cannot be a name: an empty label, one of more than 63 octets, more than 255 in all. Everything else
/// is asked as it is, without any meaning of `\`.
fn parse(name: &[u8]) -> Option<Name> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    Name::from_labels(name.split(|&octet| octet == b'.')).ok()
}

/// Without a final dot; the root is empty.
fn unparse(name: &Name) -> Bytes {
    Bytes::from(name.iter().collect::<Vec<_>>().join(&b'.'))
}
