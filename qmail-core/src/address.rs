//! Envelope addresses in the form that the queue keeps: unquoted octets, split at the last `@`.

use std::fmt;

use bytes::Bytes;

use crate::Escaped;

/// Longest address in octets that the queue takes (qmail-queue(8): 1003 and more are refused).
pub const ADDRESS_OCTETS_MAX: usize = 1002;

/// An envelope address: `local@domain`, unquoted, 8-bit.
///
/// The domain is what follows the **last** `@`; an address without `@` is a local part alone, at the host that
/// control/envnoathost names. `"a b"@c` on the wire is `a b@c` here; [`Address::quoted`] goes back (RFC 5321
/// section 4.1.2). Cheap to clone.
///
/// ```
/// use qmail_core::Address;
/// let address = Address::new("a@b@example.org")?;
/// assert_eq!(address.local_part(), b"a@b");
/// assert_eq!(address.domain(), Some(&b"example.org"[..]));
/// assert_eq!(address.quoted(), b"\"a@b\"@example.org");
/// # Ok::<(), qmail_core::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(Bytes);

/// Why octets are no [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// More than [`ADDRESS_OCTETS_MAX`] octets.
    #[error("address is longer than {ADDRESS_OCTETS_MAX} octets")]
    TooLong,
    /// A NUL inside: it ends a record of the queue's files.
    #[error("address contains a NUL octet")]
    Nul,
}

impl Address {
    /// Takes the octets as they are.
    ///
    /// # Errors
    ///
    /// Only what the queue's file format cannot carry is refused: a NUL, or more than [`ADDRESS_OCTETS_MAX`] octets.
    pub fn new(octets: impl Into<Bytes>) -> Result<Self, AddressError> {
        let octets = octets.into();
        if octets.len() > ADDRESS_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        if memchr::memchr(0, &octets).is_some() {
            return Err(AddressError::Nul);
        }
        Ok(Self(octets))
    }

    /// The whole address, unquoted.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What precedes the last `@`; everything if there is none.
    pub fn local_part(&self) -> &[u8] {
        self.split().0
    }

    /// What follows the last `@`, if there is one. May be empty.
    pub fn domain(&self) -> Option<&[u8]> {
        self.split().1
    }

    /// Both halves at once, as [`Address::local_part`] and [`Address::domain`] give them.
    pub fn split(&self) -> (&[u8], Option<&[u8]>) {
        match memchr::memrchr(b'@', &self.0) {
            Some(at) => (&self.0[..at], Some(&self.0[at + 1..])),
            None => (&self.0, None),
        }
    }

    /// The form for SMTP commands and header fields: the local part quoted when its octets ask for it, the domain
    /// as it is (RFC 5321 section 4.1.2).
    pub fn quoted(&self) -> Vec<u8> {
        let mut sink = Vec::with_capacity(self.0.len() + 8);
        quote_address(&self.0, &mut sink);
        sink
    }

    /// As [`quoted`](Self::quoted), for where internationalized addresses are understood (RFC 6531 section 3.3): octets
    /// beyond ASCII need no quotes there.
    pub fn quoted_utf8(&self) -> Vec<u8> {
        let (local, _) = self.split();
        if is_dot_string(local, |octet| is_atext(octet) || !octet.is_ascii()) {
            return self.0.to_vec();
        }
        self.quoted()
    }

    /// Whether it is an internationalized address: UTF-8 beyond ASCII (RFC 6531).
    pub fn is_utf8(&self) -> bool {
        !self.0.is_ascii() && str::from_utf8(&self.0).is_ok()
    }
}

/// Writes an address that may be of any length, as [`Address::quoted`] does. An empty one stays empty.
pub(crate) fn quote_address(octets: &[u8], sink: &mut Vec<u8>) {
    if octets.is_empty() {
        return;
    }
    let at = memchr::memrchr(b'@', octets).unwrap_or(octets.len());
    quote_local_part(&octets[..at], sink);
    sink.extend_from_slice(&octets[at..]);
}

/// Whether a local part needs no quotes: it is not empty, does not start or end with a dot, has no two dots in a row, and
/// no octet beyond RFC 5321's atext.
pub(crate) fn is_plain_local_part(local: &[u8]) -> bool {
    is_dot_string(local, is_atext)
}

/// Atoms with single dots between them.
fn is_dot_string(local: &[u8], is_atext: impl Fn(u8) -> bool) -> bool {
    !local.is_empty()
        && local.first() != Some(&b'.')
        && local.last() != Some(&b'.')
        && local.iter().all(|&octet| octet == b'.' || is_atext(octet))
        && memchr::memmem::find(local, b"..").is_none()
}

