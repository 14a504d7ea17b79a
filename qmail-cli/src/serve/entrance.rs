//! What is looked at before an SMTP client is greeted: who is behind a proxy, rules, ident, DNS lists, patience.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qmail_core::tcprules::{self, Instruction, Peer};
use qmail_core::{EnhancedStatus, Reply};
use qmail_deliver::Resolver;
use qmail_smtp::proxy::{self, HEADER_OCTETS_MAX};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::gate::{Full, Pass};
use super::rules::Rules;
use crate::dns_lists::{self, Block};
use crate::home::EntranceControls;
use crate::policy::Relaying;
use crate::tcp_peer::{TcpPeer, confirmed_name_of};

/// How long a proxy may take to say who is behind it.
const PROXY_WAIT: Duration = Duration::from_secs(10);

/// How long to wait for the name of a client.
const NAME_WAIT: Duration = Duration::from_secs(30);

/// As much of an ident answer as is kept.
const IDENT_OCTETS_MAX: usize = 256;

/// How clients come in, by one configuration.
pub(crate) struct Entrance {
    pub(crate) controls: EntranceControls,
    /// Absent where nothing can be asked.
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
}

impl Entrance {
    /// The name of a client, where a rule is about names. A name counts only if it has the client's address: who owns the
    /// address alone could give it any. Without an answer in time there is none.
    async fn name_for_rules(&self, client: IpAddr) -> Option<Bytes> {
        if !self.controls.wants_names() {
            return None;
        }
        let asked = confirmed_name_of(self.resolver.as_deref()?, client);
        timeout(NAME_WAIT, asked).await.ok()?.ok().flatten()
    }
}

/// How a protocol treats clients that come in.
#[derive(Clone, Copy)]
pub(super) struct Manners {
    /// Whether the server speaks first.
    pub(super) client_waits: bool,
    /// The words for a client that there is no room for.
    pub(super) full_words: fn(Full) -> &'static [u8],
}

/// A client that may be greeted.
pub(super) struct Visitor {
    pub(super) address: SocketAddr,
    /// Its name, if a rule wants to know it and the name has this address.
    pub(super) host: Option<Bytes>,
    /// Its ident answer; may be empty.
    pub(super) info: Option<Bytes>,
    pub(super) relaying: Relaying,
    /// What a rule says in place of databytes.
    pub(super) databytes: Option<u64>,
    /// Whatever it sends is refused with this, unless it may relay.
    pub(super) blocked: Option<Reply>,
}

/// Looks at a client; `None`: it is sent away.
pub(super) async fn look_at(
    rules: &Rules,
    manners: Manners,
    stream: &mut TcpStream,
    peer: SocketAddr,
    pass: &mut Pass,
) -> io::Result<Option<Visitor>> {
    let controls = &rules.entrance.controls;
    let mut ends = TcpPeer::new(stream.local_addr()?, peer);
    if controls.proxies.contains(peer.ip()) {
        let proxied = timeout(PROXY_WAIT, proxied(stream)).await?;
        // The other errors are clients that have gone; this is a proxy that is set up wrongly, or none.
        if let Err(error) = &proxied
            && error.kind() == io::ErrorKind::InvalidData
        {
            let words = format_args!("connection from {peer} dropped: {error}");
            rules.reporter.warning(&words);
        }
        let Some(origin) = proxied? else {
            return Ok(Some(Visitor::new(rules, peer)));
        };
        ends = TcpPeer::new(origin.server, origin.client);
        let trusted = rules.policy.may_relay(ends.remote.ip());
        if let Err(full) = pass.count_as(ends.remote.ip(), trusted) {
            turn_away(stream, (manners.full_words)(full));
            return Ok(None);
        }
    } else if let Some(wait) = controls.ident_wait {
        ends.ask_ident(wait, IDENT_OCTETS_MAX).await;
    }
    let mut visitor = Visitor::new(rules, ends.remote);
    visitor.info = ends.remote_info.take();
    visitor.host = rules.entrance.name_for_rules(ends.remote.ip()).await;
    let Some(block) = apply_rules(rules, &mut visitor) else {
        return Ok(None);
    };
    let block = match block {
        Listed::Said(block) => block,
        Listed::Unknown if visitor.relaying == Relaying::No => {
            let resolver = rules.entrance.resolver.as_deref();
            dns_lists::look_up(resolver, ends.remote.ip(), &controls.lists).await
        }
        Listed::Unknown => None,
    };
    visitor.blocked = block.as_ref().map(refusal);
    if let Some(wait) = controls.greet_delay
        && manners.client_waits
        && visitor.relaying == Relaying::No
        && timeout(wait, stream.peek(&mut [0])).await.is_ok()
    {
        // Something has come, or the client is gone.
        turn_away(stream, b"554 5.5.0 you spoke before the greeting\r\n");
        return Ok(None);
    }
    Ok(Some(visitor))
}

