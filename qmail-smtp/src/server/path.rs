//! The address of MAIL and RCPT, from its form on the wire to the unquoted one of the envelope.

use bytes::Bytes;

/// Longest unquoted address in octets that MAIL and RCPT take; a longer one is answered with 555 5.5.4
/// (qmail-smtpd(8)).
pub const PATH_OCTETS_MAX: usize = 899;

/// Reads an address and what ends it: in angle brackets up to `>`, or bare up to a space or the end of the line.
///
/// Gives the unquoted address, empty for `<>` and for nothing at all, and what follows the end. `None` if there is no end,
/// the quotes do not match, the address is too long, or its octets leave doubt:
///
/// - control octets, because they change what the next parser sees;
/// - a space or an angle bracket that is not quoted;
/// - anything quoted after the last plain `@`, or no plain `@` but a quoted one: unquoted, such an address has a domain that
///   it did not have on the wire.
///
/// A source route is skipped (RFC 5321 section 4.1.1.3). Beyond that, more than RFC 5321's grammar is taken: several `@`,
/// dots anywhere, a backslash outside quotes.
pub(super) fn path(input: &[u8]) -> Option<(Bytes, &[u8])> {
    let (bracketed, mut rest) = match input.strip_prefix(b"<") {
        Some(rest) => (true, rest),
        None => (false, input),
    };
    let mut routed = false;
    if rest.first() == Some(&b'@') {
        rest = after_route(rest)?;
        routed = true;
    }
    let (address, rest) = match plain(rest, bracketed) {
        Some((address, rest)) => (Bytes::copy_from_slice(address), rest),
        None => {
            let (address, rest) = unquoted(rest, bracketed)?;
            (Bytes::from(address), rest)
        }
    };
    if address.len() > PATH_OCTETS_MAX || (routed && address.is_empty()) {
        return None;
    }
    Some((address, rest))
}

/// The common case: an address in which nothing is quoted.
fn plain(input: &[u8], bracketed: bool) -> Option<(&[u8], &[u8])> {
    let end = input
        .iter()
        .position(|&octet| octet <= b' ' || matches!(octet, b'<' | b'>' | b'"' | b'\\' | 0x7f));
    match (end, bracketed) {
        (None, false) => Some((input, b"")),
        (Some(end), true) if input[end] == b'>' => Some((&input[..end], &input[end + 1..])),
        (Some(end), false) if input[end] == b' ' => Some((&input[..end], &input[end..])),
        _ => None,
    }
}

/// Takes quotes and backslashes away, up to the end of the address.
fn unquoted(input: &[u8], bracketed: bool) -> Option<(Vec<u8>, &[u8])> {
    let mut address = Vec::with_capacity(input.len());
    let mut quoted = false;
    let mut plain_at = false;
    // Something was quoted, and was an `@`, since the last `@` that was not.
    let mut any_quoted = false;
    let mut at_quoted = false;
    let mut octets = input.iter().copied().enumerate();
    let rest = loop {
        let Some((position, octet)) = octets.next() else {
            if bracketed || quoted {
                return None;
            }
            break &input[input.len()..];
        };
        let literal = match octet {
            0..b' ' | 0x7f => return None,
            b'\\' => {
                let (_, next) = octets.next()?;
                if next < b' ' || next == 0x7f {
                    return None;
                }
                Some(next)
            }
            b'"' => {
                quoted = !quoted;
                any_quoted = true;
                continue;
            }
            _ if quoted => Some(octet),
            b'>' if bracketed => break &input[position + 1..],
            b' ' if !bracketed => break &input[position..],
            b' ' | b'<' | b'>' => return None,
            b'@' => {
                (plain_at, any_quoted, at_quoted) = (true, false, false);
                None
            }
            _ => None,
        };
        any_quoted |= literal.is_some();
        at_quoted |= literal == Some(b'@');
        address.push(literal.unwrap_or(octet));
    };
    let doubtful = if plain_at { any_quoted } else { at_quoted };
    (!doubtful).then_some((address, rest))
}

/// Skips `@a,@b:`. A colon within an address literal does not end it.
fn after_route(input: &[u8]) -> Option<&[u8]> {
    let mut literal = false;
    for (position, octet) in input.iter().enumerate() {
        match octet {
            b'[' => literal = true,
            b']' => literal = false,
            b':' if !literal => return Some(&input[position + 1..]),
            0..=b' ' | 0x7f | b'<' | b'>' | b'"' | b'\\' => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_unquoted() {
        for (input, address, rest) in [
            ("<>", "", ""),
            ("", "", ""),
            (" x", "", " x"),
            ("<a@b>", "a@b", ""),
            ("<a@b> SIZE=1", "a@b", " SIZE=1"),
            ("<a@b>x", "a@b", "x"),
            ("a@b", "a@b", ""),
            ("a@b x", "a@b", " x"),
            ("<postmaster>", "postmaster", ""),
            ("<\"a b\"@c>", "a b@c", ""),
            ("\"a b\"@c d", "a b@c", " d"),
            ("<\"j>k\"@c>", "j>k@c", ""),
            ("<j\\@k@c>", "j@k@c", ""),
            ("<\"q\\\"r\"@c>", "q\"r@c", ""),
            ("<\"x@y\"@c>", "x@y@c", ""),
            ("<\"postmaster\">", "postmaster", ""),
            ("<a\"b c\"d@e>", "ab cd@e", ""),
            ("<x@y@z>", "x@y@z", ""),
            ("<..a..@c>", "..a..@c", ""),
            ("<@r:a@b>", "a@b", ""),
            ("<@r1,@r2:a@b>", "a@b", ""),
            ("<@[IPv6:::1]:a@b>", "a@b", ""),
            ("@r:a@b", "a@b", ""),
            ("<j@[127.0.0.1].x>", "j@[127.0.0.1].x", ""),
            ("<\u{e9}@c>", "\u{e9}@c", ""),
            ("<a@>", "a@", ""),
        ] {
            let (found, left) = path(input.as_bytes()).unwrap_or_else(|| panic!("{input}"));
            assert_eq!(
                (&found[..], left),
                (address.as_bytes(), rest.as_bytes()),
                "{input}"
            );
        }
    }

    #[test]
    fn doubtful_paths_are_refused() {
        for input in [
            "<a@b",
            "<",
            "<abc\\>",
            "<abc\\",
            "<\"a@b>",
            "<a\"@b>",
            "a\"@b",
            "<<a@b>>",
            "a<b@c",
            "a@b>",
            "<a b@c>",
            "<a\t@c>",
            "<a\0@c>",
            "<a\x7f@c>",
            "<\"a\0\"@c>",
            "<\"a\\\0\"@c>",
            "<a\r@c>",
            "<@r>",
            "<@r a@b>",
            "<@r:>",
            "<@[r:a@b>",
            // Unquoted, these would belong to another domain than on the wire.
            "<\"victim@elsewhere\">",
            "<victim\\@elsewhere>",
            "<a@\"b\">",
            "<a@b\"\">",
            "<a@b\\c>",
        ] {
            assert_eq!(path(input.as_bytes()), None, "{input:?}");
        }
    }

    #[test]
    fn the_limit_is_on_the_unquoted_address() {
        let longest = format!("<\"{}\"@b>", "\\a".repeat(PATH_OCTETS_MAX - 2));
        assert!(path(longest.as_bytes()).is_some());
        let too_long = format!("<{}@b>", "a".repeat(PATH_OCTETS_MAX - 1));
        assert!(path(too_long.as_bytes()).is_none());
    }
}
