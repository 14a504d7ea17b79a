//! A name server that answers from a table, over UDP.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::conformance::{Octets, to_text};

/// The records of one name, as the key `dns` of a case has them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    #[serde(default, rename = "A")]
    a: Vec<Ipv4Addr>,
    #[serde(default, rename = "MX")]
    mx: Vec<(u16, Octets)>,
    #[serde(rename = "PTR")]
    ptr: Option<Octets>,
    #[serde(rename = "TXT")]
    txt: Option<Octets>,
    /// Every question about the name fails, for now.
    #[serde(default)]
    fail: bool,
}

/// What the server knows, by name.
pub type Zone = BTreeMap<String, Records>;

/// A name server at work. Dropping it ends it.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

/// How soon a dropped server is gone.
const TICK: Duration = Duration::from_millis(200);

impl NameServer {
    /// Answers questions at this address, with port 0 at a free one.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    pub fn start(zone: Zone, address: SocketAddr) -> io::Result<Self> {
        let zone: Zone = zone
            .into_iter()
            .map(|(name, records)| (name.to_ascii_lowercase(), records))
            .collect();
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut query = [0; 4096];
            while !stopped.load(Ordering::SeqCst) {
                if let Ok((length, peer)) = socket.recv_from(&mut query)
                    && let Some(answer) = answer(&zone, &query[..length])
                {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Ok(Self { address, stop })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_MX: u16 = 15;
const TYPE_TXT: u16 = 16;

/// The length of a message's header (RFC 1035, section 4.1.1).
const HEADER_OCTETS: usize = 12;

/// The answer to a query with one question; `None` if it is no such query.
fn answer(zone: &Zone, query: &[u8]) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = HEADER_OCTETS;
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            break;
        }
        let label = query.get(at + 1..at + 1 + length)?;
        labels.push(to_text(label).to_ascii_lowercase());
        at += 1 + length;
    }
    let question = query.get(HEADER_OCTETS..at + 5)?;
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    // The table has an address as the name of its PTR record.
    if let [address @ .., arpa, root] = &labels[..]
        && arpa == "in-addr"
        && root == "arpa"
    {
        labels = address.iter().rev().cloned().collect();
    }

    let records = zone.get(&labels.join("."));
    let data = records.map_or_else(Vec::new, |records| match kind {
        TYPE_A => records.a.iter().map(|a| a.octets().to_vec()).collect(),
        TYPE_MX => (records.mx.iter())
            .map(|(preference, name)| [&preference.to_be_bytes()[..], &encode(name)].concat())
            .collect(),
        TYPE_PTR => records.ptr.iter().map(encode).collect(),
        TYPE_TXT => (records.txt.iter())
            .map(|text| [&[text.0.len() as u8][..], &text.0].concat())
            .collect(),
        _ => Vec::new(),
    });
    let code: u8 = match records {
        None => 3,
        Some(records) if records.fail => 2,
        Some(_) => 0,
    };

    let mut message = query.get(..2)?.to_vec();
    // A response, authoritative, recursion desired and available; one question, the answers, nothing more.
    message.extend_from_slice(&[0x85, 0x80 | code, 0, 1]);
    message.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(question);
    for data in data {
        // The name is that of the question; class IN, and no time to live.
        message.extend_from_slice(&[0xc0, HEADER_OCTETS as u8]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        message.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
        message.extend_from_slice(&data);
    }
    Some(message)
}

/// A name as its labels, each after its length.
fn encode(name: &Octets) -> Vec<u8> {
    let mut encoded = Vec::new();
    for label in name.0.split(|&octet| octet == b'.') {
        if !label.is_empty() {
            encoded.push(label.len() as u8);
            encoded.extend_from_slice(label);
        }
    }
    encoded.push(0);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        query.extend(encode(&Octets(name.into())));
        query.extend(kind.to_be_bytes());
        query.extend([0, 1]);
        query
    }

    fn zone() -> Zone {
        serde_json::from_str(
            r#"{"a.example": {"A": ["127.0.0.1"], "MX": [[5, "mx.example."]], "TXT": "hi"},
                "127.0.0.9": {"PTR": "nine.example"}, "sick.example": {"fail": true}}"#,
        )
        .unwrap()
    }

    #[test]
    fn answers_from_its_table() {
        for (name, kind, code, data) in [
            ("A.example", TYPE_A, 0, Some(&b"\0\x04\x7f\0\0\x01"[..])),
            (
                "a.example",
                TYPE_MX,
                0,
                Some(b"\0\x0e\0\x05\x02mx\x07example\0"),
            ),
            ("a.example", TYPE_TXT, 0, Some(b"\0\x03\x02hi")),
            (
                "9.0.0.127.in-addr.arpa",
                TYPE_PTR,
                0,
                Some(b"\0\x0e\x04nine\x07example\0"),
            ),
            ("a.example", 28, 0, None),
            ("sick.example", TYPE_A, 2, None),
            ("none.example", TYPE_A, 3, None),
        ] {
            let query = query(name, kind);
            let got = answer(&zone(), &query).unwrap();
            assert_eq!(got[..3], [0x12, 0x34, 0x85]);
            assert_eq!(got[3] & 15, code, "{name}");
            assert_eq!(got[7], u8::from(data.is_some()), "{name}");
            assert_eq!(got[12..query.len()], query[12..], "{name}");
            let rest = &got[query.len()..];
            match data {
                Some(data) => assert_eq!(&rest[10..], data, "{name}"),
                None => assert!(rest.is_empty()),
            }
        }
    }

    #[test]
    fn no_query_makes_it_panic() {
        let whole = query("a.example", TYPE_A);
        for cut in 0..whole.len() - 2 {
            assert_eq!(answer(&zone(), &whole[..cut]), None);
        }
    }
}
