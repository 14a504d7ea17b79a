//! SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677).

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{ExchangeError, ITERATIONS_MAX};
use crate::sasl::scram::{Key, client_key, keyed_hash, salted_password};
use crate::sasl::{decode, encode};

/// No channel binding, no authorization identity; in base64 it is `biws`.
const GS2_HEADER: &[u8] = b"n,,";

/// Fewest rounds of hashing that a client takes for serious (RFC 7677 section 4).
const ITERATIONS_MIN: u32 = 4096;

/// From the client's first message on.
pub(super) struct Scram {
    nonce: Bytes,
    /// `client-first-message-bare`.
    first: Vec<u8>,
    step: Step,
}

enum Step {
    First,
    Final { server_signature: Key },
    Complete,
}

impl Scram {
    /// The client's first message.
    pub(super) fn start(name: &[u8], nonce: Bytes) -> (Self, Vec<u8>) {
        let mut first = b"n=".to_vec();
        for &octet in name {
            match octet {
                b',' => first.extend_from_slice(b"=2C"),
                b'=' => first.extend_from_slice(b"=3D"),
                octet => first.push(octet),
            }
        }
        first.extend_from_slice(b",r=");
        first.extend_from_slice(&nonce);
        let message = [GS2_HEADER, &first].concat();
        let step = Step::First;
        (Self { nonce, first, step }, message)
    }

    /// The client's second message to the server's first, and an empty one to the server's second.
    pub(super) fn respond(
        &mut self,
        secret: &[u8],
        message: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        match self.step {
            Step::First => self.prove(secret, message),
            Step::Final { server_signature } => {
                check(message, &server_signature)?;
                self.step = Step::Complete;
                Ok(Vec::new())
            }
            Step::Complete => Err(ExchangeError::Senseless),
        }
    }

    /// Whether the server has proven itself.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.step, Step::Complete)
    }

    fn prove(&mut self, secret: &[u8], message: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        let ServerFirst {
            nonce,
            salt,
            iterations,
        } = ServerFirst::parse(message)?;
        // The server's nonce goes on where ours ends: otherwise it is the answer to somebody else.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ExchangeError::Senseless);
        }
        let binding = encode(GS2_HEADER);
        let mut response = [b"c=", binding.as_bytes(), b",r=", nonce].concat();
        let auth_message = [&self.first[..], message, &response].join(&b',');
        let salted = salted_password(secret, &salt, iterations);
        let mut proof = client_key(&salted);
        let signature = keyed_hash(&Sha256::digest(proof), &[&auth_message]);
        for (octet, other) in proof.iter_mut().zip(signature) {
            *octet ^= other;
        }
        let server_key = keyed_hash(&salted, &[b"Server Key"]);
        self.step = Step::Final {
            server_signature: keyed_hash(&server_key, &[&auth_message]),
        };
        response.extend_from_slice(b",p=");
        response.extend_from_slice(encode(&proof).as_bytes());
        Ok(response)
    }
}

/// `r=NONCE,s=SALT,i=ITERATIONS`; what follows it is for extensions that are optional.
struct ServerFirst<'a> {
    nonce: &'a [u8],
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, ExchangeError> {
        let mut fields = message.split(|&octet| octet == b',');
        let mut field = |name: &[u8]| {
            fields
                .next()
                .and_then(|field| field.strip_prefix(name))
                .ok_or(ExchangeError::Senseless)
        };
        let nonce = field(b"r=")?;
        let salt = decode(field(b"s=")?).ok_or(ExchangeError::Senseless)?;
        let iterations: u64 = str::from_utf8(field(b"i=")?)
            .ok()
            .filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or(ExchangeError::Senseless)?;
        let iterations = match u32::try_from(iterations) {
            Ok(count @ ITERATIONS_MIN..=ITERATIONS_MAX) => count,
            Ok(..ITERATIONS_MIN) => return Err(ExchangeError::Senseless),
            _ => return Err(ExchangeError::TooSlow(iterations)),
        };
        Ok(Self {
            nonce,
            salt,
            iterations,
        })
    }
}

/// `v=SIGNATURE`, or `e=ERROR`.
fn check(message: &[u8], signature: &Key) -> Result<(), ExchangeError> {
    let field = message.split(|&octet| octet == b',').next();
    let field = field.unwrap_or_default();
    if field.starts_with(b"e=") {
        return Err(ExchangeError::Refused);
    }
    let given = field
        .strip_prefix(b"v=")
        .and_then(decode)
        .ok_or(ExchangeError::Senseless)?;
    // Nothing is gained by learning how many octets of one's own forgery are right: the nonces are used up.
    if given == signature {
        Ok(())
    } else {
        Err(ExchangeError::Impostor)
    }
}
