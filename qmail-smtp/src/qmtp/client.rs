//! The sending side of QMTP and QMQP.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use qmail_core::Machine;

use super::{Answer, Answers, Protocol, qmqp_frame, qmtp_frame};
use crate::timer::Timer;

/// Most packages of QMTP that may wait for their answers. A server that answers each at once can then not fill up the way
/// back while it is still being written to.
const OUTSTANDING_MAX: usize = 100;

/// How long a client waits.
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// For the server to take what is sent, counted anew with each piece. Default: 1 minute.
    pub send: Duration,
    /// For an answer, once all is sent. Default: 1 hour, as long as a server may take for a package.
    pub answer: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            send: Duration::from_secs(60),
            answer: Duration::from_secs(3600),
        }
    }
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The next package may be begun.
    Ready,
    /// All text so far was sent: more is wanted.
    BodyWanted,
    /// The server's word: on a recipient (QMTP), or on the package (QMQP).
    Answer {
        /// Which package, counted from 0.
        package: u64,
        /// Which of its recipients, counted from 0; 0 in QMQP.
        recipient: usize,
        /// What became of it.
        answer: Answer,
    },
    /// The connection is over. Nobody knows what became of a package that was wholly sent and has no answer.
    Closed {
        /// Why, unless all was answered.
        cause: Option<ClientCause>,
    },
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientCause {
    /// What the server said is no answer, or an answer to nothing.
    #[error("remote protocol violation")]
    Malformed,
    /// The connection ended.
    #[error("connection died")]
    ConnectionLost,
    /// The server, or the network to it, was too slow.
    #[error("connection timed out")]
    TimedOut,
}

/// [`ClientEvent::Ready`] has not come, or was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is not ready for a package")]
pub struct NotReadyError;

/// The client side of one QMTP or QMQP connection. It begins by itself, with [`ClientEvent::Ready`].
#[derive(Debug)]
pub struct Client {
    protocol: Protocol,
    timeouts: ClientTimeouts,
    phase: Phase,
    answers: Answers,
    /// For each package that was begun and is not wholly answered: how many recipients it has, and how many have their answer.
    awaited: VecDeque<(usize, usize)>,
    /// The number of the first of these.
    first_awaited: u64,
    events: VecDeque<ClientEvent>,
    transmit: Vec<u8>,
    timer: Timer,
}

#[derive(Debug)]
enum Phase {
    /// The owner, to begin a package; whether it was told.
    Ready {
        told: bool,
    },
    /// So many octets of the text are still to come, then this.
    Body {
        left: u64,
        tail: Vec<u8>,
    },
    /// Nothing more is sent.
    Finished,
    Closed,
}

impl Client {
    /// A connection that was just made.
    pub fn new(protocol: Protocol, timeouts: ClientTimeouts, now: Instant) -> Self {
        Self {
            protocol,
            timeouts,
            phase: Phase::Ready { told: false },
            answers: Answers::default(),
            awaited: VecDeque::new(),
            first_awaited: 0,
            events: VecDeque::new(),
            transmit: Vec::new(),
            timer: Timer::new(now),
        }
    }

    /// Begins a package, after [`ClientEvent::Ready`]. Its text has exactly so many octets, and lines that end in LF;
    /// [`ClientEvent::BodyWanted`] asks for it.
    ///
    /// # Errors
    ///
    /// It is not the time; nothing was sent.
    pub fn start(
        &mut self,
        octets: u64,
        sender: &[u8],
        recipients: &[&[u8]],
    ) -> Result<(), NotReadyError> {
        if !matches!(self.phase, Phase::Ready { told: true }) {
            return Err(NotReadyError);
        }
        let recipients_all = recipients.iter().copied();
        let ((head, tail), answers) = match self.protocol {
            Protocol::Qmtp => (qmtp_frame(octets, sender, recipients_all), recipients.len()),
            Protocol::Qmqp => (qmqp_frame(octets, sender, recipients_all), 1),
        };
        self.transmit.extend_from_slice(&head);
        // A package without recipients has no answer.
        self.awaited.push_back((answers, 0));
        self.phase = Phase::Body { left: octets, tail };
        self.body(&[]);
        Ok(())
    }

    /// The next piece of the text. What goes beyond its octets is cut off; at any other time it is ignored.
    pub fn body(&mut self, piece: &[u8]) {
        let Phase::Body { left, tail } = &mut self.phase else {
            return;
        };
        let room = usize::try_from(*left).unwrap_or(usize::MAX);
        let piece = &piece[..piece.len().min(room)];
        self.transmit.extend_from_slice(piece);
        *left -= piece.len() as u64;
        self.timer.start_at_next_tick(self.timeouts.send);
        if *left == 0 {
            self.transmit.append(tail);
            self.phase = match self.protocol {
                Protocol::Qmtp => Phase::Ready { told: false },
                Protocol::Qmqp => Phase::Finished,
            };
            self.pass_over_answered();
        }
    }

