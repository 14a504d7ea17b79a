//! `ofmipd`: takes mail of authorised clients by SMTP, and writes its header anew (mess822).
//!
//! It relays anywhere: whoever reaches it may send. It belongs behind a listener that lets nobody else in.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use qmail_core::cdb::Cdb;
use qmail_core::control;
use qmail_core::header::mailbox::Mailbox;
use qmail_core::header::received::write_ofmip_field;
use qmail_core::header::{HeaderEnd, Part, Splitter};
use qmail_core::message::Options;
use qmail_core::message::compose::{ComposeSettings, Composition};
use qmail_core::{Address, EnhancedStatus, Envelope, QueueFailure, Reply, ReplyStyle, ReversePath};
use qmail_smtp::server::{
    BareCr, BareLf, CloseReason, Config, Event, ParameterPolicy, Session, Verdict,
};

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::injection::{self, first_variable, read_file};
use crate::queue_program::QueueProgram;
use crate::{composition, descriptor, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["ofmipd"],
    kind: Kind::Classic,
    summary: "take mail of authorised clients by SMTP on descriptors 0 and 1",
    run,
};

/// The name that clients see.
const GREETING: &str = "ofmipd.local";

/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(1200);

/// Longest address in octets, after rewriting.
const ADDRESS_OCTETS_MAX: usize = 899;

/// Longest header in octets: it is held until it is complete. A longer one is refused with 552.
const HEADER_OCTETS_MAX: usize = 4 * 1024 * 1024;

fn run(call: &Call) -> ExitCode {
    let names = match &call.arguments[..] {
        [] => None,
        // Relative to the directory of the caller, which is left.
        [names] => Some(std::path::absolute(names).unwrap_or_else(|_| PathBuf::from(names))),
        _ => return exit::fatal("ofmipd", &"usage: ofmipd [name.cdb]", exit::PERMANENT),
    };
    let (config, settings) = match start(names.as_ref()) {
        Ok(started) => started,
        Err(error) => {
            exit::print("451 unable to read configuration (#4.3.0)\r\n");
            return exit::fatal(
                "ofmipd",
                &format_args!("unable to read configuration: {error}"),
                1,
            );
        }
    };
    let mut server = Server {
        settings: &settings,
        names,
        sender: None,
        message: None,
        count: 0,
        quit: false,
    };
    let session = Session::new(Arc::new(config), Instant::now());
    let conversation =
        descriptor::converse(session, |session, event| server.settle(session, event));
    server.abort();
    if conversation.is_ok() && server.quit {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// Reads the home, and tries the table of names.
fn start(names: Option<&PathBuf>) -> std::io::Result<(Config, ComposeSettings)> {
    if let Some(names) = names {
        std::fs::File::open(names)?;
    }
    let home = Home::choose(None, None);
    // From here the queue program is called.
    std::env::set_current_dir(home.path())?;
    let rules = composition::host_rules(&home, None)?;
    let id_host = composition::id_host(&home, &rules)?;
    let mut settings = ComposeSettings::new(rules, Options::new(id_host));
    settings.envelope_fields = false;

    let mut config = Config::new(GREETING);
    config.reply_style = ReplyStyle::Classic;
    config.extensions.size = false;
    config.parameters = ParameterPolicy::IgnoreAround;
    config.bare_lf = BareLf::Keep;
    config.bare_cr = BareCr::Keep;
    config.timeouts.command = IDLE;
    config.timeouts.data_block = IDLE;
    let databytes = read_file(&home.control().join("databytes"))?;
    config.message_octets_max = databytes
        .and_then(|file| control::integer(&file, &mut Vec::new()))
        .filter(|&octets| octets > 0);
    Ok((config, settings))
}

struct Server<'s> {
    settings: &'s ComposeSettings,
    names: Option<PathBuf>,
    /// Who the sender is, by the table of names.
    sender: Option<Mailbox<'static>>,
    message: Option<Message<'s>>,
    /// Messages of this session.
    count: u64,
    quit: bool,
}

/// A message on its way in.
struct Message<'s> {
    queue: QueueProgram,
    envelope: Envelope,
    splitter: Splitter,
    /// `None` once the header is written.
    composition: Option<Composition<'s>>,
    header_octets: usize,
    /// What the end of the message will be answered, if it is a no.
    refusal: Option<Reply>,
}

