//! What a postmaster has done with messages of a running queue.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::task::noop_waker_ref;
use qmail_core::control::{Map, Set};

use super::world::{World, deferred, failed, tables};
use crate::{MessageId, Order};

impl World {
    fn order(&mut self, order: Order, ids: &[u64]) -> String {
        let queue = self.queue.clone();
        let ids = ids.iter().copied().map(MessageId).collect();
        let mut asked = Box::pin(async move { queue.order(order, ids).await });
        loop {
            let context = &mut Context::from_waker(noop_waker_ref());
            if let Poll::Ready(answers) = asked.poll_unpin(context) {
                let shown = answers.into_iter().map(|(id, result)| match result {
                    Ok(done) => format!("{id}: {done}"),
                    Err(refusal) => format!("{id}: refused, {refusal}"),
                });
                return shown.collect::<Vec<_>>().join("\n");
            }
            self.settle();
        }
    }

    /// A message that waits for its second attempt. Who has an answer already gives that one.
    fn deferred(&mut self, recipients: &[&str]) {
        for recipient in recipients {
            let recipient = recipient.replace("a@virtual", "joe-a@virtual");
            let mut outcomes = self.script.outcomes.lock().unwrap();
            outcomes
                .entry(recipient)
                .or_insert_with(|| [deferred()].into());
        }
        self.submit("s@far", recipients);
        self.settle();
    }
}

const DELETE: Order = Order::Delete { bounce: false };

#[test]
fn a_held_message_is_not_tried_before_it_is_released_not_even_after_a_restart() {
    let mut world = World::new();
    world.deferred(&["a@far", "b@here"]);
    assert_eq!(world.order(Order::Hold, &[1]), "1: held");
    assert_eq!(world.order(Order::Hold, &[1]), "1: held");
    assert_eq!(world.queue.counts().held, 1);
    world.advance(100_000);
    world.restart();
    world.advance(100_000);
    world.queue.retry_all();
    world.settle();
    assert_eq!(world.script.tried().into_values().sum::<usize>(), 2);
    assert_eq!(
        world.order(Order::Retry, &[1]),
        "1: refused, it is held; release it"
    );
    assert_eq!(world.order(Order::Release, &[1]), "1: released");
    world.settle();
    assert_eq!(world.count(), 0);
    assert_eq!(world.script.tried()["a@far"], 2);
    assert_eq!(world.script.tried()["b@here"], 2);
    assert_eq!(world.queue.counts().held, 0);
}

#[test]
fn a_hold_lets_what_runs_end_and_nothing_more_start() {
    let mut world = World::new();
    world.script.shut.store(true, Ordering::SeqCst);
    world.submit("s@far", &["a@one", "b@two", "c@three", "d@one"]);
    world.settle();
    assert_eq!(world.order(Order::Hold, &[1]), "1: held");
    let refused =
        "1: refused, it is just being delivered; hold it, and try again when that has ended";
    assert_eq!(world.order(DELETE, &[1]), refused);
    world.script.open();
    world.advance(100_000);
    assert_eq!(
        world.script.tried().into_keys().collect::<Vec<_>>(),
        ["a@one"]
    );
    // Other mail is not in its way.
    world.submit("s@far", &["e@one"]);
    world.settle();
    assert_eq!(world.script.tried().len(), 2);
    assert_eq!(world.order(Order::Release, &[1]), "1: released");
    world.settle();
    assert_eq!(world.count(), 0);
    assert_eq!(
        world.script.tried().into_values().collect::<Vec<_>>(),
        [1; 5]
    );
}

#[test]
fn a_hold_reaches_recipients_that_wait_for_their_destination() {
    let mut world = World::with(|config| {
        config.limits.remote_max = 8;
        config.limits.remote_destination_max = 1;
    });
    world.script.shut.store(true, Ordering::SeqCst);
    world.submit("s@far", &["a@slow", "b@slow", "c@slow"]);
    world.settle();
    world.submit("s@far", &["d@slow"]);
    world.settle();
    assert_eq!(world.order(Order::Hold, &[1]), "1: held");
    world.script.open();
    world.settle();
    let tried: Vec<_> = world.script.tried().into_keys().collect();
    assert_eq!(tried, ["a@slow", "d@slow"]);
    assert_eq!(world.order(Order::Release, &[1]), "1: released");
    world.settle();
    assert_eq!(world.count(), 0);
}

#[test]
fn a_retry_does_not_wait() {
    let mut world = World::new();
    world.deferred(&["a@far"]);
    world.deferred(&["b@far"]);
    world.advance(50);
    assert_eq!(world.order(Order::Retry, &[2]), "2: due now");
    world.settle();
    assert_eq!(world.script.tried()["b@far"], 2);
    assert_eq!(world.script.tried()["a@far"], 1);
    assert_eq!(
        world.order(Order::Retry, &[7]),
        "7: refused, no such message, or it is just being finished; `qmail queue list` shows them"
    );
}

