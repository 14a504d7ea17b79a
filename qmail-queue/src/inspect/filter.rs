//! Which messages are meant.

use std::time::{Duration, SystemTime};

use super::Listed;

/// Conditions on a message; it fits if it meets them all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Its sender; `<>` or the empty pattern is the null one.
    pub sender: Option<Pattern>,
    /// Somebody whom it still waits for.
    pub recipient: Option<Pattern>,
    /// How long ago it was routed, at least.
    pub age_min: Option<Duration>,
    /// Text in what its last deferral said, in any case.
    pub reason: Option<Vec<u8>>,
    /// Whether it is held.
    pub held: Option<bool>,
}

impl Filter {
    /// Whether a message fits.
    pub fn fits(&self, message: &Listed, now: SystemTime) -> bool {
        let sender = |pattern: &Pattern| pattern.matches(message.sender.as_bytes());
        let recipient = |pattern: &Pattern| {
            let mut waiting = message.recipients.iter().filter(|to| !to.done);
            waiting.any(|to| pattern.matches(to.address.as_bytes()))
        };
        let age = |least: &Duration| message.age(now).is_some_and(|age| age >= *least);
        let reason = |text: &Vec<u8>| {
            let said = message.reason.as_deref().unwrap_or_default();
            contains(said, text)
        };
        self.sender.as_ref().is_none_or(sender)
            && self.recipient.as_ref().is_none_or(recipient)
            && self.age_min.as_ref().is_none_or(age)
            && self.reason.as_ref().is_none_or(reason)
            && self.held.is_none_or(|held| held == message.held)
    }
}

/// An address, or a part of many: `*` stands for any octets, and a pattern that begins with `@` is a whole domain. Case does not
/// matter.
///
/// ```
/// use qmail_queue::Pattern;
/// assert!(Pattern::new("@Example.org").matches(b"joe@example.ORG"));
/// assert!(!Pattern::new("@example.org").matches(b"joe@sub.example.org"));
/// assert!(Pattern::new("list-*@example.org").matches(b"list-a-b@example.org"));
/// assert!(Pattern::new("<>").matches(b""));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// The pattern that this text writes.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        Self(match text {
            b"<>" => Vec::new(),
            [b'@', ..] => [b"*", text].concat(),
            _ => text.to_owned(),
        })
    }

    /// As it would be written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether an address is meant.
    pub fn matches(&self, address: &[u8]) -> bool {
        let (mut at, mut pattern_at) = (0, 0);
        // Where to go on if it does not fit from here: behind the last star, one octet further each time.
        let mut last_star = None;
        while at < address.len() {
            match self.0.get(pattern_at) {
                Some(b'*') => {
                    pattern_at += 1;
                    last_star = Some((pattern_at, at));
                }
                Some(octet) if octet.eq_ignore_ascii_case(&address[at]) => {
                    pattern_at += 1;
                    at += 1;
                }
                _ => match &mut last_star {
                    Some((behind, from)) => {
                        *from += 1;
                        (pattern_at, at) = (*behind, *from);
                    }
                    None => return false,
                },
            }
        }
        self.0[pattern_at..].iter().all(|&octet| octet == b'*')
    }
}

fn contains(said: &[u8], text: &[u8]) -> bool {
    text.is_empty()
        || said
            .windows(text.len())
            .any(|part| part.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use qmail_core::{Address, ReversePath};

    use super::super::ListedRecipient;
    use super::*;
    use crate::{Channel, MessageId};

    #[test]
    fn patterns() {
        for (pattern, address, fits) in [
            ("", "", true),
            ("", "a", false),
            ("<>", "", true),
            ("*", "", true),
            ("*", "a@b", true),
            ("a@b", "A@B", true),
            ("a@b", "a@bc", false),
            ("@b", "x@b", true),
            ("@b", "x@a.b", false),
            ("*.b", "x@a.b", true),
            ("a*a", "aa", true),
            ("a*a", "a", false),
            ("*a*a*b", "aaaaab", true),
            ("*a*a*b", "aaaaaa", false),
        ] {
            let matches = Pattern::new(pattern).matches(address.as_bytes());
            assert_eq!(matches, fits, "{pattern} {address}");
        }
        // Bad patterns take no more than the product of the lengths.
        let long = [b'a'; 1000];
        assert!(!Pattern::new("*a".repeat(400) + "b").matches(&long));
    }

    #[test]
    fn a_message_fits_if_it_meets_every_condition() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let to = |address: &str, done| ListedRecipient {
            channel: Some(Channel::Remote),
            address: Address::new(address.to_owned()).unwrap(),
            done,
        };
        let message = Listed {
            id: MessageId(7),
            birth: Some(SystemTime::UNIX_EPOCH),
            octets: 9,
            sender: ReversePath::new("s@from").unwrap(),
            recipients: vec![to("done@a", true), to("left@b", false)],
            bouncing: false,
            held: true,
            due: [None; 2],
            reason: Some(b"Host is DOWN".as_slice().into()),
        };
        let all = Filter {
            sender: Some(Pattern::new("@from")),
            recipient: Some(Pattern::new("@b")),
            age_min: Some(Duration::from_secs(1_000)),
            reason: Some(b"down".to_vec()),
            held: Some(true),
        };
        assert!(Filter::default().fits(&message, now));
        assert!(all.fits(&message, now));
        for spoil in [
            |filter: &mut Filter| filter.sender = Some(Pattern::new("")),
            |filter: &mut Filter| filter.recipient = Some(Pattern::new("@a")),
            |filter: &mut Filter| filter.age_min = Some(Duration::from_secs(1_001)),
            |filter: &mut Filter| filter.reason = Some(b"downs".to_vec()),
            |filter: &mut Filter| filter.held = Some(false),
        ] {
            let mut filter = all.clone();
            spoil(&mut filter);
            assert!(!filter.fits(&message, now), "{filter:?}");
        }
    }
}
