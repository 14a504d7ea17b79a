//! The conversation itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use qmail_core::{CHUNK_OCTETS_MAX, Machine, Question};

use super::package::{Packages, Step};
use super::{Answer, CloseReason, End, Event, Protocol};

/// The server side of one QMTP or QMQP connection.
///
/// What to do with it is [`Machine`]'s contract; what is asked, the module's text tells.
///
/// ```
/// use std::time::{Duration, Instant};
/// use qmail_core::Machine;
/// use qmail_smtp::qmtp::{Answer, Event, Protocol, Session};
///
/// # #[allow(clippy::disallowed_methods)]
/// let now = Instant::now();
/// let mut session = Session::new(Protocol::Qmqp, Duration::from_secs(3600), now);
/// let mut input = &b"17:2:x\n,3:a@b,3:j@x,,"[..];
/// while !session.is_closed() {
///     let taken = session.receive(now, input);
///     input = &input[taken..];
///     while let Some(event) = session.poll_event() {
///         if let Event::End { question, .. } = event {
///             session.answer(question, [Answer::Accepted("ok".into())]);
///         }
///     }
/// }
/// let mut sent = Vec::new();
/// session.poll_transmit(&mut sent);
/// assert_eq!(sent, b"3:Kok,");
/// ```
#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    packages: Packages,
    events: VecDeque<Event>,
    transmit: Vec<u8>,
    asked: bool,
    closed: bool,
    /// The client has gone while a question was open.
    client_gone: bool,
    deadline: Option<Instant>,
}

impl Session {
    /// A connection that was just made. The whole of it may take as long as `limit`; qmail-qmtpd(8) and qmail-qmqpd(8) have
    /// an hour.
    pub fn new(protocol: Protocol, limit: Duration, now: Instant) -> Self {
        Self {
            protocol,
            packages: Packages::new(protocol),
            events: VecDeque::new(),
            transmit: Vec::new(),
            asked: false,
            closed: false,
            client_gone: false,
            deadline: now.checked_add(limit),
        }
    }

    /// Settles [`Event::End`]: in QMTP with an answer for each recipient, in QMQP with one.
    ///
    /// It does nothing if no question is open: the token was another session's.
    pub fn answer(&mut self, _question: Question<End>, answers: impl IntoIterator<Item = Answer>) {
        if !std::mem::take(&mut self.asked) || self.closed {
            return;
        }
        for answer in answers {
            answer.write(&mut self.transmit);
        }
        if self.protocol == Protocol::Qmqp || self.client_gone {
            self.close(CloseReason::Ended);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if !std::mem::replace(&mut self.closed, true) {
            self.events.push_back(Event::Closed { reason });
        }
    }
}

impl Machine for Session {
    type Event = Event;

    fn receive(&mut self, _now: Instant, octets: &[u8]) -> usize {
        let mut taken = 0;
        while taken < octets.len() {
            if self.closed {
                return octets.len();
            }
            if self.asked || !self.events.is_empty() {
                break;
            }
            // A CR that was held back may come with it.
            let end = octets.len().min(taken + CHUNK_OCTETS_MAX - 1);
            let mut steps = Vec::new();
            let result = self.packages.take(&octets[taken..end], &mut steps);
            self.asked = matches!(steps.last(), Some(Step::End(..)));
            self.events.extend(steps.into_iter().map(|step| match step {
                Step::Begin => Event::Begin,
                Step::Body(octets) => Event::Body(octets),
                Step::End(sender, recipients) => Event::End {
                    question: Question::new(),
                    sender,
                    recipients,
                },
            }));
            match result {
                Ok(octets) => taken += octets,
                Err(reason) => self.close(reason),
            }
        }
        taken
    }

    fn handle_eof(&mut self, _now: Instant) {
        if self.asked {
            self.client_gone = true;
        } else {
            self.close(CloseReason::Ended);
        }
    }

