//! TRANSACTION (RFC 1939 section 5): what is there, and what shall be done with it?

use qmail_core::Question;

use super::{Phase, Turn, Update};
use crate::command::{Command, message_number, top_lines};
use crate::output::{TRANSMIT_OCTETS_LOW, push_number};
use crate::text::{Encoder, TopLimit};
use crate::{BodyFlow, Deletions, Event, Listing, RetrieveAnswer};

/// After the login.
pub(crate) struct Transaction {
    listing: Listing,
    deleted: Deletions,
    /// Size of all messages that are not marked.
    octets_left: u64,
    /// The highest message number that was retrieved or marked, for LAST (RFC 1460).
    last: u64,
    doing: Doing,
}

enum Doing {
    Nothing,
    /// In the middle of a listing; `next` is the first message that is not written yet.
    Listing {
        column: Column,
        next: usize,
    },
    /// The owner was asked for a message.
    Opening {
        message: usize,
        lines: Option<u64>,
    },
    Sending(Sending),
}

/// In the middle of a message.
struct Sending {
    encoder: Encoder,
    limit: Option<TopLimit>,
    /// [`Event::BodyWanted`] was given out and is not answered yet.
    wanted: bool,
}

/// What a listing shows beside the number.
#[derive(Clone, Copy, Debug)]
enum Column {
    Size,
    Id,
}

