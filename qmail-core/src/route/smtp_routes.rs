//! Artificial routes: control/smtproutes (qmail-remote(8)).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;

use crate::control::{Line, Map, Problem, Warning, list};

/// Which relay takes mail for a domain, where it is not for DNS to say.
///
/// Lines are `domain:relay`, `domain:relay:port` or `domain:`. The domain is a whole host, a `.suffix`, or empty for all
/// others. The relay is a name or an address; an IPv6 address in brackets, `[2001:db8::1]:2525`. A domain in brackets is
/// taken whole, so that an address literal may have a route of its own.
///
/// In front of the relay may stand `smtps://` (TLS from the start, port 465 unless another is given), `lmtp://` (RFC 2033,
/// port 24) or `smtp://`. Behind it may stand, after a space each, a name and a password to log in with; the password goes
/// on to the end of the line. A file that has any should be readable by the mail system only.
///
/// ```
/// use qmail_core::route::{RelayHost, SmtpRoute, SmtpRoutes};
///
/// let routes = SmtpRoutes::parse(b".example.org:relay:2525\nhere.example.org:\n", &mut Vec::new());
/// let SmtpRoute::Relay(relay) = routes.find(b"a.Example.Org") else { panic!() };
/// assert_eq!((&relay.host, relay.port), (&RelayHost::Name("relay".into()), 2525));
/// assert_eq!(routes.find(b"here.example.org"), SmtpRoute::MxAsUsual);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SmtpRoutes(Map<Option<Relay>>);

/// What [`SmtpRoutes::find`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpRoute<'a> {
    /// No entry, or an entry without relay: the mail exchangers of the domain.
    MxAsUsual,
    /// This host. Its mail exchangers are not asked for, and it may be this very host.
    Relay(&'a Relay),
}

/// The host at the end of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Relay {
    /// Name or address.
    pub host: RelayHost,
    /// TCP port, 1 to 65535.
    pub port: u16,
    /// What it speaks.
    pub protocol: RelayProtocol,
    /// Who to log in as.
    pub login: Option<RelayLogin>,
}

impl Relay {
    /// The port of SMTP.
    pub const PORT: u16 = 25;

    /// SMTP to this host, without login.
    pub fn new(host: RelayHost, port: u16) -> Self {
        Self {
            host,
            port,
            protocol: RelayProtocol::Smtp,
            login: None,
        }
    }
}

/// What a relay speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RelayProtocol {
    /// SMTP, port 25.
    #[default]
    Smtp,
    /// SMTP over TLS (RFC 8314), port 465.
    Smtps,
    /// LMTP (RFC 2033), port 24.
    Lmtp,
}

impl RelayProtocol {
    /// Its port, unless another is said.
    pub fn port(self) -> u16 {
        match self {
            Self::Smtp => Relay::PORT,
            Self::Smtps => 465,
            Self::Lmtp => 24,
        }
    }

    /// Takes the scheme off the front of a relay.
    fn split(value: &[u8]) -> (Self, &[u8]) {
        for (scheme, protocol) in [
            (&b"smtp://"[..], Self::Smtp),
            (b"smtps://", Self::Smtps),
            (b"lmtp://", Self::Lmtp),
        ] {
            if let Some((front, rest)) = value.split_at_checked(scheme.len())
                && front.eq_ignore_ascii_case(scheme)
            {
                return (protocol, rest);
            }
        }
        (Self::Smtp, value)
    }
}

/// Name and password at a relay. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayLogin {
    /// The name.
    pub name: Bytes,
    /// The password, in clear: it has to be sent, or to be known.
    pub password: Bytes,
}

impl fmt::Debug for RelayLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayLogin")
    }
}

/// How a route names its relay.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RelayHost {
    /// A name, of which the address records count.
    Name(Bytes),
    /// An address, written with or without brackets.
    Address(IpAddr),
}

