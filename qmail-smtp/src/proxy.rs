//! The header by which a proxy tells who is behind it: the PROXY protocol, versions 1 and 2.
//!
//! Only a proxy that is trusted may be asked for one: whoever sends it chooses the address. Nothing behind the header is read,
//! since that belongs to the client, and may be the beginning of TLS. At most [`HEADER_OCTETS_MAX`] octets are held.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header in octets that is read. The longest addresses of version 2 need 232; the rest is for what a proxy may add.
pub const HEADER_OCTETS_MAX: usize = 1024;

/// Longest line of version 1 in octets, CR LF included.
const LINE_OCTETS_MAX: usize = 107;

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Octets of version 2 before the addresses.
const FIXED_OCTETS: usize = 16;

/// A header on its way in.
///
/// ```
/// use qmail_smtp::proxy::Header;
/// let mut header = Header::default();
/// let mut input = &b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\nEHLO"[..];
/// let origin = loop {
///     let wanted = header.wants();
///     if let Some(origin) = header.receive(&input[..wanted]).unwrap() { break origin }
///     input = &input[wanted..];
/// };
/// assert_eq!(origin.unwrap().client, "192.0.2.1:56324".parse().unwrap());
/// ```
#[derive(Debug, Default)]
pub struct Header {
    octets: Vec<u8>,
}

/// Both ends of the connection that the proxy carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who connected to the proxy.
    pub client: SocketAddr,
    /// What it connected to.
    pub server: SocketAddr,
}

/// What came is no header: close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY header")]
pub struct BadHeader;

impl Header {
    /// How many octets to read at most, so that nothing of the client is read: one or more, until the header is complete.
    pub fn wants(&self) -> usize {
        let have = self.octets.len();
        if have < SIGNATURE.len() {
            // The shortest line of version 1 is longer.
            SIGNATURE.len() - have
        } else if !self.is_binary() {
            1
        } else if have < FIXED_OCTETS {
            FIXED_OCTETS - have
        } else {
            self.binary_octets() - have
        }
    }

    /// Takes octets, no more than were [wanted](Self::wants). `Some` once the header is complete: `None` in it is a connection
    /// of the proxy itself, or of no address that it could tell.
    ///
    /// # Errors
    ///
    /// It is no header, or too long.
    pub fn receive(&mut self, octets: &[u8]) -> Result<Option<Option<Origin>>, BadHeader> {
        self.octets.extend_from_slice(octets);
        let begun = &self.octets[..self.octets.len().min(SIGNATURE.len())];
        if self.is_binary() {
            if self.octets.len() < FIXED_OCTETS {
                return Ok(None);
            }
            if self.binary_octets() > HEADER_OCTETS_MAX {
                return Err(BadHeader);
            }
            if self.octets.len() < self.binary_octets() {
                return Ok(None);
            }
            return binary(&self.octets).map(Some);
        }
        let tag = &b"PROXY "[..];
        let common = begun.len().min(tag.len());
        let may_be_binary = SIGNATURE.starts_with(begun);
        if begun[..common] != tag[..common] && !may_be_binary {
            return Err(BadHeader);
        }
        // A line that ends within its first octets is too short for any header, whether or not more came with it.
        match memchr::memmem::find(&self.octets, b"\r\n") {
            Some(end) if !may_be_binary && end + 2 == self.octets.len() => {
                text(&self.octets[..end]).map(Some)
            }
            Some(_) if !may_be_binary => Err(BadHeader),
            _ if self.octets.len() >= LINE_OCTETS_MAX => Err(BadHeader),
            _ => Ok(None),
        }
    }

    fn is_binary(&self) -> bool {
        self.octets.starts_with(SIGNATURE)
    }

    /// Octets of the whole header of version 2; its fixed part must be there.
    fn binary_octets(&self) -> usize {
        FIXED_OCTETS + usize::from(u16::from_be_bytes([self.octets[14], self.octets[15]]))
    }
}

/// A line of version 1.
fn text(line: &[u8]) -> Result<Option<Origin>, BadHeader> {
    let line = std::str::from_utf8(line).map_err(|_| BadHeader)?;
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family, client, server, client_port, server_port] => {
            let end = |address: &str, port: &str| {
                let address: IpAddr = address.parse().map_err(|_| BadHeader)?;
                let right = match family {
                    "TCP4" => address.is_ipv4(),
                    "TCP6" => address.is_ipv6(),
                    _ => false,
                };
                let digits = port.bytes().all(|octet| octet.is_ascii_digit());
                let port = port.parse().map_err(|_| BadHeader)?;
                if right && digits {
                    Ok(SocketAddr::new(address, port))
                } else {
                    Err(BadHeader)
                }
            };
            Ok(Some(Origin {
                client: end(client, client_port)?,
                server: end(server, server_port)?,
            }))
        }
        _ => Err(BadHeader),
    }
}

/// A whole header of version 2.
fn binary(header: &[u8]) -> Result<Option<Origin>, BadHeader> {
    let addresses = &header[FIXED_OCTETS..];
    match (header[12], header[13]) {
        // LOCAL: the proxy looks whether we live.
        (0x20, _) => Ok(None),
        (0x21, 0x11) => origin::<4>(addresses).map(Some),
        (0x21, 0x21) => origin::<16>(addresses).map(Some),
        // Datagrams are none of ours; other families have no address that we know.
        (0x21, 0x00 | 0x31) => Ok(None),
        _ => Err(BadHeader),
    }
}

