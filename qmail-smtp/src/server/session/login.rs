//! AUTH (RFC 4954).

use qmail_core::sasl::{self, Exchange, Failure, Finding, Mechanism, Step};
use qmail_core::{LoginError, Question, Reply};

use super::super::event::{Auth, CloseReason, Event};
use super::super::replies;
use super::{Asked, Phase, Session};

/// Longest response in octets with its CR LF: what RFC 4954 section 4 wants a server to take.
pub(super) const RESPONSE_LINE_OCTETS_MAX: usize = 12_288 + 2;

impl Session {
    /// Settles [`Event::Login`]. Say it with [`Inquiry::ask`](qmail_core::sasl::Inquiry::ask); how long a refusal takes is
    /// the owner's.
    pub fn answer_login(&mut self, question: Question<Auth>, found: Result<Finding, LoginError>) {
        let asked = self.answered(question, |asked| matches!(asked, Asked::Login(_)));
        let Some(Asked::Login(mut exchange)) = asked else {
            return;
        };
        let step = exchange.answer(found);
        self.proceed(exchange, step);
        self.resume();
    }

    pub(super) fn auth(&mut self, argument: &[u8]) {
        let Some(login) = &self.config.login else {
            return self.refuse(&replies::unimplemented());
        };
        let busy = self.transaction.is_some() || self.chunked.is_some();
        if busy || self.standing.logged_in || !self.standing.extended {
            return self.refuse(&replies::out_of_order());
        }
        let mut words = argument.splitn(2, |&octet| octet == b' ');
        let mechanism = Mechanism::named(words.next().unwrap_or_default());
        let Some(mechanism) = mechanism.filter(|known| login.mechanisms.contains(known)) else {
            return self.refuse(&replies::unknown_mechanism());
        };
        if !self
            .standing
            .offered(&self.config)
            .any(|it| it == mechanism)
        {
            let reply = if login.in_clear || self.standing.encrypted {
                replies::unknown_mechanism()
            } else {
                replies::encryption_required()
            };
            return self.refuse(&reply);
        }
        let initial = match words.next().map(<[u8]>::trim_ascii) {
            None | Some(b"") => None,
            Some(b"=") => Some(Vec::new()),
            Some(text) => match sasl::decode(text) {
                Some(response) => Some(response),
                None => return self.refuse(&replies::not_base64()),
            },
        };
        let mut exchange = Box::new(self.exchange(mechanism));
        let step = exchange.begin(initial.as_deref());
        self.proceed(exchange, step);
    }

    /// A line while a challenge is open.
    pub(super) fn respond(&mut self, line: &[u8]) {
        let Phase::Response(mut exchange) = std::mem::replace(&mut self.phase, Phase::Command)
        else {
            return;
        };
        if line == b"*" {
            return self.cancel_login(&replies::login_cancelled());
        }
        match sasl::decode(line) {
            Some(response) => {
                let step = exchange.respond(&response);
                self.proceed(exchange, step);
            }
            None => self.cancel_login(&replies::not_base64()),
        }
    }

    /// Ends the exchange; nothing was tried.
    pub(super) fn cancel_login(&mut self, reply: &Reply) {
        self.phase = Phase::Command;
        self.refuse(reply);
    }

    /// Each exchange has a nonce that no other has.
    fn exchange(&mut self, mechanism: Mechanism) -> Exchange {
        self.standing.logins = self.standing.logins.saturating_add(1);
        let session = self.standing.nonce.as_deref().unwrap_or_default();
        Exchange::new(mechanism, &format!("{session}.{}", self.standing.logins))
    }

    fn proceed(&mut self, exchange: Box<Exchange>, step: Step) {
        match step {
            Step::Challenge(text) => {
                self.reply(&replies::challenge(&text));
                self.phase = Phase::Response(exchange);
            }
            Step::Ask(inquiry) => {
                self.standing.claimed = Some(inquiry.name().clone());
                self.phase = Phase::Asked(Asked::Login(exchange));
                self.events.push_back(Event::Login {
                    question: Question::new(),
                    inquiry,
                });
            }
            Step::Done(account) => {
                self.standing.claimed = None;
                self.standing.logged_in = true;
                self.reply(&replies::logged_in());
                self.events.push_back(Event::LoggedIn(account));
            }
            Step::Failed(failure) => self.login_failed(failure),
            // A step that a later version of the exchange takes and this one does not know.
            _ => self.login_failed(Failure::Malformed),
        }
    }

    fn login_failed(&mut self, failure: Failure) {
        let name = self.standing.claimed.take();
        self.events.push_back(Event::LoginFailed { name, failure });
        if failure == Failure::Unavailable {
            return self.reply(&replies::login_unavailable());
        }
        self.standing.login_failures = self.standing.login_failures.saturating_add(1);
        let failures_max = self
            .config
            .login
            .as_ref()
            .map_or(0, |login| login.failures_max);
        if self.standing.login_failures > failures_max {
            self.close_with(&replies::too_many_errors(), CloseReason::TooManyErrors);
        } else {
            self.refuse(&replies::login_refused());
        }
    }
}