impl<'s> Server<'s> {
    fn settle(&mut self, session: &mut Session, event: Event) {
        match event {
            Event::Mail {
                question, sender, ..
            } => match self.mail(&sender) {
                Ok(sender) => session.accept_mail_as(question, sender),
                Err(reply) => session.answer_mail(question, Verdict::Reply(reply)),
            },
            Event::Rcpt {
                question,
                recipient,
                ..
            } => {
                let address = complete(self.settings, recipient.as_bytes());
                match address.and_then(|address| Address::new(address).map_err(|_| syntax_error()))
                {
                    Ok(address) => session.accept_rcpt_as(question, address),
                    Err(reply) => session.answer_rcpt(question, Verdict::Reply(reply)),
                }
            }
            Event::Data { question, envelope } => {
                let verdict = self
                    .begin(envelope)
                    .map_or_else(Verdict::Reply, |()| Verdict::Accept);
                session.answer_data(question, verdict);
            }
            Event::Body(chunk) => {
                if let Some(message) = &mut self.message {
                    message.write(&chunk, self.count);
                }
            }
            Event::BodyEnd { question, .. } => {
                let verdict = match self
                    .message
                    .take()
                    .map(|message| message.finish(self.count))
                {
                    Some(Ok(())) => Verdict::Accept,
                    Some(Err(reply)) => Verdict::Reply(reply),
                    None => Verdict::Reply(no_queue()),
                };
                // The classic reply has neither time nor queue id.
                let verdict = match verdict {
                    Verdict::Accept => Verdict::Reply(Reply::new(250, None, "ok")),
                    other => other,
                };
                session.answer_body_end(question, verdict);
            }
            Event::Aborted { .. } => self.abort(),
            Event::Closed { reason } => self.quit = reason == CloseReason::Quit,
            _ => {}
        }
    }

    fn abort(&mut self) {
        if let Some(message) = self.message.take() {
            message.queue.abort();
        }
    }

    /// The sender as it is from now on; what the table of names says of it is remembered.
    fn mail(&mut self, sender: &ReversePath) -> Result<ReversePath, Reply> {
        let address = complete(self.settings, sender.as_bytes())?;
        let hit = self.look_up(&address)?;
        let sender = hit
            .as_ref()
            .and_then(|hit| hit.address.clone())
            .map_or(address, |address| address.into_owned().into());
        self.sender = hit;
        ReversePath::new(sender).map_err(|_| syntax_error())
    }

    /// The table is opened for each sender, so that one made anew counts at once.
    fn look_up(&self, address: &[u8]) -> Result<Option<Mailbox<'static>>, Reply> {
        let Some(path) = &self.names else {
            return Ok(None);
        };
        let trouble = || {
            Reply::new(
                451,
                Some(EnhancedStatus::temporary(3, 0)),
                "unable to read cdb",
            )
        };
        let file = read_file(path).ok().flatten().ok_or_else(trouble)?;
        let table = Cdb::new(file).map_err(|_| trouble())?;
        let Some(data) = table.get(address).map_err(|_| trouble())? else {
            return Ok(None);
        };
        let nul = memchr::memchr(0, data).ok_or_else(trouble)?;
        Ok(Some(
            Mailbox {
                name: Some(data[..nul].into()),
                address: Some(data[nul + 1..].into()),
            }
            .into_owned(),
        ))
    }

    fn begin(&mut self, envelope: Envelope) -> Result<(), Reply> {
        let queue = QueueProgram::start().map_err(|_| no_queue())?;
        let mut composition = Composition::new(self.settings);
        composition.recipients_from_header(false);
        let told = composition.sender(envelope.sender.as_bytes());
        if let Some(sender) = self.sender.clone() {
            composition.from(sender);
        }
        told.map_err(|_| syntax_error())?;
        self.count += 1;
        self.message = Some(Message {
            queue,
            envelope,
            splitter: Splitter::new(HEADER_OCTETS_MAX),
            composition: Some(composition),
            header_octets: 0,
            refusal: None,
        });
        Ok(())
    }
}