impl Visitor {
    fn new(rules: &Rules, address: SocketAddr) -> Self {
        Self {
            address,
            host: None,
            info: None,
            relaying: rules.policy.relaying(address.ip()),
            databytes: None,
            blocked: None,
        }
    }
}

/// Whether a client is on a list.
enum Listed {
    /// A rule says so, one way or the other.
    Said(Option<Block>),
    /// The lists have to be asked.
    Unknown,
}

/// Does what the rule for this client says; `None`: it is denied.
fn apply_rules(rules: &Rules, visitor: &mut Visitor) -> Option<Listed> {
    let mut listed = Listed::Unknown;
    let Some(connection_rules) = &rules.entrance.controls.rules else {
        return Some(listed);
    };
    let address = visitor.address.ip().to_string();
    let peer = Peer {
        address: address.as_bytes(),
        host: visitor.host.as_deref(),
        info: visitor.info.as_deref(),
    };
    // They were written by ourselves, but a damaged rule lets nobody in.
    let Some(rule) = tcprules::find(&connection_rules.cdb, peer).ok()? else {
        return Some(listed);
    };
    for instruction in rule.instructions() {
        match instruction {
            Instruction::Deny => return None,
            Instruction::Set { name, value } => match name {
                b"RELAYCLIENT" => {
                    visitor.relaying = Relaying::Yes(Bytes::copy_from_slice(value));
                }
                b"DATABYTES" => {
                    visitor.databytes = qmail_core::control::integer(value, &mut Vec::new());
                }
                b"RBLSMTPD" => {
                    listed = Listed::Said(match value.strip_prefix(b"-") {
                        _ if value.is_empty() => None,
                        Some(text) => Some(Block::new(true, text)),
                        None => Some(Block::new(false, value)),
                    });
                }
                _ => {}
            },
        }
    }
    Some(listed)
}

fn refusal(block: &Block) -> Reply {
    let status = if block.permanent {
        EnhancedStatus::permanent(7, 1)
    } else {
        EnhancedStatus::temporary(7, 1)
    };
    Reply::new(block.code(), Some(status), block.text.clone())
}

/// Reads the header of a proxy, and nothing behind it; `None`: the proxy speaks for itself.
async fn proxied(stream: &mut TcpStream) -> io::Result<Option<proxy::Origin>> {
    let mut header = proxy::Header::default();
    let mut room = [0; HEADER_OCTETS_MAX];
    loop {
        let wanted = header.wants().min(room.len());
        let octets = stream.read(&mut room[..wanted]).await?;
        if octets == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let found = header.receive(&room[..octets]);
        if let Some(origin) =
            found.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        {
            return Ok(origin);
        }
    }
}

/// A fresh socket has room for one line; nobody waits for a client that is sent away.
pub(super) fn turn_away(stream: &TcpStream, line: &[u8]) {
    let _ = stream.try_write(line);
}
