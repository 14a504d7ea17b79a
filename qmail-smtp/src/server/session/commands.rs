//! The commands, from the line to the reply or the question.

use bytes::Bytes;
use qmail_core::{Machine as _, Question};

use super::super::command::{self, ArgumentError, Command};
use super::super::event::{AbortReason, CloseReason, Event};
use super::super::message::Chunk;
use super::super::{Dialect, ParameterPolicy, replies};
use super::{Asked, Phase, Session};

/// Longest name in octets that HELO and EHLO take: RFC 5321 section 4.5.3.1.2.
const NAME_OCTETS_MAX: usize = 255;

impl Session {
    pub(super) fn execute(&mut self, line: &[u8]) {
        let command = command::command(line);
        if !matches!(
            command,
            Command::Rcpt(_) | Command::Data | Command::Bdat(_) | Command::Quit
        ) {
            self.count_idle_command();
            if self.is_closed() {
                return;
            }
        }
        match (command, self.config.dialect) {
            (Command::Helo(name), Dialect::Smtp) => self.greet(name, false),
            (Command::Ehlo(name), Dialect::Smtp) | (Command::Lhlo(name), Dialect::Lmtp) => {
                self.greet(name, true);
            }
            (Command::StartTls(argument), _) => self.start_tls(argument),
            (Command::Auth(argument), _) => self.auth(argument),
            (Command::Mail(argument), _) => self.mail(argument),
            (Command::Rcpt(argument), _) => self.rcpt(argument),
            (Command::Data, _) => self.data(),
            (Command::Bdat(argument), _) => self.bdat(argument),
            (Command::Rset, _) => {
                self.forget_message();
                self.reply(&replies::flushed());
            }
            (Command::Noop, _) => self.reply(&replies::noop()),
            (Command::Vrfy, _) => self.reply(&replies::vrfy()),
            (Command::Help, _) => self.reply(&replies::help()),
            (Command::Quit, _) => {
                let reply = replies::quit(&self.config);
                self.close_with(&reply, CloseReason::Quit);
            }
            (Command::Foreign, _) => {
                self.close_with(&replies::unimplemented(), CloseReason::ForeignCommand);
            }
            (Command::Helo(_) | Command::Ehlo(_) | Command::Lhlo(_) | Command::Unknown, _) => {
                self.refuse(&replies::unimplemented());
            }
        }
    }

    fn greet(&mut self, name: &[u8], extended: bool) {
        let control = |&octet: &u8| octet < b' ' || octet == 0x7f;
        let odd = name.len() > NAME_OCTETS_MAX || name.iter().any(control);
        // qmail-smtpd takes any.
        if odd && self.config.parameters == ParameterPolicy::Strict {
            return self.refuse(&replies::bad_name());
        }
        self.forget_message();
        self.standing.extended = extended;
        let reply = if extended {
            replies::ehlo(&self.config, &self.standing)
        } else {
            replies::helo(&self.config)
        };
        self.reply(&reply);
        self.events.push_back(Event::Greeted {
            name: Bytes::copy_from_slice(name),
            extended,
        });
    }

    /// RFC 3207.
    fn start_tls(&mut self, argument: &[u8]) {
        if !self.config.extensions.starttls {
            return self.refuse(&replies::unimplemented());
        }
        if !argument.is_empty() {
            return self.refuse(&replies::no_argument());
        }
        if self.standing.encrypted {
            return self.refuse(&replies::out_of_order());
        }
        self.forget_message();
        self.reply(&replies::start_tls());
        self.phase = Phase::Handshake { told: false };
    }

    fn mail(&mut self, argument: &[u8]) {
        if self.chunked.is_some() {
            return self.refuse(&replies::out_of_order());
        }
        match command::mail(argument, &self.config) {
            Ok((sender, parameters)) => {
                self.phase = Phase::Asked(Asked::Mail {
                    sender: sender.clone(),
                    smtp_utf8: parameters.smtp_utf8,
                });
                self.events.push_back(Event::Mail {
                    question: Question::new(),
                    sender,
                    parameters,
                });
            }
            Err(error) => self.refuse_argument(error),
        }
    }

    fn rcpt(&mut self, argument: &[u8]) {
        let Some(transaction) = &self.transaction else {
            return self.refuse(&replies::mail_first());
        };
        let (recipient, parameters) = match command::rcpt(argument, &self.config) {
            Ok(rcpt) => rcpt,
            Err(error) => return self.refuse_argument(error),
        };
        if transaction.envelope.recipients.len() >= self.config.recipients_max
            || transaction.octets + recipient.as_bytes().len() > self.config.envelope_octets_max
        {
            // The client means well and is to try again with these (RFC 5321 section 4.5.3.1.10): no error.
            return self.reply(&replies::too_many_recipients());
        }
        if self.standing.smtp_utf8 && std::str::from_utf8(recipient.as_bytes()).is_err() {
            return self.refuse_argument(ArgumentError::NotUtf8);
        }
        self.phase = Phase::Asked(Asked::Rcpt(recipient.clone()));
        self.events.push_back(Event::Rcpt {
            question: Question::new(),
            recipient,
            parameters,
        });
    }

    fn data(&mut self) {
        if self.chunked.is_some() {
            return self.refuse(&replies::out_of_order());
        }
        if let Err(reply) = self.ask_data(None) {
            self.refuse(&reply);
        }
    }

    /// RFC 3030. Whatever is wrong, the chunk follows: what does not tell its size ends the session, or its text would be
    /// taken for commands.
    fn bdat(&mut self, argument: &[u8]) {
        if !self.config.extensions.chunking {
            return self.close_with(&replies::unimplemented(), CloseReason::ForeignCommand);
        }
        let Some((octets, last)) = command::bdat(argument) else {
            return self.close_with(&replies::bad_chunk(), CloseReason::ForeignCommand);
        };
        let chunk = Chunk::new(octets, last);
        if let Some(message) = self.chunked.take() {
            self.continue_message(message, chunk);
        } else if let Err(reply) = self.ask_data(Some(chunk)) {
            self.drop_chunk(chunk, reply);
            self.count_error();
        }
    }

    fn ask_data(&mut self, chunk: Option<Chunk>) -> Result<(), qmail_core::Reply> {
        let transaction = match self.transaction.take() {
            None => return Err(replies::mail_first()),
            Some(transaction) if transaction.envelope.recipients.is_empty() => {
                self.transaction = Some(transaction);
                return Err(replies::rcpt_first());
            }
            Some(transaction) => transaction,
        };
        self.phase = Phase::Asked(Asked::Data {
            recipients: transaction.envelope.recipients.len(),
            chunk,
        });
        self.events.push_back(Event::Data {
            question: Question::new(),
            envelope: transaction.envelope,
        });
        Ok(())
    }

    fn forget_message(&mut self) {
        self.abort(AbortReason::Reset);
        self.chunked = None;
        self.transaction = None;
    }

    fn refuse_argument(&mut self, error: ArgumentError) {
        match error {
            ArgumentError::Syntax => self.refuse(&replies::bad_address()),
            ArgumentError::EmptyRecipient => self.refuse(&replies::empty_recipient()),
            ArgumentError::UnknownParameter => self.refuse(&replies::unknown_parameter()),
            ArgumentError::BadParameter => self.refuse(&replies::bad_parameter()),
            ArgumentError::NotUtf8 => self.refuse(&replies::not_utf8()),
            // The size is the message's fault, not the client's.
            ArgumentError::TooLarge => self.reply(&replies::too_large()),
        }
    }
}