impl Message<'_> {
    fn write(&mut self, mut chunk: &[u8], count: u64) {
        if self.refusal.is_some() {
            return;
        }
        if let Some(composition) = &mut self.composition {
            self.header_octets += chunk.len();
            if self.header_octets > HEADER_OCTETS_MAX {
                self.refusal = Some(header_too_long());
                return;
            }
            let body = loop {
                match self.splitter.next(&mut chunk) {
                    Ok(None) => return,
                    Ok(Some(Part::Field(field))) => composition.field(&field),
                    Ok(Some(Part::Body { start, .. })) => break start.to_vec(),
                    Err(_) => {
                        self.refusal = Some(header_too_long());
                        return;
                    }
                }
            };
            self.write_header(count, true);
            self.queue.write(&body);
        }
        self.queue.write(chunk);
    }

    /// The Received field, the header that is complete now, and the line that ends it.
    fn write_header(&mut self, count: u64, empty_line: bool) {
        let Some(composition) = self.composition.take() else {
            return;
        };
        let composed = injection::stamp()
            .map_err(|_| no_queue())
            .and_then(|mut stamp| {
                stamp.sequence = Some(count);
                let composed = composition.finish(stamp).map_err(|_| bad_address())?;
                Ok((stamp, composed))
            });
        match composed {
            Ok((stamp, composed)) => {
                let ip = first_variable(&["TCPREMOTEIP"]).unwrap_or_else(|| b"unknown".to_vec());
                let info = first_variable(&["TCPREMOTEINFO"]);
                let mut received = Vec::new();
                write_ofmip_field(info.as_deref(), &ip, stamp.seconds, &mut received);
                self.queue.write(&received);
                self.queue.write(&composed.header);
                if empty_line {
                    self.queue.write(b"\n");
                }
            }
            Err(reply) => self.refusal = Some(reply),
        }
    }

    fn finish(mut self, count: u64) -> Result<(), Reply> {
        while let Some(composition) = &mut self.composition
            && self.refusal.is_none()
        {
            match self.splitter.finish() {
                Some(Part::Field(field)) => composition.field(&field),
                Some(Part::Body { end, start }) => {
                    let start = start.to_vec();
                    self.write_header(count, end != HeaderEnd::EndOfInput);
                    self.queue.write(&start);
                }
                None => break,
            }
        }
        if let Some(refusal) = self.refusal {
            self.queue.abort();
            return Err(refusal);
        }
        let recipients = self.envelope.recipients.iter().map(Address::as_bytes);
        match self
            .queue
            .finish(self.envelope.sender.as_bytes(), recipients)
        {
            Ok(_) => Ok(()),
            Err(failure) => Err(refused(&failure)),
        }
    }
}

fn complete(settings: &ComposeSettings, address: &[u8]) -> Result<Bytes, Reply> {
    let address = settings.complete(address).map_err(|_| syntax_error())?;
    if address.len() > ADDRESS_OCTETS_MAX {
        return Err(syntax_error());
    }
    Ok(Bytes::from(address))
}

fn syntax_error() -> Reply {
    Reply::new(555, Some(EnhancedStatus::permanent(5, 4)), "syntax error")
}

fn no_queue() -> Reply {
    Reply::new(451, Some(EnhancedStatus::temporary(3, 0)), "qqt failure")
}

fn bad_address() -> Reply {
    Reply::new(
        554,
        Some(EnhancedStatus::permanent(1, 3)),
        "line break in a header address",
    )
}

fn header_too_long() -> Reply {
    Reply::new(
        552,
        Some(EnhancedStatus::permanent(3, 4)),
        "sorry, that header is too long",
    )
}

/// The text has its status at the end already.
fn refused(failure: &QueueFailure) -> Reply {
    let code = if failure.is_temporary() { 451 } else { 554 };
    Reply::new(code, None, failure.text.clone())
}
