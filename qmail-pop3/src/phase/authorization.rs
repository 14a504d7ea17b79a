//! AUTHORIZATION (RFC 1939 section 4): who is it?

use bytes::Bytes;
use qmail_core::sasl::{self, Exchange, Failure, Finding, Inquiry, Mechanism, Step};
use qmail_core::{Credentials, Question};

use super::{Phase, Transaction, Turn};
use crate::command::{Command, apop_arguments};
use crate::{Config, End, Event, Greeting, LoginAnswer, VerifierAnswer};

/// Before the login.
pub(crate) struct Authorization {
    greeting: Greeting,
    /// From USER, until PASS uses it up.
    name: Option<Bytes>,
    logins: u32,
    encrypted: bool,
    nonce: Option<Box<str>>,
    doing: Doing,
}

enum Doing {
    Nothing,
    /// The owner was asked whether the client may come in.
    LoggingIn,
    /// The owner was asked for a verifier.
    Inquiring(Box<Exchange>),
    /// The client was sent a challenge.
    Challenging(Box<Exchange>),
    /// The client makes a handshake; whether the owner knows.
    Handshake {
        told: bool,
    },
}

impl Authorization {
    /// Greets.
    pub(crate) fn start(greeting: Greeting, transmit: &mut Vec<u8>) -> Self {
        transmit.extend_from_slice(b"+OK ");
        if let Greeting::Apop(timestamp) = &greeting {
            transmit.extend_from_slice(timestamp.as_bytes());
        }
        transmit.extend_from_slice(b"\r\n");
        Self {
            greeting,
            name: None,
            logins: 0,
            encrypted: false,
            nonce: None,
            doing: Doing::Nothing,
        }
    }

    pub(crate) fn encrypt(&mut self) {
        self.encrypted = true;
    }

    pub(crate) fn set_nonce(&mut self, nonce: &str) {
        self.nonce = Some(nonce.into());
    }

