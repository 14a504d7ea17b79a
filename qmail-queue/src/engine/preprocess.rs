//! Incoming messages become routed ones, or are tried at once.

use std::io;
use std::sync::Arc;

use qmail_core::route::Route;
use qmail_core::{Content, bounce};
use sha2::{Digest as _, Sha256};

use super::attempt::Fresh;
use super::handle::{Arrival, envelope_octets};
use super::{Again, Engine, Event, FRESH_RECIPIENTS_MAX, TROUBLE_WAIT, World};
use crate::{Channel, Incoming, LogEvent, MessageId, Routed, SpoolError};

/// Most messages that are being routed at once: enough for them to share their syncs.
const ROUTING_MAX: usize = 256;

/// No further message is looked at while the envelopes of those take more.
const ROUTING_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// Most envelopes that are being read from the spool at once: nobody knows their size before.
const READING_MAX: usize = 8;

/// Most new messages whose recipients are kept in memory until their first attempt, those that are tried before they are routed
/// included.
const FRESH_MESSAGES_MAX: usize = 16_384;

/// A larger envelope is not kept.
const FRESH_OCTETS_MAX: usize = 1024;

/// What is between acceptance and routing, but for what waits.
#[derive(Default)]
pub(super) struct Workload {
    reading: usize,
    routing: usize,
    octets: usize,
}

impl Workload {
    pub(super) fn messages(&self) -> usize {
        self.reading + self.routing
    }

    fn has_room(&self) -> bool {
        self.messages() < ROUTING_MAX && self.octets < ROUTING_OCTETS_MAX
    }
}

/// What is known of a message before it is routed.
pub(super) struct Looked {
    incoming: Incoming,
    /// SHA-256 of its text, if that is wanted.
    hash: Option<[u8; 32]>,
}

/// How the engine knows of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// It was told, with the envelope.
    Told,
    /// It was told of, and its envelope was read.
    New,
    /// It lay in the spool.
    Found,
}

/// A message that is being routed.
pub(super) struct Routing {
    id: MessageId,
    birth: u64,
    fresh: Vec<(Channel, Fresh)>,
    channels: Vec<Channel>,
    /// Size of its envelope.
    octets: usize,
    /// Whether that is a part of the room for envelopes told of.
    told: bool,
}

impl Engine {
    pub(super) fn start_routing(&mut self) {
        while !self.stopping && self.workload.has_room() {
            match self.arrivals.pop_front() {
                Some(Arrival::Known(id, incoming)) => {
                    let octets = envelope_octets(&incoming.envelope);
                    if self.world.config.log_hashes {
                        // Its text must be read before anything can happen to it.
                        self.shared.release(octets);
                        self.arrivals.push_front(Arrival::Id(id));
                    } else {
                        let looked = Looked {
                            incoming: *incoming,
                            hash: None,
                        };
                        self.sort(id, looked, octets, Source::Told);
                    }
                }
                Some(arrival) if self.workload.reading < READING_MAX => {
                    self.read_envelope(arrival);
                }
                Some(later) => return self.arrivals.push_front(later),
                None => return,
            }
        }
    }

    fn read_envelope(&mut self, arrival: Arrival) {
        self.workload.reading += 1;
        let world = Arc::clone(&self.world);
        self.start(async move {
            let looked = read(&world, arrival.id()).await;
            Event::EnvelopeRead(arrival, looked)
        });
    }

    pub(super) fn handle_envelope(&mut self, arrival: &Arrival, read: Result<Looked, SpoolError>) {
        self.workload.reading -= 1;
        let id = arrival.id();
        let was_damaged = matches!(arrival, Arrival::Damaged(_));
        if was_damaged && !self.damaged.contains(id) {
            // It was taken away meanwhile. The number is another message's now, which the engine was told of.
            return;
        }
        match read {
            // After a stop nothing is begun.
            Ok(_) if self.stopping => {}
            Ok(looked) => {
                self.damaged.remove(id);
                let octets = envelope_octets(&looked.incoming.envelope);
                let source = match arrival {
                    Arrival::New(_) => Source::New,
                    _ => Source::Found,
                };
                self.sort(id, looked, octets, source);
            }
            Err(error) => self.handle_unroutable(id, &error),
        }
    }

