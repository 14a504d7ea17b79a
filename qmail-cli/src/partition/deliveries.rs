//! The manager's side of deliveries: the opener passes its requests on to the launcher and the remote party, with the messages, and these
//! tell the manager what came of them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use qmail_core::route::SmtpRoutes;
use qmail_core::{Address, Delivery, Destination, Job, Outcome, ReversePath};
use qmail_deliver::next_hop_key;
use qmail_queue::Channel;

use super::calls::Calls;
use super::channel;
use super::complaints::Complaints;
use super::requests::{NUMBERS, TEXTS_OCTETS_MAX};
use crate::report::Reporter;
use crate::send::{Deliverers, Loss};

/// Most recipients of one request, as many as a transaction of SMTP may have (RFC 5321 section 4.5.3.1.8).
const RECIPIENTS_MAX: usize = 100;

/// Where requests go, and where reports come from: of the launcher, then of the remote party.
pub(super) struct Parties {
    pub(super) ends: [(OwnedFd, OwnedFd); 2],
    /// Which hosts share a next hop; none if the manager may not know.
    pub(super) routes: SmtpRoutes,
}

impl Deliverers for Parties {
    fn limits(&self) -> [usize; 2] {
        [NUMBERS, NUMBERS]
    }

    fn start(self, loss: &Arc<Loss>, _: &Reporter) -> io::Result<[Arc<dyn Delivery>; 2]> {
        let [local, remote] = self.ends;
        Ok([
            PartyDelivery::start("launcher", Channel::Local, None, local, loss)?,
            PartyDelivery::start("remote", Channel::Remote, Some(self.routes), remote, loss)?,
        ])
    }
}

struct PartyDelivery {
    calls: Arc<Calls>,
    /// For deliveries to other hosts, of which one takes several recipients.
    routes: Option<SmtpRoutes>,
}

impl PartyDelivery {
    /// To be called within a runtime.
    fn start(
        party: &'static str,
        channel: Channel,
        routes: Option<SmtpRoutes>,
        (requests, reports): (OwnedFd, OwnedFd),
        loss: &Arc<Loss>,
    ) -> io::Result<Arc<dyn Delivery>> {
        let calls = Arc::new(Calls::new(Arc::new(channel::Channel::new(requests)?)));
        let reports = channel::Channel::new(reports)?;
        let (taking, loss) = (Arc::clone(&calls), Arc::clone(loss));
        tokio::spawn(async move {
            let complaints = Complaints::of("manager");
            let _ = taking.take_reports(&reports, party, &complaints).await;
            // First the queue stops, then it sees deliveries without an outcome.
            loss.tell(party, Some(channel));
            taking.end();
        });
        Ok(Arc::new(Self { calls, routes }))
    }
}

#[async_trait]
impl Delivery for PartyDelivery {
    fn destination(&self, recipient: &Address) -> Destination {
        match &self.routes {
            Some(routes) => Destination {
                key: next_hop_key(recipient, routes),
                recipients_max: RECIPIENTS_MAX,
            },
            None => Destination {
                key: recipient
                    .domain()
                    .unwrap_or_default()
                    .to_ascii_lowercase()
                    .into(),
                recipients_max: 1,
            },
        }
    }

    async fn deliver(&self, job: Job) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(job.recipients.len());
        let mut recipients = &job.recipients[..];
        while !recipients.is_empty() {
            let (now, later) = recipients.split_at(fitting(&job.sender, recipients));
            let mut texts = vec![job.sender.as_bytes()];
            texts.extend(now.iter().map(Address::as_bytes));
            let told = self.calls.call(job.message, &texts, None, now.len()).await;
            match told {
                Some(told) => outcomes.extend(told),
                // The party is gone: these have no outcome.
                None => return outcomes,
            }
            recipients = later;
        }
        outcomes
    }
}

/// How many of these go into one request; at least one, since no address is as long as that.
fn fitting(sender: &ReversePath, recipients: &[Address]) -> usize {
    let mut room = TEXTS_OCTETS_MAX - sender.as_bytes().len() - 1;
    let fits = |recipient: &&Address| {
        let octets = recipient.as_bytes().len() + 1;
        let fits = octets <= room;
        room = room.saturating_sub(octets);
        fits
    };
    recipients.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_no_more_than_fits() {
        let sender = ReversePath::new("s@here").unwrap();
        let long = Address::new("x".repeat(900) + "@there").unwrap();
        let recipients = vec![long; 100];
        let count = fitting(&sender, &recipients);
        assert!((70..73).contains(&count), "{count}");
        assert_eq!(fitting(&sender, &recipients[..3]), 3);
    }
}
