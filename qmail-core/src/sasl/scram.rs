//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the client proves that it knows the password, and the server that it knew it once.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{decode, encode, is_name};

/// Iterations for new passwords: the least of RFC 7677 section 4 is 4096; more cost the client, not the server.
pub const ITERATIONS: u32 = 10_000;

/// Most iterations that a [`Verifier`] may say: a client that is told more waits for seconds.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// Longest salt in octets.
pub const SALT_OCTETS_MAX: usize = 64;

/// Longest nonce of a client in octets. They choose 24 or so; it is sent back, so it must not be long.
const NONCE_OCTETS_MAX: usize = 256;

pub(super) type Key = [u8; 32];

/// What a server keeps of a password for SCRAM-SHA-256. Nobody can log in with it.
///
/// Its text is that of RFC 5803: `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, the last three in base64.
///
/// ```
/// use qmail_core::sasl::Verifier;
/// let verifier = Verifier::new(b"pencil", b"salt", 4096).unwrap();
/// let text = verifier.to_string();
/// assert!(text.starts_with("SCRAM-SHA-256$4096:c2FsdA==$"));
/// assert_eq!(text.parse(), Ok(verifier));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Bytes,
    stored_key: Key,
    server_key: Key,
}

/// Why there is no [`Verifier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// Iterations of 0 or above [`ITERATIONS_MAX`].
    #[error("iterations must be 1 to {ITERATIONS_MAX}")]
    Iterations,
    /// A salt that is empty or longer than [`SALT_OCTETS_MAX`].
    #[error("the salt must have 1 to {SALT_OCTETS_MAX} octets")]
    Salt,
    /// No text of RFC 5803.
    #[error("no record of the form SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY")]
    Form,
}

impl Verifier {
    /// For this password. Costs `iterations` keyed hashes; the salt should be random.
    ///
    /// # Errors
    ///
    /// Iterations or salt beyond their limits.
    pub fn new(secret: &[u8], salt: &[u8], iterations: u32) -> Result<Self, VerifierError> {
        check_limits(salt, iterations)?;
        let salted = salted_password(secret, salt, iterations);
        Ok(Self {
            iterations,
            salt: Bytes::copy_from_slice(salt),
            stored_key: Sha256::digest(client_key(&salted)).into(),
            server_key: keyed_hash(&salted, &[b"Server Key"]),
        })
    }

    /// One that fits no password, for a name that does not exist. It is always the same for one name, as a real one is;
    /// `key` must be secret and live as long as the names.
    pub fn decoy(name: &[u8], key: &[u8]) -> Self {
        let part = |what: &[u8]| keyed_hash(key, &[what, name]);
        Self {
            iterations: ITERATIONS,
            salt: Bytes::copy_from_slice(&part(b"salt")[..16]),
            stored_key: part(b"stored key"),
            server_key: part(b"server key"),
        }
    }

