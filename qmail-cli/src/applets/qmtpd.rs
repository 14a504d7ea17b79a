//! `qmail-qmtpd` and `qmail-qmqpd`: receive mail by QMTP or QMQP on descriptors 0 and 1 and hand it to the queue program.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmail_core::pump::Pump;
use qmail_core::{Address, QueueFailure, ReversePath};
use qmail_smtp::qmtp::{Answer, CloseReason, Event, PATH_OCTETS_MAX, Protocol, Session};

use crate::applet::{Applet, Call, Kind};
use crate::home::{Home, ReceiverControls};
use crate::policy::{NOT_ALLOWED, Policy, RelayError, Relaying};
use crate::queue_program::QueueProgram;
use crate::ucspi::{self, Connection};
use crate::{exit, stdio};

pub(crate) const QMTPD: Applet = Applet {
    names: &["qmail-qmtpd"],
    kind: Kind::Classic,
    summary: "receive mail by QMTP on standard input and output, and queue it",
    run: qmtpd,
};

pub(crate) const QMQPD: Applet = Applet {
    names: &["qmail-qmqpd"],
    kind: Kind::Classic,
    summary: "receive mail by QMQP on standard input and output, and queue it",
    run: qmqpd,
};

/// How long a connection may take in all.
const LIMIT: Duration = Duration::from_secs(3600);

fn qmtpd(_call: &Call) -> ExitCode {
    let name = "qmail-qmtpd";
    let home = Home::choose(None, None);
    if let Err(error) = std::env::set_current_dir(home.path()) {
        return no_home(name, &home, &error);
    }
    let controls = match ReceiverControls::read(&home) {
        Ok(controls) => controls,
        Err(error) => return exit::fatal(name, &error, exit::TEMPORARY),
    };
    for warning in &controls.warnings {
        exit::warn(name, warning);
    }
    let connection = Connection::from_environment();
    let octets_max = ucspi::message_octets_max(&controls);
    // Literals of this host are names like any other here.
    let policy = Policy::new(&controls.smtp, controls.tables, Vec::new());
    let relay = Relay {
        relaying: ucspi::relaying(&policy, &connection),
        policy,
    };
    serve(name, Owner::new(connection, Some(relay), octets_max))
}

fn qmqpd(_call: &Call) -> ExitCode {
    let name = "qmail-qmqpd";
    let home = Home::choose(None, None);
    match std::env::set_current_dir(home.path()) {
        Ok(()) => serve(name, Owner::new(Connection::from_environment(), None, None)),
        Err(error) => no_home(name, &home, &error),
    }
}

fn no_home(name: &str, home: &Home, error: &io::Error) -> ExitCode {
    exit::fatal(
        name,
        &format_args!(
            "unable to switch to home directory {}: {error}",
            home.path().display()
        ),
        exit::TEMPORARY,
    )
}

fn serve(name: &str, owner: Owner) -> ExitCode {
    match stdio::run(converse(owner)) {
        // A broken connection is as good as an end.
        Ok(Ok(Some(CloseReason::Ended)) | Err(_)) => ExitCode::SUCCESS,
        Ok(Ok(Some(CloseReason::Malformed))) => ExitCode::from(exit::PERMANENT),
        Ok(Ok(_)) => ExitCode::from(exit::TEMPORARY),
        Err(error) => exit::fatal(
            name,
            &format_args!("no resources: {error}"),
            exit::TEMPORARY,
        ),
    }
}

async fn converse(mut owner: Owner) -> io::Result<Option<CloseReason>> {
    let session = Session::new(owner.protocol(), LIMIT, Instant::now());
    let mut pump = Pump::new(session, stdio::connection(), Instant::now);
    let mut ended = None;
    while let Some(event) = pump.next_event().await? {
        match event {
            Event::Begin => owner.begin(),
            Event::Body(octets) => owner.write(&octets),
            Event::End {
                question,
                sender,
                recipients,
            } => {
                let answers = match owner.relay {
                    Some(_) => owner.end_qmtp(sender, recipients),
                    None => vec![owner.end_qmqp(sender, &recipients)],
                };
                pump.machine().answer(question, answers);
            }
            Event::Closed { reason } => {
                owner.abort();
                ended = Some(reason);
            }
            _ => {}
        }
    }
    Ok(ended)
}

/// Relay control, which only QMTP has.
struct Relay {
    policy: Policy,
    relaying: Relaying,
}

struct Owner {
    connection: Connection,
    relay: Option<Relay>,
    octets_max: Option<u64>,
    /// Octets of the message so far.
    octets: u64,
    message: Result<Option<Box<QueueProgram>>, QueueFailure>,
}

