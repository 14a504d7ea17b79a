//! The one vocabulary of all protocol machines.

use std::time::Instant;

/// A protocol session without socket, clock or thread: octets and time go in, events, octets and a deadline come out.
///
/// The contract is the same for every machine:
///
/// 1. After **any** `&mut` call, drain [`poll_event`](Machine::poll_event) and
///    [`poll_transmit`](Machine::poll_transmit).
/// 2. Send what was transmitted. If [`is_closed`](Machine::is_closed), close the connection.
/// 3. Wait for octets, or for the [`deadline`](Machine::deadline), whichever is first; go to 1.
///
/// An event may carry a [`Question`]. The machine takes no more octets until its owner has settled it by the machine's
/// own `answer` method, so that an answer may come from async code, a database or a test. Cutting the input at any
/// octet yields the same events and the same transmits.
pub trait Machine {
    /// What the machine tells its owner.
    type Event;

    /// Takes octets from the peer, and returns how many were taken.
    ///
    /// Fewer than offered means that events or octets to be sent are undrained, or a question is open: settle that, then
    /// offer the rest.
    /// After the machine is closed everything is taken and thrown away.
    fn receive(&mut self, now: Instant, octets: &[u8]) -> usize;

    /// The peer sends no more.
    fn handle_eof(&mut self, now: Instant);

    /// Time has passed. Before the [`deadline`](Machine::deadline) this does nothing.
    fn handle_deadline(&mut self, now: Instant);

    /// The next thing to know, in order.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// Appends to `sink` all octets that are to be sent now; `false` if there were none.
    ///
    /// Replies to commands that arrived together come together, so that one write serves a whole batch (RFC 2920).
    fn poll_transmit(&mut self, sink: &mut Vec<u8>) -> bool;

    /// Not all that was last transmitted is sent, and now the peer speaks, or the connection breaks. A machine whose peer may only
    /// speak when it has heard everything takes note; most need not.
    fn unsent(&mut self) {}

    /// When to call [`handle_deadline`](Machine::handle_deadline) if nothing else happens.
    ///
    /// Sending takes no longer than until then either. So a machine that is closed has one too, as long as it has last words
    /// to transmit: otherwise a peer that does not take them would hold the connection for ever.
    fn deadline(&self) -> Option<Instant>;

    /// Whether the conversation is over: send what is left to transmit, then close.
    fn is_closed(&self) -> bool;
}

/// A decision that a machine waits for. It is handed back with the answer, so nothing can be answered twice.
///
/// `K` tells apart what is asked, so that an answer of the wrong kind does not compile.
#[derive(Debug)]
#[must_use = "the machine waits until this question is answered"]
pub struct Question<K> {
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K> Question<K> {
    /// For makers of machines: a machine makes one when it asks, and takes it back in its `answer` methods.
    #[expect(
        clippy::new_without_default,
        reason = "a question is asked on purpose, never by default"
    )]
    pub fn new() -> Self {
        Self {
            kind: std::marker::PhantomData,
        }
    }
}
