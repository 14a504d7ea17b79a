//! The other side of [`Calls`](super::calls): a party that does what it is asked for, any number of things at a time.

use std::io;
use std::os::fd::OwnedFd;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use qmail_core::Outcome;

use super::channel::{Channel, Incoming, MESSAGE_OCTETS_MAX};
use super::complaints::Complaints;
use super::requests::{NUMBERS, Request, Told};

/// Where a party is asked, and where it tells what came of it. `asker` is whose requests they are.
pub(super) struct Ends<'a> {
    pub(super) requests: &'a Channel,
    pub(super) reports: &'a Channel,
    pub(super) asker: &'static str,
}

/// Does what is asked for until whoever asks has gone. What is no request is refused and told.
///
/// # Errors
///
/// The connection broke.
pub(super) async fn serve(
    ends: Ends<'_>,
    complaints: &Complaints,
    act: impl AsyncFn(Request, Option<OwnedFd>) -> Vec<Outcome>,
) -> io::Result<()> {
    let mut room = vec![0; MESSAGE_OCTETS_MAX];
    let mut running = FuturesUnordered::new();
    let mut in_use = [false; NUMBERS];
    loop {
        tokio::select! {
            biased;
            Some((number, outcomes)) = running.next() => {
                let outcomes: Vec<Outcome> = outcomes;
                in_use[usize::from(number)] = false;
                for (which, outcome) in (0..).zip(&outcomes) {
                    let told = Told::write(number, which, outcome);
                    ends.reports.send(&told, None).await?;
                }
            }
            incoming = ends.requests.receive(&mut room) => {
                let request = match incoming? {
                    Incoming::Message(octets, passed) => {
                        Request::read(&room[..octets]).map(|request| (request, passed))
                    }
                    Incoming::Refused(why) => Err(why),
                    Incoming::End => return Ok(()),
                };
                match request {
                    Ok((request, _)) if in_use[usize::from(request.number)] => {
                        complaints.refused(ends.asker, "a number that is in use");
                    }
                    Ok((request, passed)) => {
                        let number = request.number;
                        in_use[usize::from(number)] = true;
                        let acting = act(request, passed);
                        running.push(async move { (number, acting.await) });
                    }
                    Err(why) => complaints.refused(ends.asker, why),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel;
    use super::*;

    #[tokio::test]
    async fn hostile_requests_are_refused_and_the_next_is_done() {
        let (asker, party) = channel::pair().unwrap();
        let (asker, party) = (Channel::new(asker).unwrap(), Channel::new(party).unwrap());
        let complaints = Complaints::of("test");
        let ends = Ends {
            requests: &party,
            reports: &party,
            asker: "asker",
        };
        let act = async |request: Request, _: Option<OwnedFd>| {
            let text = request.texts.concat();
            vec![Outcome::Delivered(qmail_core::Report::new(text))]
        };
        let asking = async {
            for said in [
                b"x".to_vec(),
                vec![0; MESSAGE_OCTETS_MAX + 1],
                Request::write(255, 1, &[b"a"]),
                [Request::write(1, 1, &[b"a"]), b"more".to_vec()].concat(),
                Request::write(1, 1, &[b"good"]),
            ] {
                asker.send(&said, None).await.unwrap();
            }
            let mut room = [0; 100];
            let Incoming::Message(octets, None) = asker.receive(&mut room).await.unwrap() else {
                panic!("a report");
            };
            let told = Told::read(&room[..octets]).unwrap();
            assert_eq!((told.number, told.outcome.letter()), (1, b'K'));
            assert_eq!(told.outcome.report().as_bytes(), b"good");
            drop(asker);
        };
        let (served, ()) = tokio::join!(serve(ends, &complaints, act), asking);
        served.unwrap();
    }
}
