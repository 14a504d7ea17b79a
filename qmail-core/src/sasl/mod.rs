//! How a client proves who it is: SASL (RFC 4422), free of any protocol's framing. Here is the server's side; [`client`] is
//! the other one.
//!
//! | mechanism | the client shows | the server must know |
//! |---|---|---|
//! | PLAIN (RFC 4616), LOGIN | name and password in clear | anything to check a password against |
//! | CRAM-MD5 (RFC 2195) | a digest | the password itself |
//! | SCRAM-SHA-256 (RFC 5802, 7677) | a proof | a [`Verifier`], which is no help to who steals it |
//!
//! An [`Exchange`] is one attempt. A protocol decodes what the client sends (base64 in SMTP and POP3, by [`decode`]), and
//! encodes what the exchange challenges; what the exchange wants to know it asks by an [`Inquiry`], which any
//! [`PasswordChecker`] answers.
//!
//! Nobody may act for another: an authorization identity is refused unless it is the name itself. Names and passwords are
//! octets; they are not prepared (RFC 4013), so other spellings of one Unicode text are other names. Channels are not bound
//! (no `-PLUS`). Nothing here panics, recurses or grows beyond [`RESPONSE_OCTETS_MAX`].

pub mod client;
mod exchange;
mod plain;
mod scram;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::{Account, Credentials, LoginError, PasswordChecker};

pub use exchange::{Exchange, Failure, Step};
pub use scram::{ITERATIONS, ITERATIONS_MAX, SALT_OCTETS_MAX, Verifier, VerifierError};

/// Longest response in octets, decoded, that an [`Exchange`] looks at: what a line of 12,288 octets can carry, the least
/// that RFC 4954 section 4 lets a server take.
pub const RESPONSE_OCTETS_MAX: usize = 9216;

/// Longest name in octets: what RFC 4616 section 2 lets a server take.
pub const NAME_OCTETS_MAX: usize = 255;

/// Longest password in octets.
pub const SECRET_OCTETS_MAX: usize = 1024;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Name and password on request; never standardised, still the only one of some clients.
    Login,
    /// RFC 2195.
    CramMd5,
    /// RFC 7677, without channel binding.
    ScramSha256,
}

impl Mechanism {
    /// All of them, in the order in which a server names them: what hides the password best comes first.
    pub const ALL: [Self; 4] = [Self::ScramSha256, Self::CramMd5, Self::Plain, Self::Login];

    /// As AUTH and CAPA spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// The one of this name, in any case.
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| name.eq_ignore_ascii_case(mechanism.name().as_bytes()))
    }

    /// Whether who listens learns the password. Such a one is not for a connection in clear.
    pub const fn shows_password(self) -> bool {
        matches!(self, Self::Plain | Self::Login)
    }

    /// Whether this checker can do its part.
    pub fn is_possible(self, checker: &dyn PasswordChecker) -> bool {
        match self {
            Self::Plain | Self::Login => true,
            Self::CramMd5 => checker.can_apop(),
            Self::ScramSha256 => checker.can_scram(),
        }
    }
}

/// What an [`Exchange`] wants to know of a [`PasswordChecker`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inquiry {
    /// Whose account do these open?
    Check(Credentials),
    /// What is SCRAM checked against for this name?
    Verifier {
        /// As the client spelled it: not NUL, CR or LF, at most [`NAME_OCTETS_MAX`] octets.
        name: Bytes,
    },
}

impl Inquiry {
    /// The name, as the client spelled it. Show it only through [`Escaped`](crate::Escaped).
    pub fn name(&self) -> &Bytes {
        match self {
            Self::Check(credentials) => credentials.name(),
            Self::Verifier { name } => name,
        }
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// What the checker says.
    pub async fn ask(&self, checker: &dyn PasswordChecker) -> Result<Finding, LoginError> {
        match self {
            Self::Check(credentials) => checker.check(credentials).await.map(Finding::Account),
            Self::Verifier { name } => checker
                .verifier(name)
                .await
                .map(|(account, verifier)| Finding::Verifier(account, verifier)),
        }
    }
}

/// The answer to an [`Inquiry`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// To [`Inquiry::Check`]: the credentials open this account.
    Account(Account),
    /// To [`Inquiry::Verifier`]: a proof that fits opens this account.
    Verifier(Account, Verifier),
}

/// Writes octets in base64 (RFC 4648 section 4), as SMTP and POP3 carry challenges and responses.
pub fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// Reads base64, complete with its padding. `None` if it is none, or longer than [`RESPONSE_OCTETS_MAX`] decoded.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > RESPONSE_OCTETS_MAX / 3 * 4 {
        return None;
    }
    STANDARD.decode(text).ok()
}

/// Whether it can be a name.
fn is_name(octets: &[u8]) -> bool {
    (1..=NAME_OCTETS_MAX).contains(&octets.len()) && is_clean(octets)
}

/// Whether it can be a password.
fn is_secret(octets: &[u8]) -> bool {
    (1..=SECRET_OCTETS_MAX).contains(&octets.len()) && is_clean(octets)
}

/// The octets that would end a line or a string for whoever a checker passes them on to.
fn is_clean(octets: &[u8]) -> bool {
    !octets
        .iter()
        .any(|octet| matches!(octet, b'\0' | b'\r' | b'\n'))
}
