//! One QMTP or QMQP session: packages come in, and each goes straight to the queue.
//!
//! QMTP keeps to the rules of SMTP about senders and recipients. QMQP knows no refusal of single recipients, so whoever speaks it
//! must be one who may send anywhere.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmail_core::pump::Pump;
use qmail_core::{
    Address, Draft, EnhancedStatus, Envelope, Machine as _, Reply, ReversePath, netstring,
};
use qmail_smtp::qmtp::{Answer, Event, Protocol, Session};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::entrance::{Manners, Visitor, look_at, turn_away};
use super::gate::{Full, Pass};
use super::rules::{Introduction, Rules, accepted};
use crate::policy::{NotTaken, Relaying};

/// How sessions behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Most octets of a message.
    pub(crate) message_octets_max: Option<u64>,
    /// Most recipients of a message.
    pub(crate) recipients_max: usize,
    /// How long a client may take until there is something new of its package.
    pub(crate) idle: Duration,
    /// How long a connection may take in all.
    pub(crate) whole: Duration,
}

impl Default for Config {
    /// No limit of size; as many recipients as by SMTP; 20 minutes, the timeoutsmtpd of qmail; an hour, as qmail-qmtpd(8) has it.
    fn default() -> Self {
        Self {
            message_octets_max: None,
            recipients_max: 20_000,
            idle: Duration::from_secs(1200),
            whole: Duration::from_secs(3600),
        }
    }
}

/// Both, in the order of the log.
pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Qmtp, Protocol::Qmqp];

/// What the log calls a listener.
pub(crate) fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Qmtp => "qmtp",
        Protocol::Qmqp => "qmqp",
    }
}

/// The words for a client that there is no room for: an answer to its first recipient.
pub(super) fn full_words(full: Full) -> &'static [u8] {
    match full {
        Full::All => b"47:Ztoo many connections, try again later (#4.3.2),",
        Full::Address => b"65:Ztoo many connections from your address, try again later (#4.7.0),",
    }
}

/// A client that may not speak QMQP. Its mail is kept where it is: who runs the mail systems can mend it.
const NOT_TRUSTED: &[u8] = b"Zsorry, I take no QMQP from your address (#4.7.1)";

/// Serves one client to the end. When `stop` becomes true the session ends, but not amid a message.
pub(super) async fn serve(
    rules: Arc<Rules>,
    protocol: Protocol,
    mut stream: TcpStream,
    peer: SocketAddr,
    mut pass: Pass,
    mut stop: watch::Receiver<bool>,
) {
    let manners = Manners {
        client_waits: false,
        full_words,
    };
    let entered = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return,
        entered = look_at(&rules, manners, &mut stream, peer, &mut pass) => entered,
    };
    let Ok(Some(visitor)) = entered else {
        return;
    };
    if protocol == Protocol::Qmqp && visitor.relaying == Relaying::No {
        let mut answer = Vec::new();
        netstring::write(NOT_TRUSTED, &mut answer);
        turn_away(&stream, &answer);
        return;
    }
    let owner = Owner {
        octets_max: match visitor.databytes {
            Some(octets) => Some(octets).filter(|&octets| octets > 0),
            None => rules.packages.message_octets_max,
        },
        rules,
        visitor,
        protocol,
        message: None,
    };
    // What went wrong with a connection is its client's affair.
    let _ = converse(owner, stream, stop).await;
}

