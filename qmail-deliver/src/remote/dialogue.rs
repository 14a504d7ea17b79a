//! One connection and the messages sent over it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt;
use qmail_core::pump::Pump;
use qmail_core::{Address, Body, Content, Outcome, ReversePath};
use qmail_smtp::client::{self, Cause, Event, Failure, ServerReply, Session, Stage, StartError};

use super::connect::Stream;
use super::texts::{self, RemoteReport};

/// A connection that was greeted.
pub(super) struct Connection {
    pump: Pump<Session, Box<dyn Stream>>,
    address: IpAddr,
    /// When it was made.
    pub(super) since: Instant,
    /// Transactions so far.
    pub(super) transactions: u32,
}

/// What there is to send.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) content: &'a dyn Content,
    pub(super) sender: &'a ReversePath,
    pub(super) recipients: &'a [Address],
}

/// How a transaction ended.
pub(super) struct Transacted {
    pub(super) report: RemoteReport,
    /// Whether the connection can take another message.
    pub(super) ready: bool,
    /// Whether it failed in a way that tells of the connection and not of the message: before the end of the text was sent,
    /// the connection was lost, or the server said that it closes it.
    pub(super) broken_off: bool,
}

impl Connection {
    /// Greets the server. A server that does not greet back has a report in store that is valid for every message; then the
    /// connection is of no further use but to say QUIT.
    pub(super) async fn greet(
        stream: Box<dyn Stream>,
        address: SocketAddr,
        config: Arc<client::Config>,
        now: fn() -> Instant,
    ) -> Result<Self, (Self, Outcome)> {
        let mut connection = Self {
            pump: Pump::new(Session::new(config, now()), stream, now),
            address: address.ip(),
            since: now(),
            transactions: 0,
        };
        loop {
            match connection.pump.next_event().await {
                Ok(Some(Event::Ready { .. })) => return Ok(connection),
                Ok(Some(Event::Failed(failure))) => {
                    let outcome = connection.failed(&failure);
                    return Err((connection, outcome));
                }
                Ok(Some(Event::Closed { .. }) | None) | Err(_) => {
                    let outcome = connection.lost(false);
                    return Err((connection, outcome));
                }
                Ok(Some(_)) => {}
            }
        }
    }

