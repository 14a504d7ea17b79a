//! Incoming messages become routed ones.

use std::io;
use std::sync::Arc;

use qmail_core::route::{Route, Tables};
use qmail_core::{Address, ReversePath, bounce};

use super::attempt::Fresh;
use super::handle::Arrival;
use super::{Again, Engine, Event, TROUBLE_WAIT, World};
use crate::{Channel, LogEvent, MessageId, Routed, SpoolError};

/// Most messages that are being routed at once: enough for them to share their syncs.
const ROUTING_MAX: usize = 256;

/// A channel with more recipients has them read back from the spool.
const FRESH_RECIPIENTS_MAX: usize = 64;

/// Most new messages whose recipients are kept in memory until their first attempt.
const FRESH_MESSAGES_MAX: usize = 4_096;

/// A message that is being routed.
pub(super) struct Routing {
    id: MessageId,
    /// What its envelope took of the room for envelopes told of.
    envelope_octets: usize,
}

/// Where the recipients of a message go.
pub(super) struct Sorted {
    birth: u64,
    channels: Vec<Channel>,
    fresh: Vec<(Channel, Fresh)>,
}

impl Engine {
    pub(super) fn start_routing(&mut self) {
        while self.routing < ROUTING_MAX && !self.stopping {
            let Some(arrival) = self.arrivals.pop_front() else {
                return;
            };
            self.routing += 1;
            let routing = Routing {
                id: arrival.id(),
                envelope_octets: arrival.octets(),
            };
            let world = Arc::clone(&self.world);
            let routes = Arc::clone(&self.routes);
            self.start(async move {
                let result = route(&world, &routes, arrival).await;
                Event::Routed(routing, result)
            });
        }
    }

    pub(super) fn handle_routed(&mut self, routing: &Routing, result: Result<Sorted, SpoolError>) {
        self.routing -= 1;
        self.shared.release(routing.envelope_octets);
        let id = routing.id;
        let sorted = match result {
            Ok(sorted) => sorted,
            Err(error) => return self.handle_unroutable(id, &error),
        };
        self.unrouted.remove(&id);
        if sorted.channels.is_empty() {
            self.finish(id);
            return;
        }
        for (channel, fresh) in sorted.fresh {
            if self.fresh.len() < FRESH_MESSAGES_MAX {
                self.fresh.insert((id, channel), fresh);
            }
        }
        self.scheduler
            .handle_new(id, sorted.birth, &sorted.channels);
    }

    fn handle_unroutable(&mut self, id: MessageId, error: &SpoolError) {
        match error {
            // Taken away by somebody else, or seen in a listing that was older than its removal.
            SpoolError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                self.unrouted.remove(&id);
            }
            // It stays among the unrouted: looking at it again will not mend it.
            SpoolError::Damaged { path, reason } => self.log(&LogEvent::Damaged { path, reason }),
            _ => {
                self.log_trouble("routing", error);
                self.do_again(TROUBLE_WAIT, Again::Route(id));
            }
        }
    }
}

async fn route(world: &World, routes: &Tables, arrival: Arrival) -> Result<Sorted, SpoolError> {
    let spool = &world.parts.spool;
    let (id, incoming) = match arrival {
        Arrival::Known(id, incoming) => (id, *incoming),
        Arrival::Id(id) => (id, spool.incoming(id).await?),
    };
    world.log(&LogEvent::NewMessage { id });
    world.log(&LogEvent::MessageInfo {
        id,
        octets: incoming.octets,
        sender: &incoming.envelope.sender,
        qp: incoming.pid,
        uid: incoming.uid,
    });
    let birth = world.seconds();
    let mut routed = Routed {
        sender: incoming.envelope.sender,
        local: Vec::new(),
        remote: Vec::new(),
        birth_seconds: birth,
        failures: Vec::new(),
    };
    for recipient in &incoming.envelope.recipients {
        match routes.route(recipient) {
            Ok(Route::Local(address)) => routed.local.push(address),
            Ok(Route::Remote(address)) => routed.remote.push(address),
            Err(_) => {
                world.log(&LogEvent::RecipientTooLong { id, recipient });
                bounce::write_note(recipient.as_bytes(), TOO_LONG, &mut routed.failures);
            }
        }
    }
    let sorted = Sorted::new(birth, &routed);
    spool.route(id, routed).await?;
    Ok(sorted)
}

impl Sorted {
    fn new(birth: u64, routed: &Routed) -> Self {
        let mut sorted = Self {
            birth,
            channels: Vec::new(),
            fresh: Vec::new(),
        };
        for (channel, recipients) in [
            (Channel::Local, &routed.local),
            (Channel::Remote, &routed.remote),
        ] {
            if !recipients.is_empty() {
                sorted.channels.push(channel);
                sorted.keep(channel, &routed.sender, recipients);
            }
        }
        sorted
    }

    fn keep(&mut self, channel: Channel, sender: &ReversePath, recipients: &[Address]) {
        if recipients.len() <= FRESH_RECIPIENTS_MAX {
            let fresh = Fresh {
                sender: sender.clone(),
                recipients: recipients.to_vec(),
            };
            self.fresh.push((channel, fresh));
        }
    }
}

const TOO_LONG: &[u8] = b"Sorry, this address is too long after rewriting. (#5.1.3)\n";
