//! Orders that a crash cuts short, at each of their disk operations and in both spools: nobody who waits is lost, nobody who failed is
//! forgotten, and what was answered is so.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::executor::block_on;
use qmail_core::Content;

use super::*;
use crate::spool::kinds::Kind;
use crate::{Choices, Entry, Found, Intake, ManualClock, Routed, SimDisk, Trouble};

/// Images looked at for each crash: all in order up to this number, and then as many at random.
const IMAGES_MAX: usize = 40;

const NOTE: &str = "<c@d>:\nno\n\n";
const WAITING: [&str; 2] = ["a@b", "e@f"];

/// An order, and what the message is like that it is about.
#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    order: Order,
    held: bool,
    /// Whether somebody's failure is noted.
    noted: bool,
}

fn cases() -> Vec<Case> {
    let orders = [
        (Order::Hold, false),
        (Order::Release, true),
        (Order::Retry, false),
        (Order::Delete { bounce: false }, false),
        (Order::Delete { bounce: false }, true),
        (Order::Delete { bounce: true }, false),
        (
            Order::Reroute {
                prefix: Bytes::new(),
            },
            false,
        ),
        (
            Order::Reroute {
                prefix: Bytes::new(),
            },
            true,
        ),
    ];
    let mut cases = Vec::new();
    for kind in Kind::ALL {
        for (order, held) in &orders {
            for noted in [false, true] {
                cases.push(Case {
                    kind,
                    order: order.clone(),
                    held: *held,
                    noted,
                });
            }
        }
    }
    cases
}

fn address(text: &'static str) -> Address {
    Address::new(text).unwrap()
}

/// A message with one recipient who is done with, and two who wait.
async fn message(spool: &dyn Spool, case: &Case) -> Result<MessageId, SpoolError> {
    let entry = Entry {
        origin: Origin::Network,
        uid: 3,
        pid: 4,
        now: SystemTime::UNIX_EPOCH,
    };
    let mut draft = spool.begin(entry).await?;
    draft.write("Subject: x\n\ny\n".into()).await?;
    let sender: ReversePath = address("me@here").into();
    let to = ["a@b", "c@d", "e@f"].map(address).to_vec();
    let envelope = Envelope::new(sender.clone(), to);
    let id = draft.commit(&envelope).await?.id;
    let routed = Routed {
        sender,
        local: vec![address("a@b")],
        remote: vec![address("c@d"), address("e@f")],
        birth_seconds: 1,
        failures: Vec::new(),
    };
    spool.route(id, routed).await?;
    let remote = spool.recipients(id, Channel::Remote, Position::START, 9);
    let first = remote.await?[0].position;
    if case.noted {
        spool.note_failure(id, NOTE.as_bytes()).await?;
    }
    spool.mark_done(id, Channel::Remote, &[first]).await?;
    if case.held {
        spool.set_held(id, true).await?;
    }
    Ok(id)
}

async fn give(spool: &Arc<dyn Spool>, case: &Case, id: MessageId) -> Result<Done, Refusal> {
    let clock = Arc::new(ManualClock::new(
        SystemTime::UNIX_EPOCH + Duration::from_secs(9),
    ));
    let intake = Intake::new(Arc::clone(spool), clock, 7, 7);
    let original = Bytes::copy_from_slice;
    let mut answers = carry_out(&**spool, &intake, 7, original, &case.order, &[id]).await?;
    answers.pop().expect("one for each").1
}

/// What there is.
#[derive(Debug, Default)]
struct Seen {
    old: bool,
    held: bool,
    waiting: Vec<String>,
    notes: String,
    /// Recipients of new messages.
    resent: Vec<String>,
}

async fn look(spool: &dyn Spool) -> Seen {
    let mut found = Vec::new();
    spool.scan(&mut |one| found.push(one)).await.unwrap();
    let held = spool.held().await.unwrap();
    let mut seen = Seen::default();
    for one in found {
        match one {
            Found::Incoming(id) => {
                let incoming = spool.incoming(id).await.unwrap();
                let recipients = incoming.envelope.recipients;
                seen.resent
                    .extend(recipients.iter().map(Address::to_string));
            }
            Found::Routed { id, .. } => {
                assert!(!seen.old);
                (seen.old, seen.held) = (true, held.contains(&id));
                let waiting = waiting(spool, id, &Bytes::copy_from_slice).await.unwrap();
                seen.waiting = waiting.iter().map(Address::to_string).collect();
                if let Some(failures) = spool.failures(id).await.unwrap() {
                    seen.notes = whole(&*failures).await;
                }
            }
            Found::Damaged { .. } => panic!("{one:?}"),
        }
    }
    seen
}

async fn whole(content: &dyn Content) -> String {
    let mut body = content.open().await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).unwrap()
}

