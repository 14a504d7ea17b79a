//! Whom a server takes mail for, and from whom: control/rcpthosts, morercpthosts.cdb, badmailfrom (qmail-smtpd(8)).

use bytes::Bytes;

use crate::cdb::{Cdb, CdbError};
use crate::control::{Set, suffixes};
use crate::{Address, ReversePath};

/// The hosts that a client without relay rights may send to.
///
/// An entry is a whole host, or a `.suffix` that stands for all hosts below. A missing control/rcpthosts is no empty
/// one: [`Tables::receives`](super::Tables::receives) decides then.
#[derive(Clone, Debug, Default)]
pub struct RcptHosts {
    hosts: Set,
    more: Option<Cdb<Bytes>>,
}

impl RcptHosts {
    /// Reads control/rcpthosts.
    pub fn parse(file: &[u8]) -> Self {
        Self {
            hosts: Set::parse(file),
            more: None,
        }
    }

    /// With control/morercpthosts.cdb, which is looked at after the list.
    pub fn with_more(self, more: Cdb<Bytes>) -> Self {
        Self {
            more: Some(more),
            ..self
        }
    }

    /// Whether mail for this recipient is taken from anybody. A recipient without `@` is; an empty host is not.
    ///
    /// ```
    /// use qmail_core::{Address, route::RcptHosts};
    /// let hosts = RcptHosts::parse(b"example.org\n.example.org\n");
    /// assert!(hosts.allows(&Address::new("joe@a.Example.Org")?)?);
    /// assert!(!hosts.allows(&Address::new("joe@example.com")?)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// morercpthosts.cdb is damaged: answer with a temporary failure.
    pub fn allows(&self, recipient: &Address) -> Result<bool, CdbError> {
        let Some(host) = recipient.domain() else {
            return Ok(true);
        };
        if host.is_empty() {
            return Ok(false);
        }
        if self.hosts.contains_host(host) {
            return Ok(true);
        }
        let Some(more) = &self.more else {
            return Ok(false);
        };
        let host = host.to_ascii_lowercase();
        if more.get(&host)?.is_some() {
            return Ok(true);
        }
        for suffix in suffixes(&host) {
            if more.get(suffix)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Senders that are refused: `user@host`, or `@host` for all of a host. Subdomains are not covered.
#[derive(Clone, Debug, Default)]
pub struct BadMailFrom(Set);

impl BadMailFrom {
    /// Reads control/badmailfrom.
    pub fn parse(file: &[u8]) -> Self {
        Self(Set::parse(file))
    }

    /// Whether mail from this sender is refused. The null sender never is.
    pub fn refuses(&self, sender: &ReversePath) -> bool {
        let ReversePath::Address(address) = sender else {
            return false;
        };
        let octets = address.as_bytes();
        let at = memchr::memrchr(b'@', octets);
        self.0.contains(octets) || at.is_some_and(|at| self.0.contains(&octets[at..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdb;

    #[test]
    fn hosts_are_allowed_by_list_and_cdb() {
        let mut writer = cdb::Writer::new(std::io::Cursor::new(Vec::new())).unwrap();
        for key in ["more.example", ".deep.example"] {
            writer.add(key.as_bytes(), b"").unwrap();
        }
        let more = Cdb::new(Bytes::from(writer.finish().unwrap().into_inner())).unwrap();
        let hosts = RcptHosts::parse(b"here\n.sub\n").with_more(more);
        for (recipient, allowed) in [
            ("joe", true),
            ("joe@", false),
            ("joe@here", true),
            ("joe@HERE", true),
            ("a@b@here", true),
            ("joe@x.here", false),
            ("joe@x.sub", true),
            ("joe@sub", false),
            ("joe@More.example", true),
            ("joe@x.more.example", false),
            ("joe@a.b.deep.example", true),
            ("joe@deep.example", false),
        ] {
            let address = Address::new(recipient).unwrap();
            assert_eq!(hosts.allows(&address), Ok(allowed), "{recipient}");
        }
    }

    #[test]
    fn senders_are_refused_by_address_or_host() {
        let bad = BadMailFrom::parse(b"joe@bad\n@worse\n");
        for (sender, refused) in [
            ("JOE@bad", true),
            ("ann@bad", false),
            ("ann@Worse", true),
            ("a@b@worse", true),
            ("ann@x.worse", false),
            ("worse", false),
            ("", false),
        ] {
            assert_eq!(
                bad.refuses(&ReversePath::new(sender).unwrap()),
                refused,
                "{sender}"
            );
        }
    }
}