impl Owner {
    fn new(connection: Connection, relay: Option<Relay>, octets_max: Option<u64>) -> Self {
        Self {
            connection,
            relay,
            octets_max,
            octets: 0,
            message: Ok(None),
        }
    }

    fn protocol(&self) -> Protocol {
        match self.relay {
            Some(_) => Protocol::Qmtp,
            None => Protocol::Qmqp,
        }
    }

    fn begin(&mut self) {
        self.octets = 0;
        let name = match self.protocol() {
            Protocol::Qmtp => "QMTP",
            Protocol::Qmqp => "QMQP",
        };
        self.message = QueueProgram::start().map(|mut program| {
            program.write(&self.connection.received(None, name));
            Some(Box::new(program))
        });
    }

    fn write(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        if self.is_too_large() {
            self.abort();
        } else if let Ok(Some(program)) = &mut self.message {
            program.write(octets);
        }
    }

    fn is_too_large(&self) -> bool {
        self.octets_max
            .is_some_and(|octets_max| self.octets > octets_max)
    }

    /// The queue program sees no whole envelope, and queues nothing.
    fn abort(&mut self) {
        if let Ok(Some(program)) = std::mem::replace(&mut self.message, Ok(None)) {
            program.abort();
        }
    }

    /// One answer for each recipient: refused by itself, or as the message fares.
    fn end_qmtp(
        &mut self,
        sender: Option<ReversePath>,
        recipients: Vec<Option<Address>>,
    ) -> Vec<Answer> {
        let checked: Vec<_> = recipients
            .into_iter()
            .map(|recipient| self.relayed(recipient))
            .collect();
        let good: Vec<_> = checked.iter().flatten().collect();
        let answer = if self.is_too_large() {
            refused("sorry, that message size exceeds my databytes limit (#5.3.4)")
        } else if let Some(sender) = sender
            && !good.is_empty()
        {
            self.queue(&sender, &good)
        } else {
            refused("unacceptable sender (#5.1.7)")
        };
        self.abort();
        checked
            .into_iter()
            .map(|recipient| match recipient {
                Ok(_) => answer.clone(),
                Err(own) => own,
            })
            .collect()
    }

    fn relayed(&self, recipient: Option<Address>) -> Result<Address, Answer> {
        let odd = || refused("sorry, I can't handle that recipient (#5.1.3)");
        // Nobody is meant by an empty one, and its bounce would go to whoever the sender is said to be.
        let recipient = recipient.filter(|it| !it.as_bytes().is_empty());
        let recipient = recipient.ok_or_else(odd)?;
        let Some(Relay { policy, relaying }) = &self.relay else {
            return Ok(recipient);
        };
        match policy.relayed(relaying, recipient) {
            Ok(Some(recipient)) if recipient.as_bytes().len() <= PATH_OCTETS_MAX => Ok(recipient),
            Ok(Some(_)) | Err(RelayError::TooLong) => Err(odd()),
            Ok(None) => Err(refused(&format!("{NOT_ALLOWED} (#5.7.1)"))),
            Err(RelayError::Damaged) => Err(Answer::Deferred(Bytes::from_static(
                b"unable to read controls (#4.3.0)",
            ))),
        }
    }

    /// One answer for all.
    fn end_qmqp(&mut self, sender: Option<ReversePath>, recipients: &[Option<Address>]) -> Answer {
        let whole: Option<Vec<_>> = recipients.iter().map(Option::as_ref).collect();
        let answer = match (sender, whole) {
            (Some(sender), Some(recipients)) => self.queue(&sender, &recipients),
            _ => refused("sorry, I can't accept addresses like that (#5.1.3)"),
        };
        self.abort();
        answer
    }

    /// What the queue program says to the complete message.
    fn queue(&mut self, sender: &ReversePath, recipients: &[&Address]) -> Answer {
        let queued = match std::mem::replace(&mut self.message, Ok(None)) {
            Ok(Some(program)) => {
                let recipients = recipients.iter().map(|address| address.as_bytes());
                program.finish(sender.as_bytes(), recipients)
            }
            Ok(None) => Err(QueueFailure::READ),
            Err(failure) => Err(failure),
        };
        match queued {
            Ok(pid) => {
                let text = format!("ok {} qp {}", ucspi::unix_seconds(), pid);
                Answer::Accepted(text.into())
            }
            Err(failure) if failure.is_temporary() => Answer::Deferred(failure.text),
            Err(failure) => Answer::Refused(failure.text),
        }
    }
}

fn refused(text: &str) -> Answer {
    Answer::Refused(Bytes::copy_from_slice(text.as_bytes()))
}
