//! What programs are told about a delivery.

use super::{Mailbox, from_line, return_path};
use crate::ReversePath;

/// The senders of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct SenderOf<'a> {
    /// Of the message.
    pub message: &'a ReversePath,
    /// Of its forwards: [`Mailbox::new_sender`].
    pub forwards: &'a [u8],
}

/// The environment of a program delivery (qmail-command(8)), besides what the program has anyway.
///
/// `default` is that of the [`Candidate`](super::Candidate) that serves; with `None` a `DEFAULT` that is set must be removed.
/// `seconds` is the time of the delivery since 1970. No value has a NUL unless the mailbox has.
pub fn variables(
    mailbox: &Mailbox,
    sender: SenderOf<'_>,
    default: Option<&[u8]>,
    seconds: u64,
) -> Vec<(&'static str, Vec<u8>)> {
    let mut variables = vec![
        ("USER", mailbox.user.to_vec()),
        ("HOME", mailbox.home.to_vec()),
        ("LOCAL", mailbox.local.to_vec()),
        ("HOST", mailbox.host.to_vec()),
        ("RECIPIENT", mailbox.recipient()),
        ("DTLINE", mailbox.delivered_to()),
        ("SENDER", sender.message.as_bytes().to_vec()),
        ("NEWSENDER", sender.forwards.to_vec()),
        ("RPLINE", return_path(sender.message)),
        ("UFLINE", from_line(sender.message, seconds)),
    ];
    let mut extension = &mailbox.extension[..];
    for name in ["EXT", "EXT2", "EXT3", "EXT4"] {
        variables.push((name, extension.to_vec()));
        let dash = memchr::memchr(b'-', extension);
        extension = dash.map_or(b"", |dash| &extension[dash + 1..]);
    }
    let mut host = &mailbox.host[..];
    for name in ["HOST2", "HOST3", "HOST4"] {
        host = &host[..memchr::memrchr(b'.', host).unwrap_or(host.len())];
        variables.push((name, host.to_vec()));
    }
    if let Some(default) = default {
        variables.push(("DEFAULT", default.to_vec()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_run_out() {
        let mailbox = Mailbox {
            extension: "a-b-c".into(),
            host: "x.y".into(),
            ..Mailbox::default()
        };
        let sender = SenderOf {
            message: &ReversePath::Null,
            forwards: b"",
        };
        let variables = variables(&mailbox, sender, None, 0);
        let value = |name| {
            let found = variables.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| &value[..])
        };
        assert_eq!(value("EXT3"), Some(&b"c"[..]));
        assert_eq!(value("EXT4"), Some(&b""[..]));
        assert_eq!(value("HOST2"), Some(&b"x"[..]));
        assert_eq!(value("HOST4"), Some(&b"x"[..]));
        assert_eq!(value("DEFAULT"), None);
    }
}
