//! The one pump that moves octets between any [`Machine`] and any stream.
//!
//! It reads nothing while the machine waits for an answer, so a slow owner slows its peer and nobody else. It holds no
//! read buffer while a connection is idle: an idle session costs what its machine costs.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Sleep, sleep_until, timeout_at};

use crate::Machine;

/// Octets read at a time. They live on the stack during a read and are not kept between reads.
const READ_OCTETS: usize = 32 * 1024;

/// Drives one machine over one stream.
///
/// ```no_run
/// # use qmail_core::{Machine, pump::Pump};
/// # async fn example<M: Machine>(machine: M, stream: tokio::io::DuplexStream) -> std::io::Result<()> {
/// let mut pump = Pump::new(machine, stream, std::time::Instant::now);
/// while let Some(event) = pump.next_event().await? {
///     // Settle the event's question, if it has one, through `pump.machine()`.
///     # let _ = event;
/// }
/// # Ok(()) }
/// ```
pub struct Pump<M, S> {
    machine: M,
    stream: S,
    now: fn() -> Instant,
    /// Octets that were read and that the machine has not taken yet: only while it waits for an answer.
    pending: Vec<u8>,
    taken: usize,
    transmit: Vec<u8>,
    /// How much of `transmit` is sent.
    sent: usize,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    hears: bool,
}

impl<M: Machine, S: AsyncRead + AsyncWrite + Unpin> Pump<M, S> {
    /// `now` is the clock, as everywhere an argument: `Instant::now` in a program.
    pub fn new(machine: M, stream: S, now: fn() -> Instant) -> Self {
        Self {
            machine,
            stream,
            now,
            pending: Vec::new(),
            taken: 0,
            transmit: Vec::new(),
            sent: 0,
            timer: None,
            ended: false,
            hears: false,
        }
    }

    /// Hears what the peer says while octets are to be sent, and what it said before the connection broke: for a client that sends long
    /// texts, which a server may refuse midway. Otherwise nothing is read before all is sent.
    #[must_use]
    pub fn hearing(mut self) -> Self {
        self.hears = true;
        self
    }

    /// The machine, to answer its questions.
    pub fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Gives both back, for instance to start TLS. Octets that were read and not taken are dropped: what a peer sent before
    /// a handshake must not survive it (RFC 3207 section 4.2).
    pub fn into_parts(self) -> (M, S) {
        (self.machine, self.stream)
    }

    /// Runs the conversation until the machine has something to tell; `None` once it is over and all is sent.
    ///
    /// The future may be dropped and a new one asked for: nothing is lost or sent twice. So a session can wait for its peer and
    /// for something else, such as the end of the program.
    ///
    /// # Errors
    ///
    /// A broken connection, after the machine was told of it and its last events were given out; or a question of the
    /// machine that was left unanswered while its peer had more to say.
    pub async fn next_event(&mut self) -> io::Result<Option<M::Event>> {
        loop {
            if let Some(event) = self.machine.poll_event() {
                return Ok(Some(event));
            }
            if self.offer_pending() {
                continue;
            }
            if self.machine.poll_transmit(&mut self.transmit) || !self.transmit.is_empty() {
                // The owner may have thought for long about what is sent now: a machine that counts its wait from that
                // answer learns here when it was.
                self.machine.handle_deadline((self.now)());
                if let Err(error) = self.send().await {
                    self.fail(error).await?;
                }
                continue;
            }
            if self.machine.is_closed() {
                let _ = self.stream.shutdown().await;
                return Ok(None);
            }
            if self.taken < self.pending.len() {
                return Err(io::Error::other(
                    "the machine waits for an answer to its question",
                ));
            }
            match self.read().await {
                Ok(Waited::Octets) => {}
                Ok(Waited::Eof) => {
                    self.ended = true;
                    self.machine.handle_eof((self.now)());
                }
                Ok(Waited::Deadline) => self.machine.handle_deadline((self.now)()),
                Err(error) => self.fail(error).await?,
            }
        }
    }

