//! One SMTP session: the machine's questions are answered by the policy, the message goes straight to the queue.
//!
//! A session holds its machine, at most one chunk of a message, and the draft: never a message. What it does is no other
//! session's affair: it ends with its own errors.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use qmail_core::header::received::Received;
use qmail_core::pump::Pump;
use qmail_core::route::{Route, Tables};
use qmail_core::sasl::Mechanism;
use qmail_core::{
    Address, Draft, EnhancedStatus, Envelope, Escaped, Origin, PasswordChecker, Receipt, Reply,
    ReversePath, StatusClass, Submit, SubmitError, sasl,
};
use qmail_deliver::{UserDirectory, has_mailbox};
use qmail_smtp::server::{Config, Event, Session, Verdict};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::entrance::{Entrance, Visitor, look_at};
use super::gate::Pass;
use super::nonce;
use crate::policy::{Policy, Relaying};
use crate::report::Reporter;
use crate::tls::{ServerTls, Stream};

/// What all sessions of one configuration share.
pub(crate) struct Rules {
    /// How sessions behave, by [`Door::index`].
    pub(crate) configs: [Arc<Config>; Door::COUNT],
    /// This host, in Received fields.
    pub(crate) host: Bytes,
    pub(crate) policy: Policy,
    pub(crate) entrance: Entrance,
    /// What is delivered here.
    pub(crate) tables: Arc<Tables>,
    /// Whose mailboxes are looked for at RCPT, if they are.
    pub(crate) users: Option<Arc<dyn UserDirectory>>,
    /// Where messages go.
    pub(crate) submit: Arc<dyn Submit>,
    /// Hears of messages that the queue did not take.
    pub(crate) reporter: Reporter,
}

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
    /// Whether a recipient is one of ours and has no mailbox, if that is to be known.
    async fn is_nobody(&self, recipient: &Address) -> bool {
        match (&self.users, self.tables.route(recipient)) {
            (Some(users), Ok(Route::Local(address))) => !has_mailbox(&**users, &address).await,
            _ => false,
        }
    }

    fn tls(&self) -> Option<&ServerTls> {
        self.entrance.controls.tls.as_ref()
    }

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
        let visitor = match look_at(&rules, door, &mut stream, peer, &mut pass).await {
            Ok(visitor) => visitor?,
            Err(error) => {
                // The rest is a client that has gone; this is a proxy that is set up wrongly, or none.
                if error.kind() == io::ErrorKind::InvalidData {
                    let words = format_args!("connection from {peer} dropped: {error}");
                    rules.reporter.warning(&words);
                }
                return None;
            }
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
                owner.helo = None;
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
                    self.sender = self.rules.policy.sender(sender);
                    session.accept_mail_as(question, self.sender.clone());
                }
            }
            Event::Rcpt {
                question,
                recipient,
                ..
            } => match self.recipient(recipient).await {
                Ok(recipient) => session.accept_rcpt_as(question, recipient),
                Err(reply) => session.answer_rcpt(question, Verdict::Reply(reply)),
            },
            Event::Data { question, envelope } => {
                let received = self.received(session.protocol());
                let verdict = match begin(&*self.rules.submit, received).await {
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

    /// The recipient as it goes into the envelope, or with which reply it is not taken.
    async fn recipient(&mut self, recipient: Address) -> Result<Address, Reply> {
        let relaying = &self.visitor.relaying;
        if let (Relaying::No, Some(reply)) = (relaying, &self.visitor.blocked) {
            return Err(reply.clone());
        }
        let policy = &self.rules.policy;
        let recipient = policy.recipient(relaying, &self.sender, recipient)?;
        if self.rules.is_nobody(&recipient).await {
            return Err(no_mailbox());
        }
        Ok(recipient)
    }

    /// The Received field of a message that comes now.
    fn received(&self, protocol: &str) -> Bytes {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut field = Vec::with_capacity(200);
        Received {
            // No names are looked up: a lookup says little of a client and costs every session a wait.
            remote_host: b"unknown",
            remote_ip: self
                .visitor
                .address
                .ip()
                .to_canonical()
                .to_string()
                .as_bytes(),
            // A login says more than what the client's host says of it.
            remote_info: self.login.as_deref().or(self.visitor.info.as_deref()),
            helo: self.helo.as_deref(),
            local: &self.rules.host,
            protocol,
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

fn no_mailbox() -> Reply {
    Reply::new(
        550,
        Some(EnhancedStatus::permanent(1, 1)),
        "sorry, no mailbox here by that name",
    )
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
