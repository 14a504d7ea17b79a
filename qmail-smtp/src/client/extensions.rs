//! What a server announces in its reply to EHLO.

use qmail_core::sasl::Mechanism;

use super::ServerReply;

/// What a server announced with EHLO or LHLO. All absent after HELO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SIZE (RFC 1870).
    pub size: bool,
    /// SIZE's number, unless it is absent, 0, or beyond 64 bits: then there is no limit.
    pub message_octets_max: Option<u64>,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// STARTTLS (RFC 3207).
    pub start_tls: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// AUTH (RFC 4954), with those of its mechanisms that are known here.
    pub auth: Option<Mechanisms>,
    /// LIMITS (RFC 9422).
    pub limits: Limits,
}

/// A set of SASL mechanisms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mechanisms([bool; Mechanism::ALL.len()]);

impl Mechanisms {
    /// Those that are in it.
    pub fn iter(self) -> impl Iterator<Item = Mechanism> {
        Mechanism::ALL
            .into_iter()
            .zip(self.0)
            .filter_map(|(mechanism, offered)| offered.then_some(mechanism))
    }

    fn insert(&mut self, wanted: Mechanism) {
        for (mechanism, offered) in Mechanism::ALL.into_iter().zip(&mut self.0) {
            *offered |= mechanism == wanted;
        }
    }
}

/// How much a server takes over one connection (RFC 9422); absent means that it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Transactions, at least 1.
    pub mail_max: Option<u32>,
    /// Recipients of one transaction, at least 1.
    pub rcpt_max: Option<u32>,
    /// Different domains among these, at least 1.
    pub rcpt_domain_max: Option<u32>,
}

impl Extensions {
    /// Reads the reply to EHLO: its first line is a greeting, each further one a keyword with parameters.
    pub(super) fn parse(reply: &ServerReply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines().skip(1) {
            let mut words = line
                .split(|&octet| octet == b' ')
                .filter(|word| !word.is_empty());
            if let Some(keyword) = words.next() {
                extensions.add(keyword, words);
            }
        }
        extensions
    }

    fn add<'a>(&mut self, keyword: &'a [u8], mut words: impl Iterator<Item = &'a [u8]>) {
        match &keyword.to_ascii_uppercase()[..] {
            b"PIPELINING" => self.pipelining = true,
            b"8BITMIME" => self.eight_bit_mime = true,
            b"ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            b"STARTTLS" => self.start_tls = true,
            b"SMTPUTF8" => self.smtp_utf8 = true,
            b"DSN" => self.dsn = true,
            b"SIZE" => {
                self.size = true;
                self.message_octets_max = words.next().and_then(positive);
            }
            b"AUTH" => self.add_mechanisms(words),
            b"LIMITS" => words.for_each(|word| self.limits.add(word)),
            // `AUTH=LOGIN PLAIN` is how servers said it before there was an RFC; some still say nothing else.
            other if other.starts_with(b"AUTH=") => {
                let first = &keyword[b"AUTH=".len()..];
                self.add_mechanisms(std::iter::once(first).chain(words));
            }
            _ => {}
        }
    }

    fn add_mechanisms<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        let mechanisms = self.auth.get_or_insert_default();
        names
            .filter_map(Mechanism::named)
            .for_each(|mechanism| mechanisms.insert(mechanism));
    }
}

impl Limits {
    /// `NAME=NUMBER`; what is not understood limits nothing.
    fn add(&mut self, word: &[u8]) {
        let Some(at) = memchr::memchr(b'=', word) else {
            return;
        };
        let limit = match &word[..at].to_ascii_uppercase()[..] {
            b"MAILMAX" => &mut self.mail_max,
            b"RCPTMAX" => &mut self.rcpt_max,
            b"RCPTDOMAINMAX" => &mut self.rcpt_domain_max,
            _ => return,
        };
        *limit = positive(&word[at + 1..]);
    }
}

/// A number that is not 0.
fn positive<T: std::str::FromStr + PartialOrd + Default>(digits: &[u8]) -> Option<T> {
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    (number > T::default()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ReplyReader;

    fn extensions(lines: &str) -> Extensions {
        let (_, reply) = ReplyReader::default()
            .read(lines.as_bytes())
            .expect("a reply");
        Extensions::parse(&reply.expect("a whole reply"))
    }

    #[test]
    fn keywords_and_their_parameters() {
        let found = extensions(
            "250-SIZE 9 says hello\r\n250-auth plain X-OWN  scram-sha-256\r\n250-AUTH=LOGIN\r\n250-STARTTLS\r\n\
             250-SmtpUtf8\r\n250-DSN\r\n250-LIMITS RCPTMAX=20 mailmax=5 X=1 RCPTDOMAINMAX=1\r\n250 SIZE 0\r\n",
        );
        let mechanisms: Vec<_> = found.auth.expect("AUTH").iter().collect();
        let expected = [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];
        assert_eq!(mechanisms, expected);
        assert!(found.start_tls && found.smtp_utf8 && found.dsn && found.size);
        assert_eq!(found.message_octets_max, None);
        let limits = found.limits;
        assert_eq!(
            (limits.rcpt_max, limits.mail_max, limits.rcpt_domain_max),
            (Some(20), Some(5), Some(1))
        );
    }

    #[test]
    fn what_is_no_number_limits_nothing() {
        for word in [
            "RCPTMAX",
            "RCPTMAX=",
            "RCPTMAX=0",
            "RCPTMAX=+1",
            "RCPTMAX=-1",
            "RCPTMAX=99999999999",
            "=1",
        ] {
            let found = extensions(&format!("250-x\r\n250 LIMITS {word}\r\n"));
            assert_eq!(found.limits, Limits::default(), "{word}");
        }
        for word in ["99999999999999999999999999", "x", "0"] {
            let found = extensions(&format!("250-x\r\n250 SIZE {word}\r\n"));
            assert_eq!(found.message_octets_max, None, "{word}");
        }
        assert_eq!(
            extensions("250-x\r\n250 AUTH\r\n").auth,
            Some(Mechanisms::default())
        );
    }
}