impl Transaction {
    /// Says yes to the login.
    pub(crate) fn start(listing: Listing, transmit: &mut Vec<u8>) -> Self {
        transmit.extend_from_slice(b"+OK \r\n");
        Self {
            octets_left: listing.octets(),
            listing,
            deleted: Deletions::default(),
            last: 0,
            doing: Doing::Nothing,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.doing, Doing::Nothing)
    }

    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.doing, Doing::Opening { .. })
    }

    pub(crate) fn command(mut self, command: Command<'_>, turn: &mut Turn<'_>) -> Phase {
        match command {
            Command::Stat => {
                let count = self.listing.len() - self.deleted.len();
                turn.ok_numbers(&[count as u64, self.octets_left]);
            }
            Command::List(argument) => self.list(Column::Size, argument, turn),
            Command::Uidl(argument) => self.list(Column::Id, argument, turn),
            Command::Retr(argument) => {
                if let Some(message) = self.message(argument, turn) {
                    self.retrieve(message, None, turn);
                }
            }
            Command::Top(argument) => {
                if let Some(message) = self.message(argument, turn) {
                    match top_lines(argument) {
                        Some(lines) => self.retrieve(message, Some(lines), turn),
                        None => turn.misuse(b"syntax error"),
                    }
                }
            }
            Command::Dele(argument) => {
                if let Some(message) = self.message(argument, turn) {
                    self.delete(message);
                    turn.ok();
                }
            }
            Command::Last => turn.ok_numbers(&[self.last]),
            Command::Rset => {
                self.deleted = Deletions::default();
                self.octets_left = self.listing.octets();
                self.last = 0;
                turn.ok();
            }
            Command::Noop => turn.ok(),
            Command::Capa => turn.capabilities(true, &[]),
            Command::Quit => return Phase::Update(Update::start(self.deleted, turn)),
            Command::Garbled => turn.misuse(b"syntax error"),
            Command::User(_)
            | Command::Pass(_)
            | Command::Apop(_)
            | Command::Auth(_)
            | Command::Stls
            | Command::Http
            | Command::Unknown => turn.misuse(b"unimplemented"),
        }
        Phase::Transaction(self)
    }

    /// The place of the message that an argument names, or its error.
    fn message(&self, argument: &[u8], turn: &mut Turn<'_>) -> Option<usize> {
        let Some(number) = message_number(argument) else {
            turn.misuse(b"syntax error");
            return None;
        };
        let Some(place) = number.checked_sub(1) else {
            turn.misuse(b"messages are counted from 1");
            return None;
        };
        match usize::try_from(place) {
            Ok(message) if message < self.listing.len() => {
                if self.deleted.contains(message) {
                    turn.error(b"already deleted");
                    return None;
                }
                Some(message)
            }
            _ => {
                turn.misuse(b"not that many messages");
                None
            }
        }
    }

    fn delete(&mut self, message: usize) {
        let size = self.listing.size(message).unwrap_or_default();
        self.octets_left = self.octets_left.saturating_sub(size);
        self.deleted.insert(message);
        self.last = self.last.max(message as u64 + 1);
    }

    fn retrieve(&mut self, message: usize, lines: Option<u64>, turn: &mut Turn<'_>) {
        self.doing = Doing::Opening { message, lines };
        *turn.event = Some(Event::Retrieve {
            question: Question::new(),
            message,
            lines,
        });
    }

    fn list(&mut self, column: Column, argument: &[u8], turn: &mut Turn<'_>) {
        if argument.is_empty() {
            turn.ok();
            self.doing = Doing::Listing { column, next: 0 };
            self.go_on(turn.transmit);
        } else if let Some(message) = self.message(argument, turn) {
            turn.transmit.extend_from_slice(b"+OK ");
            self.push_entry(column, message, turn.transmit);
        }
    }

    /// Writes more of a listing, up to [`TRANSMIT_OCTETS_LOW`].
    pub(crate) fn go_on(&mut self, transmit: &mut Vec<u8>) {
        let Doing::Listing { column, mut next } = self.doing else {
            return;
        };
        while next < self.listing.len() {
            if transmit.len() >= TRANSMIT_OCTETS_LOW {
                self.doing = Doing::Listing { column, next };
                return;
            }
            if !self.deleted.contains(next) {
                self.push_entry(column, next, transmit);
            }
            next += 1;
        }
        transmit.extend_from_slice(b".\r\n");
        self.doing = Doing::Nothing;
    }

    fn push_entry(&self, column: Column, message: usize, transmit: &mut Vec<u8>) {
        push_number(transmit, message as u64 + 1);
        transmit.push(b' ');
        match column {
            Column::Size => push_number(transmit, self.listing.size(message).unwrap_or_default()),
            Column::Id => transmit.extend_from_slice(self.listing.id(message).unwrap_or_default()),
        }
        transmit.extend_from_slice(b"\r\n");
    }

    pub(crate) fn answer(&mut self, answer: RetrieveAnswer, turn: &mut Turn<'_>) {
        let Doing::Opening { message, lines } = self.doing else {
            return;
        };
        self.doing = match answer {
            RetrieveAnswer::Opened => {
                turn.ok();
                if lines.is_none() {
                    self.last = self.last.max(message as u64 + 1);
                }
                Doing::Sending(Sending {
                    encoder: Encoder::new(),
                    limit: lines.map(TopLimit::new),
                    wanted: false,
                })
            }
            RetrieveAnswer::Unavailable => {
                turn.error(b"unable to open that message");
                Doing::Nothing
            }
        };
    }

    /// Whether to ask for a chunk: once, and only when what was made before is nearly drained.
    pub(crate) fn asks_for_body(&mut self, transmit_octets: usize) -> bool {
        match &mut self.doing {
            Doing::Sending(sending) if !sending.wanted && transmit_octets < TRANSMIT_OCTETS_LOW => {
                sending.wanted = true;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn body(&mut self, chunk: &[u8], turn: &mut Turn<'_>) -> BodyFlow {
        let Doing::Sending(sending) = &mut self.doing else {
            return BodyFlow::Enough;
        };
        sending.wanted = false;
        let end = sending.limit.as_mut().and_then(|limit| limit.cut(chunk));
        sending
            .encoder
            .push(&chunk[..end.unwrap_or(chunk.len())], turn.transmit);
        if end.is_some() {
            self.end_body(turn);
            return BodyFlow::Enough;
        }
        BodyFlow::More
    }

    pub(crate) fn end_body(&mut self, turn: &mut Turn<'_>) {
        if let Doing::Sending(sending) = &mut self.doing {
            let encoder = std::mem::replace(&mut sending.encoder, Encoder::new());
            encoder.finish(turn.config.extra_blank_line, turn.transmit);
            self.doing = Doing::Nothing;
        }
    }

    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.doing, Doing::Sending(_))
    }
}
