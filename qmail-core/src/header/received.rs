//! Received fields: the trace that every program leaves on the messages it takes.

use super::date::write_date;
use crate::Origin;
use crate::decimal::push_decimal;

/// Appends the line that the queue puts in front of a message: `Received: (qmail PID invoked by uid N); DATE`.
///
/// ```
/// use qmail_core::{Origin, header::received::write_queue_field};
/// let mut sink = Vec::new();
/// write_queue_field(77, Origin::Network, 0, &mut sink);
/// assert_eq!(sink, b"Received: (qmail 77 invoked from network); 1 Jan 1970 00:00:00 -0000\n");
/// ```
pub fn write_queue_field(pid: u32, origin: Origin, seconds: u64, sink: &mut Vec<u8>) {
    sink.extend_from_slice(b"Received: (qmail ");
    push_decimal(sink, u64::from(pid));
    match origin {
        Origin::Network => sink.extend_from_slice(b" invoked from network"),
        Origin::Bounce => sink.extend_from_slice(b" invoked for bounce"),
        Origin::Alias => sink.extend_from_slice(b" invoked by alias"),
        Origin::Uid(uid) => {
            sink.extend_from_slice(b" invoked by uid ");
            push_decimal(sink, u64::from(uid));
        }
    }
    sink.extend_from_slice(b"); ");
    write_date(seconds, sink);
    sink.push(b'\n');
}

/// What a receiver by SMTP, QMTP or QMQP knows of the message's last hop.
///
/// A peer chooses most of it: octets other than letters, digits and `.@%+/=:-[]` are written as `?`, so that no value
/// can look like another part of the field. A value that is longer than [`Self::VALUE_OCTETS_MAX`] is cut.
///
/// ```
/// use qmail_core::header::received::Received;
/// let received = Received {
///     remote_host: b"client.example",
///     remote_ip: b"192.0.2.1",
///     remote_info: Some(b"joe"),
///     helo: Some(b"my_pc"),
///     local: b"mail.example.org",
///     protocol: "SMTP",
/// };
/// let mut sink = Vec::new();
/// received.write(0, &mut sink);
/// assert_eq!(
///     String::from_utf8_lossy(&sink),
///     "Received: from client.example (HELO my?pc) (joe@192.0.2.1)\n  \
///      by mail.example.org with SMTP; 1 Jan 1970 00:00:00 -0000\n",
/// );
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The peer's name by DNS; by custom `unknown` if it has none.
    pub remote_host: &'a [u8],
    /// The peer's address.
    pub remote_ip: &'a [u8],
    /// The answer of the peer's ident server, if it was asked and answered. May be empty.
    pub remote_info: Option<&'a [u8]>,
    /// The name that an SMTP client gave. Not shown if it is `remote_host`; `None` before HELO and in other protocols.
    pub helo: Option<&'a [u8]>,
    /// The name or address of this host that the peer connected to.
    pub local: &'a [u8],
    /// `SMTP`, `ESMTP`, `ESMTPS`, `QMTP`, ... (RFC 3848).
    pub protocol: &'a str,
}

impl Received<'_> {
    /// As much of each value as is shown. A host name has 255 octets at most (RFC 1035 section 2.3.4); an ident answer
    /// is cut at 998 by those who ask for it.
    pub const VALUE_OCTETS_MAX: usize = 1000;

    /// Appends the field: two lines, each ending in LF.
    pub fn write(&self, seconds: u64, sink: &mut Vec<u8>) {
        sink.extend_from_slice(b"Received: from ");
        push_safe(sink, self.remote_host);
        if let Some(helo) = self.helo
            && !helo.eq_ignore_ascii_case(self.remote_host)
        {
            sink.extend_from_slice(b" (HELO ");
            push_safe(sink, helo);
            sink.push(b')');
        }
        sink.extend_from_slice(b" (");
        if let Some(info) = self.remote_info {
            push_safe(sink, info);
            sink.push(b'@');
        }
        push_safe(sink, self.remote_ip);
        sink.extend_from_slice(b")\n  by ");
        push_safe(sink, self.local);
        sink.extend_from_slice(b" with ");
        push_safe(sink, self.protocol.as_bytes());
        sink.extend_from_slice(b"; ");
        write_date(seconds, sink);
        sink.push(b'\n');
    }
}