async fn converse(
    mut owner: Owner,
    stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let Config { idle, whole, .. } = owner.rules.packages;
    let session = Session::new(owner.protocol, whole, Instant::now());
    let mut pump = Pump::new(session, stream, Instant::now);
    let mut stopping = false;
    loop {
        let event = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if !stopping && owner.message.is_none() => {
                stopping = true;
                // Answers that wait are still sent.
                pump.machine().handle_eof(Instant::now());
                continue;
            }
            event = timeout(idle, pump.next_event()) => event??,
        };
        match event {
            Some(Event::Begin) => owner.begin().await,
            Some(Event::Body(chunk)) => owner.write(chunk).await,
            Some(Event::End {
                question,
                sender,
                recipients,
            }) => {
                let answers = owner.end(sender, recipients).await;
                pump.machine().answer(question, answers);
            }
            Some(Event::Closed { .. }) => owner.message = None,
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// The words of qmail-qmtpd(8).
const BAD_RECIPIENT: &str = "sorry, I can't handle that recipient (#5.1.3)";
const BAD_SENDER: &str = "unacceptable sender (#5.1.7)";

struct Owner {
    rules: Arc<Rules>,
    visitor: Visitor,
    protocol: Protocol,
    octets_max: Option<u64>,
    /// There from the beginning of a package to its answers.
    message: Option<Message>,
}

/// A message on its way in.
enum Message {
    Open {
        draft: Box<dyn Draft>,
        /// So many have come.
        octets: u64,
    },
    /// It is not taken; the client must still be heard to the end.
    Failed(Reply),
}

impl Owner {
    async fn begin(&mut self) {
        let protocol = match self.protocol {
            Protocol::Qmtp => "QMTP",
            Protocol::Qmqp => "QMQP",
        };
        let introduction = Introduction::default();
        let begun = self.rules.begin(&self.visitor, introduction, protocol);
        self.message = Some(match begun.await {
            Ok(draft) => Message::Open { draft, octets: 0 },
            Err(error) => Message::Failed(self.rules.refusal(&error)),
        });
    }

    async fn write(&mut self, chunk: Bytes) {
        let Some(Message::Open { draft, octets }) = &mut self.message else {
            return;
        };
        *octets += chunk.len() as u64;
        let failure = if self.octets_max.is_some_and(|most| *octets > most) {
            too_large()
        } else if let Err(error) = draft.write(chunk).await {
            self.rules.refusal(&error)
        } else {
            return;
        };
        self.message = Some(Message::Failed(failure));
    }

    /// In QMTP an answer for each recipient: its own refusal, or as the message fares. In QMQP one for all.
    async fn end(
        &mut self,
        sender: Option<ReversePath>,
        recipients: Vec<Option<Address>>,
    ) -> Vec<Answer> {
        // One that is too long under the name of this host is none.
        let sender = sender.and_then(|sender| self.rules.policy.sender(sender).ok());
        let mut checked = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            checked.push(if checked.len() < self.rules.packages.recipients_max {
                self.recipient(sender.as_ref(), recipient).await
            } else {
                Err(too_many(self.protocol))
            });
        }
        let message = self.message.take();
        match self.protocol {
            Protocol::Qmtp => {
                let good: Vec<_> = checked.iter().flatten().cloned().collect();
                if good.is_empty() {
                    return checked.into_iter().filter_map(Result::err).collect();
                }
                let answer = self.queue(message, sender, good).await;
                checked
                    .into_iter()
                    .map(|recipient| recipient.err().unwrap_or_else(|| answer.clone()))
                    .collect()
            }
            Protocol::Qmqp => vec![match checked.into_iter().collect() {
                Ok(recipients) => self.queue(message, sender, recipients).await,
                Err(refusal) => refusal,
            }],
        }
    }

    async fn recipient(
        &mut self,
        sender: Option<&ReversePath>,
        recipient: Option<Address>,
    ) -> Result<Address, Answer> {
        // Nobody is meant by an empty one, and its bounce would go to whoever the sender is said to be. What a client that is
        // trusted sends by QMQP was taken by it already.
        let meant = |recipient: &Address| {
            self.protocol == Protocol::Qmqp || !recipient.as_bytes().is_empty()
        };
        let recipient =
            (recipient.filter(meant)).ok_or_else(|| bad_address(self.protocol, BAD_RECIPIENT))?;
        // A sender that is none is refused with the message.
        let sender = sender.unwrap_or(&ReversePath::Null);
        let taken = match self.protocol {
            Protocol::Qmtp => self.rules.recipient(&self.visitor, sender, recipient).await,
            // One that has no mailbox would refuse the message for all others, too: it bounces instead.
            Protocol::Qmqp => {
                let policy = &self.rules.policy;
                policy
                    .recipient(&self.visitor.relaying, sender, recipient)
                    .map_err(NotTaken::reply)
            }
        };
        taken.map_err(|reply| answer(&reply))
    }

    /// What becomes of the complete message.
    async fn queue(
        &mut self,
        message: Option<Message>,
        sender: Option<ReversePath>,
        recipients: Vec<Address>,
    ) -> Answer {
        let (draft, sender) = match (message, sender) {
            (Some(Message::Failed(reply)), _) => return answer(&reply),
            (Some(Message::Open { draft, .. }), Some(sender)) => (draft, sender),
            _ => return bad_address(self.protocol, BAD_SENDER),
        };
        match draft.commit(Envelope::new(sender, recipients)).await {
            Ok(receipt) => Answer::Accepted(accepted(receipt).into()),
            Err(error) => answer(&self.rules.refusal(&error)),
        }
    }
}

/// What a reply is in these protocols.
fn answer(reply: &Reply) -> Answer {
    let mut text = reply.text().to_vec();
    if let Some(status) = reply.status() {
        text.extend_from_slice(format!(" (#{status})").as_bytes());
    }
    match reply.code() {
        500.. => Answer::Refused(text.into()),
        _ => Answer::Deferred(text.into()),
    }
}

fn too_large() -> Reply {
    Reply::new(
        552,
        Some(EnhancedStatus::permanent(3, 4)),
        "sorry, that message size exceeds my databytes limit",
    )
}

/// Those of a QMTP package that are too many may come with the next one.
fn too_many(protocol: Protocol) -> Answer {
    match protocol {
        Protocol::Qmtp => Answer::Deferred(Bytes::from_static(b"too many recipients (#4.5.3)")),
        Protocol::Qmqp => Answer::Refused(Bytes::from_static(b"too many recipients (#5.5.3)")),
    }
}

/// What came is no address; qmail-qmqpd(8) has the same words for all.
fn bad_address(protocol: Protocol, text: &'static str) -> Answer {
    Answer::Refused(Bytes::from_static(match protocol {
        Protocol::Qmtp => text.as_bytes(),
        Protocol::Qmqp => b"sorry, I can't accept addresses like that (#5.1.3)",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmail_smtp::qmtp::Answers;

    #[test]
    fn who_finds_no_room_is_answered() {
        for full in [Full::All, Full::Address] {
            let mut input = full_words(full);
            let answer = Answers::default().next(&mut input).expect("a netstring");
            assert!(matches!(answer, Some(Answer::Deferred(_))), "{answer:?}");
            assert!(input.is_empty());
        }
    }
}
