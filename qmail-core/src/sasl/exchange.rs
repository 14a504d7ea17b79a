//! One attempt to log in.

use bytes::Bytes;

use super::scram::{AwaitedProof, ClientFirst, Misfit};
use super::{Finding, Inquiry, Mechanism, RESPONSE_OCTETS_MAX, plain};
use crate::{Account, LoginError};

/// The server's side of one login. Drop it when the client gives up (`*` in SMTP and POP3).
///
/// Begin, then do what each [`Step`] says until one of them is the last:
///
/// ```
/// use qmail_core::sasl::{Exchange, Failure, Inquiry, Mechanism, Step};
/// use qmail_core::{Credentials, LoginError};
///
/// let mut exchange = Exchange::new(Mechanism::Login, "some nonce");
/// assert_eq!(exchange.begin(None), Step::Challenge(b"Username:".to_vec()));
/// assert_eq!(exchange.respond(b"joe"), Step::Challenge(b"Password:".to_vec()));
/// let Step::Ask(Inquiry::Check(credentials)) = exchange.respond(b"secret") else { panic!() };
/// assert!(credentials.fit(b"secret"));
/// assert_eq!(exchange.answer(Err(LoginError::Refused)), Step::Failed(Failure::Refused));
/// ```
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    nonce: Box<str>,
    state: State,
}

/// What is waited for.
#[derive(Debug)]
enum State {
    /// The client's first message.
    First,
    /// LOGIN's password.
    Password {
        name: Bytes,
    },
    /// The digest for this challenge.
    Digest {
        challenge: Bytes,
    },
    /// An answer to [`Inquiry::Check`].
    Checked,
    /// An answer to [`Inquiry::Verifier`].
    Verifier(Box<ClientFirst>),
    /// SCRAM's proof.
    Proof {
        account: Account,
        awaited: Box<AwaitedProof>,
    },
    /// That the client has seen the server's proof.
    Nod(Account),
    Over,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Send this, in the protocol's coding, and give what the client says to [`Exchange::respond`].
    Challenge(Vec<u8>),
    /// Find this out, and give it to [`Exchange::answer`].
    Ask(Inquiry),
    /// It is over: the client has proved who it is.
    Done(Account),
    /// It is over: it has not.
    Failed(Failure),
}

/// Why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The client does not keep to the mechanism.
    #[error("malformed response")]
    Malformed,
    /// No such name, or not its password.
    #[error("name or password refused")]
    Refused,
    /// The checker cannot tell now.
    #[error("passwords cannot be checked now")]
    Unavailable,
}

impl Exchange {
    /// `nonce` must be new for each exchange and impossible to guess: 16 or more random octets in base64 or the like;
    /// printable, without comma and `>`. PLAIN and LOGIN do not need it.
    pub fn new(mechanism: Mechanism, nonce: &str) -> Self {
        Self {
            mechanism,
            nonce: nonce.into(),
            state: State::First,
        }
    }

    /// The client has chosen the mechanism, perhaps with its first response beside.
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Step {
        match (self.mechanism, initial) {
            // The server speaks first there (RFC 4954 section 4: then there is no initial response).
            (Mechanism::CramMd5, Some(_)) => self.fail(Failure::Malformed),
            (Mechanism::CramMd5, None) => {
                let challenge = format!("<{}@sasl>", self.nonce);
                self.state = State::Digest {
                    challenge: challenge.clone().into(),
                };
                Step::Challenge(challenge.into_bytes())
            }
            (_, Some(response)) => self.respond(response),
            (Mechanism::Login, None) => Step::Challenge(b"Username:".to_vec()),
            (Mechanism::Plain | Mechanism::ScramSha256, None) => Step::Challenge(Vec::new()),
        }
    }

    /// The client has answered a challenge. Anything else than after [`Step::Challenge`] fails.
    pub fn respond(&mut self, response: &[u8]) -> Step {
        if response.len() > RESPONSE_OCTETS_MAX {
            return self.fail(Failure::Malformed);
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => self.first(response),
            State::Password { name } => self.check(plain::login(&name, response)),
            State::Digest { challenge } => self.check(plain::cram_md5(&challenge, response)),
            State::Proof { account, awaited } => match awaited.check(response) {
                Ok(own_proof) => {
                    self.state = State::Nod(account);
                    Step::Challenge(own_proof.into_bytes())
                }
                Err(Misfit::Proof) => self.fail(Failure::Refused),
                Err(Misfit::Form) => self.fail(Failure::Malformed),
            },
            State::Nod(account) if response.is_empty() => Step::Done(account),
            State::Nod(_) | State::Checked | State::Verifier(_) | State::Over => {
                self.fail(Failure::Malformed)
            }
        }
    }

