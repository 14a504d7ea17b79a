//! The seam by which a client proves who it is.

use std::fmt;
use std::hint::black_box;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

use crate::sasl::Verifier;

/// Something that knows names and passwords: a file of hashes, a checkpassword program, a database, a test.
///
/// A check may take its time (a slow hash is meant to) and runs while the session waits; it should bound itself, and one
/// that blocks belongs on a thread of its own. A refused login should take about as long for an unknown name as for a
/// wrong password, or the difference tells which names exist.
#[async_trait]
pub trait PasswordChecker: Send + Sync {
    /// Whose account the credentials open.
    ///
    /// # Errors
    ///
    /// [`LoginError::Refused`] for an unknown name or a wrong password, not told apart; [`LoginError::Unavailable`] if
    /// the checker cannot tell at the moment.
    async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError>;

    /// Whether it can check [`Credentials::Apop`] and [`Credentials::CramMd5`]: it must know the secrets themselves, not
    /// hashes of them.
    ///
    /// A server offers APOP in its greeting, and CRAM-MD5, only if this is true. The default is `false`.
    fn can_apop(&self) -> bool {
        false
    }

    /// Whether it can say [`verifier`](Self::verifier). A server offers SCRAM-SHA-256 only if this is true. The default is
    /// `false`.
    fn can_scram(&self) -> bool {
        false
    }

    /// What SCRAM-SHA-256 is checked against for this name, and whose account that opens.
    ///
    /// The client sees the salt before it has proved anything. A checker that does not want to tell which names exist gives
    /// out [`Verifier::decoy`] for those that do not, rather than refuse them.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check). The default refuses.
    async fn verifier(&self, name: &Bytes) -> Result<(Account, Verifier), LoginError> {
        let _ = name;
        Err(LoginError::Refused)
    }
}

/// What a client says to prove who it is. `Debug` shows neither name nor secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A name and a password in clear (POP3 USER and PASS, SASL PLAIN).
    Plain {
        /// Chosen by the client: any octets but NUL, CR and LF. Show it only through [`Escaped`](crate::Escaped).
        name: Bytes,
        /// The password, same octets.
        secret: Secret,
    },
    /// A name and a digest that only one who knows the secret can make (APOP, RFC 1939 section 7).
    Apop {
        /// As in [`Plain`](Self::Plain).
        name: Bytes,
        /// The timestamp of the greeting, angle brackets included.
        timestamp: Bytes,
        /// What the client gave for the digest: 32 lower-case hexadecimal digits if it is honest.
        digest: Bytes,
    },
    /// A name and a digest that only one who knows the secret can make (SASL CRAM-MD5, RFC 2195).
    CramMd5 {
        /// As in [`Plain`](Self::Plain).
        name: Bytes,
        /// What the server said, angle brackets included.
        challenge: Bytes,
        /// What the client gave for the digest: 32 lower-case hexadecimal digits if it is honest.
        digest: Bytes,
    },
}

impl Credentials {
    /// The name, as the client spelled it.
    pub fn name(&self) -> &Bytes {
        match self {
            Self::Plain { name, .. } | Self::Apop { name, .. } | Self::CramMd5 { name, .. } => name,
        }
    }

    /// Whether they fit this secret: all that a checker needs which knows its secrets.
    ///
    /// The time taken depends on how much the client offered and on the length of `secret`, never on which octets agree:
    /// every octet is compared, the differences are gathered by OR, and only the sum is looked at.
    ///
    /// ```
    /// use qmail_core::Credentials;
    /// // The example of RFC 1939 section 7.
    /// let credentials = Credentials::Apop {
    ///     name: "mrose".into(),
    ///     timestamp: "<1896.697170952@dbc.mtview.ca.us>".into(),
    ///     digest: "c4c9334bac560ecc979e58001b3e22fb".into(),
    /// };
    /// assert!(credentials.fit(b"tanstaaf"));
    /// assert!(!credentials.fit(b"tanstaafl"));
    /// ```
    pub fn fit(&self, secret: &[u8]) -> bool {
        match self {
            Self::Plain {
                secret: offered, ..
            } => same_octets(offered.reveal(), secret),
            Self::Apop {
                timestamp, digest, ..
            } => same_octets(digest, &apop_digest(timestamp, secret)),
            Self::CramMd5 {
                challenge, digest, ..
            } => same_octets(digest, &cram_md5_digest(challenge, secret)),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain { .. } => f.write_str("Plain { .. }"),
            Self::Apop { timestamp, .. } => f
                .debug_struct("Apop")
                .field("timestamp", timestamp)
                .finish_non_exhaustive(),
            Self::CramMd5 { challenge, .. } => f
                .debug_struct("CramMd5")
                .field("challenge", challenge)
                .finish_non_exhaustive(),
        }
    }
}