impl SmtpRoutes {
    /// Reads control/smtproutes. Of equal domains the last counts.
    pub fn parse(file: &[u8], warnings: &mut Vec<Warning>) -> Self {
        let mut map = Map::default();
        for line in list(file) {
            if let Some((domain, relay)) = halve(&line, warnings) {
                map.insert(domain, parse_relay(relay, &line, warnings));
            }
        }
        Self(map)
    }

    /// The route of a domain: its own entry, that of the longest suffix, or that of the empty key.
    pub fn find(&self, domain: &[u8]) -> SmtpRoute<'_> {
        match self.0.get_host(domain) {
            Some(Some(relay)) => SmtpRoute::Relay(relay),
            Some(None) | None => SmtpRoute::MxAsUsual,
        }
    }
}

/// Halves a line at the first colon that is not within brackets at its start.
fn halve<'a>(line: &Line<'a>, warnings: &mut Vec<Warning>) -> Option<(&'a [u8], &'a [u8])> {
    if line.octets[0] == b'['
        && let Some(end) = memchr::memchr(b']', line.octets)
        && line.octets.get(end + 1) == Some(&b':')
    {
        return Some((&line.octets[..=end], &line.octets[end + 2..]));
    }
    line.key_and_value(warnings)
}

fn parse_relay(value: &[u8], line: &Line<'_>, warnings: &mut Vec<Warning>) -> Option<Relay> {
    // A password is not for the log.
    let shown = line.octets.split(|octet| matches!(octet, b' ' | b'\t'));
    let shown = shown.into_iter().next().unwrap_or_default();
    let mut warn = |problem| warnings.push(Warning::new(line.number, shown, problem));
    let mut words = value.splitn(3, |octet| matches!(octet, b' ' | b'\t'));
    let (protocol, value) = RelayProtocol::split(words.next().unwrap_or_default());
    let login = words.next().map(|name| RelayLogin {
        name: Bytes::copy_from_slice(name),
        password: Bytes::copy_from_slice(words.next().unwrap_or_default()),
    });
    if login
        .as_ref()
        .is_some_and(|login| login.password.is_empty())
    {
        warn(Problem::NoPassword);
    }
    let (host, rest) = split_host(value);
    if host.is_empty() {
        return None;
    }
    let port = match rest.strip_prefix(b":") {
        None => protocol.port(),
        Some(digits) => parse_port(digits).unwrap_or_else(|| {
            warn(Problem::BadPort);
            protocol.port()
        }),
    };
    let host = match parse_address(host) {
        Some(address) => RelayHost::Address(address),
        None => {
            if host[0] == b'[' {
                warn(Problem::BadAddress);
            }
            RelayHost::Name(Bytes::copy_from_slice(host))
        }
    };
    Some(Relay {
        host,
        port,
        protocol,
        login,
    })
}

/// The host, and what follows it: nothing, or a colon and the port.
fn split_host(value: &[u8]) -> (&[u8], &[u8]) {
    let colon = if value.first() == Some(&b'[') {
        memchr::memchr(b']', value).map(|end| end + 1)
    } else if parse_text::<Ipv6Addr>(value).is_some() {
        None
    } else {
        memchr::memchr(b':', value)
    };
    value.split_at(colon.unwrap_or(value.len()))
}

fn parse_address(host: &[u8]) -> Option<IpAddr> {
    let bracketed = host
        .strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"));
    let text = bracketed.unwrap_or(host);
    // RFC 5321 section 4.1.3 writes a tag in front of an IPv6 literal.
    let text = match text.split_at_checked(5) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case(b"IPv6:") => rest,
        _ => text,
    };
    parse_text(text)
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    parse_text(digits).filter(|&port| port != 0)
}