    /// Whether an idle connection is still good: the server has neither closed it nor said anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.pump.next_event().now_or_never().is_none()
    }

    /// Says goodbye; waits for the answer, but not for long.
    pub(super) async fn quit(mut self) {
        self.pump.machine().quit();
        while let Ok(Some(_)) = self.pump.next_event().await {}
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message: Message<'_>) -> Transacted {
        self.transactions += 1;
        let mut said: Vec<Option<Outcome>> = vec![None; message.recipients.len()];
        // Recipients that cannot be written into a command are refused here, and the others go on without them.
        let mut indices: Vec<usize> = (0..message.recipients.len()).collect();
        loop {
            let recipients = indices.iter().map(|&at| message.recipients[at].clone());
            let mut transaction =
                client::Transaction::new(message.sender.clone(), recipients.collect());
            transaction.octets = Some(message.content.octets());
            let outcome = match self.pump.machine().start(transaction) {
                Ok(()) => break,
                Err(StartError::Recipient { index }) => {
                    said[indices.remove(index)] = Some(texts::unsendable("recipient"));
                    continue;
                }
                Err(StartError::NoRecipient) => self.giving_up(),
                Err(StartError::Sender) => texts::unsendable("sender"),
                Err(StartError::TooLarge { .. }) => self.too_large(),
                Err(_) => self.lost(false),
            };
            return Transacted {
                report: RemoteReport {
                    recipients: said,
                    message: outcome,
                },
                ready: true,
                broken_off: false,
            };
        }
        self.converse(message.content, said, &indices).await
    }

    /// Follows the dialogue to its end. `indices` are the places in `said` of the recipients of the transaction.
    async fn converse(
        &mut self,
        content: &dyn Content,
        mut said: Vec<Option<Outcome>>,
        indices: &[usize],
    ) -> Transacted {
        let mut text = None;
        let mut too_many = Vec::new();
        let (mut message, mut broken_off) = (None, false);
        let mut ready = false;
        loop {
            match self.pump.next_event().await {
                Ok(Some(Event::Recipient { index, reply })) => {
                    let Some(&at) = indices.get(index) else {
                        continue;
                    };
                    if reply.code() == TOO_MANY_RECIPIENTS {
                        too_many.push((at, reply.clone()));
                    }
                    said[at] = Some(self.said_of_recipient(&reply));
                }
                Ok(Some(Event::BodyWanted)) => {
                    if self.feed(content, &mut text).await.is_err() {
                        self.pump.machine().abort();
                        message = Some(texts::deferred(texts::UNREADABLE));
                    }
                }
                Ok(Some(Event::Done { reply })) => {
                    message = Some(Outcome::Delivered(texts::of_host(
                        self.address,
                        "accepted message.",
                        Some(reply.text()),
                    )));
                }
                Ok(Some(Event::Failed(failure))) => {
                    broken_off = is_broken_off(&failure);
                    // What went wrong here says more than what the session made of it.
                    message.get_or_insert_with(|| self.failed(&failure));
                }
                Ok(Some(Event::Ready { .. })) => {
                    ready = true;
                    break;
                }
                Ok(Some(Event::Closed { .. }) | None) | Err(_) => break,
                Ok(Some(_)) => {}
            }
        }
        if said
            .iter()
            .flatten()
            .any(|outcome| matches!(outcome, Outcome::Delivered(_)))
        {
            // RFC 5321 section 4.5.3.1.10: this reply was once used for "too many recipients", and may mean 452.
            for (at, reply) in too_many {
                said[at] = Some(Outcome::Deferred(self.dislikes(&reply)));
            }
        }
        Transacted {
            report: RemoteReport {
                recipients: said,
                message: message.unwrap_or_else(|| self.lost(false)),
            },
            ready,
            broken_off,
        }
    }

    /// Gives the session the next piece of the text, together with the end if there is no further one: a message of one
    /// chunk goes out in one write.
    async fn feed(&mut self, content: &dyn Content, text: &mut Option<Text>) -> io::Result<()> {
        let text = match text {
            Some(text) => text,
            None => {
                let mut body = content.open().await?;
                let next = body.next().await?;
                text.insert(Text { body, next })
            }
        };
        if let Some(chunk) = text.next.take() {
            self.pump.machine().body(&chunk);
            text.next = text.body.next().await?;
        }
        if text.next.is_none() {
            self.pump.machine().end_body();
        }
        Ok(())
    }

    fn said_of_recipient(&self, reply: &ServerReply) -> Outcome {
        match reply.code() {
            ..300 => texts::taken(),
            300..500 => Outcome::Deferred(self.dislikes(reply)),
            500.. => Outcome::Failed(self.dislikes(reply)),
        }
    }

    fn dislikes(&self, reply: &ServerReply) -> qmail_core::Report {
        texts::of_host(self.address, "does not like recipient.", Some(reply.text()))
    }

    /// A failure in the words of qmail-remote(8), where it has any.
    fn failed(&self, failure: &Failure) -> Outcome {
        let reply = match &failure.cause {
            Cause::Refused(reply) | Cause::Unexpected(reply) => reply,
            Cause::NoRecipient => return self.giving_up(),
            Cause::PartialLine => return texts::failed(texts::PARTIAL_LINE),
            Cause::NotSmtp(_) => {
                return Outcome::Deferred(texts::connected_but(
                    self.address,
                    &texts::maybe_twice(
                        "got no proper reply.",
                        failure.possible_duplicate,
                        "(#4.5.0)",
                    ),
                    None,
                ));
            }
            _ => return self.lost(failure.possible_duplicate),
        };
        let said = Some(reply.text());
        let but = |what| texts::connected_but(self.address, what, said);
        let report = match failure.stage {
            Stage::Greeting => but("greeting failed."),
            Stage::Hello => but("my name was rejected."),
            Stage::Mail => but("sender was rejected."),
            Stage::Rcpt => self.dislikes(reply),
            Stage::Data => texts::of_host(self.address, "failed on DATA command.", said),
            Stage::Body | Stage::BodyEnd => {
                texts::of_host(self.address, "failed after I sent the message.", said)
            }
            _ => but("got a reply out of turn."),
        };
        match failure.class() {
            qmail_core::StatusClass::Permanent => Outcome::Failed(report),
            _ => Outcome::Deferred(report),
        }
    }

    fn lost(&self, possible_duplicate: bool) -> Outcome {
        let what = texts::maybe_twice("connection died.", possible_duplicate, "(#4.4.2)");
        Outcome::Deferred(texts::connected_but(self.address, &what, None))
    }

    fn giving_up(&self) -> Outcome {
        Outcome::Failed(texts::report(
            format!("Giving up on {}.", self.address),
            None,
        ))
    }

    fn too_large(&self) -> Outcome {
        let what = "does not accept a message of this size. (#5.3.4)";
        Outcome::Failed(texts::of_host(self.address, what, None))
    }
}

/// A text being sent, read one chunk ahead.
struct Text {
    body: Box<dyn Body>,
    next: Option<Bytes>,
}

/// 452, said in the manner of RFC 821.
const TOO_MANY_RECIPIENTS: u16 = 552;

/// Service not available, closing the channel (RFC 5321 section 3.8).
const CLOSING: u16 = 421;

fn is_broken_off(failure: &Failure) -> bool {
    let said_so = match &failure.cause {
        Cause::ConnectionLost => true,
        Cause::Refused(reply) | Cause::Unexpected(reply) => {
            reply.code() == CLOSING || failure.stage == Stage::Reset
        }
        _ => false,
    };
    said_so && failure.stage != Stage::BodyEnd
}
