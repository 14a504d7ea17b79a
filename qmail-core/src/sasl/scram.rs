//! The arithmetic of SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Octets of a SHA-256 digest.
pub(super) const KEY_OCTETS: usize = 32;

/// A digest, or a key made of one.
pub(super) type Key = [u8; KEY_OCTETS];

/// `SaltedPassword`: takes a time that grows with `iterations`, on purpose.
pub(super) fn salted_password(secret: &[u8], salt: &[u8], iterations: u32) -> Key {
    pbkdf2::pbkdf2_hmac_array::<Sha256, KEY_OCTETS>(secret, salt, iterations)
}

/// `HMAC(key, text)`.
pub(super) fn hmac(key: &[u8], text: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// `StoredKey`, from `SaltedPassword`'s `ClientKey`.
pub(super) fn hash(octets: &[u8]) -> Key {
    Sha256::digest(octets).into()
}

/// `a XOR b`.
pub(super) fn xor(mut a: Key, b: &Key) -> Key {
    for (a, b) in a.iter_mut().zip(b) {
        *a ^= b;
    }
    a
}