    fn handle_deadline(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.close(CloseReason::TimedOut);
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_transmit(&mut self, sink: &mut Vec<u8>) -> bool {
        if self.transmit.is_empty() {
            return false;
        }
        sink.append(&mut self.transmit);
        true
    }

    /// The owner's time counts as well: the limit is on the whole.
    fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.closed)
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    /// What a session makes of input that comes in two pieces.
    fn run(protocol: Protocol, input: &[u8], cut: usize) -> String {
        let now = Instant::now();
        let mut session = Session::new(protocol, Duration::from_secs(1), now);
        let (mut body, mut shown, mut sent) = (Vec::new(), String::new(), Vec::new());
        for piece in [Some(&input[..cut]), Some(&input[cut..]), None] {
            let mut rest = piece.unwrap_or_default();
            loop {
                match piece {
                    None => session.handle_eof(now),
                    Some(_) => rest = &rest[session.receive(now, rest)..],
                }
                let mut idle = true;
                while let Some(event) = session.poll_event() {
                    idle = false;
                    match event {
                        Event::Begin => body.clear(),
                        Event::Body(octets) => body.extend_from_slice(&octets),
                        Event::End {
                            question,
                            sender,
                            recipients,
                        } => {
                            let addresses: Vec<_> = recipients
                                .iter()
                                .map(|path| path.as_ref().map(|path| path.as_bytes()))
                                .chain([sender.as_ref().map(|path| path.as_bytes())])
                                .map(|path| path.map(|path| path.escape_ascii().to_string()))
                                .collect();
                            shown +=
                                &format!("{:?} {addresses:?}; ", body.escape_ascii().to_string());
                            let yes = Answer::Accepted("ok".into());
                            session.answer(question, vec![yes; recipients.len()]);
                        }
                        Event::Closed { reason } => shown += &format!("{reason:?}"),
                    }
                }
                session.poll_transmit(&mut sent);
                if rest.is_empty() && idle {
                    break;
                }
            }
        }
        shown + &format!(" > {}", sent.escape_ascii())
    }

    #[test]
    fn packages_do_not_depend_on_pieces() {
        use Protocol::{Qmqp, Qmtp};
        let one = r#""x\\n" [Some("j@x"), Some("a@b")]; "#;
        for (protocol, input, want) in [
            (
                Qmtp,
                "3:\nx\n,3:a@b,6:3:j@x,,",
                format!("{one}Ended > 3:Kok,"),
            ),
            (
                Qmtp,
                "3:\nx\n,3:a@b,6:3:j@x,,4:\rx\r\n,3:a@b,6:3:j@x,,",
                format!("{one}{one}Ended > 3:Kok,3:Kok,"),
            ),
            (
                Qmtp,
                "7:\r\r\rA\r\n\r,0:,12:3:a\0b,3:c@d,,",
                r#""\\r\\rA\\n\\r" [None, Some("c@d"), Some("")]; Ended > 3:Kok,3:Kok,"#.to_owned(),
            ),
            (
                Qmtp,
                "3:\nx\n,3:a@b,0:,",
                r#""x\\n" [Some("a@b")]; Ended > "#.to_owned(),
            ),
            (Qmtp, "3:\nx\n,3:a@b,6:3:j@", "Ended > ".to_owned()),
            (Qmtp, "", "Ended > ".to_owned()),
            (Qmtp, "0:,", "Malformed > ".to_owned()),
            (Qmtp, "1:x,", "Malformed > ".to_owned()),
            (Qmtp, "3:\nx\n,3:a@b,6:4:j@x,,", "Malformed > ".to_owned()),
            (
                Qmtp,
                "3:\nx\n,3:a@b,6:3:j@x,,x",
                format!("{one}Malformed > 3:Kok,"),
            ),
            (Qmtp, "2000000001:", "TooLong > ".to_owned()),
            (
                Qmqp,
                "17:2:x\n,3:a@b,3:j@x,,",
                format!("{one}Ended > 3:Kok,"),
            ),
            (Qmqp, "17:2:x\n,3:a@b,3:j@x,", "Ended > ".to_owned()),
            (Qmqp, "5:2:x\n,,", "Malformed > ".to_owned()),
            (Qmqp, "9:20:abcdef,,", "Malformed > ".to_owned()),
            (Qmqp, "x:", "Malformed > ".to_owned()),
        ] {
            for cut in 0..=input.len() {
                let found = run(protocol, input.as_bytes(), cut);
                assert_eq!(found, want, "{input:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_whole_has_a_limit() {
        let now = Instant::now();
        let mut session = Session::new(Protocol::Qmtp, Duration::from_secs(9), now);
        session.receive(now, b"3:");
        session.handle_deadline(now);
        assert!(!session.is_closed());
        let deadline = session.deadline().expect("has one");
        assert_eq!(deadline, now + Duration::from_secs(9));
        session.handle_deadline(deadline);
        assert!(session.is_closed());
    }

    #[test]
    fn many_recipients_end_it() {
        let count = super::super::ENVELOPE_OCTETS_MAX / size_of::<Option<qmail_core::Address>>();
        let recipients = "0:,".repeat(count + 1);
        let input = format!("1:\n,0:,{}:{recipients},", recipients.len());
        assert_eq!(run(Protocol::Qmtp, input.as_bytes(), 9), "TooLong > ");
    }
}
