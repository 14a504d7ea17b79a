//! From the greeting to the first transaction: EHLO, STARTTLS, AUTH.

use qmail_core::sasl;
use qmail_core::sasl::client::{Exchange as LoginExchange, ExchangeError};

use super::{Phase, Session};
use crate::client::{Cause, Event, Extensions, Failure, Protocol, ServerReply, Stage, StartTls};

/// What the session waits for, before it is ready.
#[derive(Debug)]
pub(super) enum Opening {
    Greeting,
    /// EHLO or LHLO.
    Ehlo,
    Helo,
    StartTls,
    /// The owner, to make the handshake.
    Handshake,
    Auth(Box<LoginExchange>),
}

impl Opening {
    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::Greeting => Stage::Greeting,
            Self::Ehlo | Self::Helo => Stage::Hello,
            Self::StartTls | Self::Handshake => Stage::StartTls,
            Self::Auth(_) => Stage::Auth,
        }
    }
}

impl Session {
    pub(super) fn opening_reply(&mut self, opening: Opening, reply: ServerReply) {
        let stage = opening.stage();
        match (opening, reply.code()) {
            (Opening::Greeting, 220) => self.say_ehlo(),
            (Opening::Ehlo, 200..300) => {
                self.extensions = Extensions::parse(&reply);
                self.secure();
            }
            (Opening::Ehlo, 400..) if self.may_say_helo(&reply) => {
                self.say_hello(b"HELO ", Opening::Helo);
            }
            (Opening::Helo, 200..300) => self.secure(),
            (Opening::StartTls, 220) => {
                self.timer.start(self.config.timeouts.hello);
                self.phase = Phase::Opening(Opening::Handshake);
                self.events.push_back(Event::StartTls);
            }
            (Opening::StartTls, 400..)
                if self.config.start_tls != StartTls::Required && reply.code() != 421 =>
            {
                self.log_in();
            }
            (Opening::Auth(exchange), 334) => self.answer_challenge(exchange, &reply),
            (Opening::Auth(exchange), 235) if exchange.is_complete() => self.ready(),
            (Opening::Auth(_), 235) => self.login_failed(ExchangeError::Impostor),
            _ => self.refused(stage, reply),
        }
    }

    fn say_ehlo(&mut self) {
        match self.config.protocol {
            Protocol::Lmtp => self.say_hello(b"LHLO ", Opening::Ehlo),
            Protocol::Smtp if self.config.extended => self.say_hello(b"EHLO ", Opening::Ehlo),
            Protocol::Smtp => self.say_hello(b"HELO ", Opening::Helo),
        }
    }

    fn say_hello(&mut self, verb: &[u8], then: Opening) {
        let name = self.config.hello().to_vec();
        self.say(&[verb, &name], then);
    }

    fn say(&mut self, parts: &[&[u8]], then: Opening) {
        for part in parts {
            self.transmit.extend_from_slice(part);
        }
        self.transmit.extend_from_slice(b"\r\n");
        self.timer.start_at_next_tick(self.config.timeouts.hello);
        self.phase = Phase::Opening(then);
    }

    /// Whether a server that refuses EHLO may be one that does not know it.
    fn may_say_helo(&self, reply: &ServerReply) -> bool {
        reply.code() != 421 && self.config.protocol == Protocol::Smtp
    }

    /// Asks for TLS, if that is wanted and possible.
    fn secure(&mut self) {
        let offered = self.extensions.start_tls;
        match self.config.start_tls {
            _ if self.encrypted => self.log_in(),
            StartTls::Required if !offered => self.not_offered(Stage::StartTls),
            StartTls::IfOffered | StartTls::Required if offered => {
                self.say(&[b"STARTTLS"], Opening::StartTls);
            }
            _ => self.log_in(),
        }
    }

    /// The handshake that [`Event::StartTls`] asked for is made: from here on the octets are those within.
    ///
    /// What the server announced before is forgotten, and asked anew (RFC 3207 section 4.2). At any other time this does
    /// nothing. If the handshake fails, drop the session, or [`abort`](Self::abort) it.
    pub fn tls_started(&mut self) {
        if matches!(self.phase, Phase::Opening(Opening::Handshake)) {
            self.encrypted = true;
            self.extensions = Extensions::default();
            self.say_ehlo();
        }
    }

    /// Logs in, if the owner wants that.
    fn log_in(&mut self) {
        let Some(login) = self.login.take() else {
            return self.ready();
        };
        let offered = self.extensions.auth.unwrap_or_default();
        let Some(mechanism) = login.choose(offered.iter(), self.encrypted) else {
            return self.not_offered(Stage::Auth);
        };
        let mut exchange = Box::new(LoginExchange::new(mechanism, *login));
        let initial = exchange.initial().map(|octets| match octets.len() {
            // RFC 4954 section 4: how an empty response is told from none.
            0 => "=".to_owned(),
            _ => sasl::encode(&octets),
        });
        let verb = [b"AUTH ", mechanism.name().as_bytes()];
        match initial {
            Some(initial) => self.say(
                &[verb[0], verb[1], b" ", initial.as_bytes()],
                Opening::Auth(exchange),
            ),
            None => self.say(&verb, Opening::Auth(exchange)),
        }
    }

    fn answer_challenge(&mut self, mut exchange: Box<LoginExchange>, reply: &ServerReply) {
        let challenge = sasl::decode(reply.lines().next().unwrap_or_default());
        let response = challenge
            .ok_or(ExchangeError::Senseless)
            .and_then(|challenge| exchange.respond(&challenge));
        match response {
            Ok(response) => {
                let response = sasl::encode(&response);
                self.say(&[response.as_bytes()], Opening::Auth(exchange));
            }
            Err(error) => {
                // How a client gives up (RFC 4954 section 4).
                self.transmit.extend_from_slice(b"*\r\n");
                self.login_failed(error);
            }
        }
    }

    fn login_failed(&mut self, error: ExchangeError) {
        self.opening_failed(Stage::Auth, Cause::Login(error));
    }

    fn not_offered(&mut self, stage: Stage) {
        self.opening_failed(stage, Cause::NotOffered);
    }

    fn opening_failed(&mut self, stage: Stage, cause: Cause) {
        self.say_quit();
        self.fail(Failure {
            stage,
            cause,
            possible_duplicate: false,
        });
    }
}
