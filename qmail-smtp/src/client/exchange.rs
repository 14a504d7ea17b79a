//! The commands of one transaction and the replies to them, up to the one to DATA.

use std::collections::VecDeque;

use super::{Cause, Encoder, Extensions, Failure, ServerReply, Stage, StartError, Transaction};
use crate::BodyType;

/// Most commands that are sent ahead of their replies. A server that answers each at once can then never fill up the way
/// back while it is still being written to (RFC 2920 section 3.1), and a long list of recipients is not held twice.
const WINDOW: usize = 100;

/// One transaction under way.
#[derive(Debug)]
pub(super) struct Exchange {
    transaction: Transaction,
    /// RSET goes first.
    reset: bool,
    /// How many commands were sent, and how many of them were answered; [`Self::step`] tells which they are.
    sent: usize,
    answered: usize,
    /// Recipients that the server took, by their place in the transaction.
    accepted: Vec<usize>,
    /// Some address is UTF-8 beyond ASCII, and the server takes such.
    utf8: bool,
    /// What the transaction has already failed of, while replies to commands behind that are still to come.
    failure: Option<Failure>,
    /// The text, from DATA on.
    pub(super) encoder: Encoder,
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Reset,
    Mail,
    Rcpt(usize),
    Data,
}

/// What a reply means.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing that the owner needs to know.
    Noted,
    /// The server's word on a recipient.
    Recipient { index: usize, reply: ServerReply },
    /// The text may come.
    GoAhead,
    /// The text may come, but no recipient was accepted: an empty one has to be sent (RFC 2920 section 3.1).
    GoAheadForNobody,
    /// The server hangs up, or might as well.
    Fatal(Failure),
    /// Nobody can tell what the server takes the next command for.
    Senseless(Failure),
}

impl Exchange {
    /// Checks what cannot be sent; `reset` is for a server that still holds an earlier transaction.
    pub(super) fn new(
        transaction: Transaction,
        extensions: &Extensions,
        reset: bool,
    ) -> Result<Self, StartError> {
        transaction.check(extensions)?;
        Ok(Self {
            utf8: transaction.needs_utf8(),
            transaction,
            reset,
            sent: 0,
            answered: 0,
            accepted: Vec::new(),
            failure: None,
            encoder: Encoder::default(),
        })
    }

    /// Writes the commands that may be sent now.
    pub(super) fn write_commands(
        &mut self,
        extensions: &Extensions,
        pipelining: bool,
        sink: &mut Vec<u8>,
    ) {
        // Refilling only a half-empty window keeps the writes large.
        if self.sent - self.answered > WINDOW / 2 {
            return;
        }
        while self.may_send(pipelining) {
            match self.step(self.sent) {
                Some(Step::Reset) => sink.extend_from_slice(b"RSET\r\n"),
                Some(Step::Mail) => self.write_mail(extensions, sink),
                Some(Step::Rcpt(index)) => {
                    sink.extend_from_slice(b"RCPT TO:<");
                    let recipient = &self.transaction.recipients[index];
                    sink.extend_from_slice(&match self.utf8 {
                        true => recipient.quoted_utf8(),
                        false => recipient.quoted(),
                    });
                    sink.push(b'>');
                    if extensions.dsn {
                        self.transaction.write_wishes_of(index, sink);
                    }
                    sink.extend_from_slice(b"\r\n");
                }
                Some(Step::Data) => sink.extend_from_slice(b"DATA\r\n"),
                None => return,
            }
            self.sent += 1;
        }
    }

    fn write_mail(&self, extensions: &Extensions, sink: &mut Vec<u8>) {
        sink.extend_from_slice(b"MAIL FROM:<");
        let sender = &self.transaction.sender;
        sink.extend_from_slice(&match self.utf8 {
            true => sender.quoted_utf8(),
            false => sender.quoted(),
        });
        sink.push(b'>');
        if let Some(octets) = self.transaction.octets
            && extensions.size
        {
            sink.extend_from_slice(format!(" SIZE={octets}").as_bytes());
        }
        if let Some(body) = self.transaction.body
            && extensions.eight_bit_mime
        {
            sink.extend_from_slice(match body {
                BodyType::SevenBit => b" BODY=7BIT",
                BodyType::EightBitMime => b" BODY=8BITMIME",
            });
        }
        if self.utf8 {
            sink.extend_from_slice(b" SMTPUTF8");
        }
        if extensions.dsn {
            self.transaction.write_wishes(sink);
        }
        sink.extend_from_slice(b"\r\n");
    }

