//! One SMTP session: the machine's questions are answered by the policy, the message goes straight to the queue.
//!
//! A session holds its machine, at most one chunk of a message, and the draft: never a message. What it does is no other
//! session's affair: it ends with its own errors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use qmail_core::pump::Pump;
use qmail_core::sasl::Mechanism;
use qmail_core::{
    Draft, EnhancedStatus, Envelope, Escaped, PasswordChecker, Receipt, Reply, ReversePath,
    SubmitError, sasl,
};
use qmail_smtp::server::{Config, Event, Session, Verdict};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::entrance::{Manners, Visitor, look_at};
use super::gate::{Full, Pass};
use super::nonce;
use super::rules::{Introduction, Rules, accepted};
use crate::policy::Relaying;
use crate::tls::Stream;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Mail from other hosts.
    Mx,
    /// Mail of users, who log in (RFC 6409).
    Submission,
    /// The same, encrypted from the start (RFC 8314).
    Submissions,
    /// Mail by LMTP (RFC 2033).
    Lmtp,
}

impl Door {
    pub(crate) const COUNT: usize = 4;

    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::Mx, Self::Submission, Self::Submissions, Self::Lmtp];

    /// What the log calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mx => "smtp",
            Self::Submission => "submission",
            Self::Submissions => "smtps",
            Self::Lmtp => "lmtp",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Whether a client has to log in before it may send.
    fn wants_login(self) -> bool {
        matches!(self, Self::Submission | Self::Submissions)
    }

    /// Whether the server speaks first.
    pub(super) fn client_waits(self) -> bool {
        self != Self::Submissions
    }
}

impl Rules {
    /// How this visitor's session behaves.
    fn config(&self, door: Door, visitor: &Visitor, checker: &dyn PasswordChecker) -> Arc<Config> {
        let config = &self.configs[door.index()];
        let possible = |mechanism: &Mechanism| mechanism.is_possible(checker);
        let as_is = config
            .login
            .as_ref()
            .is_none_or(|login| login.mechanisms.iter().all(possible));
        if as_is && visitor.databytes.is_none() {
            return Arc::clone(config);
        }
        let mut config = Config::clone(config);
        if let Some(login) = &mut config.login {
            login.mechanisms.retain(possible);
        }
        if let Some(octets) = visitor.databytes {
            config.message_octets_max = Some(octets).filter(|&octets| octets > 0);
        }
        Arc::new(config)
    }
}

/// The words for a client that there is no room for.
pub(super) fn full_words(full: Full) -> &'static [u8] {
    match full {
        Full::All => b"421 4.3.2 too many connections, try again later\r\n",
        Full::Address => b"421 4.7.0 too many connections from your address, try again later\r\n",
    }
}

/// Serves one client to the end. When `stop` becomes true the session ends, but not amid a message.
pub(crate) async fn serve(
    rules: Arc<Rules>,
    checker: Arc<dyn PasswordChecker>,
    door: Door,
    mut stream: TcpStream,
    peer: SocketAddr,
    mut pass: Pass,
    mut stop: watch::Receiver<bool>,
) {
    let entering = async {
        let manners = Manners {
            client_waits: door.client_waits(),
            full_words,
        };
        let visitor = look_at(&rules, manners, &mut stream, peer, &mut pass).await;
        let Ok(Some(visitor)) = visitor else {
            return None;
        };
        let stream = Stream::Clear(stream);
        match (door, rules.tls()) {
            (Door::Submissions, Some(tls)) => {
                let stream = stream.encrypted(tls).await.ok()?;
                Some((stream, visitor))
            }
            (Door::Submissions, None) => None,
            _ => Some((stream, visitor)),
        }
    };
    let entered = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => None,
        entered = entering => entered,
    };
    if let Some((stream, visitor)) = entered {
        // What went wrong with a connection is its client's affair.
        let _ = converse(rules, checker, door, stream, visitor, stop).await;
    }
    drop(pass);
}

async fn converse(
    rules: Arc<Rules>,
    checker: Arc<dyn PasswordChecker>,
    door: Door,
    stream: Stream<TcpStream>,
    visitor: Visitor,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut session = Session::new(rules.config(door, &visitor, &*checker), Instant::now());
    if rules.configs[door.index()].login.is_some() {
        session = session.with_nonce(&nonce()?);
    }
    if let Stream::Encrypted(_) = stream {
        session = session.with_tls();
    }
    let mut pump = Pump::new(session, stream, Instant::now);
    let mut owner = Owner {
        rules,
        checker,
        door,
        relaying: visitor.relaying.clone(),
        visitor,
        helo: None,
        login: None,
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
            event = pump.next_event() => event?,
        };
        match event {
            Some(Event::StartTls) => {
                let Some(tls) = owner.rules.tls() else {
                    return Err(io::ErrorKind::Unsupported.into());
                };
                let (mut session, stream) = pump.into_parts();
                let stream = stream.encrypted(tls).await?;
                session.tls_started();
                owner.forget_client();
                pump = Pump::new(session, stream, Instant::now);
            }
            Some(event) => owner.settle(pump.machine(), event).await,
            // What was begun is void.
            None => return Ok(()),
        }
    }
}

