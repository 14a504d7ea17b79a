//! Variable envelope return paths: a sender `list-@host-@[]` becomes `list-box=dom@host` for the recipient `box@dom`, so
//! that a bounce tells whom it is about.

use crate::{Address, ReversePath};

/// The end of a sender that asks for one return path per recipient.
const MARK: &[u8] = b"-@[]";

/// Whether this sender is to be expanded for each recipient, so that recipients cannot share a delivery.
pub fn asks_for_expansion(sender: &ReversePath) -> bool {
    sender.as_bytes().ends_with(MARK)
}

/// The sender as the delivery to this recipient sees it.
///
/// The recipient is the rewritten one: with virtual domains its prefix is part of it. Other senders pass as they are, and
/// so does a marked sender or a recipient without `@` of its own. If the result would be too long for an address, it is
/// that of [`unmarked`], to which bounces can go as well.
///
/// ```
/// use qmail_core::{Address, ReversePath, verp};
/// let sender = ReversePath::new("list-@host-@[]")?;
/// let expanded = verp::expand(&sender, &Address::new("box@dom")?);
/// assert_eq!(expanded.as_bytes(), b"list-box=dom@host");
/// # Ok::<(), qmail_core::AddressError>(())
/// ```
pub fn expand(sender: &ReversePath, recipient: &Address) -> ReversePath {
    let Some(path) = sender.as_bytes().strip_suffix(MARK) else {
        return sender.clone();
    };
    let (Some(at), (mailbox, Some(domain))) = (memchr::memrchr(b'@', path), recipient.split())
    else {
        return sender.clone();
    };
    let (before, host) = (&path[..at], &path[at..]);
    let expanded = [before, mailbox, b"=", domain, host].concat();
    ReversePath::new(expanded).unwrap_or_else(|_| unmarked(sender))
}

/// The sender that a bounce of the queue goes to: without the mark, `list-@host`. One bounce tells of all recipients.
///
/// ```
/// use qmail_core::{ReversePath, verp};
/// let sender = ReversePath::new("list-@host-@[]")?;
/// assert_eq!(verp::unmarked(&sender).as_bytes(), b"list-@host");
/// # Ok::<(), qmail_core::AddressError>(())
/// ```
pub fn unmarked(sender: &ReversePath) -> ReversePath {
    let octets = sender.as_bytes();
    match octets.strip_suffix(MARK) {
        Some(path) => ReversePath::new(path.to_vec()).unwrap_or_default(),
        None => sender.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_expanded() {
        for (sender, recipient, expanded) in [
            ("l-@h-@[]", "u@d", "l-u=d@h"),
            ("l-@h-@[]", "a@b@d", "l-a@b=d@h"),
            ("l@x@h-@[]", "u@d", "l@xu=d@h"),
            ("l-@h-@[]", "pre-u@d", "l-pre-u=d@h"),
            ("l-@h-@[]", "u", "l-@h-@[]"),
            ("l-@h-@[]", "u@", "l-u=@h"),
            ("l-@[]", "u@d", "l-@[]"),
            ("-@[]", "u@d", "-@[]"),
            ("#@[]", "u@d", "#@[]"),
            ("", "u@d", ""),
            ("joe@h", "u@d", "joe@h"),
        ] {
            let sender = ReversePath::new(sender).unwrap();
            let recipient = Address::new(recipient).unwrap();
            assert_eq!(
                expand(&sender, &recipient).as_bytes(),
                expanded.as_bytes(),
                "{sender}"
            );
        }
    }

    #[test]
    fn an_expansion_that_is_too_long_falls_back() {
        let sender = ReversePath::new([&[b'l'; 600][..], b"@h-@[]"].concat()).unwrap();
        let recipient = Address::new([&[b'u'; 500][..], b"@d"].concat()).unwrap();
        assert_eq!(expand(&sender, &recipient), unmarked(&sender));
        assert!(unmarked(&sender).as_bytes().ends_with(b"l@h"));
    }

    #[test]
    fn marks_are_stripped_for_bounces() {
        for (sender, stripped, asks) in [
            ("l-@h-@[]", "l-@h", true),
            ("-@[]", "", true),
            ("#@[]", "#@[]", false),
            ("joe@h", "joe@h", false),
            ("", "", false),
        ] {
            let sender = ReversePath::new(sender).unwrap();
            assert_eq!(unmarked(&sender).as_bytes(), stripped.as_bytes());
            assert_eq!(asks_for_expansion(&sender), asks);
        }
    }
}
