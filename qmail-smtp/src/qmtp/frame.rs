//! What goes around the octets of a message.

use qmail_core::netstring;

/// What a QMTP client sends before and after the octets of a message whose lines end in LF.
///
/// ```
/// let (head, tail) = qmail_smtp::qmtp::qmtp_frame(3, b"a@b", [&b"j@x"[..], b"k@y"]);
/// assert_eq!([&head[..], b"hi\n", &tail].concat(), b"4:\nhi\n,3:a@b,12:3:j@x,3:k@y,,");
/// ```
pub fn qmtp_frame<'a>(
    message_octets: u64,
    sender: &[u8],
    recipients: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Vec<u8>) {
    let mut head = Vec::new();
    netstring::write_length(message_octets.saturating_add(1), &mut head);
    head.push(b'\n');
    let mut tail = vec![netstring::END];
    netstring::write(sender, &mut tail);
    let mut inner = Vec::new();
    for recipient in recipients {
        netstring::write(recipient, &mut inner);
    }
    netstring::write(&inner, &mut tail);
    (head, tail)
}

/// What a QMQP client sends before and after the octets of a message.
///
/// ```
/// let (head, tail) = qmail_smtp::qmtp::qmqp_frame(3, b"a@b", [&b"j@x"[..], b"k@y"]);
/// assert_eq!([&head[..], b"hi\n", &tail].concat(), b"24:3:hi\n,3:a@b,3:j@x,3:k@y,,");
/// ```
pub fn qmqp_frame<'a>(
    message_octets: u64,
    sender: &[u8],
    recipients: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Vec<u8>) {
    let mut tail = vec![netstring::END];
    netstring::write(sender, &mut tail);
    for recipient in recipients {
        netstring::write(recipient, &mut tail);
    }
    let mut inner_head = Vec::new();
    netstring::write_length(message_octets, &mut inner_head);
    let mut head = Vec::new();
    let octets = inner_head.len() as u64 + message_octets + tail.len() as u64;
    netstring::write_length(octets, &mut head);
    head.extend_from_slice(&inner_head);
    tail.push(netstring::END);
    (head, tail)
}
