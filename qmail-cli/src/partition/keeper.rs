//! The writer's side of `run/keeper`: the manager is told of each message that was taken, and has removed what it is done with.
//!
//! | from | message | octets |
//! |---|---|---|
//! | writer | it is ready | `h` |
//! | manager | removals | for each: ticket (4), what (1: `E` envelope, `T` text, `M` all of a message never routed), message (8) |
//! | writer | what became of them | `d`, then for each: ticket (4), `+` or `!` |
//! | writer | messages that are new | `n`, then for each: message (8) |
//!
//! Any number of removals are under way at a time, and share their syncs with what is taken meanwhile. What is new is only a hint: one that
//! cannot be given at once is not given, and the trigger is pulled instead.
//!
//! There is one manager at a time. The next one is told that this is ready only when all that the one before had asked for is over, so
//! that nothing changes under it by an order that is not its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use qmail_queue::MessageId;
use qmail_queue::split::{Keeper, Removal, Trigger};

use super::channel::{Channel, Incoming, Listener};
use super::complaints::Complaints;

/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most removals under way; further requests wait in the socket.
const REMOVALS_MAX: usize = 1024;

/// Octets of a removal in a request.
const REMOVAL_OCTETS: usize = 13;

/// Most removals in one request.
pub(super) const REQUEST_MAX: usize = 512;

/// Longest request in octets.
const REQUEST_OCTETS_MAX: usize = REQUEST_MAX * REMOVAL_OCTETS;

/// Octets of an answer to a removal.
const DONE_OCTETS: usize = 5;

/// Longest message of the writer in octets.
pub(super) const SAID_OCTETS_MAX: usize = 1 + REMOVALS_MAX * DONE_OCTETS;

/// What the writer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Ready,
    /// Tickets, and whether it is removed.
    Done(Vec<(u32, bool)>),
    New(Vec<MessageId>),
}

impl Said {
    pub(super) fn write(&self) -> Vec<u8> {
        match self {
            Self::Ready => vec![b'h'],
            Self::Done(answers) => {
                let mut octets = vec![b'd'];
                for &(ticket, removed) in answers {
                    octets.extend_from_slice(&ticket.to_be_bytes());
                    octets.push(if removed { b'+' } else { b'!' });
                }
                octets
            }
            Self::New(ids) => {
                let mut octets = vec![b'n'];
                for id in ids {
                    octets.extend_from_slice(&id.0.to_be_bytes());
                }
                octets
            }
        }
    }

    /// # Errors
    ///
    /// Why it is nothing of the kind.
    pub(super) fn read(octets: &[u8]) -> Result<Self, &'static str> {
        match octets {
            [b'h'] => Ok(Self::Ready),
            [b'd', answers @ ..] => {
                let (answers, rest) = answers.as_chunks::<DONE_OCTETS>();
                if !rest.is_empty() {
                    return Err("a part of an answer");
                }
                let read = |&[a, b, c, d, letter]: &[u8; DONE_OCTETS]| {
                    let removed = match letter {
                        b'+' => true,
                        b'!' => false,
                        _ => return Err("no answer"),
                    };
                    Ok((u32::from_be_bytes([a, b, c, d]), removed))
                };
                answers
                    .iter()
                    .map(read)
                    .collect::<Result<_, _>>()
                    .map(Self::Done)
            }
            [b'n', ids @ ..] => {
                let (ids, rest) = ids.as_chunks();
                if !rest.is_empty() {
                    return Err("a part of a number");
                }
                let id = |&id| MessageId(u64::from_be_bytes(id));
                Ok(Self::New(ids.iter().map(id).collect()))
            }
            _ => Err("nothing that is known"),
        }
    }
}

/// Appends a removal to a request.
pub(super) fn write_removal(ticket: u32, removal: Removal, request: &mut Vec<u8>) {
    let (what, id) = match removal {
        Removal::Envelope(id) => (b'E', id),
        Removal::Text(id) => (b'T', id),
        Removal::Message(id) => (b'M', id),
    };
    request.extend_from_slice(&ticket.to_be_bytes());
    request.push(what);
    request.extend_from_slice(&id.0.to_be_bytes());
}

