//! DNS lists of clients (RFC 5782): asked in order, until one decides.

use std::net::IpAddr;

use qmail_deliver::{LookupError, Resolver};
use qmail_smtp::dnsbl;

/// A list to ask, and what becomes of a client that is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// It is blocked, for good if `permanent`. A list that cannot be asked blocks as well if it is `closed`.
    Block {
        base: Vec<u8>,
        permanent: bool,
        closed: bool,
    },
    /// It is let in; so is one whose list cannot be asked, unless it is `closed`.
    Allow { base: Vec<u8>, closed: bool },
}

/// Why a client is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Coming again does not help.
    pub(crate) permanent: bool,
    /// One line of printable text.
    pub(crate) text: Vec<u8>,
}

impl Block {
    /// `text` as it may be said.
    pub(crate) fn new(permanent: bool, text: &[u8]) -> Self {
        Self {
            permanent,
            text: dnsbl::reply_text(text),
        }
    }

    pub(crate) fn code(&self) -> u16 {
        if self.permanent { 553 } else { 451 }
    }
}

/// Asks the lists about a client. Without a resolver none of them answers.
pub(crate) async fn look_up(
    resolver: Option<&dyn Resolver>,
    client: IpAddr,
    lists: &[List],
) -> Option<Block> {
    let mut trouble = false;
    for list in lists {
        match list {
            List::Allow { base, closed } => {
                let name = dnsbl::query_name(client, base);
                let listed = match resolver {
                    Some(resolver) => resolver.addresses(&name).await,
                    None => Err(no_resolver()),
                };
                match listed {
                    Ok(addresses) if !addresses.is_empty() => return None,
                    Ok(_) | Err(LookupError::NoSuchName) => {}
                    Err(_) if *closed => trouble = true,
                    Err(_) => return None,
                }
            }
            List::Block {
                base,
                permanent,
                closed,
            } => {
                let name = dnsbl::query_name(client, base);
                let texts = match resolver {
                    Some(resolver) => resolver.txt(&name).await,
                    None => Err(no_resolver()),
                };
                match texts {
                    Ok(texts) if texts.iter().any(|text| !text.is_empty()) => {
                        return Some(Block::new(*permanent && !trouble, &texts.concat()));
                    }
                    Ok(_) | Err(LookupError::NoSuchName) => {}
                    Err(_) if *closed => {
                        return Some(Block::new(false, b"temporary RBL lookup error"));
                    }
                    Err(_) => trouble = true,
                }
            }
        }
    }
    None
}

fn no_resolver() -> LookupError {
    LookupError::Temporary("no resolver".to_owned())
}