    /// No further package comes: the session is over once all is answered.
    pub fn finish(&mut self) {
        if let Phase::Ready { .. } = self.phase {
            self.phase = Phase::Finished;
            self.end_if_done();
        }
    }

    /// Drops the connection as it is. A package that was not wholly sent is not taken by the server.
    pub fn abort(&mut self) {
        self.close(Some(ClientCause::ConnectionLost));
    }

    fn take_answer(&mut self, answer: Answer) {
        let Some((recipients, answered)) = self.awaited.front_mut() else {
            return self.close(Some(ClientCause::Malformed));
        };
        let recipient = *answered;
        if recipient >= *recipients {
            return self.close(Some(ClientCause::Malformed));
        }
        *answered += 1;
        self.events.push_back(ClientEvent::Answer {
            package: self.first_awaited,
            recipient,
            answer,
        });
        self.pass_over_answered();
    }

    /// Forgets packages that have all their answers; one whose text is still under way stays.
    fn pass_over_answered(&mut self) {
        let under_way = usize::from(matches!(self.phase, Phase::Body { .. }));
        while self.awaited.len() > under_way
            && self
                .awaited
                .front()
                .is_some_and(|(recipients, answered)| answered >= recipients)
        {
            self.awaited.pop_front();
            self.first_awaited += 1;
        }
        self.end_if_done();
    }

    fn end_if_done(&mut self) {
        if matches!(self.phase, Phase::Finished) && self.awaited.is_empty() {
            self.close(None);
        }
    }

    fn close(&mut self, cause: Option<ClientCause>) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        if cause.is_some() {
            self.transmit.clear();
        }
        self.phase = Phase::Closed;
        self.timer.start_at_next_tick(self.timeouts.send);
        self.events.push_back(ClientEvent::Closed { cause });
    }
}

impl Machine for Client {
    type Event = ClientEvent;

    fn receive(&mut self, now: Instant, octets: &[u8]) -> usize {
        self.timer.tick(now);
        let mut rest = octets;
        while !rest.is_empty() && self.events.is_empty() && !self.is_closed() {
            match self.answers.next(&mut rest) {
                Ok(Some(answer)) => self.take_answer(answer),
                Ok(None) => {}
                Err(_) => self.close(Some(ClientCause::Malformed)),
            }
        }
        if self.is_closed() {
            return octets.len();
        }
        self.timer.start(self.timeouts.answer);
        octets.len() - rest.len()
    }

    fn handle_eof(&mut self, now: Instant) {
        self.timer.tick(now);
        self.close(Some(ClientCause::ConnectionLost));
    }

    fn handle_deadline(&mut self, now: Instant) {
        self.timer.tick(now);
        if self.timer.is_due() {
            self.timer.stop();
            self.close(Some(ClientCause::TimedOut));
        }
    }