/// Writes a local part, in quotes if it needs them. Inside quotes only CR, LF, `"` and `\` get a backslash.
pub(crate) fn quote_local_part(local: &[u8], sink: &mut Vec<u8>) {
    if is_plain_local_part(local) {
        sink.extend_from_slice(local);
        return;
    }
    sink.push(b'"');
    for &octet in local {
        if matches!(octet, b'\r' | b'\n' | b'"' | b'\\') {
            sink.push(b'\\');
        }
        sink.push(octet);
    }
    sink.push(b'"');
}

/// RFC 5321 section 4.1.2 by way of RFC 5322 section 3.2.3.
fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
}

impl AsRef<[u8]> for Address {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Address> for Bytes {
    fn from(address: Address) -> Self {
        address.0
    }
}

/// Escaped for logs, unquoted.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// Where a bounce goes: nowhere, or to an address (RFC 5321 section 4.5.5).
///
/// qmail's special senders are addresses: `#@[]` marks a double bounce, `list-@host-@[]` asks for one sender per
/// recipient (VERP).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: the message is a bounce itself, and may not cause another.
    #[default]
    Null,
    /// An address that bounces go to.
    Address(Address),
}

impl ReversePath {
    /// An empty string is [`ReversePath::Null`].
    ///
    /// # Errors
    ///
    /// As [`Address::new`].
    pub fn new(octets: impl Into<Bytes>) -> Result<Self, AddressError> {
        let octets = octets.into();
        if octets.is_empty() {
            Ok(Self::Null)
        } else {
            Address::new(octets).map(Self::Address)
        }
    }

    /// The unquoted octets; empty for [`ReversePath::Null`].
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Null => b"",
            Self::Address(address) => address.as_bytes(),
        }
    }

    /// As [`Address::quoted`]; empty for [`ReversePath::Null`].
    pub fn quoted(&self) -> Vec<u8> {
        match self {
            Self::Null => Vec::new(),
            Self::Address(address) => address.quoted(),
        }
    }

    /// As [`Address::quoted_utf8`]; empty for [`ReversePath::Null`].
    pub fn quoted_utf8(&self) -> Vec<u8> {
        match self {
            Self::Null => Vec::new(),
            Self::Address(address) => address.quoted_utf8(),
        }
    }

    /// As [`Address::is_utf8`].
    pub fn is_utf8(&self) -> bool {
        matches!(self, Self::Address(address) if address.is_utf8())
    }

    /// Whether this is `<>`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl From<Address> for ReversePath {
    fn from(address: Address) -> Self {
        if address.as_bytes().is_empty() {
            Self::Null
        } else {
            Self::Address(address)
        }
    }
}

/// Escaped for logs, unquoted, without angle brackets.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.as_bytes()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_follows_the_local_part() {
        for (plain, quoted) in [
            ("", ""),
            ("a", "a"),
            ("a@b", "a@b"),
            ("a b@c", "\"a b\"@c"),
            (".a@c", "\".a\"@c"),
            ("a.@c", "\"a.\"@c"),
            ("a..b@c", "\"a..b\"@c"),
            ("a.b@c d", "a.b@c d"),
            ("@c", "\"\"@c"),
            ("q\"\\@c", "\"q\\\"\\\\\"@c"),
            ("a\nb@c", "\"a\\\nb\"@c"),
            ("{~`}@c", "{~`}@c"),
        ] {
            let address = Address::new(plain).expect("short and without NUL");
            assert_eq!(address.quoted(), quoted.as_bytes(), "{plain:?}");
        }
        assert_eq!(
            Address::new(&b"\xe9@c"[..]).unwrap().quoted(),
            b"\"\xe9\"@c"
        );
    }

    #[test]
    fn internationalized_addresses_need_no_quotes_among_themselves() {
        for (plain, quoted, is_utf8) in [
            ("a@b", "a@b", false),
            ("\u{e9}@b", "\u{e9}@b", true),
            ("a@\u{e9}", "a@\u{e9}", true),
            ("\u{e9} b@c", "\"\u{e9} b\"@c", true),
            (".\u{e9}@c", "\".\u{e9}\"@c", true),
        ] {
            let address = Address::new(plain).unwrap();
            assert_eq!(address.quoted_utf8(), quoted.as_bytes(), "{plain}");
            assert_eq!(address.is_utf8(), is_utf8, "{plain}");
        }
        assert!(!Address::new(&b"\xe9@b"[..]).unwrap().is_utf8(), "Latin-1");
        assert!(!ReversePath::Null.is_utf8());
    }

    #[test]
    fn the_queue_format_sets_the_limits() {
        assert!(Address::new(vec![b'a'; ADDRESS_OCTETS_MAX]).is_ok());
        assert_eq!(
            Address::new(vec![b'a'; ADDRESS_OCTETS_MAX + 1]),
            Err(AddressError::TooLong)
        );
        assert_eq!(Address::new(&b"a\0b"[..]), Err(AddressError::Nul));
        assert!(ReversePath::new("").unwrap().is_null());
    }
}