fn parse_text<T: std::str::FromStr>(octets: &[u8]) -> Option<T> {
    std::str::from_utf8(octets).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(route: SmtpRoute<'_>) -> String {
        match route {
            SmtpRoute::MxAsUsual => "mx".to_owned(),
            SmtpRoute::Relay(relay) => {
                let (host, port) = (&relay.host, relay.port);
                let mut shown = match host {
                    RelayHost::Name(name) => format!("name {} {port}", crate::Escaped(name)),
                    RelayHost::Address(address) => format!("address {address} {port}"),
                };
                if relay.protocol != RelayProtocol::Smtp {
                    shown += &format!(" {:?}", relay.protocol);
                }
                if let Some(RelayLogin { name, password }) = &relay.login {
                    shown += &format!(" as {} {}", crate::Escaped(name), crate::Escaped(password));
                }
                shown
            }
        }
    }

    #[test]
    fn routes_are_found() {
        let file = b"whole:r1\n.sub:r2:26\n.deep.sub:\nport:r3:0\nip:1.2.3.4\nip2:[1.2.3.4]:27\nip6:[2001:db8::1]:28\n\
            bare6:2001:db8::1\nbad:[1.2.3.257]\n[1.2.3.4]:lit\n[IPv6:::1]:lit6\nno colon\nlast:a\nLAST:b\n:rest\n";
        let mut warnings = Vec::new();
        let routes = SmtpRoutes::parse(file, &mut warnings);
        for (domain, route) in [
            ("whole", "name r1 25"),
            ("a.whole", "name rest 25"),
            ("a.SUB", "name r2 26"),
            ("a.deep.sub", "mx"),
            ("deep.sub", "name r2 26"),
            ("port", "name r3 25"),
            ("ip", "address 1.2.3.4 25"),
            ("ip2", "address 1.2.3.4 27"),
            ("ip6", "address 2001:db8::1 28"),
            ("bare6", "address 2001:db8::1 25"),
            ("bad", "name [1.2.3.257] 25"),
            ("[1.2.3.4]", "name lit 25"),
            ("[ipv6:::1]", "name lit6 25"),
            ("last", "name b 25"),
            ("", "name rest 25"),
        ] {
            assert_eq!(show(routes.find(domain.as_bytes())), route, "{domain}");
        }
        let problems: Vec<_> = warnings
            .iter()
            .map(|warning| (warning.line, warning.problem))
            .collect();
        assert_eq!(
            problems,
            [
                (4, Problem::BadPort),
                (9, Problem::BadAddress),
                (12, Problem::NoColon)
            ]
        );
    }

    #[test]
    fn relays_may_speak_otherwise_and_want_a_login() {
        let file = b"a:smtps://r\nb:LMTP://[::1]:2424\nc:r:587 joe pass word: x\nd:smtp://r\ne:lmtp://r joe p\nf:r joe\n\
            g:lmtp://\n";
        let mut warnings = Vec::new();
        let routes = SmtpRoutes::parse(file, &mut warnings);
        for (domain, route) in [
            ("a", "name r 465 Smtps"),
            ("b", "address ::1 2424 Lmtp"),
            ("c", "name r 587 as joe pass word: x"),
            ("d", "name r 25"),
            ("e", "name r 24 Lmtp as joe p"),
            ("f", "name r 25 as joe "),
            ("g", "mx"),
        ] {
            assert_eq!(show(routes.find(domain.as_bytes())), route, "{domain}");
        }
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].problem, Problem::NoPassword);
        let login = RelayLogin {
            name: "joe".into(),
            password: "hunter2".into(),
        };
        assert_eq!(format!("{login:?}"), "RelayLogin");
    }

    #[test]
    fn odd_lines_do_no_harm() {
        for line in [
            "[",
            "[]",
            "[]:",
            "[]:[",
            "x:[",
            "x:]:",
            "x:[]:",
            "x::",
            "x::25",
            ":",
            "x:y:+25",
            "x:y:99999",
        ] {
            let routes = SmtpRoutes::parse(line.as_bytes(), &mut Vec::new());
            show(routes.find(b"x"));
        }
    }
}