/// Two addresses of `N` octets and two ports.
fn origin<const N: usize>(octets: &[u8]) -> Result<Origin, BadHeader>
where
    IpAddr: From<Octets<N>>,
{
    let (client, rest) = octets.split_first_chunk::<N>().ok_or(BadHeader)?;
    let (server, rest) = rest.split_first_chunk::<N>().ok_or(BadHeader)?;
    let (client_port, rest) = rest.split_first_chunk().ok_or(BadHeader)?;
    let (server_port, _) = rest.split_first_chunk().ok_or(BadHeader)?;
    let end = |address: &[u8; N], port: &[u8; 2]| {
        SocketAddr::new(Octets(*address).into(), u16::from_be_bytes(*port))
    };
    Ok(Origin {
        client: end(client, client_port),
        server: end(server, server_port),
    })
}

/// An address in network order.
struct Octets<const N: usize>([u8; N]);

impl From<Octets<4>> for IpAddr {
    fn from(Octets(octets): Octets<4>) -> Self {
        Ipv4Addr::from(octets).into()
    }
}

impl From<Octets<16>> for IpAddr {
    fn from(Octets(octets): Octets<16>) -> Self {
        Ipv6Addr::from(octets).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads at most `size` octets at a time; gives what was found, and how many octets were read.
    fn read(input: &[u8], size: usize) -> Result<(Option<Origin>, usize), BadHeader> {
        read_by(input, |_| size)
    }

    /// The same, where no piece has octets from both sides of `cut`.
    fn read_cut(input: &[u8], cut: usize) -> Result<(Option<Origin>, usize), BadHeader> {
        read_by(input, |taken| {
            cut.checked_sub(taken)
                .filter(|&most| most > 0)
                .unwrap_or(usize::MAX)
        })
    }

    fn read_by(
        input: &[u8],
        size: impl Fn(usize) -> usize,
    ) -> Result<(Option<Origin>, usize), BadHeader> {
        let mut header = Header::default();
        let mut taken = 0;
        loop {
            let wanted = header.wants();
            assert!(wanted > 0, "complete headers are told");
            let rest = &input[taken..];
            let piece = &rest[..rest.len().min(wanted).min(size(taken))];
            if piece.is_empty() {
                return Err(BadHeader);
            }
            taken += piece.len();
            if let Some(origin) = header.receive(piece)? {
                return Ok((origin, taken));
            }
        }
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short");
        [
            SIGNATURE,
            &[command, family][..],
            &length.to_be_bytes(),
            body,
        ]
        .concat()
    }

    #[test]
    fn both_versions_tell_who_is_behind() {
        let [four, six] = [
            ("192.0.2.1:56324", "198.51.100.1:25"),
            ("[2001:db8::1]:4", "[2001:db8::2]:25"),
        ]
        .map(|(client, server)| {
            Some(Origin {
                client: client.parse().expect("an address"),
                server: server.parse().expect("an address"),
            })
        });
        let body_4 = [&[192, 0, 2, 1, 198, 51, 100, 1][..], &[220, 4, 0, 25]].concat();
        let mut body_6 = [0; 36];
        body_6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        body_6[16..20].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        (body_6[15], body_6[31], body_6[33], body_6[35]) = (1, 2, 4, 25);
        let with_more = [&body_4[..], &[4, 0, 1, 0]].concat();
        for (input, origin) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\n".to_vec(),
                four,
            ),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 4 25\r\n".to_vec(), six),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 x y z\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &body_4), four),
            (version_2(0x21, 0x11, &with_more), four),
            (version_2(0x21, 0x21, &body_6), six),
            (version_2(0x20, 0, b""), None),
            (version_2(0x20, 0x11, &body_4), None),
            (version_2(0x21, 0x31, &[0; 216]), None),
            (version_2(0x21, 0, &[7; 9]), None),
        ] {
            let whole = [&input[..], b"EHLO c\r\n"].concat();
            for size in 1..=whole.len() {
                assert_eq!(read(&whole, size), Ok((origin, input.len())), "{input:?}");
                assert_eq!(
                    read_cut(&whole, size),
                    Ok((origin, input.len())),
                    "{input:?} cut at {size}"
                );
            }
            for cut in 0..input.len() {
                assert!(read(&input[..cut], cut.max(1)).is_err(), "{input:?} {cut}");
            }
        }
    }

    #[test]
    fn anything_else_is_no_header() {
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; LINE_OCTETS_MAX]].concat();
        for input in [
            &b"EHLO client.example\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25 26\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 4 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 +5 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n",
            b"PROXY  TCP4 192.0.2.1 198.51.100.1 1 25\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 1 25\r\n",
            b"PROXY\tTCP4 192.0.2.1\r\n",
            b"PROXY x\r\n\r",
            b"PROXY UNK\r\nOWN\r\n",
            b"\r\n\r\n\0\r\nQUIX\n\x21\x11\0\0",
            b"\r\n\r\nEHLO c\r\n",
            &long,
            &version_2(0x31, 0x11, &[0; 12]),
            &version_2(0x22, 0x11, &[0; 12]),
            &version_2(0x21, 0x12, &[0; 12]),
            &version_2(0x21, 0x11, &[0; 11]),
            &version_2(0x21, 0x11, &[0; HEADER_OCTETS_MAX]),
        ] {
            for size in 1..=input.len() {
                assert_eq!(read(input, size), Err(BadHeader), "{input:?} {size}");
                assert_eq!(read_cut(input, size), Err(BadHeader), "{input:?} {size}");
            }
        }
    }
}
