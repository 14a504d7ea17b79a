//! What is looked at before an SMTP client is greeted: who is behind a proxy, rules, ident, DNS lists, patience.

use std::io;
use std::net::SocketAddr;
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
use super::smtp::{Door, Rules};
use crate::dns_lists::{self, Block};
use crate::home::EntranceControls;
use crate::policy::Relaying;
use crate::tcp_peer::TcpPeer;

/// How long a proxy may take to say who is behind it.
const PROXY_WAIT: Duration = Duration::from_secs(10);

/// As much of an ident answer as is kept.
const IDENT_OCTETS_MAX: usize = 256;

/// How clients come in, by one configuration.
pub(crate) struct Entrance {
    pub(crate) controls: EntranceControls,
    /// There if a list is to be asked.
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
}

/// A client that may be greeted.
pub(super) struct Visitor {
    pub(super) address: SocketAddr,
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
    door: Door,
    stream: &mut TcpStream,
    peer: SocketAddr,
    pass: &mut Pass,
) -> io::Result<Option<Visitor>> {
    let controls = &rules.entrance.controls;
    let mut ends = TcpPeer::new(stream.local_addr()?, peer);
    if controls.proxies.contains(peer.ip()) {
        let Some(origin) = timeout(PROXY_WAIT, proxied(stream)).await?? else {
            return Ok(Some(Visitor::new(rules, peer)));
        };
        ends = TcpPeer::new(origin.server, origin.client);
        let trusted = rules.policy.may_relay(ends.remote.ip());
        if let Err(full) = pass.count_as(ends.remote.ip(), trusted) {
            turn_away(stream, full_words(full));
            return Ok(None);
        }
    } else if let Some(wait) = controls.ident_wait {
        ends.ask_ident(wait, IDENT_OCTETS_MAX).await;
    }
    let mut visitor = Visitor::new(rules, ends.remote);
    visitor.info = ends.remote_info.take();
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
        && door.client_waits()
        && visitor.relaying == Relaying::No
        && timeout(wait, stream.peek(&mut [0])).await.is_ok()
    {
        // Something has come, or the client is gone.
        turn_away(stream, b"554 5.5.0 you spoke before the greeting\r\n");
        return Ok(None);
    }
    Ok(Some(visitor))
}

/// The words for a client that there is no room for.
pub(super) fn full_words(full: Full) -> &'static [u8] {
    match full {
        Full::All => b"421 4.3.2 too many connections, try again later\r\n",
        Full::Address => b"421 4.7.0 too many connections from your address, try again later\r\n",
    }
}

impl Visitor {
    fn new(rules: &Rules, address: SocketAddr) -> Self {
        Self {
            address,
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
        host: None,
        info: visitor.info.as_deref(),
    };
    // They were written by ourselves, but a damaged rule lets nobody in.
    let Some(rule) = tcprules::find(connection_rules, peer).ok()? else {
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
fn turn_away(stream: &TcpStream, line: &[u8]) {
    let _ = stream.try_write(line);
}
