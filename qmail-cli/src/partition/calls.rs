//! Asking another party: requests that are answered in any order.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qmail_core::Outcome;
use tokio::sync::oneshot;

use super::channel::{Channel, Incoming, MESSAGE_OCTETS_MAX};
use super::complaints::Complaints;
use super::requests::{NUMBERS, Request, Told};

/// The requests to one party that are under way.
pub(super) struct Calls {
    requests: Arc<Channel>,
    pending: Mutex<Pending>,
}

struct Pending {
    /// By number.
    calls: Vec<Option<Call>>,
    /// Nobody answers any more.
    over: bool,
}

struct Call {
    outcomes: Vec<Option<Outcome>>,
    left: usize,
    caller: oneshot::Sender<Vec<Option<Outcome>>>,
}

impl Calls {
    pub(super) fn new(requests: Arc<Channel>) -> Self {
        let calls = (0..NUMBERS).map(|_| None).collect();
        Self {
            requests,
            pending: Mutex::new(Pending { calls, over: false }),
        }
    }

    /// Has something done that has so many outcomes. `None` if the other party has gone, or does too much already.
    pub(super) async fn call(
        &self,
        message: u64,
        texts: &[&[u8]],
        passed: Option<BorrowedFd<'_>>,
        outcomes: usize,
    ) -> Option<Vec<Outcome>> {
        let (number, answer) = self.begin(outcomes)?;
        let request = Request::write(number, message, texts);
        if self.requests.send(&request, passed).await.is_err() {
            self.pending().calls[usize::from(number)] = None;
            return None;
        }
        answer.await.ok()?.into_iter().collect()
    }

    fn begin(&self, outcomes: usize) -> Option<(u8, oneshot::Receiver<Vec<Option<Outcome>>>)> {
        let mut pending = self.pending();
        if pending.over {
            return None;
        }
        let free = pending.calls.iter().position(Option::is_none)?;
        let (caller, answer) = oneshot::channel();
        pending.calls[free] = Some(Call {
            outcomes: vec![None; outcomes],
            left: outcomes,
            caller,
        });
        Some((u8::try_from(free).ok()?, answer))
    }

    /// Takes reports until the party that makes them has gone. Those that are none are refused and told as `sender`'s.
    pub(super) async fn take_reports(
        &self,
        reports: &Channel,
        sender: &str,
        complaints: &Complaints,
    ) -> io::Result<()> {
        let mut room = vec![0; MESSAGE_OCTETS_MAX];
        loop {
            let taken = match reports.receive(&mut room).await? {
                Incoming::Message(octets, None) => {
                    Told::read(&room[..octets]).and_then(|told| self.take(told))
                }
                Incoming::Message(_, Some(_)) => Err("a descriptor"),
                Incoming::Refused(why) => Err(why),
                Incoming::End => return Ok(()),
            };
            if let Err(why) = taken {
                complaints.refused(sender, why);
            }
        }
    }

    fn take(&self, told: Told) -> Result<(), &'static str> {
        let mut pending = self.pending();
        let call = pending.calls.get_mut(usize::from(told.number));
        let slot = call.ok_or("a number that nobody has")?;
        let call = slot.as_mut().ok_or("a number that nobody has")?;
        let outcome = call.outcomes.get_mut(usize::from(told.which));
        let outcome = outcome.ok_or("an outcome that nobody waits for")?;
        if outcome.replace(told.outcome).is_some() {
            return Err("an outcome for the second time");
        }
        call.left -= 1;
        if call.left == 0
            && let Some(call) = slot.take()
        {
            // Whoever waited may have gone.
            let _ = call.caller.send(call.outcomes);
        }
        Ok(())
    }

    /// Nobody answers any more: who waits has no outcome.
    pub(super) fn end(&self) {
        let mut pending = self.pending();
        pending.over = true;
        pending.calls.iter_mut().for_each(|call| *call = None);
    }

    /// Whether [`end`](Self::end) was called.
    pub(super) fn is_over(&self) -> bool {
        self.pending().over
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel;
    use super::*;

    #[tokio::test]
    async fn answers_find_who_asked_whatever_the_other_side_says_besides() {
        let (near, far) = channel::pair().unwrap();
        let (near, far) = (Channel::new(near).unwrap(), Channel::new(far).unwrap());
        let (reports, told) = channel::pair().unwrap();
        let (reports, told) = (Channel::new(reports).unwrap(), Channel::new(told).unwrap());
        let calls = Arc::new(Calls::new(Arc::new(near)));
        let taking = {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move {
                let complaints = Complaints::of("test");
                calls
                    .take_reports(&told, "other", &complaints)
                    .await
                    .unwrap();
                calls.end();
            })
        };
        let asking = {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move { calls.call(46, &[b"a"], None, 2).await })
        };
        let mut room = [0; 100];
        let Incoming::Message(octets, None) = far.receive(&mut room).await.unwrap() else {
            panic!("a request");
        };
        let request = Request::read(&room[..octets]).unwrap();
        assert_eq!(request.message, 46);
        let outcome = |text: &'static str| Outcome::Delivered(text.into());
        let good = |which, text| Told::write(request.number, which, &outcome(text));
        for said in [
            b"x".to_vec(),
            Told::write(200, 0, &outcome("stranger")),
            good(2, "beyond"),
            good(1, "second"),
            good(1, "again"),
            vec![b'x'; MESSAGE_OCTETS_MAX],
            good(0, "first"),
            good(0, "late"),
        ] {
            reports.send(&said, None).await.unwrap();
        }
        let outcomes = asking.await.unwrap().unwrap();
        assert_eq!(outcomes, [outcome("first"), outcome("again")]);
        // When it has gone there is no answer, and no waiting.
        let asking = {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move { calls.call(1, &[b"a"], None, 1).await })
        };
        far.receive(&mut room).await.unwrap();
        drop(reports);
        assert_eq!(asking.await.unwrap(), None);
        taking.await.unwrap();
        assert_eq!(calls.call(1, &[b"a"], None, 1).await, None);
    }
}
