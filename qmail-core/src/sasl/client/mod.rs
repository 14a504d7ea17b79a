//! The client's side of SASL.
//!
//! ```
//! use qmail_core::sasl::client::{Exchange, Login, Mechanism};
//!
//! let login = Login::new("tim", "tanstaaftanstaaf");
//! let mut exchange = Exchange::new(Mechanism::Plain, login);
//! assert_eq!(exchange.initial().as_deref(), Some(&b"\0tim\0tanstaaftanstaaf"[..]));
//! assert!(exchange.is_complete());
//! ```

mod cram_md5;
mod scram_sha256;

use std::fmt;

use bytes::Bytes;

use crate::Secret;
use scram_sha256::Scram;

/// A way to prove who one is. The best comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Mechanism {
    /// SCRAM-SHA-256 (RFC 7677), without channel binding: the password does not travel, and the server proves that it knows it.
    ScramSha256,
    /// CRAM-MD5 (RFC 2195): the password does not travel, but who listens can try passwords offline.
    CramMd5,
    /// PLAIN (RFC 4616): the password travels as it is.
    Plain,
    /// LOGIN: the password travels as it is; for servers that have nothing else.
    Login,
}

impl Mechanism {
    /// All that there are, the best first.
    pub const ALL: [Self; 4] = [Self::ScramSha256, Self::CramMd5, Self::Plain, Self::Login];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::CramMd5 => "CRAM-MD5",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The one of this name, in any case.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether who listens, or who pretends to be the server, gets the password.
    pub fn shows_secret(self) -> bool {
        matches!(self, Self::Plain | Self::Login)
    }
}

/// Who a client says to be, and how it may prove it. `Debug` shows neither name nor secret.
///
/// Name and secret are sent as they are given: ASCII, or UTF-8 that its owner has prepared (RFC 4013).
#[derive(Clone)]
pub struct Login {
    name: Bytes,
    secret: Secret,
    nonce: Option<Bytes>,
    in_clear: bool,
}

impl Login {
    /// Without a nonce SCRAM is not used, and without encryption neither PLAIN nor LOGIN.
    pub fn new(name: impl Into<Bytes>, secret: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.into(),
            secret: secret.as_ref().into(),
            nonce: None,
            in_clear: false,
        }
    }

    /// With a random text that no other exchange has, for SCRAM: printable ASCII without commas, of which 18 random octets in
    /// base64 are enough. Any other text is as none.
    #[must_use]
    pub fn with_nonce(mut self, nonce: impl Into<Bytes>) -> Self {
        let nonce = nonce.into();
        let printable = nonce
            .iter()
            .all(|&octet| octet.is_ascii_graphic() && octet != b',');
        self.nonce = (printable && !nonce.is_empty()).then_some(nonce);
        self
    }

    /// Permits to send the password over a connection that is not encrypted. Default: it is not permitted.
    #[must_use]
    pub fn permit_in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    /// The best mechanism that both sides have, if there is one.
    pub fn choose(
        &self,
        offered: impl IntoIterator<Item = Mechanism>,
        encrypted: bool,
    ) -> Option<Mechanism> {
        offered
            .into_iter()
            .filter(|&mechanism| match mechanism {
                Mechanism::ScramSha256 => self.nonce.is_some(),
                _ => !mechanism.shows_secret() || encrypted || self.in_clear,
            })
            .min()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// What the server said does not fit the mechanism: it is no server of it, or does not know the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// A message that the mechanism does not have here.
    #[error("the server's message makes no sense in this mechanism")]
    Senseless,
    /// It wants more rounds of hashing than [`ITERATIONS_MAX`].
    #[error("the server wants {0} rounds of hashing, more than {ITERATIONS_MAX}")]
    TooSlow(u64),
    /// Its proof is wrong: it does not know the password, and may be an impostor.
    #[error("the server did not prove that it knows the password")]
    Impostor,
    /// The server says so itself, in SCRAM's own words.
    #[error("the server refused the login")]
    Refused,
}

/// Most rounds of hashing that a server can ask for: some half second of work.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// One login under way. `Debug` shows nothing of it.
pub struct Exchange {
    login: Login,
    state: State,
}

enum State {
    /// Before the first message.
    Start(Mechanism),
    /// LOGIN: the name was sent.
    LoginName,
    Scram(Box<Scram>),
    Complete,
    Broken,
}

impl Exchange {
    /// A login by this mechanism.
    pub fn new(mechanism: Mechanism, login: Login) -> Self {
        Self {
            login,
            state: State::Start(mechanism),
        }
    }

    /// What the client says first, unless the server does.
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        match self.state {
            State::Start(Mechanism::Plain) => {
                self.state = State::Complete;
                let login = &self.login;
                Some([b"\0", &login.name[..], b"\0", login.secret.reveal()].concat())
            }
            State::Start(Mechanism::ScramSha256) => {
                let nonce = self.login.nonce.clone()?;
                let (scram, message) = Scram::start(&self.login.name, nonce);
                self.state = State::Scram(Box::new(scram));
                Some(message)
            }
            _ => None,
        }
    }

    /// What the client says to this message of the server.
    ///
    /// # Errors
    ///
    /// See [`ExchangeError`]; the login has failed then, whatever else the server says.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        let login = &self.login;
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Start(Mechanism::CramMd5) => {
                self.state = State::Complete;
                let digest = cram_md5::digest(login.secret.reveal(), challenge);
                Ok([&login.name[..], b" ", &digest].concat())
            }
            // What a server asks in LOGIN is for people to read, and differs.
            State::Start(Mechanism::Login) => {
                self.state = State::LoginName;
                Ok(login.name.to_vec())
            }
            State::LoginName => {
                self.state = State::Complete;
                Ok(login.secret.reveal().to_vec())
            }
            State::Scram(mut scram) => {
                let response = scram.respond(login.secret.reveal(), challenge)?;
                self.state = if scram.is_complete() {
                    State::Complete
                } else {
                    State::Scram(scram)
                };
                Ok(response)
            }
            State::Start(_) | State::Complete | State::Broken => Err(ExchangeError::Senseless),
        }
    }

    /// Whether a success may follow now. In SCRAM that is only once the server has proven that it knows the password.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