    fn may_send(&self, pipelining: bool) -> bool {
        let awaited = self.sent - self.answered;
        let room = if pipelining { WINDOW } else { 1 };
        if self.failure.is_some() || awaited >= room {
            return false;
        }
        match self.step(self.sent) {
            // Sent ahead in the hope that some recipient will be accepted; not once it is known that none was.
            Some(Step::Data) => awaited > 0 || !self.accepted.is_empty(),
            Some(_) => true,
            None => false,
        }
    }

    /// The n-th command.
    fn step(&self, n: usize) -> Option<Step> {
        let n = if self.reset {
            match n.checked_sub(1) {
                None => return Some(Step::Reset),
                Some(n) => n,
            }
        } else {
            n
        };
        let recipients = self.transaction.recipients.len();
        match n {
            0 => Some(Step::Mail),
            n if n <= recipients => Some(Step::Rcpt(n - 1)),
            n if n == recipients + 1 => Some(Step::Data),
            _ => None,
        }
    }

    /// What the next reply will be to.
    pub(super) fn stage(&self) -> Stage {
        match self.step(self.answered) {
            Some(Step::Reset) => Stage::Reset,
            Some(Step::Mail) => Stage::Mail,
            Some(Step::Rcpt(_)) => Stage::Rcpt,
            Some(Step::Data) | None => Stage::Data,
        }
    }

    /// Takes the reply to the oldest command that has none.
    pub(super) fn answer(&mut self, reply: ServerReply) -> Answer {
        let stage = self.stage();
        let step = self.step(self.answered);
        self.answered += 1;
        // 421 may come at any time, and means that the server hangs up (RFC 5321 section 3.8).
        if reply.code() == 421 {
            return Answer::Fatal(self.fail(stage, Cause::Refused(reply)));
        }
        match (step, reply.code() / 100) {
            (Some(Step::Reset | Step::Mail), 2) => Answer::Noted,
            (Some(Step::Reset), 4 | 5) => Answer::Fatal(self.fail(stage, Cause::Refused(reply))),
            (Some(Step::Mail), 4 | 5) => {
                self.note_failure(stage, Cause::Refused(reply));
                Answer::Noted
            }
            (Some(Step::Rcpt(index)), 2 | 4 | 5) => {
                if reply.is_success() {
                    self.accepted.push(index);
                }
                // After a refused sender, what is said of recipients means nothing.
                match self.failure {
                    Some(_) => Answer::Noted,
                    None => Answer::Recipient { index, reply },
                }
            }
            (Some(Step::Data), 3) if self.accepted.is_empty() => {
                self.note_failure(Stage::Rcpt, Cause::NoRecipient);
                Answer::GoAheadForNobody
            }
            (Some(Step::Data), 3) if self.failure.is_none() => Answer::GoAhead,
            (Some(Step::Data), 4 | 5) if self.accepted.is_empty() => {
                self.note_failure(Stage::Rcpt, Cause::NoRecipient);
                Answer::Noted
            }
            (Some(Step::Data), 4 | 5) => {
                self.note_failure(stage, Cause::Refused(reply));
                Answer::Noted
            }
            // Among these: a server that refused the sender, but took recipients and now wants the text. It would deliver
            // even an empty one.
            _ => Answer::Senseless(self.fail(stage, Cause::Unexpected(reply))),
        }
    }

    /// What the transaction failed of first is what it failed of.
    fn note_failure(&mut self, stage: Stage, cause: Cause) {
        self.failure.get_or_insert(Failure {
            stage,
            cause,
            possible_duplicate: false,
        });
    }

    /// The failure that was noted first, or this.
    fn fail(&mut self, stage: Stage, cause: Cause) -> Failure {
        self.failure.take().unwrap_or(Failure {
            stage,
            cause,
            possible_duplicate: false,
        })
    }

    /// The recipients that the server took, in their order.
    pub(super) fn take_accepted(&mut self) -> VecDeque<usize> {
        std::mem::take(&mut self.accepted).into()
    }

    /// What the transaction failed of, once every command that was sent has its reply.
    pub(super) fn failed(&self) -> Option<Failure> {
        if self.answered < self.sent {
            return None;
        }
        let nobody = matches!(self.step(self.sent), Some(Step::Data)) && self.accepted.is_empty();
        self.failure.clone().or_else(|| {
            nobody.then_some(Failure {
                stage: Stage::Rcpt,
                cause: Cause::NoRecipient,
                possible_duplicate: false,
            })
        })
    }

    /// What the transaction failed of if the connection is of no use any more, for this reason.
    pub(super) fn broken(mut self, cause: Cause) -> Failure {
        self.fail(self.stage(), cause)
    }
}
