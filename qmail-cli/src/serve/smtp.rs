//! One SMTP session: the machine's questions are answered by the policy, the message goes straight to the queue.
//!
//! A session holds its machine, at most one chunk of a message, and the draft: never a message. What it does is no other
//! session's affair: it ends with its own errors.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use qmail_core::header::received::Received;
use qmail_core::pump::Pump;
use qmail_core::{
    Draft, EnhancedStatus, Envelope, Origin, Receipt, Reply, ReversePath, StatusClass, Submit,
    SubmitError,
};
use qmail_smtp::server::{Config, Event, Session, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::report::Reporter;
use crate::policy::{Policy, Relaying};

/// What all sessions of one configuration share.
pub(crate) struct Rules {
    pub(crate) config: Arc<Config>,
    /// This host, in Received fields.
    pub(crate) host: Bytes,
    pub(crate) policy: Policy,
    /// Where messages go.
    pub(crate) submit: Arc<dyn Submit>,
    /// Hears of messages that the queue did not take.
    pub(crate) reporter: Reporter,
}

/// Serves one client to the end. When `stop` becomes true the session ends, but not amid a message.
pub(crate) async fn serve<S>(
    rules: Arc<Rules>,
    stream: S,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = Session::new(Arc::clone(&rules.config), Instant::now());
    let mut pump = Pump::new(session, stream, Instant::now);
    let mut owner = Owner {
        relaying: rules.policy.relaying(peer.ip()),
        rules,
        peer,
        helo: None,
        extended: false,
        sender: ReversePath::Null,
        message: None,
    };
    let mut stopping = false;
    loop {
        let event = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                pump.machine().shut_down();
                continue;
            }
            event = pump.next_event() => event,
        };
        match event {
            Ok(Some(event)) => owner.settle(pump.machine(), event).await,
            // Over, or the connection broke: what was begun is void.
            Ok(None) | Err(_) => return,
        }
    }
}

struct Owner {
    rules: Arc<Rules>,
    peer: SocketAddr,
    relaying: Relaying,
    helo: Option<Bytes>,
    extended: bool,
    sender: ReversePath,
    /// There from a yes to DATA to the answer to its end.
    message: Option<Message>,
}

/// A message on its way in.
enum Message {
    Open {
        draft: Box<dyn Draft>,
        envelope: Envelope,
    },
    /// The queue did not take it; the client must still be heard to the end.
    Failed(Reply),
}

impl Owner {
    async fn settle(&mut self, session: &mut Session, event: Event) {
        match event {
            Event::Greeted { name, extended } => {
                self.helo = Some(name);
                self.extended = extended;
            }
            Event::Mail {
                question, sender, ..
            } => {
                self.sender = self.rules.policy.sender(sender);
                session.accept_mail_as(question, self.sender.clone());
            }
            Event::Rcpt {
                question,
                recipient,
                ..
            } => {
                let policy = &self.rules.policy;
                match policy.recipient(&self.relaying, &self.sender, recipient) {
                    Ok(recipient) => session.accept_rcpt_as(question, recipient),
                    Err(reply) => session.answer_rcpt(question, Verdict::Reply(reply)),
                }
            }
            Event::Data { question, envelope } => {
                let begun = begin(&*self.rules.submit, self.received()).await;
                let verdict = match begun {
                    Ok(draft) => {
                        self.message = Some(Message::Open { draft, envelope });
                        Verdict::Accept
                    }
                    Err(error) => Verdict::Reply(self.refusal(&error)),
                };
                session.answer_data(question, verdict);
            }
            Event::Body(chunk) => {
                if let Some(Message::Open { draft, .. }) = &mut self.message
                    && let Err(error) = draft.write(chunk).await
                {
                    let reply = self.refusal(&error);
                    self.message = Some(Message::Failed(reply));
                }
            }
            Event::BodyEnd { question, .. } => {
                let reply = match self.message.take() {
                    Some(Message::Open { draft, envelope }) => match draft.commit(envelope).await {
                        Ok(receipt) => accepted(receipt),
                        Err(error) => self.refusal(&error),
                    },
                    Some(Message::Failed(reply)) => reply,
                    None => self.refusal(&SubmitError::Unavailable),
                };
                session.answer_body_end(question, Verdict::Reply(reply));
            }
            Event::Aborted { .. } => self.message = None,
            _ => {}
        }
    }

    /// The Received field of a message that comes now.
    fn received(&self) -> Bytes {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut field = Vec::with_capacity(200);
        Received {
            // No names are looked up: a lookup says little of a client and costs every session a wait.
            remote_host: b"unknown",
            remote_ip: self.peer.ip().to_canonical().to_string().as_bytes(),
            remote_info: None,
            helo: self.helo.as_deref(),
            local: &self.rules.host,
            protocol: if self.extended { "ESMTP" } else { "SMTP" },
        }
        .write(seconds, &mut field);
        Bytes::from(field)
    }

    /// What the client is told of the queue's trouble; the log is told its cause.
    fn refusal(&self, error: &SubmitError) -> Reply {
        let mut words = format!("message not accepted: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            words.push_str(&format!(": {error}"));
            cause = error.source();
        }
        self.rules.reporter.warning(&words);
        let status = error.status();
        let code = match status.class {
            StatusClass::Permanent => 554,
            _ => 451,
        };
        Reply::new(code, Some(status), error.to_string())
    }
}

/// Starts a message with its Received field.
async fn begin(submit: &dyn Submit, received: Bytes) -> Result<Box<dyn Draft>, SubmitError> {
    let mut draft = submit.begin(Origin::Network).await?;
    draft.write(received).await?;
    Ok(draft)
}

fn accepted(receipt: Receipt) -> Reply {
    Reply::new(
        250,
        Some(EnhancedStatus::success(0, 0)),
        format!("ok {} qp {}", receipt.accepted, receipt.qp),
    )
}