impl Seen {
    /// Holds it against an order that was carried out, or was cut short.
    fn check(&self, case: &Case, done: bool) -> Result<(), String> {
        let wrong = |words: &str| Err(format!("{words}: {self:?}"));
        let all_wait = self.old && self.waiting == WAITING;
        let note_stays = !case.noted || self.notes.starts_with(NOTE);
        match case.order {
            Order::Hold | Order::Release | Order::Retry => {
                let wanted = case.order == Order::Hold;
                if !all_wait || !note_stays {
                    return wrong("the message is not what it was");
                }
                if done && case.order != Order::Retry && self.held != wanted {
                    return wrong("the hold is not as was answered");
                }
            }
            Order::Delete { bounce: false } => {
                if done && self.old {
                    return wrong("it is not deleted");
                }
                if self.old && !self.waiting.is_empty() && !note_stays {
                    return wrong("who failed is forgotten before the others are done with");
                }
            }
            Order::Delete { bounce: true } => {
                let told = |name: &&str| self.notes.contains(&format!("<{name}>:\n"));
                let waits = |name: &&str| self.waiting.iter().any(|waiting| waiting == name);
                if !self.old || !note_stays || !WAITING.iter().all(|name| told(name) || waits(name))
                {
                    return wrong("a recipient is lost");
                }
                if done && !self.waiting.is_empty() {
                    return wrong("it is not deleted");
                }
            }
            Order::Reroute { .. } => {
                let resent = |name: &str| self.resent.iter().any(|sent| sent == name);
                let waits = |name: &str| self.waiting.iter().any(|waiting| waiting == name);
                if !WAITING.iter().all(|name| resent(name) || waits(name)) {
                    return wrong("a recipient is lost");
                }
                if case.noted && !(self.old && note_stays) {
                    return wrong("who failed is forgotten");
                }
                if done && (!self.waiting.is_empty() || self.old != case.noted) {
                    return wrong("it is not rerouted");
                }
            }
        }
        Ok(())
    }
}

/// Gives an order on a disk that has this trouble at its n-th operation, and looks at what a crash leaves. Gives the number of
/// operations that the order took, and of images.
async fn crash(case: &Case, trouble: Option<fn(u64) -> Trouble>, at: u64) -> (u64, usize) {
    let disk = case.kind.disk();
    let spool = case.kind.spool(&disk).unwrap();
    let id = message(&*spool, case).await.unwrap();
    let before = disk.operations();
    if let Some(trouble) = trouble {
        disk.plan(trouble(before + at));
    }
    let done = give(&spool, case, id).await.is_ok();
    let operations = disk.operations() - before;
    let story = |image: &dyn std::fmt::Debug| format!("{case:?}, operation {at}, image {image:?}");
    let (mut every, mut images) = (Choices::every(), 0);
    loop {
        images += 1;
        check(
            case,
            &disk.after_crash(&mut every),
            id,
            done,
            &story(&images),
        )
        .await;
        if !every.advance() {
            return (operations, images);
        }
        if images == IMAGES_MAX {
            break;
        }
    }
    for seed in 0..IMAGES_MAX as u64 {
        let disk = disk.after_crash(&mut Choices::seeded(seed));
        check(case, &disk, id, done, &story(&seed)).await;
    }
    (operations, 2 * IMAGES_MAX)
}

async fn check(case: &Case, disk: &SimDisk, id: MessageId, done: bool, story: &str) {
    let spool = case.kind.spool(disk).unwrap();
    let seen = look(&*spool).await;
    seen.check(case, done)
        .unwrap_or_else(|fault| panic!("{story}: {fault}"));
    if done {
        return;
    }
    // Given again, it is carried out, or there is nothing left that it could be about.
    let again = give(&spool, case, id).await;
    let nothing_left = matches!(
        again,
        Err(Refusal::Unknown | Refusal::NotHeld | Refusal::Held)
    );
    assert!(again.is_ok() || nothing_left, "{story}: {again:?}");
    let seen = look(&*spool).await;
    seen.check(case, true)
        .unwrap_or_else(|fault| panic!("{story}, again: {fault}"));
}

#[test]
fn a_crash_at_any_operation_of_an_order_loses_nobody() {
    block_on(async {
        let mut all = 0;
        for case in cases() {
            let (operations, _) = crash(&case, None, 0).await;
            assert!(operations > 0, "{case:?}");
            let troubles: [fn(u64) -> Trouble; 2] = [Trouble::CrashBefore, Trouble::CrashAfter];
            for at in 1..=operations {
                for trouble in troubles {
                    all += crash(&case, Some(trouble), at).await.1;
                }
            }
        }
        assert!(all > 500, "{all} images");
    });
}

/// Without the sync of `hold/` an answer is forgotten, and the test must say so.
#[test]
fn without_the_sync_of_a_hold_the_test_fails() {
    block_on(async {
        for case in cases()
            .iter()
            .filter(|case| matches!(case.order, Order::Hold | Order::Release))
        {
            let disk = case.kind.disk();
            let spool = case.kind.spool(&disk).unwrap();
            let id = message(&*spool, case).await.unwrap();
            let first = disk.sync_targets() + 1;
            let targets = {
                give(&spool, case, id).await.unwrap();
                disk.sync_targets()
            };
            let forgotten = async |target| {
                let disk = case.kind.disk();
                disk.plan(Trouble::IgnoreSync(target));
                let spool = case.kind.spool(&disk).unwrap();
                let id = message(&*spool, case).await.unwrap();
                give(&spool, case, id).await.unwrap();
                let after = case.kind.spool(&disk.after_crash(&mut Choices::every()));
                look(&*after.unwrap()).await.check(case, true).is_err()
            };
            let mut noticed = false;
            for target in first..=targets {
                noticed |= forgotten(target).await;
            }
            assert!(noticed, "{case:?}");
        }
    });
}