/// The removals of a request: all of them are understood, or none is done.
fn read_removals(request: &[u8]) -> Result<Vec<(u32, Removal)>, &'static str> {
    let (removals, rest) = request.as_chunks::<REMOVAL_OCTETS>();
    if !rest.is_empty() {
        return Err("a part of a removal");
    }
    let read = |&[a, b, c, d, what, ref id @ ..]: &[u8; REMOVAL_OCTETS]| {
        let id = MessageId(u64::from_be_bytes(*id));
        let removal = match what {
            b'E' => Removal::Envelope(id),
            b'T' => Removal::Text(id),
            b'M' => Removal::Message(id),
            _ => return Err("a removal of nothing that is known"),
        };
        Ok((u32::from_be_bytes([a, b, c, d]), removal))
    };
    removals.iter().map(read).collect()
}

/// The manager, as far as it is connected.
pub(super) struct Manager {
    connection: Mutex<Option<Arc<Channel>>>,
    queue: PathBuf,
}

impl Manager {
    pub(super) fn of(queue: PathBuf) -> Self {
        Self {
            connection: Mutex::default(),
            queue,
        }
    }

    /// Says that a message is new, or makes that known by the trigger.
    pub(super) fn tell(&self, message: u64) {
        let connection = self.connection().clone();
        let said = Said::New(vec![MessageId(message)]).write();
        if connection.is_none_or(|connection| connection.try_send(&said).is_err()) {
            Trigger::pull(&self.queue);
        }
    }

    /// Does what managers want, one after the other; for ever.
    pub(super) async fn serve(&self, listener: Listener, keeper: &dyn Keeper) {
        let complaints = Complaints::of("writer");
        loop {
            let Ok(connection) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let connection = Arc::new(connection);
            *self.connection() = Some(Arc::clone(&connection));
            attend(&connection, keeper, &complaints).await;
            *self.connection() = None;
        }
    }