    /// The answer to [`Step::Ask`]. Anything else than after it, or of the wrong kind, fails.
    pub fn answer(&mut self, found: Result<Finding, LoginError>) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, found) {
            (State::Checked, Ok(Finding::Account(account))) => Step::Done(account),
            (State::Verifier(first), Ok(Finding::Verifier(account, verifier))) => {
                let (message, awaited) = first.answered(verifier, &self.nonce);
                self.state = State::Proof {
                    account,
                    awaited: Box::new(awaited),
                };
                Step::Challenge(message.into_bytes())
            }
            (_, Err(LoginError::Unavailable { .. })) => self.fail(Failure::Unavailable),
            _ => self.fail(Failure::Refused),
        }
    }

    fn first(&mut self, response: &[u8]) -> Step {
        match self.mechanism {
            Mechanism::Plain => self.check(plain::plain(response)),
            Mechanism::Login if super::is_name(response) => {
                self.state = State::Password {
                    name: Bytes::copy_from_slice(response),
                };
                Step::Challenge(b"Password:".to_vec())
            }
            Mechanism::ScramSha256 => match ClientFirst::parse(response) {
                Some(first) => {
                    let name = first.name.clone();
                    self.state = State::Verifier(Box::new(first));
                    Step::Ask(Inquiry::Verifier { name })
                }
                None => self.fail(Failure::Malformed),
            },
            Mechanism::Login | Mechanism::CramMd5 => self.fail(Failure::Malformed),
        }
    }

    fn check(&mut self, credentials: Option<crate::Credentials>) -> Step {
        match credentials {
            Some(credentials) => {
                self.state = State::Checked;
                Step::Ask(Inquiry::Check(credentials))
            }
            None => self.fail(Failure::Malformed),
        }
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.state = State::Over;
        Step::Failed(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verifier;
    use super::*;

    fn account() -> Account {
        Account::new("joe")
    }

    #[test]
    fn plain_and_login_ask_for_a_password_check() {
        for (mechanism, initial, responses) in [
            (Mechanism::Plain, Some(&b"\0joe\0pw"[..]), &[][..]),
            (Mechanism::Plain, None, &[&b"\0joe\0pw"[..]][..]),
            (Mechanism::Login, None, &[b"joe", b"pw"]),
            (Mechanism::Login, Some(b"joe"), &[b"pw"]),
        ] {
            let mut exchange = Exchange::new(mechanism, "n");
            let mut step = exchange.begin(initial);
            for response in responses {
                assert!(matches!(step, Step::Challenge(_)), "{mechanism:?}");
                step = exchange.respond(response);
            }
            let Step::Ask(Inquiry::Check(credentials)) = step else {
                panic!("{mechanism:?}: {step:?}");
            };
            assert!(credentials.fit(b"pw"));
            let done = exchange.answer(Ok(Finding::Account(account())));
            assert_eq!(done, Step::Done(account()));
            assert_eq!(exchange.respond(b""), Step::Failed(Failure::Malformed));
        }
    }

    #[test]
    fn cram_md5_challenges_first() {
        let mut exchange = Exchange::new(Mechanism::CramMd5, "n0nce");
        let Step::Challenge(challenge) = exchange.begin(None) else {
            panic!("no challenge");
        };
        assert_eq!(challenge, b"<n0nce@sasl>");
        let digest = crate::cram_md5_digest(&challenge, b"pw");
        let step = exchange.respond(&[b"joe ", &digest[..]].concat());
        let Step::Ask(Inquiry::Check(credentials)) = step else {
            panic!("{step:?}");
        };
        assert!(credentials.fit(b"pw") && !credentials.fit(b"px"));
        let mut early = Exchange::new(Mechanism::CramMd5, "n0nce");
        assert_eq!(early.begin(Some(b"")), Step::Failed(Failure::Malformed));
    }

    #[test]
    fn scram_ends_with_the_servers_own_proof() {
        let salt = super::super::decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = Verifier::new(b"pencil", &salt, 4096).expect("within limits");
        let proof = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        for (nod, last) in [
            (&b""[..], Step::Done(account())),
            (b"x", Step::Failed(Failure::Malformed)),
        ] {
            let mut exchange =
                Exchange::new(Mechanism::ScramSha256, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
            let step = exchange.begin(Some(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
            let name = Bytes::from_static(b"user");
            assert_eq!(step, Step::Ask(Inquiry::Verifier { name }));
            let found = Finding::Verifier(account(), verifier.clone());
            assert!(matches!(exchange.answer(Ok(found)), Step::Challenge(_)));
            let step = exchange.respond(proof);
            assert!(
                matches!(&step, Step::Challenge(own) if own.starts_with(b"v=")),
                "{step:?}"
            );
            assert_eq!(exchange.respond(nod), last);
        }
    }

    #[test]
    fn answers_out_of_place_fail() {
        let checked = || Finding::Account(account());
        let mut scram = Exchange::new(Mechanism::ScramSha256, "n");
        assert_eq!(
            scram.answer(Ok(checked())),
            Step::Failed(Failure::Refused),
            "nothing was asked"
        );
        let mut scram = Exchange::new(Mechanism::ScramSha256, "n");
        scram.begin(Some(b"n,,n=user,r=x"));
        assert_eq!(
            scram.answer(Ok(checked())),
            Step::Failed(Failure::Refused),
            "another thing was asked"
        );
        let mut plain = Exchange::new(Mechanism::Plain, "n");
        plain.begin(Some(b"\0joe\0pw"));
        let reason = "disk".to_owned();
        assert_eq!(
            plain.answer(Err(LoginError::Unavailable { reason })),
            Step::Failed(Failure::Unavailable)
        );
        let long = vec![b'x'; RESPONSE_OCTETS_MAX + 1];
        for mechanism in Mechanism::ALL {
            let mut exchange = Exchange::new(mechanism, "n");
            assert_eq!(
                exchange.begin(Some(&long)),
                Step::Failed(Failure::Malformed)
            );
        }
    }
}
