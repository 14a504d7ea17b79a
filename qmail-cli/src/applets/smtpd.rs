//! `qmail-smtpd`: receives mail by SMTP on descriptors 0 and 1 and hands it to the queue program.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmail_core::pump::Pump;
use qmail_core::{Envelope, QueueFailure, Reply, ReplyStyle, ReversePath};
use qmail_smtp::server::{
    BareCr, CloseReason, Config, Event, Extensions, ParameterPolicy, Session, Verdict,
};

use crate::applet::{Applet, Call, Kind};
use crate::home::{Home, ReceiverControls, server_tls};
use crate::policy::{Policy, Relaying, own_addresses};
use crate::queue_program::QueueProgram;
use crate::serve::smtp_config;
use crate::tls::{ServerTls, Stream};
use crate::ucspi::{self, Connection};
use crate::{exit, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-smtpd"],
    kind: Kind::Classic,
    summary: "receive mail by SMTP on standard input and output, and queue it",
    run,
};

/// timeoutsmtpd when it is not set.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// A program that serves one session can bear more than one of a thousand: nobody else waits for it.
const COMMAND_OCTETS_MAX: usize = 8192;

fn run(_call: &Call) -> ExitCode {
    let home = Home::choose(None, None);
    // The queue program is found from there.
    if std::env::set_current_dir(home.path()).is_err() {
        return refuse("unable to read controls");
    }
    let controls = match ReceiverControls::read(&home) {
        Ok(controls) => controls,
        Err(error) => {
            let _ = exit::fatal("qmail-smtpd", &error, exit::TEMPORARY);
            return refuse("unable to read controls");
        }
    };
    let tls = match server_tls(&home) {
        Ok(tls) => tls,
        Err(error) => {
            let _ = exit::fatal("qmail-smtpd", &error, exit::TEMPORARY);
            return refuse("unable to read controls");
        }
    };
    for warning in &controls.warnings {
        exit::warn("qmail-smtpd", warning);
    }
    let Ok(addresses) = own_addresses() else {
        return refuse("unable to figure out my IP addresses");
    };
    let mut config = config(&controls);
    config.extensions.starttls = tls.is_some();
    let config = Arc::new(config);
    let policy = Policy::new(&controls.smtp, controls.tables, addresses);
    let connection = Connection::from_environment();
    let owner = Owner {
        relaying: ucspi::relaying(&policy, &connection),
        policy,
        connection,
        tls,
        helo: None,
        sender: ReversePath::Null,
        message: None,
    };
    match stdio::run(converse(owner, config)) {
        Ok(Ok(Some(CloseReason::Quit))) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(_) => refuse("out of memory"),
    }
}

/// Says no in place of the greeting.
fn refuse(why: &str) -> ExitCode {
    exit::print(&format!("421 {why} (#4.3.0)\r\n"));
    ExitCode::FAILURE
}

/// Replies in the classic words, and what else clients of qmail-smtpd rely on.
fn config(controls: &ReceiverControls) -> Config {
    let mut config = smtp_config(&controls.smtp);
    config.reply_style = ReplyStyle::Classic;
    config.parameters = ParameterPolicy::Ignore;
    config.message_octets_max = ucspi::message_octets_max(controls);
    config.line_octets_max = COMMAND_OCTETS_MAX;
    config.bare_cr = BareCr::Keep;
    let mut extensions = Extensions::default();
    extensions.enhanced_status_codes = false;
    config.extensions = extensions;
    let timeout = controls.smtp.timeout.unwrap_or(TIMEOUT);
    config.timeouts.command = timeout;
    config.timeouts.data_block = timeout;
    config
}

/// Serves the client to the end, and says how it ended.
async fn converse(mut owner: Owner, config: Arc<Config>) -> io::Result<Option<CloseReason>> {
    let session = Session::new(config, Instant::now());
    let stream = Stream::Clear(stdio::connection());
    let mut pump = Pump::new(session, stream, Instant::now);
    let mut ended = None;
    while let Some(event) = pump.next_event().await? {
        match event {
            Event::Closed { reason } => ended = Some(reason),
            Event::StartTls => {
                let Some(tls) = &owner.tls else {
                    return Err(io::ErrorKind::Unsupported.into());
                };
                let (mut session, stream) = pump.into_parts();
                let stream = stream.encrypted(tls).await?;
                session.tls_started();
                owner.helo = None;
                pump = Pump::new(session, stream, Instant::now);
            }
            event => owner.settle(pump.machine(), event),
        }
    }
    Ok(ended)
}

