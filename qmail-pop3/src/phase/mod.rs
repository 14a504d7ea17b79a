//! The states of RFC 1939 section 3. Each is a type that takes a command by value and gives the state after it.

mod authorization;
mod transaction;
mod update;

pub(crate) use authorization::Authorization;
pub(crate) use transaction::Transaction;
pub(crate) use update::Update;

use qmail_core::sasl;

use crate::command::Command;
use crate::output::{push_error, push_number};
use crate::{Config, End, Event};

/// Where a session is.
pub(crate) enum Phase {
    Authorization(Authorization),
    Transaction(Transaction),
    Update(Update),
    Over(End),
}

impl Phase {
    /// The state's name in RFC 1939.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Authorization(_) => "AUTHORIZATION",
            Self::Transaction(_) => "TRANSACTION",
            Self::Update(_) => "UPDATE",
            Self::Over(_) => "over",
        }
    }

    /// Takes a line, without its end.
    pub(crate) fn line(self, line: &[u8], turn: &mut Turn<'_>) -> Self {
        match self {
            Self::Authorization(authorization) => authorization.line(line, turn),
            Self::Transaction(transaction) => transaction.command(Command::parse(line), turn),
            Self::Update(_) | Self::Over(_) => self,
        }
    }

    /// Whether the client may send its next command: nothing is asked of the owner, and no reply is half sent.
    pub(crate) fn takes_commands(&self) -> bool {
        match self {
            Self::Authorization(authorization) => authorization.takes_lines(),
            Self::Transaction(transaction) => transaction.is_idle(),
            Self::Update(_) | Self::Over(_) => false,
        }
    }

    /// Whether the owner has to answer before anything goes on.
    pub(crate) fn is_asking(&self) -> bool {
        match self {
            Self::Authorization(authorization) => authorization.is_asking(),
            Self::Transaction(transaction) => transaction.is_asking(),
            Self::Update(_) => true,
            Self::Over(_) => false,
        }
    }
}

/// What a phase works with: the words of the session that go out, to the client and to the owner.
pub(crate) struct Turn<'a> {
    pub(crate) config: &'a Config,
    pub(crate) transmit: &'a mut Vec<u8>,
    pub(crate) event: &'a mut Option<Event>,
    /// Set when the command counts for [`Config::errors_max`].
    pub(crate) misused: bool,
}

impl Turn<'_> {
    /// The bare success of the classic programs, with its space.
    pub(crate) fn ok(&mut self) {
        self.transmit.extend_from_slice(b"+OK \r\n");
    }

    /// What a client that logs in by AUTH has to answer (RFC 5034 section 4).
    pub(crate) fn challenge(&mut self, challenge: &[u8]) {
        self.transmit.extend_from_slice(b"+ ");
        self.transmit
            .extend_from_slice(sasl::encode(challenge).as_bytes());
        self.transmit.extend_from_slice(b"\r\n");
    }

    /// `+OK` and numbers.
    pub(crate) fn ok_numbers(&mut self, numbers: &[u64]) {
        self.transmit.extend_from_slice(b"+OK");
        for &number in numbers {
            self.transmit.push(b' ');
            push_number(self.transmit, number);
        }
        self.transmit.extend_from_slice(b"\r\n");
    }

    /// Something that can happen to a good client.
    pub(crate) fn error(&mut self, text: &[u8]) {
        push_error(self.transmit, text);
    }

    /// Something that only a bad client does.
    pub(crate) fn misuse(&mut self, text: &[u8]) {
        self.misused = true;
        self.error(text);
    }

    /// The reply to CAPA (RFC 2449 section 5): the same before and after the login, but for the ways to log in.
    pub(crate) fn capabilities(&mut self, user: bool, others: &[String]) {
        self.transmit.extend_from_slice(b"+OK \r\nTOP\r\nUIDL\r\n");
        if user {
            self.transmit.extend_from_slice(b"USER\r\n");
        }
        self.transmit
            .extend_from_slice(b"EXPIRE NEVER\r\nRESP-CODES\r\n");
        for other in others {
            self.transmit.extend_from_slice(other.as_bytes());
            self.transmit.extend_from_slice(b"\r\n");
        }
        if self.config.pipelining {
            self.transmit.extend_from_slice(b"PIPELINING\r\n");
        }
        self.transmit.extend_from_slice(b".\r\n");
    }
}