    /// How often the client has to hash.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Whether it was made of this password. Costs as much as making it did.
    pub fn fits(&self, secret: &[u8]) -> bool {
        let salted = salted_password(secret, &self.salt, self.iterations);
        let hashed: Key = Sha256::digest(client_key(&salted)).into();
        same_key(&hashed, &self.stored_key)
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key)
        )
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let rest = text
            .strip_prefix("SCRAM-SHA-256$")
            .ok_or(VerifierError::Form)?;
        let (cost, keys) = rest.split_once('$').ok_or(VerifierError::Form)?;
        let (iterations, salt) = cost.split_once(':').ok_or(VerifierError::Form)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(VerifierError::Form)?;
        if !iterations.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(VerifierError::Form);
        }
        let iterations = iterations.parse().map_err(|_| VerifierError::Iterations)?;
        let salt = decode(salt.as_bytes()).ok_or(VerifierError::Form)?;
        check_limits(&salt, iterations)?;
        Ok(Self {
            iterations,
            salt: salt.into(),
            stored_key: key(stored_key).ok_or(VerifierError::Form)?,
            server_key: key(server_key).ok_or(VerifierError::Form)?,
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientFirst {
    pub(super) name: Bytes,
    /// What it says of channel binding and authorization, up to and with the second comma; comes again, in base64.
    header: Bytes,
    nonce: Bytes,
    /// What follows the header: part of what is signed.
    bare: Bytes,
}

impl ClientFirst {
    /// `n,,n=NAME,r=NONCE`; `y` for `n`, and `a=NAME` between the commas, may be.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut parts = message.splitn(3, |&octet| octet == b',');
        let (binding, acting_for, bare) = (parts.next()?, parts.next()?, parts.next()?);
        // `p=` wants a channel bound, which was never offered.
        if !matches!(binding, b"n" | b"y") {
            return None;
        }
        let mut attributes = bare.split(|&octet| octet == b',');
        // A first attribute `m=` would be an extension that must be understood; none is.
        let name = unescaped(attributes.next()?.strip_prefix(b"n=")?)?;
        let nonce = attributes.next()?.strip_prefix(b"r=")?;
        if !is_name(&name) || !is_nonce(nonce) {
            return None;
        }
        if !acting_for.is_empty() && unescaped(acting_for.strip_prefix(b"a=")?)? != name {
            return None;
        }
        Some(Self {
            name: name.into(),
            header: Bytes::copy_from_slice(&message[..binding.len() + acting_for.len() + 2]),
            nonce: Bytes::copy_from_slice(nonce),
            bare: Bytes::copy_from_slice(bare),
        })
    }

    /// The server's answer, and what is then waited for. `nonce` is the server's own: printable, without comma.
    pub(super) fn answered(&self, verifier: Verifier, nonce: &str) -> (String, AwaitedProof) {
        // A nonce is printable ASCII.
        let nonce = format!("{}{nonce}", String::from_utf8_lossy(&self.nonce));
        let first = format!(
            "r={nonce},s={},i={}",
            encode(&verifier.salt),
            verifier.iterations
        );
        let awaited = AwaitedProof {
            signed: [&self.bare, &b","[..], first.as_bytes(), b","].concat(),
            expected: format!("c={},r={nonce}", encode(&self.header)),
            verifier,
        };
        (first, awaited)
    }
}

/// What the client's final message is checked against.
#[derive(Clone, Debug)]
pub(super) struct AwaitedProof {
    verifier: Verifier,
    /// What both signed so far; the final message without its proof is to follow.
    signed: Vec<u8>,
    /// How that message must begin.
    expected: String,
}

impl AwaitedProof {
    /// The server's final message, if the proof fits: its own proof.
    pub(super) fn check(&self, message: &[u8]) -> Result<String, Misfit> {
        let comma = memchr::memrchr(b',', message).ok_or(Misfit::Form)?;
        let (without_proof, proof) = (&message[..comma], &message[comma + 1..]);
        let extensions = without_proof
            .strip_prefix(self.expected.as_bytes())
            .ok_or(Misfit::Form)?;
        if !(extensions.is_empty() || extensions.starts_with(b",")) {
            return Err(Misfit::Form);
        }
        let proof = proof.strip_prefix(b"p=").ok_or(Misfit::Form)?;
        let mut client_key = std::str::from_utf8(proof)
            .ok()
            .and_then(key)
            .ok_or(Misfit::Form)?;
        let signed = [&self.signed[..], without_proof];
        let signature = keyed_hash(&self.verifier.stored_key, &signed);
        for (octet, other) in client_key.iter_mut().zip(signature) {
            *octet ^= other;
        }
        let stored_key: Key = Sha256::digest(client_key).into();
        if !same_key(&stored_key, &self.verifier.stored_key) {
            return Err(Misfit::Proof);
        }
        let own = keyed_hash(&self.verifier.server_key, &signed);
        Ok(format!("v={}", encode(&own)))
    }
}

/// Why a final message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is not what the protocol wants.
    Form,
    /// It is made of another password.
    Proof,
}

fn check_limits(salt: &[u8], iterations: u32) -> Result<(), VerifierError> {
    if !(1..=SALT_OCTETS_MAX).contains(&salt.len()) {
        return Err(VerifierError::Salt);
    }
    if !(1..=ITERATIONS_MAX).contains(&iterations) {
        return Err(VerifierError::Iterations);
    }
    Ok(())
}

/// `Hi` of RFC 5802 section 2.2, which is PBKDF2.
pub(super) fn salted_password(secret: &[u8], salt: &[u8], iterations: u32) -> Key {
    pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(secret, salt, iterations)
}

pub(super) fn client_key(salted_password: &Key) -> Key {
    keyed_hash(salted_password, &[b"Client Key"])
}

pub(super) fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut hash = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into_bytes().into()
}

fn same_key(one: &Key, other: &Key) -> bool {
    crate::password::same_octets(one, other)
}

fn key(text: &str) -> Option<Key> {
    decode(text.as_bytes())?.try_into().ok()
}

