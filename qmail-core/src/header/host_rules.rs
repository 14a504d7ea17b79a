//! Rewriting of hosts by rules: control/rewrite (mess822's `rewriting`).

use crate::control::list;

/// Instructions that change the hosts of addresses, each applied at most once, in order.
///
/// | line | effect on a host |
/// |---|---|
/// | `=old:new` | `old` becomes `new` |
/// | `*old:new` | any that ends in `old` ends in `new` instead |
/// | `?old:new` | the same, if what stands before has none of `. [ ]` |
/// | `-old:new` | any that ends in `old` becomes `new` |
///
/// Ends are compared without regard to ASCII case. Other lines have no effect.
///
/// ```
/// use qmail_core::header::HostRules;
/// let rules = HostRules::standard(b"mail.example.org", b"example.org", b"example.edu");
/// for (address, want) in [
///     ("joe@", "joe@mail.example.org"),
///     ("joe@shop", "joe@shop.example.org"),
///     ("joe@cs+", "joe@cs.example.edu"),
///     ("joe@x.example.", "joe@x.example"),
///     ("joe@[192.0.2.1]", "joe@[192.0.2.1]"),
/// ] {
///     let mut address = address.as_bytes().to_vec();
///     rules.apply(&mut address);
///     assert_eq!(address, want.as_bytes());
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    kind: Kind,
    old: Box<[u8]>,
    new: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    End,
    EndOfSingle,
    Replace,
}

impl HostRules {
    /// Reads control/rewrite.
    pub fn parse(file: &[u8]) -> Self {
        Self(
            list(file)
                .filter_map(|line| Rule::parse(line.octets))
                .collect(),
        )
    }

    /// The rules of a system without control/rewrite: a dot at the end goes, then default host, plus domain and default
    /// domain.
    pub fn standard(default_host: &[u8], default_domain: &[u8], plus_domain: &[u8]) -> Self {
        let dotted = |domain: &[u8]| [b".", domain].concat();
        let rule = |kind, old: &[u8], new: &[u8]| Rule {
            kind,
            old: old.into(),
            new: new.into(),
        };
        Self(vec![
            rule(Kind::End, b".", b""),
            rule(Kind::Whole, b"", default_host),
            rule(Kind::End, b"+", &dotted(plus_domain)),
            rule(Kind::EndOfSingle, b"", &dotted(default_domain)),
        ])
    }

    /// Changes the host of an address in internal form: what follows its last `@`. An address without one has the empty
    /// host, an empty address stays empty.
    pub fn apply(&self, address: &mut Vec<u8>) {
        if address.is_empty() {
            return;
        }
        let at = memchr::memrchr(b'@', address).unwrap_or_else(|| {
            address.push(b'@');
            address.len() - 1
        });
        let mut host = address.split_off(at + 1);
        self.apply_to_host(&mut host);
        address.append(&mut host);
    }

    /// Changes a host by itself.
    pub fn apply_to_host(&self, host: &mut Vec<u8>) {
        for rule in &self.0 {
            rule.apply(host);
        }
    }
}

impl Rule {
    fn parse(line: &[u8]) -> Option<Self> {
        let (kind, rest) = line.split_first()?;
        let kind = match kind {
            b'=' => Kind::Whole,
            b'*' => Kind::End,
            b'?' => Kind::EndOfSingle,
            b'-' => Kind::Replace,
            _ => return None,
        };
        let colon = memchr::memchr(b':', rest)?;
        Some(Self {
            kind,
            old: rest[..colon].into(),
            new: rest[colon + 1..].into(),
        })
    }

    fn apply(&self, host: &mut Vec<u8>) {
        let Some(before) = host.len().checked_sub(self.old.len()) else {
            return;
        };
        if !host[before..].eq_ignore_ascii_case(&self.old) {
            return;
        }
        let is_single = || memchr::memchr3(b'.', b'[', b']', &host[..before]).is_none();
        let keep = match self.kind {
            Kind::Whole if before == 0 => 0,
            Kind::End => before,
            Kind::EndOfSingle if is_single() => before,
            Kind::Replace => 0,
            Kind::Whole | Kind::EndOfSingle => return,
        };
        host.truncate(keep);
        host.extend_from_slice(&self.new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_apply_once_and_in_order() {
        let rules = HostRules::parse(
            b"# comment\n*.:\n=:home.example\n*+:.plus.example\n=local:my.example\n*.local:.my.example\n-.gone:there.example\n\
              ?:.dd.example\nno effect\n!x:y\n=nocolon\n*OLD.example:new.example\n",
        );
        for (address, want) in [
            ("", ""),
            ("a", "a@home.example"),
            ("a@", "a@home.example"),
            ("b@local", "b@my.example"),
            ("c@x.LOCAL", "c@x.my.example"),
            ("d@y.z.gone", "d@there.example"),
            ("e@f+", "e@f.plus.example"),
            ("g@h.", "g@h.dd.example"),
            ("g@h..", "g@h."),
            ("i@j", "i@j.dd.example"),
            ("k@[1.2]", "k@[1.2]"),
            ("c@old.example", "c@new.example"),
            // The classic programs took the first `@`.
            ("a@b@local", "a@b@my.example"),
        ] {
            let mut address = address.as_bytes().to_vec();
            rules.apply(&mut address);
            assert_eq!(String::from_utf8(address).unwrap(), want);
        }
    }
}
