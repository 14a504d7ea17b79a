//! The mechanisms that show name and password, or a digest of the password: PLAIN, LOGIN, CRAM-MD5.

use bytes::Bytes;

use super::{is_name, is_secret};
use crate::Credentials;

/// The message of PLAIN (RFC 4616 section 2): `[authzid] NUL authcid NUL passwd`.
pub(super) fn plain(message: &[u8]) -> Option<Credentials> {
    let mut parts = message.split(|&octet| octet == 0);
    let (acting_for, name, secret) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !(acting_for.is_empty() || acting_for == name) {
        return None;
    }
    login(name, secret)
}

/// Name and password of LOGIN.
pub(super) fn login(name: &[u8], secret: &[u8]) -> Option<Credentials> {
    (is_name(name) && is_secret(secret)).then(|| Credentials::Plain {
        name: Bytes::copy_from_slice(name),
        secret: secret.into(),
    })
}

/// The response of CRAM-MD5 (RFC 2195 section 2): name, space, digest. The name may hold spaces.
pub(super) fn cram_md5(challenge: &Bytes, response: &[u8]) -> Option<Credentials> {
    let space = memchr::memrchr(b' ', response)?;
    let (name, digest) = (&response[..space], &response[space + 1..]);
    (is_name(name) && digest.len() == 32).then(|| Credentials::CramMd5 {
        name: Bytes::copy_from_slice(name),
        challenge: challenge.clone(),
        digest: Bytes::copy_from_slice(digest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_has_three_parts_and_nobody_acts_for_another() {
        for (message, name) in [
            (&b"\0joe\0secret"[..], Some("joe")),
            (b"joe\0joe\0secret", Some("joe")),
            (b"\0joe smith\0s p", Some("joe smith")),
            (b"ann\0joe\0secret", None),
            (b"\0joe\0", None),
            (b"\0\0secret", None),
            (b"\0joe\0secret\0", None),
            (b"\0joe", None),
            (b"joe", None),
            (b"", None),
            (b"\0joe\r\0secret", None),
            (b"\0joe\0sec\nret", None),
        ] {
            let found = plain(message);
            assert_eq!(
                found.as_ref().map(|credentials| &credentials.name()[..]),
                name.map(str::as_bytes),
                "{message:?}"
            );
        }
        assert!(plain(&[b"\0", &[b'n'; 255][..], b"\0s"].concat()).is_some());
        assert!(plain(&[b"\0", &[b'n'; 256][..], b"\0s"].concat()).is_none());
        assert!(plain(&[b"\0n\0", &[b's'; 1024][..]].concat()).is_some());
        assert!(plain(&[b"\0n\0", &[b's'; 1025][..]].concat()).is_none());
    }

    #[test]
    fn a_digest_follows_the_last_space() {
        let challenge = Bytes::from_static(b"<x@y>");
        let digest = "b913a602c7eda7a495b4e6e7334d3890";
        for (response, name) in [
            (format!("tim {digest}"), Some("tim")),
            (format!("tim b {digest}"), Some("tim b")),
            (format!(" {digest}"), None),
            (format!("tim {digest} "), None),
            ("tim".to_owned(), None),
            (String::new(), None),
        ] {
            let found = cram_md5(&challenge, response.as_bytes());
            assert_eq!(
                found.as_ref().map(|credentials| &credentials.name()[..]),
                name.map(str::as_bytes),
                "{response}"
            );
        }
    }
}
