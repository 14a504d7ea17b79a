//! The keys party: has the private key of this host's certificate, and signs handshakes with it. It opens no file: the supervisor opened
//! certificate and key for it.
//!
//! | request | answer |
//! |---|---|
//! | `c` | the certificate: `-` if there is none, else `c`, algorithm, count of schemes, schemes (2 octets each), and each certificate behind its length (4 octets) |
//! | `s`, scheme (2 octets), what is to be signed | `s` and the signature; `x` if it is none of a handshake |
//!
//! A connection carries any number of requests. Whoever breaks into a network daemon can have handshakes signed as long as it is in there,
//! and nothing else: neither does it get the key, nor are other texts signed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use tokio::time::timeout;

use super::Party;
use super::channel::{Channel, Incoming, MESSAGE_OCTETS_MAX};
use super::complaints::Complaints;
use super::listener::serve_connections;
use super::party::lock_down;
use crate::home::Home;
use crate::{exit, inherited};

/// Where the supervisor puts certificate and key.
const FIRST_FILE: i32 = 3;

/// Largest file in octets.
const FILE_OCTETS_MAX: u64 = 1 << 20;

/// Most connections at a time; others wait.
pub(super) const CONNECTIONS_MAX: usize = 128;

/// A connection on which nothing is asked for so long is closed.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);

/// Longest text to be signed in octets: a handshake has less than 300.
pub(super) const TEXT_OCTETS_MAX: usize = 1024;

/// What there is for handshakes.
pub(super) struct Identity {
    key: Arc<dyn SigningKey>,
    /// The answer to `c`.
    told: Vec<u8>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("cannot read control/servercert.pem or control/serverkey.pem: {0}")]
    Read(#[from] std::io::Error),
    #[error(
        "control/servercert.pem: {0}; put the chain of certificates there, this host's first, and its key there or into serverkey.pem"
    )]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("the key of control/servercert.pem cannot be used: {0}")]
    Useless(#[from] rustls::Error),
    #[error("control/servercert.pem: the chain of certificates is too long")]
    TooLong,
}

/// The argument says how many files there are.
pub(super) fn run(home: &Home, arguments: &[OsString]) -> ExitCode {
    let files = arguments
        .first()
        .and_then(|count| count.to_str()?.parse().ok());
    let identity = read(files.unwrap_or(0)).map_err(|error| error.to_string());
    let served = identity.and_then(|identity| {
        lock_down(Party::Keys, home).map_err(|error| error.to_string())?;
        serve(identity)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("keys", &words, exit::TEMPORARY),
    }
}

fn read(files: i32) -> Result<Option<Identity>, IdentityError> {
    let mut texts = Vec::new();
    for descriptor in FIRST_FILE..FIRST_FILE + files {
        let mut text = Vec::new();
        let file: File = inherited::copy(descriptor)?;
        file.take(FILE_OCTETS_MAX).read_to_end(&mut text)?;
        texts.push(text);
    }
    match &texts[..] {
        [] => Ok(None),
        [certificates, ..] => {
            Identity::new(certificates, texts.last().unwrap_or(certificates)).map(Some)
        }
    }
}

impl Identity {
    pub(super) fn new(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        // That they belong together is seen here, and not by the first client.
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain.clone(), key, &provider)?.key;
        let told = told(&*key, &chain);
        if told.len() > MESSAGE_OCTETS_MAX {
            return Err(IdentityError::TooLong);
        }
        Ok(Self { key, told })
    }

    /// The answer to a request, or why it is none.
    fn answer(this: Option<&Self>, request: &[u8]) -> Result<Vec<u8>, &'static str> {
        match (request, this) {
            ([b'c'], None) => Ok(b"-".to_vec()),
            ([b'c'], Some(identity)) => Ok(identity.told.clone()),
            ([b's', high, low, text @ ..], Some(identity)) => {
                if !is_of_a_handshake(text) {
                    return Err("no text of a handshake");
                }
                let scheme = SignatureScheme::from(u16::from_be_bytes([*high, *low]));
                let signer = identity.key.choose_scheme(&[scheme]);
                let signature = signer.and_then(|signer| signer.sign(text).ok());
                let signature = signature.ok_or("a scheme that the key has not")?;
                Ok([b"s", &signature[..]].concat())
            }
            _ => Err("no request"),
        }
    }
}

fn told(key: &dyn SigningKey, chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let schemes: Vec<_> = SCHEMES
        .into_iter()
        .filter(|&scheme| key.choose_scheme(&[scheme]).is_some())
        .collect();
    let mut told = vec![b'c', u8::from(key.algorithm()), schemes.len() as u8];
    for scheme in schemes {
        told.extend_from_slice(&u16::from(scheme).to_be_bytes());
    }
    for certificate in chain {
        told.extend_from_slice(&(certificate.len() as u32).to_be_bytes());
        told.extend_from_slice(certificate);
    }
    told
}

/// Reads the answer to `c`; `None` if it is none.
pub(super) fn understand(
    told: &[u8],
) -> Option<(
    SignatureAlgorithm,
    Vec<SignatureScheme>,
    Vec<CertificateDer<'static>>,
)> {
    let [b'c', algorithm, count, rest @ ..] = told else {
        return None;
    };
    let (schemes, mut rest) = rest.split_at_checked(usize::from(*count) * 2)?;
    let schemes = schemes
        .chunks_exact(2)
        .map(|scheme| SignatureScheme::from(u16::from_be_bytes([scheme[0], scheme[1]])))
        .collect();
    let mut chain = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let (certificate, more) = more.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        chain.push(CertificateDer::from(certificate.to_vec()));
        rest = more;
    }
    rest.is_empty()
        .then(|| (SignatureAlgorithm::from(*algorithm), schemes, chain))
}