/// Appends the line that ofmipd puts in front of a message: `Received: (ofmipd INFO@IP); DATE`.
///
/// Octets that could end the comment or the line are written as `?`.
///
/// ```
/// let mut sink = Vec::new();
/// qmail_core::header::received::write_ofmip_field(Some(b"jo (e)"), b"192.0.2.7", 0, &mut sink);
/// assert_eq!(sink, b"Received: (ofmipd jo??e?@192.0.2.7); 1 Jan 1970 00:00:00 -0000\n");
/// ```
pub fn write_ofmip_field(info: Option<&[u8]>, ip: &[u8], seconds: u64, sink: &mut Vec<u8>) {
    let push = |octets: &[u8], sink: &mut Vec<u8>| {
        let shown = &octets[..octets.len().min(Received::VALUE_OCTETS_MAX)];
        let is_safe = |octet: u8| octet.is_ascii_graphic() && !b"()@\\".contains(&octet);
        sink.extend(
            shown
                .iter()
                .map(|&octet| if is_safe(octet) { octet } else { b'?' }),
        );
    };
    sink.extend_from_slice(b"Received: (ofmipd ");
    if let Some(info) = info {
        push(info, sink);
        sink.push(b'@');
    }
    push(ip, sink);
    sink.extend_from_slice(b"); ");
    write_date(seconds, sink);
    sink.push(b'\n');
}

fn push_safe(sink: &mut Vec<u8>, octets: &[u8]) {
    let shown = &octets[..octets.len().min(Received::VALUE_OCTETS_MAX)];
    sink.extend(shown.iter().map(|&octet| {
        let safe = octet.is_ascii_alphanumeric() || b".@%+/=:-[]".contains(&octet);
        if safe { octet } else { b'?' }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: Received<'static> = Received {
        remote_host: b"unknown",
        remote_ip: b"192.0.2.1",
        remote_info: None,
        helo: None,
        local: b"here",
        protocol: "QMTP",
    };

    fn written(received: Received<'_>) -> String {
        let mut sink = Vec::new();
        received.write(0, &mut sink);
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn parts_are_left_out_when_they_say_nothing() {
        let date = "1 Jan 1970 00:00:00 -0000\n";
        for (received, start) in [
            (
                RECEIVED,
                "Received: from unknown (192.0.2.1)\n  by here with QMTP; ",
            ),
            (
                Received {
                    helo: Some(b"UNKNOWN"),
                    ..RECEIVED
                },
                "Received: from unknown (192.0.2.1)\n  by here with QMTP; ",
            ),
            (
                Received {
                    helo: Some(b""),
                    remote_info: Some(b""),
                    ..RECEIVED
                },
                "Received: from unknown (HELO ) (@192.0.2.1)\n  by here with QMTP; ",
            ),
        ] {
            assert_eq!(written(received), format!("{start}{date}"));
        }
    }

    #[test]
    fn a_peer_adds_no_line_and_no_comment() {
        let field = written(Received {
            helo: Some(b"a\r\nb) (c_\0\xff<~!"),
            ..RECEIVED
        });
        assert!(field.contains(" (HELO a??b???c??????) "), "{field}");
        let long = [b'x'; 5000];
        assert!(
            written(Received {
                helo: Some(&long),
                ..RECEIVED
            })
            .len()
                < 1200
        );
    }

    #[test]
    fn the_queue_says_who_called() {
        for (origin, how) in [
            (Origin::Network, "from network"),
            (Origin::Bounce, "for bounce"),
            (Origin::Alias, "by alias"),
            (Origin::Uid(4_294_967_295), "by uid 4294967295"),
        ] {
            let mut sink = Vec::new();
            write_queue_field(1, origin, 1_700_000_000, &mut sink);
            let want = format!("Received: (qmail 1 invoked {how}); 14 Nov 2023 22:13:20 -0000\n");
            assert_eq!(String::from_utf8(sink).unwrap(), want);
        }
    }
}