    fn connection(&self) -> MutexGuard<'_, Option<Arc<Channel>>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what is asked on a connection, to its end and to that of all that was asked.
async fn attend(connection: &Channel, keeper: &dyn Keeper, complaints: &Complaints) {
    let mut running = FuturesUnordered::new();
    let mut room = vec![0; REQUEST_OCTETS_MAX];
    let mut open = connection.send(&Said::Ready.write(), None).await.is_ok();
    while open || !running.is_empty() {
        tokio::select! {
            biased;
            Some(first) = running.next() => {
                let mut done = vec![first];
                while done.len() < REMOVALS_MAX && let Some(Some(more)) = running.next().now_or_never() {
                    done.push(more);
                }
                open = open && connection.send(&Said::Done(done).write(), None).await.is_ok();
            }
            incoming = connection.receive(&mut room), if open && running.len() + REQUEST_MAX <= REMOVALS_MAX => {
                let removals = match incoming {
                    Ok(Incoming::Message(octets, None)) => read_removals(&room[..octets]),
                    Ok(Incoming::Message(_, Some(_))) => Err("a descriptor"),
                    Ok(Incoming::Refused(why)) => Err(why),
                    Ok(Incoming::End) | Err(_) => {
                        open = false;
                        continue;
                    }
                };
                match removals {
                    Ok(removals) => running.extend(removals.into_iter().map(|(ticket, removal)| async move {
                        (ticket, keeper.discard(removal).await.is_ok())
                    })),
                    Err(why) => complaints.refused("manager", why),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use async_trait::async_trait;

    use super::super::channel::{self, MESSAGE_OCTETS_MAX};
    use super::*;

    struct Refusing(MessageId);

    #[async_trait]
    impl Keeper for Refusing {
        async fn discard(&self, removal: Removal) -> io::Result<()> {
            match removal == Removal::Message(self.0) {
                true => Err(io::ErrorKind::Other.into()),
                false => Ok(()),
            }
        }
    }

    fn request(removals: &[(u32, Removal)]) -> Vec<u8> {
        let mut octets = Vec::new();
        for &(ticket, removal) in removals {
            write_removal(ticket, removal, &mut octets);
        }
        octets
    }

    #[test]
    fn what_is_said_comes_back_as_it_was_and_nothing_else_does() {
        for said in [
            Said::Ready,
            Said::Done(vec![(1, true), (u32::MAX, false)]),
            Said::New(vec![MessageId(0), MessageId(u64::MAX)]),
        ] {
            assert_eq!(Said::read(&said.write()), Ok(said));
        }
        for hostile in [
            &b""[..],
            b"x",
            b"hh",
            b"d\0\0\0\x01",
            b"d\0\0\0\x01x",
            b"d\0\0\0\x01+\0",
            b"n\0\0\0\0\0\0\0",
        ] {
            assert!(Said::read(hostile).is_err(), "{hostile:?}");
        }
        let full = Said::Done(vec![(7, true); REMOVALS_MAX]).write();
        assert_eq!(full.len(), SAID_OCTETS_MAX);
    }

    #[tokio::test]
    async fn hostile_requests_are_refused_and_the_next_is_done() {
        let (manager, writer) = channel::pair().unwrap();
        let (manager, writer) = (
            Channel::new(manager).unwrap(),
            Channel::new(writer).unwrap(),
        );
        let (text, bad) = (
            Removal::Text(MessageId(46)),
            Removal::Message(MessageId(47)),
        );
        let good = request(&[(1, text), (2, bad), (1, text)]);
        let asking = async {
            for said in [
                b"x".to_vec(),
                vec![0; REQUEST_OCTETS_MAX + 1],
                vec![b'x'; MESSAGE_OCTETS_MAX],
                good[..good.len() - 1].to_vec(),
                [&good[..], b"E"].concat(),
                good.iter().map(|octet| octet ^ 1).collect(),
                good.clone(),
            ] {
                manager.send(&said, None).await.unwrap();
            }
            let mut room = [0; SAID_OCTETS_MAX];
            let mut heard = Vec::new();
            while heard.len() < 3 {
                let Incoming::Message(octets, None) = manager.receive(&mut room).await.unwrap()
                else {
                    panic!("an answer");
                };
                match Said::read(&room[..octets]).unwrap() {
                    Said::Ready => assert!(heard.is_empty()),
                    Said::Done(done) => heard.extend(done),
                    Said::New(ids) => panic!("{ids:?}"),
                }
            }
            heard.sort_unstable();
            assert_eq!(heard, [(1, true), (1, true), (2, false)]);
            drop(manager);
        };
        let (complaints, keeper) = (Complaints::of("test"), Refusing(MessageId(47)));
        tokio::join!(attend(&writer, &keeper, &complaints), asking);
    }

    /// Removes nothing before it is told to.
    struct Slow(tokio::sync::Semaphore);

    #[async_trait]
    impl Keeper for Slow {
        async fn discard(&self, _: Removal) -> io::Result<()> {
            let permit = self.0.acquire().await;
            permit.map(drop).map_err(io::Error::other)
        }
    }

    #[tokio::test]
    async fn the_next_manager_waits_until_the_orders_of_the_last_are_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keeper");
        let listener = Listener::new(channel::listen(&path).unwrap()).unwrap();
        let keeper = Slow(tokio::sync::Semaphore::new(0));
        let manager = Manager::of(directory.path().into());
        let first = Channel::new(channel::connect(&path).unwrap()).unwrap();
        let asking = async {
            let mut room = [0; 9];
            first.receive(&mut room).await.unwrap();
            let removal = request(&[(1, Removal::Text(MessageId(46)))]);
            first.send(&removal, None).await.unwrap();
            drop(first);
            let second = Channel::new(channel::connect(&path).unwrap()).unwrap();
            let wait = Duration::from_millis(50);
            let early = tokio::time::timeout(wait, second.receive(&mut room)).await;
            assert!(early.is_err(), "{early:?}");
            keeper.0.add_permits(1);
            let ready = second.receive(&mut room).await.unwrap();
            assert!(matches!(ready, Incoming::Message(1, None)));
            manager.tell(46);
            let told = second.receive(&mut room).await.unwrap();
            assert!(matches!(told, Incoming::Message(9, None)));
            assert_eq!(Said::read(&room), Ok(Said::New(vec![MessageId(46)])));
        };
        tokio::select! {
            () = manager.serve(listener, &keeper) => {}
            () = asking => {}
        }
    }
}
