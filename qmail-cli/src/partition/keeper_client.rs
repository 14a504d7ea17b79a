//! The manager's side of `run/keeper`: has the writer remove texts and envelopes, and hears of new messages.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use qmail_queue::MessageId;
use qmail_queue::split::{Keeper, Removal};
use tokio::sync::{mpsc, oneshot};

use super::channel::{self, Channel, Incoming};
use super::complaints::Complaints;
use super::keeper::{REQUEST_MAX, SAID_OCTETS_MAX, Said, write_removal};
use crate::send::Loss;

/// How long the writer may take to be ready: it has to end what the manager before this one has asked for.
const READY_WAIT: Duration = Duration::from_secs(60);

/// Most removals under way: more than an engine has.
const TICKETS: usize = 4096;

/// Connects to the writer, and waits until it is ready. Blocks.
///
/// # Errors
///
/// There is none, or it does not get ready.
pub(super) fn connect(socket: &Path) -> io::Result<OwnedFd> {
    let connection = channel::connect(socket)?;
    channel::bound_waits(&connection, READY_WAIT)?;
    let mut room = [0; 2];
    match channel::receive(&connection, &mut room)? {
        Incoming::Message(octets, None) if Said::read(&room[..octets]) == Ok(Said::Ready) => {
            Ok(connection)
        }
        _ => Err(io::Error::other("the writer is not ready")),
    }
}

/// The writer, which keeps texts and envelopes. When it is gone, the manager must end.
pub(super) struct WriterParty {
    removals: mpsc::UnboundedSender<(u32, Removal)>,
    pending: Mutex<Pending>,
}

struct Pending {
    /// By ticket.
    callers: Vec<Option<oneshot::Sender<bool>>>,
    free: Vec<u32>,
    /// Nobody answers any more.
    over: bool,
}

impl WriterParty {
    /// To be called within a runtime.
    ///
    /// # Errors
    ///
    /// The system has no room for it.
    pub(super) fn start(connection: OwnedFd, loss: &Arc<Loss>) -> io::Result<Arc<Self>> {
        let connection = Arc::new(Channel::new(connection)?);
        // Bounded by the tickets.
        let (removals, requested) = mpsc::unbounded_channel();
        let party = Arc::new(Self {
            removals,
            pending: Mutex::new(Pending {
                callers: (0..TICKETS).map(|_| None).collect(),
                free: (0..TICKETS as u32).rev().collect(),
                over: false,
            }),
        });
        tokio::spawn(send_requests(Arc::clone(&connection), requested));
        let (listening, loss) = (Arc::clone(&party), Arc::clone(loss));
        tokio::spawn(async move {
            let tell = |id| loss.queue().into_iter().for_each(|queue| queue.tell(id));
            let _ = listening.listen(&connection, tell).await;
            // First the queue stops, then it sees removals that failed.
            loss.tell("writer", None);
            listening.end();
        });
        Ok(party)
    }

    async fn listen(&self, connection: &Channel, tell: impl Fn(MessageId)) -> io::Result<()> {
        let complaints = Complaints::of("manager");
        let mut room = vec![0; SAID_OCTETS_MAX];
        loop {
            let heard = match connection.receive(&mut room).await? {
                Incoming::Message(octets, None) => Said::read(&room[..octets]),
                Incoming::Message(_, Some(_)) => Err("a descriptor"),
                Incoming::Refused(why) => Err(why),
                Incoming::End => return Ok(()),
            };
            let taken = heard.and_then(|said| match said {
                Said::Ready => Err("it was ready before"),
                Said::New(ids) => {
                    ids.into_iter().for_each(&tell);
                    Ok(())
                }
                Said::Done(answers) => answers
                    .into_iter()
                    .map(|(ticket, removed)| self.answer(ticket, removed))
                    .fold(Ok(()), Result::and),
            });
            if let Err(why) = taken {
                complaints.refused("writer", why);
            }
        }
    }

