//! Lists of addresses in the domain name system (RFC 5782): the name to ask for, and what its text may look like in a
//! reply. The caller asks.

use std::net::IpAddr;

/// The name under which a list whose names end in `base` has an address: its parts in reverse order.
///
/// ```
/// use qmail_smtp::dnsbl::query_name;
/// let address = "192.0.2.7".parse().unwrap();
/// assert_eq!(query_name(address, b"list.example"), b"7.2.0.192.list.example");
/// ```
pub fn query_name(address: IpAddr, base: &[u8]) -> Vec<u8> {
    let mut name = String::new();
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for octet in address.octets().iter().rev() {
                name.push_str(&format!("{octet}."));
            }
        }
        IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", octet & 15, octet >> 4));
            }
        }
    }
    [name.as_bytes(), base].concat()
}

/// Longest text in octets that goes into a reply.
pub const TEXT_OCTETS_MAX: usize = 200;

/// The text of a list, as it may stand in a reply: cut at [`TEXT_OCTETS_MAX`], and what is not printable ASCII is `?`.
///
/// ```
/// assert_eq!(qmail_smtp::dnsbl::reply_text(b"no\r\n250 ok"), b"no??250 ok");
/// ```
pub fn reply_text(text: &[u8]) -> Vec<u8> {
    text.iter()
        .take(TEXT_OCTETS_MAX)
        .map(|&octet| {
            if matches!(octet, b' '..=b'~') {
                octet
            } else {
                b'?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_reverse_order() {
        for (address, name) in [
            ("127.0.0.2", "2.0.0.127.b"),
            ("::ffff:127.0.0.2", "2.0.0.127.b"),
            (
                "2001:db8::f1",
                "1.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.b",
            ),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(query_name(address, b"b"), name.as_bytes());
        }
        assert_eq!(reply_text(&[b'x'; 300]).len(), TEXT_OCTETS_MAX);
    }
}