    /// Decides where the recipients go, and what is done first.
    fn sort(&mut self, id: MessageId, looked: Looked, octets: usize, source: Source) {
        let told = source == Source::Told;
        let Looked { incoming, hash } = looked;
        self.log(&LogEvent::NewMessage { id });
        self.log(&LogEvent::MessageInfo {
            id,
            octets: incoming.octets,
            sender: &incoming.envelope.sender,
            qp: incoming.pid,
            uid: incoming.uid,
        });
        if let Some(sha256) = &hash {
            self.log(&LogEvent::MessageHash { id, sha256 });
        }
        let mut routed = Routed {
            sender: incoming.envelope.sender,
            local: Vec::new(),
            remote: Vec::new(),
            birth_seconds: self.world.seconds(),
            failures: Vec::new(),
        };
        for recipient in &incoming.envelope.recipients {
            match self.routes.route(recipient) {
                Ok(Route::Local(address)) => routed.local.push(address),
                Ok(Route::Remote(address)) => routed.remote.push(address),
                Err(_) => {
                    self.log(&LogEvent::RecipientTooLong { id, recipient });
                    bounce::write_note(recipient.as_bytes(), TOO_LONG, &mut routed.failures);
                }
            }
        }
        if source != Source::Found {
            routed = match self.try_first(id, routed, octets) {
                Ok(()) if told => return self.shared.release(octets),
                Ok(()) => return,
                Err(routed) => routed,
            };
        }
        self.route(Routing::new(id, &routed, octets, told), routed);
    }

    fn route(&mut self, routing: Routing, routed: Routed) {
        self.workload.routing += 1;
        self.workload.octets += routing.octets;
        let world = Arc::clone(&self.world);
        self.start(async move {
            let result = world.parts.spool.route(routing.id, routed).await;
            Event::Routed(routing, result)
        });
    }

    pub(super) fn handle_routed(&mut self, routing: Routing, result: Result<(), SpoolError>) {
        self.workload.routing -= 1;
        self.workload.octets -= routing.octets;
        if routing.told {
            self.shared.release(routing.octets);
        }
        let id = routing.id;
        if let Err(error) = result {
            return self.handle_unroutable(id, &error);
        }
        self.leave_unrouted(id);
        if routing.channels.is_empty() {
            self.finish(id);
            return;
        }
        for (channel, fresh) in routing.fresh {
            if self.fresh.len() < FRESH_MESSAGES_MAX {
                self.fresh.insert((id, channel), fresh);
            }
        }
        self.scheduler
            .handle_new(id, routing.birth, &routing.channels);
    }

    /// It is routed, or gone. Its number may be another message's by now, of which the engine was told.
    pub(super) fn leave_unrouted(&mut self, id: MessageId) {
        if self.unrouted.remove(id) {
            self.unrouted.insert(id);
            self.arrivals.push_back(Arrival::New(id));
        }
    }

    fn handle_unroutable(&mut self, id: MessageId, error: &SpoolError) {
        match error {
            // Taken away by somebody else, or seen in a listing that was older than its removal.
            SpoolError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                self.damaged.remove(id);
                self.leave_unrouted(id);
            }
            SpoolError::Damaged { path, reason } => self.leave_alone(id, path, reason),
            _ => {
                self.log_trouble("routing", error);
                self.do_again(TROUBLE_WAIT, Again::Route(id));
            }
        }
    }
}

async fn read(world: &World, id: MessageId) -> Result<Looked, SpoolError> {
    let spool = &*world.parts.spool;
    let incoming = spool.incoming(id).await?;
    let hash = if world.config.log_hashes {
        Some(hash(&*spool.content(id).await?, id).await?)
    } else {
        None
    };
    Ok(Looked { incoming, hash })
}

async fn hash(content: &dyn Content, id: MessageId) -> Result<[u8; 32], SpoolError> {
    let failed = |source| SpoolError::Read {
        path: format!("the text of message {id}").into(),
        source,
    };
    let mut hasher = Sha256::new();
    let mut body = content.open().await.map_err(failed)?;
    while let Some(chunk) = body.next().await.map_err(failed)? {
        hasher.update(&chunk);
    }
    Ok(hasher.finalize().into())
}

impl Routing {
    fn new(id: MessageId, routed: &Routed, octets: usize, told: bool) -> Self {
        let mut routing = Self {
            id,
            birth: routed.birth_seconds,
            fresh: Vec::new(),
            channels: Vec::new(),
            octets,
            told,
        };
        for (channel, recipients) in [
            (Channel::Local, &routed.local),
            (Channel::Remote, &routed.remote),
        ] {
            if recipients.is_empty() {
                continue;
            }
            routing.channels.push(channel);
            if recipients.len() <= FRESH_RECIPIENTS_MAX && octets <= FRESH_OCTETS_MAX {
                let fresh = Fresh {
                    sender: routed.sender.clone(),
                    recipients: recipients.clone(),
                    first: None,
                };
                routing.fresh.push((channel, fresh));
            }
        }
        routing
    }
}

const TOO_LONG: &[u8] = b"Sorry, this address is too long after rewriting. (#5.1.3)\n";
