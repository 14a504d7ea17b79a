//! What clients send that is too long to be written down: the expressions of the entries' `generate`, by entry.

/// What each connection of an entry sends; `None` if it cannot be made here.
pub(super) fn connections(id: &str) -> Option<Vec<Vec<u8>>> {
    let one = |octets: Vec<u8>| Some(vec![octets]);
    match id {
        "TLS-garbage-handshake" => {
            let all: Vec<u8> = (0..=255).collect();
            one([&b"EHLO c.test\r\nSTARTTLS\r\n"[..], &all.repeat(64)].concat())
        }
        "TLS-fragmented-clienthello" => one([
            &b"EHLO c.test\r\nSTARTTLS\r\n"[..],
            &super::encrypted::fragmented_client_hello(),
        ]
        .concat()),
        "LEN-rcpt-100k" => one(message_to(100_000)),
        "PIPE-junk-commands" => one(b"XYZZY\r\n".repeat(100_000)),
        "PIPE-helo-long" => one(line(b"EHLO ", &b"a".repeat(10_000))),
        "LEN-cmd-1MB-then-verb" => Some(
            [
                510, 512, 998, 1000, 1024, 2048, 4096, 8192, 65_536, 1_048_576,
            ]
            .map(|length: usize| {
                let padding = b"a".repeat(length - 5);
                [
                    b"EHLO c.test\r\nNOOP ",
                    &padding[..],
                    b"RCPT TO:<alice@local.test>\r\nQUIT\r\n",
                ]
                .concat()
            })
            .to_vec(),
        ),
        "LEN-domain-255" => {
            let labels = [&b"b".repeat(63)[..]; 5].join(&b'.');
            one([b"EHLO c.test\r\nMAIL FROM:<a@", &labels[..], b".test>\r\n"].concat())
        }
        "PIPE-unread-replies" => one(b"HELP\r\n".repeat(5_000_000)),
        "LEN-data-line-1MB" => Some(
            [997, 998, 999, 1023, 2047, 8191, 1_000_000]
                .map(|length| {
                    let [before, after] = [b"a", b"b"].map(|octet| octet.repeat(length));
                    message(&[&b"Subject: t\r\n\r\n"[..], &before, b".", &after, b"\r\n"].concat())
                })
                .to_vec(),
        ),
        "LEN-received-99-100-101" => Some(
            [98, 99, 100, 101, 1000]
                .map(|count| {
                    message(&[&b"Received: x\r\n".repeat(count)[..], b"\r\nx\r\n"].concat())
                })
                .to_vec(),
        ),
        "AUTH-base64-all-lengths" => Some(
            (0..=1200)
                .map(|length| line(b"EHLO c.test\r\nAUTH PLAIN ", &b"A".repeat(length)))
                .collect(),
        ),
        "AUTH-bruteforce" => one([
            &b"EHLO c.test\r\n"[..],
            &b"AUTH PLAIN AGFsaWNlAHdyb25n\r\n".repeat(1000),
        ]
        .concat()),
        "POP3-user-long-10MB" => one([
            line(b"USER ", &b"a".repeat(10_000_000)),
            b"PASS x\r\n".to_vec(),
        ]
        .concat()),
        "POP3-cmd-flood" => one(b"XXXX\r\n".repeat(100_000)),
        _ => None,
    }
}

fn line(start: &[u8], rest: &[u8]) -> Vec<u8> {
    [start, rest, b"\r\n"].concat()
}

/// A whole conversation that sends one message, whose lines end in CR LF.
fn message(text: &[u8]) -> Vec<u8> {
    let envelope =
        b"EHLO c.test\r\nMAIL FROM:<s@remote.test>\r\nRCPT TO:<alice@local.test>\r\nDATA\r\n";
    [&envelope[..], text, b".\r\nQUIT\r\n"].concat()
}

/// A message to so many recipients.
fn message_to(count: u32) -> Vec<u8> {
    let mut octets = b"EHLO c.test\r\nMAIL FROM:<s@remote.test>\r\n".to_vec();
    for number in 0..count {
        octets.extend_from_slice(format!("RCPT TO:<u{number}@local.test>\r\n").as_bytes());
    }
    octets.extend_from_slice(b"DATA\r\nSubject: t\r\n\r\nx\r\n.\r\n");
    octets
}

/// A message with a line of so many letters, and that the connection goes on after it.
pub(super) fn message_of(letters: usize) -> Vec<u8> {
    let envelope =
        b"EHLO c.test\r\nMAIL FROM:<s@remote.test>\r\nRCPT TO:<alice@local.test>\r\nDATA\r\n";
    let text = [
        &b"Subject: t\r\n\r\n"[..],
        &b"a".repeat(letters),
        b"\r\n.\r\n",
    ]
    .concat();
    [&envelope[..], &text, b"NOOP\r\nQUIT\r\n"].concat()
}