    fn begin(&self) -> Option<(u32, oneshot::Receiver<bool>)> {
        let mut pending = self.pending();
        if pending.over {
            return None;
        }
        let ticket = pending.free.pop()?;
        let (caller, answer) = oneshot::channel();
        pending.callers[ticket as usize] = Some(caller);
        Some((ticket, answer))
    }

    fn answer(&self, ticket: u32, removed: bool) -> Result<(), &'static str> {
        let mut pending = self.pending();
        let caller = pending.callers.get_mut(ticket as usize);
        let caller = caller.and_then(Option::take);
        let caller = caller.ok_or("a ticket that nobody has")?;
        pending.free.push(ticket);
        // Whoever waited may have gone.
        let _ = caller.send(removed);
        Ok(())
    }

    fn end(&self) {
        let mut pending = self.pending();
        pending.over = true;
        pending.callers.iter_mut().for_each(|caller| *caller = None);
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Keeper for WriterParty {
    async fn discard(&self, removal: Removal) -> io::Result<()> {
        let (ticket, answer) = self.begin().ok_or(io::ErrorKind::NotConnected)?;
        let sent = self.removals.send((ticket, removal));
        sent.map_err(|_| io::ErrorKind::NotConnected)?;
        match answer.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::Error::other("the writer is unable to remove it")),
            Err(_) => Err(io::Error::other("the writer is gone")),
        }
    }
}

/// All that wait go in one message.
async fn send_requests(
    connection: Arc<Channel>,
    mut requested: mpsc::UnboundedReceiver<(u32, Removal)>,
) {
    let mut removals = Vec::new();
    let mut request = Vec::new();
    while requested.recv_many(&mut removals, REQUEST_MAX).await > 0 {
        for (ticket, removal) in removals.drain(..) {
            write_removal(ticket, removal, &mut request);
        }
        if connection.send(&request, None).await.is_err() {
            return;
        }
        request.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel::MESSAGE_OCTETS_MAX;
    use super::*;

    #[tokio::test]
    async fn answers_find_who_asked_whatever_the_writer_says_besides() {
        let (near, far) = channel::pair().unwrap();
        let (near, far) = (Channel::new(near).unwrap(), Channel::new(far).unwrap());
        let near = Arc::new(near);
        let (removals, requested) = mpsc::unbounded_channel();
        let party = WriterParty {
            removals,
            pending: Mutex::new(Pending {
                callers: vec![None, None],
                free: vec![1, 0],
                over: false,
            }),
        };
        let told = Mutex::new(Vec::new());
        let sending = tokio::spawn(send_requests(Arc::clone(&near), requested));
        let listening = async {
            let tell = |id| told.lock().unwrap().push(id);
            party.listen(&near, tell).await.unwrap();
            party.end();
        };
        let writer = async {
            let mut room = [0; 100];
            let Incoming::Message(26, None) = far.receive(&mut room).await.unwrap() else {
                panic!("both in one");
            };
            for said in [
                b"x".to_vec(),
                vec![b'n'; MESSAGE_OCTETS_MAX],
                b"n\0".to_vec(),
                Said::Ready.write(),
                Said::New(vec![MessageId(7)]).write(),
                Said::Done(vec![(2, true), (u32::MAX, true), (1, false)]).write(),
                Said::Done(vec![(1, true), (0, true)]).write(),
            ] {
                far.send(&said, None).await.unwrap();
            }
            drop(far);
        };
        let asking = async {
            let first = party.discard(Removal::Text(MessageId(1)));
            let second = party.discard(Removal::Message(MessageId(2)));
            let (first, second) = tokio::join!(first, second);
            assert!(first.is_ok() && second.is_err());
        };
        tokio::join!(listening, writer, asking);
        assert_eq!(*told.lock().unwrap(), [MessageId(7)]);
        // When it has gone there is no answer, and no waiting.
        assert!(party.discard(Removal::Text(MessageId(3))).await.is_err());
        drop(party);
        sending.await.unwrap();
    }
}