struct Owner {
    rules: Arc<Rules>,
    checker: Arc<dyn PasswordChecker>,
    door: Door,
    visitor: Visitor,
    /// What the client may do before it logs in.
    relaying: Relaying,
    helo: Option<Bytes>,
    /// The name that the client has logged in by.
    login: Option<Bytes>,
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
            Event::Greeted { name, .. } => self.helo = Some(name),
            Event::Login { question, inquiry } => {
                let found = inquiry.ask(&*self.checker).await;
                session.answer_login(question, found);
            }
            Event::LoggedIn(account) => self.log_in(account.name),
            Event::LoginFailed { name, failure } => self.report_login(name.as_deref(), &failure),
            Event::Mail {
                question, sender, ..
            } => {
                if self.door.wants_login() && self.login.is_none() {
                    let reply = login_first(session.is_encrypted());
                    session.answer_mail(question, Verdict::Reply(reply));
                } else {
                    match self.rules.policy.sender(sender) {
                        Ok(sender) => {
                            self.sender = sender.clone();
                            session.accept_mail_as(question, sender);
                        }
                        Err(reply) => session.answer_mail(question, Verdict::Reply(reply)),
                    }
                }
            }
            Event::Rcpt {
                question,
                recipient,
                ..
            } => match self
                .rules
                .recipient(&self.visitor, &self.sender, recipient)
                .await
            {
                Ok(recipient) => session.accept_rcpt_as(question, recipient),
                Err(reply) => session.answer_rcpt(question, Verdict::Reply(reply)),
            },
            Event::Data { question, envelope } => {
                let introduction = Introduction {
                    helo: self.helo.as_deref(),
                    login: self.login.as_deref(),
                };
                let begun = self
                    .rules
                    .begin(&self.visitor, introduction, session.protocol());
                let verdict = match begun.await {
                    Ok(draft) => {
                        self.message = Some(Message::Open { draft, envelope });
                        Verdict::Accept
                    }
                    Err(error) => Verdict::Reply(self.rules.refusal(&error)),
                };
                session.answer_data(question, verdict);
            }
            Event::Body(chunk) => {
                if let Some(Message::Open { draft, .. }) = &mut self.message
                    && let Err(error) = draft.write(chunk).await
                {
                    let reply = self.rules.refusal(&error);
                    self.message = Some(Message::Failed(reply));
                }
            }
            Event::BodyEnd { question, .. } => {
                let reply = match self.message.take() {
                    Some(Message::Open { draft, envelope }) => match draft.commit(envelope).await {
                        Ok(receipt) => safe(receipt),
                        Err(error) => self.rules.refusal(&error),
                    },
                    Some(Message::Failed(reply)) => reply,
                    None => self.rules.refusal(&SubmitError::Unavailable),
                };
                session.answer_body_end(question, Verdict::Reply(reply));
            }
            Event::Aborted { .. } => self.message = None,
            _ => {}
        }
    }

    /// Whatever was said in clear may have been said by somebody else, who logged in under another name (RFC 3207 section 4.2).
    fn forget_client(&mut self) {
        self.helo = None;
        self.login = None;
        self.visitor.relaying = self.relaying.clone();
    }

    /// Who has logged in may send anywhere, from wherever it comes.
    fn log_in(&mut self, name: Bytes) {
        if self.visitor.relaying == Relaying::No {
            self.visitor.relaying = Relaying::Yes(Bytes::new());
        }
        self.login = Some(name);
    }

    fn report_login(&self, name: Option<&[u8]>, failure: &sasl::Failure) {
        self.rules.reporter.notice(
            "login",
            &format_args!(
                "failed: {} from {}: {failure}",
                Escaped(name.unwrap_or_default()),
                self.visitor.address.ip()
            ),
        );
    }
}

fn safe(receipt: Receipt) -> Reply {
    Reply::new(250, Some(EnhancedStatus::success(0, 0)), accepted(receipt))
}

/// RFC 4954 section 6.
fn login_first(encrypted: bool) -> Reply {
    let text = if encrypted {
        "log in first"
    } else {
        "say STARTTLS and log in first"
    };
    Reply::new(530, Some(EnhancedStatus::permanent(7, 0)), text)
}