/// A name with `=2C` for a comma and `=3D` for an equals sign (RFC 5802 section 5.1, saslname).
fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(equals) = memchr::memchr(b'=', rest) {
        plain.extend_from_slice(&rest[..equals]);
        plain.push(match rest.get(equals + 1..equals + 3)? {
            b"2C" => b',',
            b"3D" => b'=',
            _ => return None,
        });
        rest = &rest[equals + 3..];
    }
    plain.extend_from_slice(rest);
    Some(plain)
}

/// Printable, without comma (RFC 5802 section 7).
fn is_nonce(octets: &[u8]) -> bool {
    (1..=NONCE_OCTETS_MAX).contains(&octets.len())
        && octets
            .iter()
            .all(|octet| octet.is_ascii_graphic() && *octet != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677 section 3.
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn awaited() -> (String, AwaitedProof) {
        let salt = decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = Verifier::new(b"pencil", &salt, 4096).expect("within limits");
        let first = ClientFirst::parse(FIRST).expect("a first message");
        assert_eq!(&first.name[..], b"user");
        first.answered(verifier, SERVER_NONCE)
    }

    #[test]
    fn the_example_of_rfc_7677_is_understood() {
        let (first, awaited) = awaited();
        assert_eq!(
            first,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        assert_eq!(
            awaited.check(FINAL),
            Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned())
        );
    }

    #[test]
    fn one_other_octet_anywhere_is_no_proof() {
        let (_, awaited) = awaited();
        for at in 0..FINAL.len() {
            let mut message = FINAL.to_vec();
            message[at] ^= 1;
            assert!(awaited.check(&message).is_err(), "{at}");
            assert!(awaited.check(&FINAL[..at]).is_err(), "{at}");
        }
        let wrong = String::from_utf8_lossy(FINAL).replace("p=dH", "p=dG");
        assert_eq!(awaited.check(wrong.as_bytes()), Err(Misfit::Proof));
    }

    #[test]
    fn first_messages_are_taken_or_refused_whole() {
        for (message, name) in [
            ("n,,n=user,r=x", Some("user")),
            ("y,,n=user,r=x", Some("user")),
            ("n,a=user,n=user,r=x", Some("user")),
            ("n,,n=a=2Cb=3Dc,r=x", Some("a,b=c")),
            ("n,,n=user,r=x,e=unknown", Some("user")),
            ("n,a=other,n=user,r=x", None),
            ("n,user,n=user,r=x", None),
            ("p=tls-unique,,n=user,r=x", None),
            ("n,,m=x,n=user,r=x", None),
            ("n,,n=,r=x", None),
            ("n,,n=a=b,r=x", None),
            ("n,,n=a=2,r=x", None),
            ("n,,n=user,r=", None),
            ("n,,n=user,r=a b", None),
            ("n,,n=user", None),
            ("n,,", None),
            ("n", None),
            ("", None),
        ] {
            let found = ClientFirst::parse(message.as_bytes());
            assert_eq!(
                found.map(|first| first.name),
                name.map(|name| Bytes::copy_from_slice(name.as_bytes())),
                "{message}"
            );
        }
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        let verifier = Verifier::new(b"x", &[7; SALT_OCTETS_MAX], 3).expect("within limits");
        assert_eq!(verifier.to_string().parse(), Ok(verifier.clone()));
        assert!(verifier.fits(b"x") && !verifier.fits(b"y"));
        assert_eq!(
            Verifier::decoy(b"joe", b"k"),
            Verifier::decoy(b"joe", b"k"),
            "asked twice, it is the same"
        );
        assert_ne!(Verifier::decoy(b"joe", b"k"), Verifier::decoy(b"ann", b"k"));
        let key = encode(&[0; 32]);
        for (text, error) in [
            (String::new(), VerifierError::Form),
            (
                format!("SCRAM-SHA-1$1:eA==${key}:{key}"),
                VerifierError::Form,
            ),
            (
                format!("SCRAM-SHA-256$+1:eA==${key}:{key}"),
                VerifierError::Form,
            ),
            (format!("SCRAM-SHA-256$1:eA==${key}:"), VerifierError::Form),
            (
                format!("SCRAM-SHA-256$1:eA${key}:{key}"),
                VerifierError::Form,
            ),
            (format!("SCRAM-SHA-256$1:${key}:{key}"), VerifierError::Salt),
            (
                format!("SCRAM-SHA-256$0:eA==${key}:{key}"),
                VerifierError::Iterations,
            ),
            (
                format!("SCRAM-SHA-256$99999999999:eA==${key}:{key}"),
                VerifierError::Iterations,
            ),
        ] {
            assert_eq!(text.parse::<Verifier>(), Err(error), "{text}");
        }
    }
}