/// The best first.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// What a server signs in TLS 1.3 (RFC 8446 section 4.4.3), or in 1.2: two random values, then parameters of a named curve (RFC 8422
/// section 5.4).
fn is_of_a_handshake(text: &[u8]) -> bool {
    const NAMED_CURVE: u8 = 3;
    let new = |text: &[u8]| {
        text.strip_prefix(&[b' '; 64])
            .is_some_and(|rest| rest.starts_with(b"TLS 1.3, server CertificateVerify\0"))
    };
    text.len() <= TEXT_OCTETS_MAX && (new(text) || text.get(64) == Some(&NAMED_CURVE))
}

fn serve(identity: Option<Identity>) -> Result<(), String> {
    let identity = Arc::new(identity);
    let complaints = Arc::new(Complaints::of("keys"));
    serve_connections(CONNECTIONS_MAX, |connection| {
        converse(connection, Arc::clone(&identity), Arc::clone(&complaints))
    })
}

/// Serves one connection after the other, for ever.
#[cfg(test)]
pub(super) async fn serve_on(listener: &super::channel::Listener, identity: Option<Identity>) {
    let identity = Arc::new(identity);
    let complaints = Arc::new(Complaints::of("keys"));
    while let Ok(connection) = listener.accept().await {
        tokio::spawn(converse(
            connection,
            Arc::clone(&identity),
            Arc::clone(&complaints),
        ));
    }
}

async fn converse(
    connection: Channel,
    identity: Arc<Option<Identity>>,
    complaints: Arc<Complaints>,
) {
    let mut room = [0; TEXT_OCTETS_MAX + 3];
    loop {
        let answer = match timeout(IDLE_MAX, connection.receive(&mut room)).await {
            Ok(Ok(Incoming::Message(octets, None))) => {
                Identity::answer(identity.as_ref().as_ref(), &room[..octets])
            }
            Ok(Ok(Incoming::Message(_, Some(_)))) => Err("a descriptor"),
            Ok(Ok(Incoming::Refused(why))) => Err(why),
            Ok(Ok(Incoming::End) | Err(_)) | Err(_) => return,
        };
        let answer = answer.unwrap_or_else(|why| {
            complaints.refused("network", why);
            b"x".to_vec()
        });
        if connection.send(&answer, None).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let made = rcgen::generate_simple_self_signed(vec!["mail.test".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Identity::new(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    fn new_handshake() -> Vec<u8> {
        [
            &[b' '; 64][..],
            b"TLS 1.3, server CertificateVerify\0",
            &[7; 32],
        ]
        .concat()
    }

    #[test]
    fn what_is_told_of_the_certificate_is_understood() {
        let identity = identity();
        let (algorithm, schemes, chain) = understand(&identity.told).unwrap();
        assert_eq!(algorithm, identity.key.algorithm());
        assert_eq!(schemes, [SignatureScheme::ECDSA_NISTP256_SHA256]);
        assert_eq!(chain.len(), 1);
        for cut in 0..identity.told.len() - 1 {
            if let Some((_, _, chain)) = understand(&identity.told[..cut]) {
                assert!(chain.is_empty(), "{cut}");
            }
        }
    }

    #[test]
    fn only_handshakes_are_signed_and_the_key_is_never_told() {
        let identity = identity();
        let scheme = u16::from(SignatureScheme::ECDSA_NISTP256_SHA256).to_be_bytes();
        let sign = |text: &[u8]| [&b"s"[..], &scheme, text].concat();
        let old = [&[7; 64][..], &[3, 0, 29, 32], &[9; 32]].concat();
        let long = [&new_handshake()[..], &[7; TEXT_OCTETS_MAX]].concat();
        for (request, good) in [
            (sign(&new_handshake()), true),
            (sign(&old), true),
            (b"c".to_vec(), true),
            (sign(b""), false),
            (sign(b"to whom it may concern"), false),
            (sign(&long), false),
            ([&b"s\x04\x01"[..], &new_handshake()].concat(), false),
            (b"s".to_vec(), false),
            (b"cc".to_vec(), false),
            (b"k".to_vec(), false),
            // Two in one.
            ([&b"c"[..], &sign(&new_handshake())].concat(), false),
        ] {
            let answer = Identity::answer(Some(&identity), &request);
            assert_eq!(answer.is_ok(), good, "{request:?}");
        }
        assert_eq!(Identity::answer(None, b"c"), Ok(b"-".to_vec()));
        assert!(Identity::answer(None, &sign(&new_handshake())).is_err());
    }

    #[test]
    fn what_is_no_certificate_with_its_key_is_told() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (one, other) = (made("one.test"), made("other.test"));
        let chain = one.cert.pem();
        for (key, told) in [
            ("", "put the chain of certificates"),
            (&*other.signing_key.serialize_pem(), "consistent"),
        ] {
            let error = Identity::new(chain.as_bytes(), key.as_bytes())
                .err()
                .unwrap();
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
