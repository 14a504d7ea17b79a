//! Who is told of a failure.

use crate::{Address, ReversePath, verp};

/// What is to be done about the failed recipients of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Tell the sender, from the null sender.
    Single(Address),
    /// The message was a bounce: tell the postmaster of this host, from the sender [`Plan::DOUBLE_BOUNCE_SENDER`].
    Double,
    /// The message was a double bounce: log it and forget it.
    Discard,
}

impl Plan {
    /// The sender of double bounces, which itself gets none.
    pub const DOUBLE_BOUNCE_SENDER: &[u8] = b"#@[]";
}

/// Decides by the sender of a message what its bounce is.
///
/// ```
/// use qmail_core::{Address, ReversePath, bounce::{Plan, plan}};
/// assert_eq!(plan(&ReversePath::Null), Plan::Double);
/// assert_eq!(plan(&ReversePath::new("l-@h-@[]")?), Plan::Single(Address::new("l-@h")?));
/// # Ok::<(), qmail_core::AddressError>(())
/// ```
pub fn plan(sender: &ReversePath) -> Plan {
    if sender.as_bytes() == Plan::DOUBLE_BOUNCE_SENDER {
        return Plan::Discard;
    }
    match verp::unmarked(sender) {
        ReversePath::Null => Plan::Double,
        ReversePath::Address(address) => Plan::Single(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_decides() {
        for (sender, want) in [
            ("", Plan::Double),
            ("-@[]", Plan::Double),
            ("#@[]", Plan::Discard),
            ("joe@x", Plan::Single(Address::new("joe@x").unwrap())),
            ("l-@h-@[]", Plan::Single(Address::new("l-@h").unwrap())),
        ] {
            assert_eq!(plan(&ReversePath::new(sender).unwrap()), want, "{sender}");
        }
    }
}