    fn poll_event(&mut self) -> Option<ClientEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if !self.transmit.is_empty() {
            return None;
        }
        match &mut self.phase {
            Phase::Ready { told } if !*told && self.awaited.len() < OUTSTANDING_MAX => {
                *told = true;
                Some(ClientEvent::Ready)
            }
            Phase::Body { .. } => Some(ClientEvent::BodyWanted),
            _ => None,
        }
    }

    fn poll_transmit(&mut self, sink: &mut Vec<u8>) -> bool {
        if self.transmit.is_empty() {
            return false;
        }
        sink.append(&mut self.transmit);
        if !matches!(self.phase, Phase::Body { .. } | Phase::Closed) {
            self.timer.start_at_next_tick(self.timeouts.answer);
        }
        true
    }

    fn deadline(&self) -> Option<Instant> {
        self.timer.deadline()
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Package = (&'static str, Vec<&'static [u8]>);

    /// An owner that sends these texts from `a`, then finishes; returns what was sent and what happened.
    fn run(
        protocol: Protocol,
        packages: &[Package],
        piece: usize,
        answers: &[&[u8]],
    ) -> (Vec<u8>, Vec<ClientEvent>) {
        let now = start();
        let mut client = Client::new(protocol, ClientTimeouts::default(), now);
        let (mut sent, mut seen) = (Vec::new(), Vec::new());
        let mut packages = packages.iter();
        let mut text: &[u8] = b"";
        let mut drain = |client: &mut Client| {
            loop {
                match client.poll_event() {
                    Some(ClientEvent::Ready) => match packages.next() {
                        Some((body, recipients)) => {
                            text = body.as_bytes();
                            client
                                .start(text.len() as u64, b"a", recipients)
                                .expect("it is ready");
                        }
                        None => client.finish(),
                    },
                    Some(ClientEvent::BodyWanted) => {
                        let (now, later) = text.split_at(piece.min(text.len()));
                        client.body(now);
                        text = later;
                    }
                    Some(event) => seen.push(event),
                    None if client.poll_transmit(&mut sent) => {}
                    None => return,
                }
            }
        };
        drain(&mut client);
        for &(mut octets) in answers {
            while !octets.is_empty() {
                let taken = client.receive(now, octets);
                octets = &octets[taken..];
                drain(&mut client);
            }
        }
        client.handle_eof(now);
        drain(&mut client);
        (sent, seen)
    }

    /// All ways to cut octets once, and that octet by octet.
    fn cuts(octets: &[u8]) -> Vec<Vec<&[u8]>> {
        let once = (0..=octets.len()).map(|cut| vec![&octets[..cut], &octets[cut..]]);
        once.chain([octets.chunks(1).collect()]).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "any instant serves as a start")]
    fn start() -> Instant {
        Instant::now()
    }

    fn answer(package: u64, recipient: usize, answer: Answer) -> ClientEvent {
        ClientEvent::Answer {
            package,
            recipient,
            answer,
        }
    }

    #[test]
    fn packages_go_out_without_waiting_and_every_cut_is_the_same() {
        let packages: [Package; 3] = [
            ("hi\n", vec![b"b", b"c"]),
            ("", vec![b"d"]),
            ("x\n", vec![]),
        ];
        let answers = b"3:Kok,2:Zl,3:Dno,";
        let expected = [
            answer(0, 0, Answer::Accepted("ok".into())),
            answer(0, 1, Answer::Deferred("l".into())),
            answer(1, 0, Answer::Refused("no".into())),
            ClientEvent::Closed { cause: None },
        ];
        for piece in 1..4 {
            for cut in cuts(answers) {
                let (sent, seen) = run(Protocol::Qmtp, &packages, piece, &cut);
                assert_eq!(
                    sent.escape_ascii().to_string(),
                    "4:\\nhi\\n,1:a,8:1:b,1:c,,1:\\n,1:a,4:1:d,,3:\\nx\\n,1:a,0:,"
                );
                assert_eq!(seen, expected, "{piece} {cut:?}");
            }
        }
    }

    #[test]
    fn a_qmqp_package_has_one_answer() {
        let packages: [Package; 1] = [("hi\n", vec![b"b", b"c"])];
        for cut in cuts(b"3:Kok,") {
            let (sent, seen) = run(Protocol::Qmqp, &packages, 2, &cut);
            assert_eq!(sent, b"18:3:hi\n,1:a,1:b,1:c,,");
            assert_eq!(
                seen,
                [
                    answer(0, 0, Answer::Accepted("ok".into())),
                    ClientEvent::Closed { cause: None }
                ]
            );
        }
    }

    #[test]
    fn what_is_no_answer_ends_it() {
        let packages: [Package; 1] = [("hi\n", vec![b"b"])];
        let malformed = || ClientEvent::Closed {
            cause: Some(ClientCause::Malformed),
        };
        let lost = || ClientEvent::Closed {
            cause: Some(ClientCause::ConnectionLost),
        };
        for (answers, expected) in [
            (&b"HTTP/1.1 400\r\n\r\nKeep"[..], vec![malformed()]),
            (b"1:X,", vec![malformed()]),
            (b"2:Ko", vec![lost()]),
            (b"", vec![lost()]),
        ] {
            for protocol in [Protocol::Qmtp, Protocol::Qmqp] {
                for cut in cuts(answers) {
                    let (_, seen) = run(protocol, &packages, 9, &cut);
                    assert_eq!(seen, expected, "{}", answers.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn an_answer_to_nothing_ends_it() {
        let now = start();
        let mut client = Client::new(Protocol::Qmtp, ClientTimeouts::default(), now);
        client.receive(now, b"3:Kok,");
        let closed = ClientEvent::Closed {
            cause: Some(ClientCause::Malformed),
        };
        assert_eq!(client.poll_event(), Some(closed));
        assert_eq!(client.start(0, b"", &[]), Err(NotReadyError));
    }

    #[test]
    fn silence_ends_it_and_the_window_holds() {
        let now = start();
        let mut client = Client::new(Protocol::Qmtp, ClientTimeouts::default(), now);
        let mut sink = Vec::new();
        let mut begun = 0;
        loop {
            match client.poll_event() {
                Some(ClientEvent::Ready) => {
                    begun += 1;
                    client.start(0, b"", &[b"b"]).expect("it is ready");
                }
                Some(event) => panic!("{event:?}"),
                None if client.poll_transmit(&mut sink) => {}
                None => break,
            }
        }
        assert_eq!(begun, OUTSTANDING_MAX);
        client.handle_deadline(now);
        assert_eq!(client.deadline(), Some(now + Duration::from_secs(3600)));
        client.handle_deadline(now + Duration::from_secs(3600));
        let closed = ClientEvent::Closed {
            cause: Some(ClientCause::TimedOut),
        };
        assert_eq!(client.poll_event(), Some(closed));
    }
}