    /// Offers what is left of an earlier read; `true` if the machine took some.
    fn offer_pending(&mut self) -> bool {
        if self.taken == self.pending.len() {
            return false;
        }
        let taken = self
            .machine
            .receive((self.now)(), &self.pending[self.taken..]);
        self.taken += taken;
        if self.taken == self.pending.len() {
            self.pending = Vec::new();
            self.taken = 0;
        }
        taken > 0
    }

    /// Sends what waits, for at most as long as the machine would wait for its peer; less, if the peer is heard meanwhile.
    async fn send(&mut self) -> io::Result<()> {
        let deadline = self.machine.deadline();
        let sending = poll_fn(|context| self.poll_send(context));
        match deadline {
            Some(deadline) => timeout_at(deadline.into(), sending)
                .await
                .map_err(|_| io::ErrorKind::TimedOut)??,
            None => sending.await?,
        }
        if self.sent < self.transmit.len() {
            return Ok(());
        }
        self.sent = 0;
        // An idle session should not keep the room of its longest reply.
        if self.transmit.capacity() > 4096 {
            self.transmit = Vec::new();
        } else {
            self.transmit.clear();
        }
        Ok(())
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.transmit.len() {
            if self.hears
                && self.pending.is_empty()
                && !self.machine.is_closed()
                && let Poll::Ready(heard) = self.poll_hear(context)
            {
                if heard.is_ok_and(|heard| heard) {
                    return Poll::Ready(Ok(()));
                }
                // A peer that says no more may still listen: what becomes of it is found out by sending, and by reading then.
                self.hears = false;
            }
            let waiting = &self.transmit[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Gives the machine what the peer says while not all is sent; `false` at its end. What is then left of a conversation that is
    /// over is not sent.
    fn poll_hear(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut room = [const { MaybeUninit::uninit() }; READ_OCTETS];
        let mut buffer = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(false));
        }
        self.machine.unsent();
        self.take(buffer.filled());
        if self.machine.is_closed() {
            self.transmit.clear();
            self.sent = 0;
        }
        Poll::Ready(Ok(true))
    }

    /// Offers what was read.
    fn take(&mut self, octets: &[u8]) {
        let taken = self.machine.receive((self.now)(), octets);
        self.pending.extend_from_slice(&octets[taken..]);
    }

    /// Tells the machine that its peer is gone; its last events still come out before the error does.
    async fn fail(&mut self, error: io::Error) -> io::Result<()> {
        if self.ended {
            return Err(error);
        }
        if self.sent < self.transmit.len() {
            self.machine.unsent();
        }
        if self.hears && self.sent < self.transmit.len() {
            poll_fn(|context| {
                while self.pending.is_empty()
                    && !self.machine.is_closed()
                    && matches!(self.poll_hear(context), Poll::Ready(Ok(true)))
                {}
                Poll::Ready(())
            })
            .await;
        }
        self.transmit = Vec::new();
        self.sent = 0;
        self.ended = true;
        self.pending = Vec::new();
        self.taken = 0;
        self.machine.handle_eof((self.now)());
        Ok(())
    }

    async fn read(&mut self) -> io::Result<Waited> {
        if self.ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (self.machine.deadline(), &mut self.timer) {
            (Some(deadline), Some(timer)) if timer.deadline() != deadline.into() => {
                timer.as_mut().reset(deadline.into());
            }
            (Some(deadline), timer @ None) => *timer = Some(Box::pin(sleep_until(deadline.into()))),
            (None, timer) => *timer = None,
            _ => {}
        }
        poll_fn(|context| self.poll_read(context)).await
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Waited>> {
        let mut room = [const { MaybeUninit::uninit() }; READ_OCTETS];
        let mut buffer = ReadBuf::uninit(&mut room);
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            result?;
            let octets = buffer.filled();
            if octets.is_empty() {
                return Poll::Ready(Ok(Waited::Eof));
            }
            self.take(octets);
            return Poll::Ready(Ok(Waited::Octets));
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(context).map(|()| Ok(Waited::Deadline)),
            None => Poll::Pending,
        }
    }
}

enum Waited {
    Octets,
    Eof,
    Deadline,
}