#[test]
fn a_deleted_message_ends_without_a_word_to_its_sender() {
    let mut world = World::new();
    world.script.answer("bad@far", &[failed()]);
    world.deferred(&["a@far", "b@here", "c@far"]);
    world.submit("s@far", &["bad@far", "later@far"]);
    world.settle();
    world.log();
    assert_eq!(
        world.order(DELETE, &[1]),
        "1: deleted for 3 recipients, nobody is told"
    );
    world.settle();
    assert_eq!(
        world.log(),
        "order msg 1: deleted for 3 recipients, nobody is told\nend msg 1"
    );
    world.advance(1_000_000);
    assert_eq!(world.script.tried()["a@far"], 1);
}

#[test]
fn failures_before_a_deletion_are_not_told_either_but_by_a_bounce() {
    for (bounce, told) in [(false, false), (true, true)] {
        let mut world = World::new();
        world.script.answer("bad@far", &[failed()]);
        world.deferred(&["bad@far", "a@far"]);
        let shown = world.order(Order::Delete { bounce }, &[1]);
        assert!(shown.starts_with("1: deleted for 1 recipient,"), "{shown}");
        world.drain();
        let bounces: Vec<_> = world
            .script
            .jobs
            .lock()
            .unwrap()
            .iter()
            .filter(|job| job.recipients == ["s@far"])
            .map(|job| job.text.clone())
            .collect();
        assert_eq!(!bounces.is_empty(), told);
        if told {
            assert!(
                bounces[0].contains("<a@far>:\nThe postmaster has deleted"),
                "{bounces:?}"
            );
        }
    }
}

#[test]
fn rerouted_recipients_go_by_the_tables_of_today() {
    let mut world = World::new();
    world.script.answer("bad@far", &[failed()]);
    world.deferred(&["a@virtual", "b@far", "bad@far", "c@here"]);
    let mut today = tables();
    today.locals = Set::parse(b"here\nfar\n");
    world.queue.set_routes(today);
    world.settle();
    world.log();
    let shown = world.order(Order::Reroute { prefix: "".into() }, &[1]);
    assert_eq!(shown, "1: 3 recipients rerouted as message 2");
    world.drain();
    let log = world.log();
    for line in [
        "order msg 1: 3 recipients rerouted as message 2",
        "msg 2 to local joe-a@virtual",
        "msg 2 to local b@far",
        "msg 2 to local c@here",
        "bounce msg 1 qp 99",
        "end msg 1",
        "end msg 2",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn the_prefix_of_a_virtual_domain_that_is_gone_can_be_told() {
    let mut world = World::new();
    world.deferred(&["a@virtual", "b@far"]);
    let mut today = tables();
    today.virtual_domains = Map::parse(b"virtual:ann\n", &mut Vec::new());
    world.queue.set_routes(today);
    let prefix = "joe".into();
    world.order(Order::Reroute { prefix }, &[1]);
    world.drain();
    assert!(world.script.tried().contains_key("ann-a@virtual"));
}

#[test]
fn what_the_spool_refuses_leaves_the_message_as_it_was() {
    for order in [Order::Hold, DELETE] {
        let mut world = World::new();
        world.deferred(&["a@far"]);
        world.spool.fail("set_held", 1);
        world.spool.fail("close_channel", 1);
        let shown = world.order(order.clone(), &[1]);
        assert!(shown.starts_with("1: refused, "), "{shown}");
        assert_eq!(world.queue.counts().held, 0);
        world.drain();
        assert_eq!(world.script.tried()["a@far"], 2, "{order:?}");
        assert_eq!(world.count(), 0);
    }
}

#[test]
fn a_crash_in_a_deletion_never_forgets_a_failure_that_a_living_message_has() {
    // At each step of the deletion the engine is gone; whatever is left, the next one either has the message end, or tells of it.
    for steps in 0..12 {
        let mut world = World::new();
        world.script.answer("bad@far", &[failed()]);
        world.deferred(&["bad@far", "a@far"]);
        let queue = world.queue.clone();
        let mut asked = Box::pin(async move { queue.order(DELETE, vec![MessageId(1)]).await });
        let _ = asked.poll_unpin(&mut Context::from_waker(noop_waker_ref()));
        for _ in 0..steps {
            world.step();
        }
        world.restart();
        world.drain();
        let told = world.script.tried().contains_key("s@far");
        let lived = world.script.tried()["a@far"] > 1;
        assert!(told || !lived, "{steps}");
        assert_eq!(world.count(), 0);
    }
}

#[test]
fn the_last_reason_is_known() {
    let mut world = World::new();
    world.deferred(&["a@far"]);
    let reason = world.queue.reason(MessageId(1));
    assert_eq!(reason.as_deref(), Some(&b"busy now\n"[..]));
    world.drain();
    assert_eq!(world.queue.reason(MessageId(1)), None);
}
