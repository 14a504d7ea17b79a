//! One connection and the messages sent over it.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt;
use qmail_core::pump::Pump;
use qmail_core::{Address, Body, Content, Outcome, Report, ReversePath, StatusClass};
use qmail_smtp::BodyType;
use qmail_smtp::client::{
    self, Cause, Event, Extensions, Failure, ServerReply, Session, Stage, StartError,
};

use super::connect::Stream;
use super::opening::Opened;
use super::texts::{self, RecipientReport, RemoteReport};

/// A connection that was greeted.
pub(super) struct Connection {
    pump: Pump<Session, Box<dyn Stream>>,
    extensions: Extensions,
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
    pub(super) fn new(opened: Opened, address: IpAddr, now: Instant) -> Self {
        Self {
            pump: opened.pump,
            extensions: opened.extensions,
            address,
            since: now,
            transactions: 0,
        }
    }

    /// Whether the server takes no further message over it (RFC 9422).
    pub(super) fn is_used_up(&self) -> bool {
        let limit = self.extensions.limits.mail_max;
        limit.is_some_and(|most| self.transactions >= most)
    }

    /// Whether an idle connection is still good: the server has neither closed it nor said anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.pump.next_event().now_or_never().is_none()
    }

    /// Says goodbye; waits for the answer, but not for long.
    pub(super) async fn quit(self) {
        quit(self.pump).await;
    }

    /// Sends one message, in as many transactions as the server wants.
    pub(super) async fn send(&mut self, message: Message<'_>) -> Transacted {
        let mut said = vec![None; message.recipients.len()];
        let mut left: Vec<usize> = (0..message.recipients.len()).collect();
        let mut said_before = false;
        let body = body_type(&self.extensions, message.content).await;
        loop {
            let (started, later) = self.start(message, &mut said, left, body);
            let mut transacted = match started {
                Ok(batch) => self.converse(message.content, said, &batch).await,
                Err(outcome) => Transacted::not_tried(said, outcome),
            };
            // What has gone well must not be tried again, however this went.
            transacted.broken_off &= !said_before;
            if later.is_empty() || !transacted.ready || self.is_used_up() {
                // Those that would have come later share what became of the others, unless that was good.
                if !later.is_empty() && matches!(transacted.report.message, Outcome::Delivered(_)) {
                    transacted.put_off(&later, self.address);
                }
                return transacted;
            }
            said = transacted.report.settled();
            said_before = true;
            for &at in &later {
                said[at] = None;
            }
            left = later;
        }
    }

    /// Starts a transaction for these recipients, or for as many of them as the server takes at once; gives these, and those
    /// that have to wait. Recipients that cannot be written into a command are refused here, and the others go on without.
    fn start(
        &mut self,
        message: Message<'_>,
        said: &mut [Option<RecipientReport>],
        mut batch: Vec<usize>,
        body: Option<BodyType>,
    ) -> (Result<Vec<usize>, Outcome>, Vec<usize>) {
        let mut later = Vec::new();
        let mut refuse = |at: usize, outcome| said[at] = Some(RecipientReport::Refused(outcome));
        loop {
            let recipients = batch.iter().map(|&at| message.recipients[at].clone());
            let mut transaction =
                client::Transaction::new(message.sender.clone(), recipients.collect());
            transaction.octets = Some(message.content.octets());
            transaction.body = body;
            let outcome = match self.pump.machine().start(transaction) {
                Ok(()) => {
                    self.transactions += 1;
                    return (Ok(batch), later);
                }
                Err(StartError::Recipient { index }) => {
                    refuse(batch.remove(index), texts::unsendable("recipient"));
                    continue;
                }
                Err(StartError::Utf8Recipient { index }) => {
                    refuse(batch.remove(index), texts::no_utf8(self.address));
                    continue;
                }
                Err(StartError::TooManyRecipients { most }) => {
                    later = batch.split_off(most);
                    continue;
                }
                Err(StartError::NoRecipient) => texts::giving_up(self.address),
                Err(StartError::Sender) => texts::unsendable("sender"),
                Err(StartError::Utf8Sender) => texts::no_utf8(self.address),
                Err(StartError::TooLarge { .. }) => texts::too_large(self.address),
                Err(_) => texts::lost(self.address, false),
            };
            return (Err(outcome), later);
        }
    }

    /// Follows the dialogue to its end. `indices` are the places in `said` of the recipients of the transaction.
    async fn converse(
        &mut self,
        content: &dyn Content,
        mut said: Vec<Option<RecipientReport>>,
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
                Ok(Some(Event::Final { index, reply })) => {
                    if let Some(&at) = indices.get(index) {
                        said[at] = Some(RecipientReport::Settled(self.finally_said(&reply)));
                    }
                }
                Ok(Some(Event::BodyWanted)) => {
                    if self.feed(content, &mut text).await.is_err() {
                        self.pump.machine().abort();
                        message = Some(texts::deferred(texts::UNREADABLE));
                    }
                }
                Ok(Some(Event::Done { reply })) => {
                    message = Some(accepted(self.address, &reply));
                }
                Ok(Some(Event::Failed(failure))) => {
                    broken_off = is_broken_off(&failure);
                    // What went wrong here says more than what the session made of it.
                    message.get_or_insert_with(|| failed(self.address, &failure));
                }
                Ok(Some(Event::Ready { .. })) => {
                    ready = true;
                    break;
                }
                Ok(Some(Event::Closed { .. }) | None) | Err(_) => break,
                Ok(Some(_)) => {}
            }
        }
        if said.contains(&Some(RecipientReport::Taken)) {
            // RFC 5321 section 4.5.3.1.10: this reply was once used for "too many recipients", and may mean 452.
            for (at, reply) in too_many {
                let outcome = Outcome::Deferred(dislikes(self.address, &reply));
                said[at] = Some(RecipientReport::Refused(outcome));
            }
        }
        Transacted {
            report: RemoteReport {
                recipients: said,
                message: message.unwrap_or_else(|| texts::lost(self.address, false)),
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

    fn said_of_recipient(&self, reply: &ServerReply) -> RecipientReport {
        let refused = |outcome| RecipientReport::Refused(outcome);
        match reply.code() {
            ..300 => RecipientReport::Taken,
            300..500 => refused(Outcome::Deferred(dislikes(self.address, reply))),
            500.. => refused(Outcome::Failed(dislikes(self.address, reply))),
        }
    }

    fn finally_said(&self, reply: &ServerReply) -> Outcome {
        match reply.code() {
            ..300 => accepted(self.address, reply),
            300..500 => Outcome::Deferred(dislikes(self.address, reply)),
            500.. => Outcome::Failed(dislikes(self.address, reply)),
        }
    }
}

/// What to say of the text to a server that wants to know; the text is looked through for it. If it cannot be read, the
/// dialogue will find that out, too.
async fn body_type(extensions: &Extensions, content: &dyn Content) -> Option<BodyType> {
    if !extensions.eight_bit_mime {
        return None;
    }
    let mut body = content.open().await.ok()?;
    while let Some(chunk) = body.next().await.ok()? {
        if !chunk.is_ascii() {
            return Some(BodyType::EightBitMime);
        }
    }
    None
}

/// Says goodbye; waits for the answer, but not for long.
pub(super) async fn quit(mut pump: Pump<Session, Box<dyn Stream>>) {
    pump.machine().quit();
    while let Ok(Some(_)) = pump.next_event().await {}
}

fn accepted(address: IpAddr, reply: &ServerReply) -> Outcome {
    let said = Some(reply.text());
    Outcome::Delivered(texts::of_host(address, "accepted message.", said))
}

fn dislikes(address: IpAddr, reply: &ServerReply) -> Report {
    texts::of_host(address, "does not like recipient.", Some(reply.text()))
}

/// A failure in the words of qmail-remote(8), where it has any.
pub(super) fn failed(address: IpAddr, failure: &Failure) -> Outcome {
    let reply = match &failure.cause {
        Cause::Refused(reply) | Cause::Unexpected(reply) => reply,
        Cause::NoRecipient => return texts::giving_up(address),
        Cause::PartialLine => return texts::failed(texts::PARTIAL_LINE),
        Cause::NotOffered if failure.stage == Stage::StartTls => {
            return texts::tls_failed(address, "it offers none");
        }
        Cause::NotOffered => return texts::no_login(address, "it offers none that I may use"),
        Cause::Login(error) => return texts::no_login(address, &error.to_string()),
        Cause::NotSmtp(_) => {
            return Outcome::Deferred(texts::connected_but(
                address,
                &texts::maybe_twice(
                    "got no proper reply.",
                    failure.possible_duplicate,
                    "(#4.5.0)",
                ),
                None,
            ));
        }
        _ => return texts::lost(address, failure.possible_duplicate),
    };
    let said = Some(reply.text());
    let but = |what| texts::connected_but(address, what, said);
    let report = match failure.stage {
        Stage::Greeting => but("greeting failed."),
        Stage::Hello => but("my name was rejected."),
        Stage::StartTls => but("TLS was refused."),
        Stage::Auth => but("my login was rejected."),
        Stage::Mail => but("sender was rejected."),
        Stage::Rcpt => dislikes(address, reply),
        Stage::Data => texts::of_host(address, "failed on DATA command.", said),
        Stage::Body | Stage::BodyEnd => {
            texts::of_host(address, "failed after I sent the message.", said)
        }
        _ => but("got a reply out of turn."),
    };
    match failure.class() {
        StatusClass::Permanent => Outcome::Failed(report),
        _ => Outcome::Deferred(report),
    }
}

impl Transacted {
    /// Nothing was sent.
    fn not_tried(said: Vec<Option<RecipientReport>>, outcome: Outcome) -> Self {
        Self {
            report: RemoteReport {
                recipients: said,
                message: outcome,
            },
            ready: true,
            broken_off: false,
        }
    }

    /// The server took the message for others, and takes no more over this connection.
    fn put_off(&mut self, later: &[usize], address: IpAddr) {
        for &at in later {
            let outcome = texts::enough_for_now(address);
            self.report.recipients[at] = Some(RecipientReport::Settled(outcome));
        }
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
