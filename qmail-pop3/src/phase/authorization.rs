//! AUTHORIZATION (RFC 1939 section 4): who is it?

use bytes::Bytes;
use qmail_core::{Credentials, Question};

use super::{Phase, Transaction, Turn};
use crate::command::{Command, apop_arguments};
use crate::{End, Event, Greeting, LoginAnswer};

/// Before the login.
pub(crate) struct Authorization {
    greeting: Greeting,
    /// From USER, until PASS uses it up.
    name: Option<Bytes>,
    logins: u32,
    asking: bool,
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
            asking: false,
        }
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asking
    }

    pub(crate) fn command(mut self, command: Command<'_>, turn: &mut Turn<'_>) -> Phase {
        match command {
            Command::User(b"") | Command::Garbled => turn.misuse(b"syntax error"),
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
            Command::Noop => turn.ok(),
            Command::Capa => turn.capabilities(),
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

    fn ask(&mut self, credentials: Credentials, turn: &mut Turn<'_>) {
        self.asking = true;
        self.logins = self.logins.saturating_add(1);
        *turn.event = Some(Event::Login {
            question: Question::new(),
            credentials,
        });
    }

    pub(crate) fn answer(mut self, answer: LoginAnswer, turn: &mut Turn<'_>) -> Phase {
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
        if self.logins >= turn.config.logins_max {
            return Phase::Over(End::TooManyLogins);
        }
        self.asking = false;
        Phase::Authorization(self)
    }
}
