//! The client's side of SASL.
//!
//! ```
//! use qmail_core::sasl::Mechanism;
//! use qmail_core::sasl::client::{Exchange, Login};
//!
//! let login = Login::new("tim", "tanstaaftanstaaf");
//! let mut exchange = Exchange::new(Mechanism::Plain, login);
//! assert_eq!(exchange.initial().as_deref(), Some(&b"\0tim\0tanstaaftanstaaf"[..]));
//! assert!(exchange.is_complete());
//! ```

mod scram_sha256;

use std::fmt;

use bytes::Bytes;

use super::{ITERATIONS_MAX, Mechanism};
use crate::{Secret, cram_md5_digest};
use scram_sha256::Scram;

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

    /// The best mechanism that both sides have, in the order of [`Mechanism::ALL`].
    pub fn choose(
        &self,
        offered: impl IntoIterator<Item = Mechanism>,
        encrypted: bool,
    ) -> Option<Mechanism> {
        offered
            .into_iter()
            .filter(|&mechanism| match mechanism {
                Mechanism::ScramSha256 => self.nonce.is_some(),
                _ => !mechanism.shows_password() || encrypted || self.in_clear,
            })
            .min_by_key(|wanted| Mechanism::ALL.iter().position(|known| known == wanted))
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
                let digest = cram_md5_digest(challenge, login.secret.reveal());
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