/// A password in clear. It shows itself only by [`reveal`](Self::reveal), and is overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The octets. To compare them use [`Credentials::fit`], not `==`.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(octets: &[u8]) -> Self {
        Self(octets.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    /// Shortens the time for which a password lies in memory. The network buffers it came through are not overwritten.
    fn drop(&mut self) {
        self.0.fill(0);
        // Or the compiler would see that nobody reads the zeros.
        black_box(&mut self.0);
    }
}

/// Who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// The name by which the system knows the user, which need not be how the client spelled it.
    pub name: Bytes,
    /// Where the user's mail lives, if the checker knows: a home directory, or whatever the owner's maildrops need.
    pub home: Option<PathBuf>,
    /// User and group to read the mail as, if the checker knows them.
    pub ids: Option<(u32, u32)>,
}

impl Account {
    /// An account of which no more than its name is known.
    pub fn new(name: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            home: None,
            ids: None,
        }
    }
}

/// Why nobody is logged in. `Display` is for the log; the client is told less.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// No such name, or not its password.
    #[error("name or password refused")]
    Refused,
    /// The checker cannot tell now; trying again later may work.
    #[error("passwords cannot be checked: {reason}")]
    Unavailable {
        /// What is wrong, in a few words.
        reason: String,
    },
}

/// The digest that proves knowledge of `secret` for this greeting: MD5 over timestamp and secret, in lower-case
/// hexadecimal digits (RFC 1939 section 7).
///
/// MD5 is what the protocol says. Who listens can try passwords offline, so APOP is no substitute for TLS.
pub fn apop_digest(timestamp: &[u8], secret: &[u8]) -> [u8; 32] {
    hex_digits(
        Md5::new()
            .chain_update(timestamp)
            .chain_update(secret)
            .finalize()
            .into(),
    )
}

/// The digest that proves knowledge of `secret` for this challenge: keyed MD5, in lower-case hexadecimal digits (RFC 2195
/// section 2). As weak as [`apop_digest`] against whoever listens.
pub fn cram_md5_digest(challenge: &[u8], secret: &[u8]) -> [u8; 32] {
    let mut keyed = Hmac::<Md5>::new_from_slice(secret).expect("HMAC takes keys of any length");
    keyed.update(challenge);
    hex_digits(keyed.finalize().into_bytes().into())
}

fn hex_digits(digest: [u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, octet) in digits.chunks_exact_mut(2).zip(digest) {
        pair[0] = HEX_DIGITS[usize::from(octet >> 4)];
        pair[1] = HEX_DIGITS[usize::from(octet & 15)];
    }
    digits
}

/// Compares without stopping at the first difference.
pub(crate) fn same_octets(offered: &[u8], known: &[u8]) -> bool {
    let mut difference = u8::from(offered.len() != known.len());
    for (at, octet) in offered.iter().enumerate() {
        difference |= octet ^ known.get(at).copied().unwrap_or_default();
    }
    // Or the compiler might see that a loop may end once a bit is set.
    black_box(difference) == 0
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(secret: &[u8]) -> Credentials {
        Credentials::Plain {
            name: "joe".into(),
            secret: secret.into(),
        }
    }

    #[test]
    fn only_the_whole_password_fits() {
        for (offered, known, fits) in [
            (&b"secret"[..], &b"secret"[..], true),
            (b"secre", b"secret", false),
            (b"secret ", b"secret", false),
            (b"Secret", b"secret", false),
            (b"", b"secret", false),
            (b"\0", b"", false),
            (b"s\0", b"s", false),
            (b"\xff\xfe", b"\xff\xfe", true),
        ] {
            assert_eq!(plain(offered).fit(known), fits, "{offered:?} {known:?}");
        }
    }

    #[test]
    fn a_digest_must_be_whole_and_in_lower_case() {
        for (digest, fits) in [
            ("c4c9334bac560ecc979e58001b3e22fb", true),
            ("C4C9334BAC560ECC979E58001B3E22FB", false),
            ("c4c9334bac560ecc979e58001b3e22f", false),
            ("c4c9334bac560ecc979e58001b3e22fb0", false),
            ("extra c4c9334bac560ecc979e58001b3e22fb", false),
            ("", false),
        ] {
            let credentials = Credentials::Apop {
                name: "mrose".into(),
                timestamp: "<1896.697170952@dbc.mtview.ca.us>".into(),
                digest: digest.into(),
            };
            assert_eq!(credentials.fit(b"tanstaaf"), fits, "{digest}");
        }
    }

    #[test]
    fn the_example_of_rfc_2195_fits() {
        let credentials = Credentials::CramMd5 {
            name: "tim".into(),
            challenge: "<1896.697170952@postoffice.reston.mci.net>".into(),
            digest: "b913a602c7eda7a495b4e6e7334d3890".into(),
        };
        assert!(credentials.fit(b"tanstaaftanstaaf"));
        assert!(!credentials.fit(b"tanstaaf"));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!(
            "{:?} {:?}",
            plain(b"hunter2"),
            Secret::from(&b"hunter2"[..])
        );
        assert!(
            !shown.contains("hunter2") && !shown.contains("joe"),
            "{shown}"
        );
    }
}
