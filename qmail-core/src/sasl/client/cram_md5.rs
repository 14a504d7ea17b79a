//! CRAM-MD5 (RFC 2195).

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;

use crate::password::hex;

/// HMAC-MD5 of the server's challenge under the secret, in lower-case hexadecimal digits.
pub(super) fn digest(secret: &[u8], challenge: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Md5>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(challenge);
    hex(&mac.finalize().into_bytes().into())
}