struct Owner {
    policy: Policy,
    relaying: Relaying,
    connection: Connection,
    /// Of control/servercert.pem: with it STARTTLS is offered.
    tls: Option<ServerTls>,
    helo: Option<Bytes>,
    sender: ReversePath,
    /// There from a yes to DATA to the answer to its end.
    message: Option<Message>,
}

/// A message on its way in. Dropping it leaves the queue program without an envelope: nothing is queued.
enum Message {
    Open(Box<QueueProgram>, Envelope),
    /// The queue program could not be run; the client must still be heard to the end.
    Failed(QueueFailure),
}

impl Owner {
    /// Calls of the queue program block: there is nobody else to serve.
    fn settle(&mut self, session: &mut Session, event: Event) {
        match event {
            Event::Greeted { name, .. } => self.helo = Some(name),
            Event::Mail {
                question, sender, ..
            } => match self.policy.sender(sender) {
                Ok(sender) => {
                    self.sender = sender.clone();
                    session.accept_mail_as(question, sender);
                }
                Err(reply) => session.answer_mail(question, Verdict::Reply(reply)),
            },
            Event::Rcpt {
                question,
                recipient,
                ..
            } => match self
                .policy
                .recipient(&self.relaying, &self.sender, recipient)
            {
                Ok(recipient) => session.accept_rcpt_as(question, recipient),
                Err(not_taken) => session.answer_rcpt(question, not_taken.verdict()),
            },
            Event::Data { question, envelope } => {
                let (message, verdict) = match QueueProgram::start() {
                    Ok(mut program) => {
                        program.write(&self.received(session));
                        let message = Message::Open(Box::new(program), envelope);
                        (Some(message), Verdict::Accept)
                    }
                    Err(failure) if failure == QueueFailure::MEMORY => {
                        (None, Verdict::Reply(cannot_start()))
                    }
                    Err(failure) => (Some(Message::Failed(failure)), Verdict::Accept),
                };
                self.message = message;
                session.answer_data(question, verdict);
            }
            Event::Body(chunk) => {
                if let Some(Message::Open(program, _)) = &mut self.message {
                    program.write(&chunk);
                }
            }
            Event::BodyEnd { question, .. } => {
                let reply = self.queue();
                session.answer_body_end(question, Verdict::Reply(reply));
            }
            Event::Aborted { .. } => {
                if let Some(Message::Open(program, _)) = self.message.take() {
                    program.abort();
                }
            }
            _ => {}
        }
    }

    /// What the queue program says to the complete message.
    fn queue(&mut self) -> Reply {
        let queued = match self.message.take() {
            Some(Message::Open(program, envelope)) => {
                let recipients = envelope.recipients.iter().map(|address| address.as_bytes());
                program.finish(envelope.sender.as_bytes(), recipients)
            }
            Some(Message::Failed(failure)) => Err(failure),
            None => Err(QueueFailure::READ),
        };
        match queued {
            Ok(pid) => {
                let text = format!("ok {} qp {}", ucspi::unix_seconds(), pid);
                Reply::new(250, None, text)
            }
            Err(failure) => {
                let code = if failure.is_temporary() { 451 } else { 554 };
                Reply::new(code, None, failure.text)
            }
        }
    }

    /// Every protocol in clear is SMTP there, as qmail-smtpd always wrote; that a connection is encrypted is worth telling.
    fn received(&self, session: &Session) -> Vec<u8> {
        let protocol = if session.is_encrypted() {
            session.protocol()
        } else {
            "SMTP"
        };
        self.connection.received(self.helo.as_deref(), protocol)
    }
}

fn cannot_start() -> Reply {
    Reply::new(451, None, "qqt failure (#4.3.0)")
}