    /// Whether the owner was asked something.
    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.doing, Doing::LoggingIn | Doing::Inquiring(_))
    }

    pub(crate) fn takes_lines(&self) -> bool {
        matches!(self.doing, Doing::Nothing | Doing::Challenging(_))
    }

    pub(crate) fn is_in_handshake(&self) -> bool {
        matches!(self.doing, Doing::Handshake { .. })
    }

    /// Whether to tell the owner now, once, that the client waits for a handshake.
    pub(crate) fn asks_for_tls(&mut self) -> bool {
        match &mut self.doing {
            Doing::Handshake { told } => !std::mem::replace(told, true),
            _ => false,
        }
    }

    /// The handshake is made. What the client said before is forgotten (RFC 2595 section 4).
    pub(crate) fn tls_started(&mut self) {
        if self.is_in_handshake() {
            self.encrypted = true;
            self.name = None;
            self.doing = Doing::Nothing;
        }
    }

    /// A line, without its end.
    pub(crate) fn line(mut self, line: &[u8], turn: &mut Turn<'_>) -> Phase {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Challenging(exchange) => self.respond(exchange, line, turn),
            _ => self.command(Command::parse(line), turn),
        }
    }

    fn command(mut self, command: Command<'_>, turn: &mut Turn<'_>) -> Phase {
        match command {
            Command::User(b"") | Command::Garbled => turn.misuse(b"syntax error"),
            Command::User(_) | Command::Pass(_) if !self.may_show_password(turn.config) => {
                turn.misuse(ENCRYPTION_REQUIRED);
            }
            Command::User(name) => {
                self.name = Some(Bytes::copy_from_slice(name));
                turn.ok();
            }
            Command::Pass(secret) => match self.name.take() {
                None => turn.misuse(b"USER first"),
                Some(name) if secret.is_empty() => {
                    self.name = Some(name);
                    turn.misuse(b"syntax error");
                }
                Some(name) => self.ask(
                    Credentials::Plain {
                        name,
                        secret: secret.into(),
                    },
                    turn,
                ),
            },
            Command::Apop(argument) => match (&self.greeting, apop_arguments(argument)) {
                (Greeting::Plain, _) => turn.misuse(b"authorization first"),
                (Greeting::Apop(_), None) => turn.misuse(b"syntax error"),
                (Greeting::Apop(timestamp), Some((name, digest))) => {
                    let credentials = Credentials::Apop {
                        name: Bytes::copy_from_slice(name),
                        timestamp: timestamp.as_bytes().clone(),
                        digest: Bytes::copy_from_slice(digest),
                    };
                    self.ask(credentials, turn);
                }
            },
            Command::Auth(argument) => return self.auth(argument, turn),
            Command::Stls if turn.config.tls && !self.encrypted => {
                turn.ok();
                self.doing = Doing::Handshake { told: false };
            }
            Command::Noop => turn.ok(),
            Command::Capa => self.capabilities(turn),
            Command::Quit => {
                turn.ok();
                return Phase::Over(End::Quit);
            }
            Command::Http => {
                turn.misuse(b"authorization first");
                return Phase::Over(End::NotPop3);
            }
            _ => turn.misuse(b"authorization first"),
        }
        Phase::Authorization(self)
    }

    fn may_show_password(&self, config: &Config) -> bool {
        self.encrypted || config.in_clear
    }

    /// The mechanisms that work now.
    fn mechanisms<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = Mechanism> + 'a {
        config.mechanisms.iter().copied().filter(|mechanism| {
            if mechanism.shows_password() {
                self.may_show_password(config)
            } else {
                self.nonce.is_some()
            }
        })
    }

    fn capabilities(&self, turn: &mut Turn<'_>) {
        let mut others = Vec::new();
        let names: Vec<_> = self.mechanisms(turn.config).map(Mechanism::name).collect();
        if !names.is_empty() {
            others.push(format!("SASL {}", names.join(" ")));
        }
        if turn.config.tls && !self.encrypted {
            others.push("STLS".to_owned());
        }
        turn.capabilities(self.may_show_password(turn.config), &others);
    }

    /// `AUTH MECHANISM [INITIAL-RESPONSE]` (RFC 5034 section 4).
    fn auth(self, argument: &[u8], turn: &mut Turn<'_>) -> Phase {
        let mut words = argument.splitn(2, |&octet| octet == b' ');
        let wanted = Mechanism::named(words.next().unwrap_or_default());
        let known = wanted.filter(|wanted| turn.config.mechanisms.contains(wanted));
        let Some(mechanism) = known else {
            turn.misuse(match argument {
                _ if turn.config.mechanisms.is_empty() => b"authorization first",
                b"" => b"syntax error",
                _ => NO_SUCH_MECHANISM,
            });
            return Phase::Authorization(self);
        };
        if !self.mechanisms(turn.config).any(|it| it == mechanism) {
            turn.misuse(if mechanism.shows_password() {
                ENCRYPTION_REQUIRED
            } else {
                NO_SUCH_MECHANISM
            });
            return Phase::Authorization(self);
        }
        let initial = match words.next().map(<[u8]>::trim_ascii) {
            None | Some(b"") => None,
            Some(b"=") => Some(Vec::new()),
            Some(text) => match sasl::decode(text) {
                Some(response) => Some(response),
                None => {
                    turn.misuse(b"no base64");
                    return Phase::Authorization(self);
                }
            },
        };
        // Each exchange has a nonce that no other has.
        let nonce = self.nonce.as_deref().unwrap_or_default();
        let nonce = format!("{nonce}.{}", self.logins);
        let mut exchange = Box::new(Exchange::new(mechanism, &nonce));
        let step = exchange.begin(initial.as_deref());
        self.proceed(exchange, step, turn)
    }

    /// The client's answer to a challenge; `*` is how it gives up.
    fn respond(self, mut exchange: Box<Exchange>, line: &[u8], turn: &mut Turn<'_>) -> Phase {
        if line == b"*" {
            turn.misuse(b"login cancelled");
            return Phase::Authorization(self);
        }
        match sasl::decode(line) {
            Some(response) => {
                let step = exchange.respond(&response);
                self.proceed(exchange, step, turn)
            }
            None => {
                turn.misuse(b"no base64");
                Phase::Authorization(self)
            }
        }
    }

    fn proceed(mut self, exchange: Box<Exchange>, step: Step, turn: &mut Turn<'_>) -> Phase {
        match step {
            Step::Challenge(challenge) => {
                turn.challenge(&challenge);
                self.doing = Doing::Challenging(exchange);
            }
            Step::Ask(Inquiry::Check(credentials)) => self.ask(credentials, turn),
            Step::Ask(Inquiry::Verifier { name }) => {
                self.doing = Doing::Inquiring(exchange);
                *turn.event = Some(Event::Verifier {
                    question: Question::new(),
                    name,
                });
            }
            Step::Done(account) => {
                self.count_login();
                *turn.event = Some(Event::Proved {
                    question: Question::new(),
                    account,
                });
            }
            Step::Failed(Failure::Malformed) => {
                self.logins = self.logins.saturating_add(1);
                turn.misuse(b"syntax error");
                return self.go_on(turn);
            }
            Step::Failed(Failure::Unavailable) => {
                self.logins = self.logins.saturating_add(1);
                return self.answer(LoginAnswer::Unavailable, turn);
            }
            // Among these, what a later version of the exchange may want and this one does not know.
            _ => {
                self.logins = self.logins.saturating_add(1);
                return self.answer(LoginAnswer::Refused, turn);
            }
        }
        Phase::Authorization(self)
    }

    fn ask(&mut self, credentials: Credentials, turn: &mut Turn<'_>) {
        self.count_login();
        *turn.event = Some(Event::Login {
            question: Question::new(),
            credentials,
        });
    }

    fn count_login(&mut self) {
        self.doing = Doing::LoggingIn;
        self.logins = self.logins.saturating_add(1);
    }

    pub(crate) fn answer_verifier(mut self, answer: VerifierAnswer, turn: &mut Turn<'_>) -> Phase {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Inquiring(mut exchange) => {
                let found = answer.map(|(account, verifier)| Finding::Verifier(account, verifier));
                let step = exchange.answer(found);
                self.proceed(exchange, step, turn)
            }
            other => {
                self.doing = other;
                Phase::Authorization(self)
            }
        }
    }

    /// The answer to what was asked about a login; without such a question it does nothing.
    pub(crate) fn answer_login(self, answer: LoginAnswer, turn: &mut Turn<'_>) -> Phase {
        match self.doing {
            Doing::LoggingIn => self.answer(answer, turn),
            _ => Phase::Authorization(self),
        }
    }

    fn answer(self, answer: LoginAnswer, turn: &mut Turn<'_>) -> Phase {
        match answer {
            LoginAnswer::Accepted(listing) => {
                return Phase::Transaction(Transaction::start(listing, turn.transmit));
            }
            LoginAnswer::HandedOver => return Phase::Over(End::HandedOver),
            LoginAnswer::Failed(text) => {
                turn.error(&text);
                return Phase::Over(End::LoginFailed);
            }
            LoginAnswer::Refused => turn.error(b"authorization failed"),
            LoginAnswer::Unavailable => {
                turn.error(b"[SYS/TEMP] passwords cannot be checked now, try again later");
            }
        }
        self.go_on(turn)
    }

    /// Another try, unless there were too many.
    fn go_on(mut self, turn: &Turn<'_>) -> Phase {
        if self.logins >= turn.config.logins_max {
            return Phase::Over(End::TooManyLogins);
        }
        self.doing = Doing::Nothing;
        Phase::Authorization(self)
    }
}

const NO_SUCH_MECHANISM: &[u8] = b"no such mechanism";

const ENCRYPTION_REQUIRED: &[u8] = b"say STLS first: no password in clear";
